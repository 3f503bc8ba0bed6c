"""Intruders, with real daemons and real sockets: what they get, what they are told, and what is left of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest
import zmq

import maglica
from maglica import keys, wire
from maglica.bus import Client, Listener, new_pair
from maglica.errors import MaglicaError
from maglica.keys import Key
from tests.daemons import RUNNING, House
from tests.waiting import until


def where(house: House) -> tuple[str, int, int]:
    return "127.0.0.1", house.pub_port, house.rep_port


def saved(house: House, name: str, key: Key) -> str:
    path = str(house.folder / f"{name}.key")
    keys.save(path, key)
    return path


def stranger(house: House, server: str = "") -> Key:
    return Key("mallory", *new_pair(), server or house.admin().server, *where(house))


def joined(house: House, key: Key, host: str, secret: str) -> MaglicaError | None:
    client = Client("127.0.0.1", house.rep_port, key)
    try:
        client.ask({"op": "join", "host": host, "secret": secret}, 10)
    except MaglicaError as error:
        return error
    finally:
        client.close()
    return None


def secret_for(house: House, host: str) -> str:
    with house.connect() as cloud:
        return keys.invitation(cloud.host.invite(name=host)["token"]).secret


# ------------------------------------------------------------------------------------- keys that do not fit: words


@pytest.mark.parametrize(
    ("what", "message", "hint"),
    [
        ("unknown", "does not accept the key mallory", "`maglica key new NAME`"),
        ("revoked", "does not accept the key alice", "it was revoked"),
        ("other server", "is not the client worker that the key mallory", "is the address right"),
        ("none", "wants a key, and the settings here say security = none", "remove [client] security"),
        ("open to others", "can be read by others", "chmod 600"),
        ("missing", "cannot read the key", "MAGLICA_KEY"),
    ],
)
def test_why_a_key_is_refused_is_said(house: House, what: str, message: str, hint: str) -> None:
    """By the command line with exit status 9, and by the library with the same words."""
    house.start()
    path, config = str(house.folder / "k"), house.config
    if what in ("unknown", "open to others"):
        saved(house, "k", stranger(house))
        os.rename(house.folder / "k.key", path)
    elif what == "other server":
        os.rename(saved(house, "k", stranger(house, new_pair().public)), path)
    elif what == "revoked":
        assert house.cli("key", "new", "alice", f"--file={path}").returncode == 0
        assert house.cli("key", "revoke", "alice", "--yes").returncode == 0
    elif what == "none":
        config = house.folder / "open.conf"
        config.write_text(house.config.read_text().replace("[client]", "[client]\nsecurity = none"))
    if what == "open to others":
        os.chmod(path, 0o644)
    words = ["vm", "list", f"--config={config}", *([] if what == "none" else [f"--key={path}"])]
    found = house.cli(*words)
    assert found.returncode == 9, found
    first, second = found.stderr.splitlines()
    assert message in first
    assert hint in second
    with (
        maglica.connect(config_file=str(config), key=None if what == "none" else path) as cloud,
        pytest.raises(maglica.Refused) as caught,
    ):
        cloud.vm.list()
    assert caught.value.code == "denied"
    assert message in caught.value.message


def test_a_key_for_an_open_bus(house: House) -> None:
    """Whoever believes that the bus is encrypted is not made to send something in the clear."""
    house.configure(client="security = none")
    house.start()
    closed = house.folder / "closed.conf"
    closed.write_text(house.config.read_text().replace("security = none", ""))
    found = house.cli("vm", "list", f"--config={closed}")
    assert found.returncode == 9
    assert "is not the client worker that the key admin" in found.stderr


@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN"])
def test_other_mechanisms_get_no_word(house: House, mechanism: str) -> None:
    house.start()
    host = house.host_key("host1")
    context = zmq.Context()
    asks, listens = context.socket(zmq.REQ), context.socket(zmq.SUB)
    try:
        for socket in (asks, listens):
            socket.setsockopt(zmq.LINGER, 0)
            if mechanism == "PLAIN":
                socket.setsockopt(zmq.PLAIN_USERNAME, host.public.encode())
                socket.setsockopt(zmq.PLAIN_PASSWORD, host.secret.encode())
        listens.setsockopt(zmq.SUBSCRIBE, b"")
        listens.connect(f"tcp://127.0.0.1:{house.pub_port}")
        asks.connect(f"tcp://127.0.0.1:{house.rep_port}")
        asks.send(wire.encode({"op": "ping"}))
        assert not asks.poll(700)
        assert not listens.poll(300), "beats are published meanwhile"
    finally:
        context.destroy(linger=0)
    assert house.cli("host", "list").returncode == 0


# ---------------------------------------------------------------------------------------------- listening


class Ear:
    """A subscriber with a key: what it heard of a host's topic."""

    def __init__(self, house: House, topics: list[bytes], key: Key) -> None:
        self._listener = Listener(*where(house), topics, key)

    def hears(self, seconds: float) -> bool:
        found: list[wire.Message] = []
        for _ in range(int(seconds * 20)):
            found += self._listener.receive(0.05)[0]
        return bool(found)

    def hears_soon(self) -> None:
        until(lambda: self.hears(0.1), 20, "a beat is heard")

    def close(self) -> None:
        self._listener.close()


