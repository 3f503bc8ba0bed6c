"""The host worker as a process: its name, its place, and who may speak for it."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from maglica.daemon import EXIT_FENCED, EXIT_LOCKED
from tests.daemons import RUNNING, Daemon, House, node, until


def another(house: House, name: str, folder: str) -> Daemon:
    """A host worker of that name with a state folder of its own."""
    world = house.folder / f"{folder}.xml"
    world.write_text(node({}))
    settings = house.folder / f"{folder}.conf"
    text = house.config.read_text().replace("[host_worker]", f"[host_worker]\nlibvirt_uri = test://{world}")
    settings.write_text(text.replace("/state\n", f"/{folder}\n"))
    found = house.daemon("maglica_host_worker", f"--config={settings}", f"--name={name}", log=folder)
    house.hosts[folder] = found
    return found


@pytest.mark.slow
def test_it_starts_before_the_client_worker_and_goes_on_without_it(house: House) -> None:
    """D4, D5: nothing waits for ever, and nothing that was lost is missed for long."""
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    host.stop()
    house.client_worker.stop()
    host.start()
    until(lambda: "does not answer" in host.log)
    house.start()
    with house.connect() as cloud:
        until(lambda: [one["state"] for one in cloud.host.list()] == ["up"])
        assert [vm["name"] for vm in cloud.vm.list()] == ["web1"]
        house.client_worker.kill()
        house.client_worker.start()
        assert cloud.vm.destroy(name="web1")["changed"]
    assert host.alive
    assert host.stop() == 0
    assert "Traceback" not in host.log


def test_a_second_worker_of_the_same_name_is_refused_aloud(house: House) -> None:
    """D2."""
    house.start()
    first = house.start_host("host1", {"web1": RUNNING})
    second = another(house, "host1", "elsewhere")
    second.start()
    assert second.process.wait(15) == 5
    assert "refused: another host worker called host1 is alive" in second.log
    assert "giving up" in second.log
    assert first.alive
    with house.connect() as cloud:
        assert [vm["name"] for vm in cloud.vm.list()] == ["web1"]


def test_two_workers_do_not_share_a_state_folder(house: House) -> None:
    house.start()
    house.start_host("host1")
    second = house.daemon("maglica_host_worker", *house.hosts["host1"].argv[1:], log="second")
    second.start()
    assert second.process.wait(15) == EXIT_LOCKED
    assert "another host worker (process " in second.log


def test_a_worker_whose_place_was_taken_stops(house: House) -> None:
    """The same journal on another machine: a disk that was copied. The older one must not go on."""
    house.start()
    first = house.start_host("host1")
    second = another(house, "host1", "copy")
    (house.folder / "copy").mkdir()
    shutil.copytree(house.folder / "state" / "host-host1", house.folder / "copy" / "host-host1")
    second.start()
    assert first.process.wait(15) == EXIT_FENCED
    assert "incarnation 1 of host1 was replaced by 2" in first.log
    assert second.alive


def test_the_same_worker_started_again_goes_on(house: House) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    host.kill()
    host.start()
    with house.connect() as cloud:
        until(lambda: cloud.host.list()[0]["incarnation"] == 2)
        assert cloud.vm.list()[0]["state"] == "running"


def test_a_stop_is_quick_when_there_is_nothing_to_do(house: House) -> None:
    house.start()
    host = house.start_host("host1")
    began = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.process.wait(10) == 0
    assert time.monotonic() - began < 3
    assert "stopping: no more jobs" in host.log


def test_libvirt_that_is_not_there_is_told_and_does_not_end_it(house: House) -> None:
    house.start()
    host = house.start_host("host1")
    host.kill()
    (house.folder / "host1.xml").unlink()
    host.start()
    with house.connect() as cloud:
        until(lambda: cloud.host.list() and cloud.host.list()[0]["state"] == "degraded")
        until(lambda: "libvirt: unreachable" in cloud.host.list()[0]["why"])  # a busy machine has other troubles, too
        answer = cloud.vm.list()
        assert list(answer) == []
        assert answer.missing_hosts[0]["why"].startswith("libvirt: unreachable")
        (house.folder / "host1.xml").write_text(node({"web1": RUNNING}))
        assert [vm["name"] for vm in cloud.vm.list()] == ["web1"], "it reconnects by itself"
        until(lambda: cloud.host.list()[0]["state"] == "up")
    assert host.alive


def test_a_host_that_was_shut_out_is_let_in_again_while_its_worker_runs(house: House) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        cloud.host.revoke(name="host1")
        assert "its key was revoked at" in cloud.host.list()[0]["why"]
        until(lambda: "refused: " in host.log)
        token = cloud.host.invite(name="host1")["token"]
        again = house.daemon("maglica_host_worker", *host.argv[1:], log="again")
        again.start(f"--join={token}")
        assert again.process.wait(20) == 0
        assert "host1 has joined; its host worker runs here already" in again.log
        until(lambda: cloud.host.list()[0]["state"] == "up", 40, "it goes on with its new key")
        answer = cloud.vm.list()
        assert [vm["name"] for vm in answer] == ["web1"], answer.missing_hosts
    assert "goes on with a new key" in host.log


def test_a_host_that_is_invited_by_another_client_worker_goes_on_with_that_one(house: House, tmp_path: Path) -> None:
    """It has other keys, another address and another cluster; and what the host knew of the first is forgotten also by
    its next start."""
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    settings = house.folder / "host1.conf"
    text = re.sub(r"^(address|pub_port|rep_port) = .*\n", "", settings.read_text(), flags=re.MULTILINE)
    settings.write_text(text)  # what an ordinary host has: its key says where the client worker is
    host.kill()
    host.start()
    with house.connect() as cloud:
        until(lambda: cloud.host.list()[0]["state"] == "up")
        first = str(cloud.call("job store", {})["item"]["cluster"])
    house.client_worker.kill()
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    try:
        other.start()
        with other.connect() as cloud:
            token = cloud.host.invite(name="host1")["token"]
            again = house.daemon("maglica_host_worker", *host.argv[1:], log="again")
            again.start(f"--join={token}")
            assert again.process.wait(20) == 0
            until(lambda: cloud.host.list()[0]["state"] == "up", 60, "it goes on there")
            assert str(cloud.call("job store", {})["item"]["cluster"]) != first
            assert cloud.vm.destroy(name="web1")["changed"]
            assert "belongs to cluster" not in host.log
            host.kill()
            host.start()
            until(lambda: cloud.host.list()[0]["state"] == "up", 60, "it is there after its next start")
        assert "what it knew of a client worker is forgotten" not in host.log
    finally:
        other.close()
