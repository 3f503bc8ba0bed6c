"""Keys and invitations that are wrong, used twice, too late, by somebody else, or no longer good."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from maglica import keys, wire
from maglica.bus import Client, new_pair
from maglica.errors import MaglicaError
from maglica.keys import Key
from tests.daemons import RUNNING, House
from tests.waiting import until

Ask = Callable[[Key | None, dict[str, Any]], dict[str, Any]]


@pytest.fixture
def ask(house: House) -> Ask:
    """One question with a key, on a connection of its own."""

    def asked(key: Key | None, message: dict[str, Any]) -> dict[str, Any]:
        client = Client("127.0.0.1", house.rep_port, key)
        try:
            return client.ask(message, 5.0)
        finally:
            client.close()

    return asked


def stranger(house: House, name: str = "nobody") -> Key:
    """A key that knows the server's and that nobody let in."""
    return Key(name, *new_pair(), house.admin().server, "127.0.0.1", house.pub_port, house.rep_port)


def person(house: House, name: str, role: str) -> Key:
    key = stranger(house, name)
    with house.connect() as cloud:
        cloud.key.add(name=name, public_key=key.public, role=role)
    return key


def refused(ask: Ask, key: Key | None, message: dict[str, Any]) -> MaglicaError:
    with pytest.raises(MaglicaError) as error:
        ask(key, message)
    return error.value


def denials(house: House) -> list[str]:
    with house.connect() as cloud:
        return [f"{line['who']} {line['action']}" for line in cloud.audit.list(outcome="denied")]


PING = {"op": "ping"}


def submission(key: str) -> dict[str, Any]:
    return {"op": "submit", "key": key, "action": "vm destroy", "args": {"name": "web1"}, "owner": "root@localhost"}


def test_a_key_that_nobody_let_in_gets_nothing(house: House, ask: Ask) -> None:
    house.start()
    error = refused(ask, stranger(house), PING)
    assert error.code == "denied"
    assert any(line.endswith("connect") for line in denials(house))
    assert ask(house.admin(), PING)["ok"], "others are served"


def test_another_server_is_not_spoken_to(house: House, ask: Ask) -> None:
    """Somebody else at the client worker's address cannot be taken for it."""
    house.start()
    wrong = house.admin()._replace(server=new_pair().public)
    assert refused(ask, wrong, PING).code in {"denied", "unreachable"}
    assert refused(ask, None, PING).code in {"denied", "unreachable"}, "nor does it speak with anybody who has no key"


def test_a_key_that_was_revoked_is_good_no_more_also_on_a_connection_that_stands(house: House, ask: Ask) -> None:
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    key = person(house, "alice", "operator")
    client = Client("127.0.0.1", house.rep_port, key)
    try:
        assert client.ask(submission("first"), 10)["job"]["owner"]
        with house.connect() as cloud:
            cloud.key.revoke(name="alice")
        with pytest.raises(MaglicaError) as error:
            client.ask(submission("second"), 5)
        assert error.value.code == "denied"
    finally:
        client.close()
    assert refused(ask, key, PING).code == "denied"
    with house.connect() as cloud:
        assert [job["key"] for job in cloud.call("job list", {"last": 10})["items"]] == ["first"]


def test_a_reader_changes_nothing(house: House, ask: Ask) -> None:
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    key = person(house, "bob", "reader")
    assert ask(key, {"op": "read", "action": "vm list", "args": {}})["items"]
    assert refused(ask, key, submission("x")).code == "denied"
    assert refused(ask, key, {"op": "read", "action": "key list", "args": {}}).code == "denied"
    assert refused(ask, key, {"op": "read", "action": "host invite", "args": {"name": "host9"}}).code == "denied"
    assert {"bob vm destroy", "bob key list", "bob host invite"} <= set(denials(house))
    with house.connect() as cloud:
        assert cloud.job.list() == []


def test_people_cannot_speak_for_hosts_nor_hosts_for_people_or_each_other(house: House, ask: Ask) -> None:
    house.start()
    host = house.host_key("host1")
    hello = {
        "op": "hello", "host": "host1", "journal": "j", "versions": [wire.VERSION], "features": [], "version": "1",
    }  # fmt: skip
    assert refused(ask, house.admin(), hello).code == "denied"
    assert refused(ask, host, {**hello, "host": "host2"}).code == "denied"
    assert refused(ask, host, submission("x")).code == "denied"
    assert refused(ask, host, {"op": "read", "action": "key list", "args": {}}).code == "denied"
    assert ask(host, hello)["ok"]


def test_an_invitation_is_good_once_for_one_name_and_for_a_while(house: House, ask: Ask) -> None:
    house.start()
    with house.connect() as cloud:
        secret = keys.invitation(cloud.host.invite(name="host1")["token"]).secret
        short = keys.invitation(cloud.host.invite(name="host2", expires="1s")["token"]).secret
    thief, first, second = stranger(house), stranger(house), stranger(house)
    assert refused(ask, thief, {"op": "join", "host": "host7", "secret": secret}).code == "denied"
    assert refused(ask, thief, {"op": "join", "host": "host1", "secret": secret[:-2] + "zz"}).code == "denied"
    assert refused(ask, thief, PING).code == "denied", "an invitation is no permission to ask"
    assert ask(first, {"op": "join", "host": "host1", "secret": secret})["ok"]
    assert refused(ask, second, {"op": "join", "host": "host1", "secret": secret}).code == "denied"
    with house.connect() as cloud:
        cloud.host.invite(name="host3")  # the door stays open for strangers who are invited
    time.sleep(1.2)
    assert refused(ask, second, {"op": "join", "host": "host2", "secret": short}).code == "denied"
    assert any("join" in line for line in denials(house))


def test_a_host_that_was_revoked_says_nothing_until_it_is_invited_anew(house: House) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        cloud.host.revoke(name="host1")
        until(lambda: not any(h["name"] == "host1" and h["state"] == "up" for h in cloud.host.list()), 20)
        assert not [vm for vm in cloud.vm.list() if vm["host"] == "host1"]
        until(lambda: "refused: " in host.log and "no longer good" in host.log, 20, "it says why")
        token = cloud.host.invite(name="host1")["token"]
        host.kill()
        host.start(f"--join={token}")
        until(lambda: any(h["name"] == "host1" and h["state"] == "up" for h in cloud.host.list()), 30)
        assert [vm["name"] for vm in cloud.vm.list()] == ["web1"]


def test_no_secret_is_in_any_log(house: House) -> None:
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        token = cloud.host.invite(name="host2")["token"]
        invited = keys.invitation(token)
        said = house.client_worker.log + house.hosts["host1"].log + str(list(cloud.audit.list()))
    assert invited.secret not in said
    assert house.admin().secret not in said
    assert keys.load(keys.host_file(str(house.folder / "keys"), "host1")).secret not in said