def test_a_key_hears_its_own_host_and_only_as_long_as_it_is_good(house: House) -> None:
    house.start()
    one, two = house.host_key("host1"), house.host_key("host10")
    everything = [b"", b"host", b"host1", b"host1\0", b"host10\0", b"\0"]
    own, prying, admin = (
        Ear(house, everything, one),
        Ear(house, [b"", b"host1", b"host1\0"], two),
        Ear(house, everything, house.admin()),
    )
    other = Ear(house, [b"host10\0"], one)
    try:
        with house.connect() as cloud:
            for name, key in (("host1", one), ("host10", two)):
                hello = {
                    "op": "hello", "host": name, "journal": name, "versions": list(wire.VERSIONS), "features": [],
                    "version": "1",
                }  # fmt: skip
                client = Client("127.0.0.1", house.rep_port, key)
                assert client.ask(hello, 10)["ok"]
                client.close()
            own.hears_soon()
            assert not prying.hears(0.5)
            assert not admin.hears(0.1)
            assert not other.hears(0.1)
            cloud.host.revoke(name="host1")
            own.hears(0.2)  # what was on its way
            assert not own.hears(1.0), "the connection that stood is ended"
            cloud.host.invite(name="host1")
            assert not own.hears(1.0), "an invitation lets strangers in as far as the door"
            again = house.host_key("host1")
            assert not own.hears(0.5)
            fresh = Ear(house, [b"host1\0"], again)
            fresh.hears_soon()
            fresh.close()
            denied = [one for one in cloud.audit.list(outcome="denied") if one["who"] == keys.ADMIN_NAME]
            assert denied[0]["message"] == "only hosts listen"
    finally:
        for ear in (own, prying, admin, other):
            ear.close()


# ------------------------------------------------------------------------------------------------- invitations


def test_ten_at_once_with_one_token(house: House) -> None:
    """Exactly one gets in, and it is told who it was."""
    house.start()
    secret = secret_for(house, "host1")
    thieves = [stranger(house) for _ in range(10)]
    found: dict[str, MaglicaError | None] = {}
    threads = [
        threading.Thread(target=lambda key=key: found.update({key.public: joined(house, key, "host1", secret)}))
        for key in thieves
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [error for error in found.values() if error]
    assert len(errors) == 9
    assert {error.code for error in errors} == {"denied"}
    assert not any(secret in f"{error.message} {error.hint}" for error in errors)


def test_a_used_token_says_so_on_the_host(house: House) -> None:
    """Nobody is expected any more: the door is shut, and the words are about the invitation all the same."""
    house.start()
    (option,) = house.invitation("host1")
    first = house.start_host("host2")
    assert first.alive
    assert joined(house, stranger(house), "host1", keys.invitation(option.partition("=")[2]).secret) is None
    late = house.daemon("maglica_host_worker", f"--config={house.config}", log="late")
    late.start(option)
    assert late.process.wait(20) == 9
    assert "does not expect host host1: its invitation was used, has expired or was withdrawn" in late.log
    assert "maglica host invite host1" in late.log
    assert "maglica host revoke host1" in late.log


def test_a_token_is_nowhere(house: House) -> None:
    """Not in `ps`, not in an environment, a log, the store, the audit, or a file of the host."""
    house.start()
    (option,) = house.invitation("host1")
    secret = keys.invitation(option.partition("=")[2]).secret
    host = house.daemon("maglica_host_worker", f"--config={house.config}", "--name=host1", log="host1")
    house.hosts["host1"] = host
    host.start(option)
    until(lambda: "accepted" in host.log, 30, "it has joined")
    token = option.partition("=")[2].encode()
    for file in ("cmdline", "environ"):
        assert token not in Path(f"/proc/{host.process.pid}/{file}").read_bytes()
    assert b"--join=-" in Path(f"/proc/{host.process.pid}/cmdline").read_bytes()
    with house.connect() as cloud:
        assert secret not in str(cloud.audit.list())
    for path in house.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert token not in content, path
            assert secret.encode() not in content, path


def test_whoever_has_no_key_is_told_how_to_get_one(house: House) -> None:
    house.start()
    host = house.daemon("maglica_host_worker", f"--config={house.config}", "--name=host1", log="host1")
    host.start()
    assert host.process.wait(20) == 9
    assert "maglica host invite host1" in host.log


# --------------------------------------------------------------------------------------- the client worker's own


def test_what_is_made_at_the_first_start_is_for_nobody_else(house: House) -> None:
    shutil.rmtree(house.folder / "keys")
    house.client_worker.start()
    until(lambda: "listening" in house.client_worker.log, 20, "it has started")
    for folder in ("keys", "state"):
        assert stat.S_IMODE((house.folder / folder).stat().st_mode) == 0o700
        for path in (house.folder / folder).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert house.cli("key", "list", "-o", "name").stdout == "admin\n"


def test_a_lost_server_key_is_not_replaced_silently(house: House) -> None:
    house.start()
    house.client_worker.stop()
    os.unlink(house.folder / "keys" / keys.SERVER_FILE)
    house.client_worker.start()
    assert house.client_worker.process.wait(20) != 0
    assert "put it back from a backup" in house.client_worker.log
    assert not (house.folder / "keys" / keys.SERVER_FILE).exists()


def test_an_administrators_key_of_another_client_worker_is_replaced(house: House) -> None:
    """As when a machine was cloned: the file that is there opens nothing here."""
    saved(house, "keys/admin", stranger(house, new_pair().public)._replace(name=keys.ADMIN_NAME))
    house.start()
    assert house.cli("key", "list", "-o", "name").stdout == "admin\n"


def test_a_revoked_administrator_stays_outside_after_a_restart(house: House) -> None:
    house.start()
    other = str(house.folder / "root.key")
    assert house.cli("key", "new", "root", "--role=admin", f"--file={other}").returncode == 0
    assert house.cli("key", "revoke", "admin", "--yes", f"--key={other}").returncode == 0
    house.client_worker.stop()
    house.client_worker.start()
    until(lambda: house.cli("ping", f"--key={other}").returncode == 0, 20, "it is there again")
    assert house.cli("vm", "list").returncode == 9
    assert "was revoked; without that file the next start makes another one" in house.client_worker.log
    house.client_worker.stop()
    os.unlink(house.folder / "keys" / keys.ADMIN_FILE)
    house.client_worker.start()
    until(lambda: house.cli("vm", "list").returncode == 0, 20, "root is let in by its new file")


def test_roles_change_with_a_sighup(house: House) -> None:
    house.configure("[role ci]\nbase = reader\nactions = vm list\n")
    house.start()
    path = str(house.folder / "ci.key")
    assert house.cli("key", "new", "ci", "--role=ci", f"--file={path}").returncode == 0
    assert house.cli("host", "list", f"--key={path}").returncode == 9
    house.configure("[role ci]\nbase = reader\nactions = vm list, host list\n")
    house.client_worker.signal(signal.SIGHUP)
    until(lambda: house.cli("host", "list", f"--key={path}").returncode == 0, 20, "the role may more")
    good = house.config.read_text()
    house.configure("[role admin]\nbase = reader\n")
    assert "[role admin]: that role is built in" in house.cli("config", "check").stderr
    house.client_worker.signal(signal.SIGHUP)
    until(lambda: "the settings stay as they were" in house.client_worker.log, 20, "it says so")
    house.config.write_text(good)
    assert house.cli("host", "list", f"--key={path}").returncode == 0


# --------------------------------------------------------------------------------------------------- the terminal


def test_keys_in_the_terminal(house: House, tmp_path: Path) -> None:
    house.start()
    path = tmp_path / "alice.key"
    made = house.cli("key", "new", "alice", "--role=operator", "--expires=7d", f"--file={path}")
    assert (made.returncode, made.stdout) == (0, f"{path}\n")
    assert "for alice alone" in made.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = keys.load(str(path))
    assert (key.name, key.server) == ("alice", house.admin().server)
    assert key.secret not in made.stdout + made.stderr
    assert house.cli("ping", f"--key={path}").returncode == 0

    again = house.cli("key", "new", "alice", f"--file={path}")
    assert again.returncode == 5
    assert "exists" in again.stderr
    assert keys.load(str(path)) == key, "it is not overwritten"
    elsewhere = house.cli("key", "new", "alice", f"--file={tmp_path}/other.key")
    assert elsewhere.returncode == 5
    assert "`maglica key revoke alice` first" in elsewhere.stderr
    assert not (tmp_path / "other.key").exists()

    lines = house.cli("key", "list").stdout.splitlines()
    assert lines[0].split() == ["Name", "Role", "State", "Fingerprint", "Created", "Expires"]
    assert re.match(r"alice +operator +good +[0-9a-f]{12} ", lines[3])
    assert house.cli("key", "revoke", "alice").returncode == 2, "nobody was asked"
    assert house.cli("key", "revoke", "alice", "--yes").returncode == 0
    assert house.cli("ping", f"--key={path}").returncode == 9
    assert re.match(r"alice +operator +revoked", house.cli("key", "list").stdout.splitlines()[3])


def test_a_key_that_cannot_be_written_is_none(house: House, tmp_path: Path) -> None:
    """Nobody has it, so nobody may use it."""
    house.start()
    (tmp_path / "file").touch()
    made = house.cli("key", "new", "bob", f"--file={tmp_path}/file/bob.key")
    assert made.returncode == 1
    assert "cannot write the key" in made.stderr
    states = [line.split()[2] for line in house.cli("key", "list", "--no-headers").stdout.splitlines() if "bob" in line]
    assert states in ([], ["revoked"])


def test_hosts_and_the_audit_in_the_terminal(house: House) -> None:
    house.start()
    invited = house.cli("host", "invite", "host1", "--expires=10m")
    assert re.fullmatch(r"maglica_host_worker --join maglica1-\S+\n", invited.stdout)
    assert "run this on host1 as root; it is good once, until" in invited.stderr
    assert "127.0.0.1 is this machine alone" in invited.stderr
    assert "127" not in house.cli("host", "invite", "host1", "--address=client.example.jp").stderr
    house.start_host("host1", {"web1": RUNNING})
    assert "the key that this host has ends when it is used" in house.cli("host", "invite", "host1").stderr
    revoked = house.cli("host", "revoke", "host1", "--yes")
    assert revoked.returncode == 0
    assert "`maglica host invite host1` lets it in again" in revoked.stdout
    (line,) = house.cli("host", "list", "--no-headers").stdout.splitlines()
    assert re.search(r"^host1 +down .*its key was revoked at .*; `maglica host invite host1` lets it in", line)
    until(lambda: "is not known here, or is no longer good" in house.hosts["host1"].log, 20, "the host says so")
    unknown = house.cli("host", "revoke", "hots9", "--yes")
    assert (unknown.returncode, "there is no host hots9" in unknown.stderr) == (4, True)

    lines = house.cli("audit", "list", "--object=host1", "--outcome=done").stdout.splitlines()
    assert lines[0].split() == ["At", "Who", "Address", "Action", "Object", "Outcome", "Job"]
    told = [re.split(r" {2,}", line)[1:6] for line in lines[2:]]
    assert told[-1] == ["admin", "127.0.0.1", "host revoke", "host1", "done"]
    assert ["host1", "127.0.0.1", "join", "host1", "done"] in told
    assert house.cli("audit", "list", "--outcome=refused", "--no-headers").stdout.count("hots9") == 1
    denied = house.cli("audit", "list", "--outcome=denied", "--who=host1", "--no-headers").stdout
    assert "hello" in denied or "sync" in denied or "connect" in denied
