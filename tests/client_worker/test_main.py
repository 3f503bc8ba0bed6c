"""The client worker as a process: its loop under bad input, a full disk and signals."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import zmq

from maglica import wire
from maglica.daemon import EXIT_LOCKED
from maglica.errors import MaglicaError
from tests.daemons import RUNNING, House, until
from tests.small_disk import fill, small_disk


def test_it_starts_answers_and_stops(house: House) -> None:
    house.start()
    with house.connect() as cloud:
        hello = cloud.hello()
        assert (hello["version"], hello["protocol"]) == ("0.1.0", 2)
        house.client_worker.signal(signal.SIGTERM)
        assert house.client_worker.stop() == 0
    assert "listening" in house.client_worker.log
    assert "OPEN" not in house.client_worker.log
    assert "stopped" in house.client_worker.log
    assert "Traceback" not in house.client_worker.log


def test_another_one_is_refused_in_a_sentence(house: House, tmp_path: Path) -> None:
    house.start()
    second = house.daemon("maglica_client_worker", f"--config={house.config}", log="second")
    second.start()
    assert second.process.wait(10) == EXIT_LOCKED
    assert "another client worker (process " in second.log
    other = tmp_path / "other.conf"
    other.write_text(house.config.read_text().replace("/state", "/state2"))
    third = house.daemon("maglica_client_worker", f"--config={other}", log="third")
    third.start()
    assert third.process.wait(10) == 1
    assert f"cannot listen on tcp://127.0.0.1:{house.pub_port}: Address already in use" in third.log
    for log in (second.log, third.log):
        assert "Traceback" not in log
        assert len(log.splitlines()) == 2


def test_a_settings_file_with_a_mistake_is_a_sentence(house: House) -> None:
    house.configure(client="adress = x")
    house.client_worker.start()
    assert house.client_worker.process.wait(10) == 2
    assert house.client_worker.log == (
        f"maglica_client_worker: {house.config}:8: unknown key adress in [client]\n  did you mean address?\n"
    )


def test_an_open_bus_is_for_the_loopback_and_shouted(house: House) -> None:
    house.configure(client="security = none")
    house.start()
    assert "THE BUS IS OPEN" in house.client_worker.log
    house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        assert cloud.vm.destroy(name="web1")["changed"]


@pytest.mark.parametrize("address", ["*", "0.0.0.0", "::"])
def test_an_open_bus_that_others_can_reach_is_refused(house: House, address: str) -> None:
    house.configure(client="security = none")
    house.config.write_text(house.config.read_text().replace("bind = 127.0.0.1", f"bind = {address}"))
    house.client_worker.start()
    assert house.client_worker.process.wait(10) == 2
    assert f"security = none with bind = {address}" in house.client_worker.log
    assert "i-know-this-is-open = yes" in house.client_worker.log
    text = house.config.read_text().replace("security = none", "security = none\ni-know-this-is-open = yes")
    house.config.write_text(text)
    house.client_worker.start()
    until(lambda: "THE BUS IS OPEN" in house.client_worker.log)


def with_key(socket: zmq.Socket[bytes], house: House) -> zmq.Socket[bytes]:
    """A socket of somebody who is let in."""
    key = house.admin()
    socket.curve_serverkey = key.server.encode()
    socket.curve_publickey, socket.curve_secretkey = key.public.encode(), key.secret.encode()
    return socket


def test_poison_does_not_stop_it(house: House) -> None:
    """D6, over real sockets."""
    house.start()
    context = zmq.Context()
    try:
        wild = with_key(context.socket(zmq.DEALER), house)
        wild.connect(f"tcp://127.0.0.1:{house.rep_port}")
        for frames in ([b"x"], [b"", b""], [b"a", b"b", b"c"], [b"", b"\xc1" * 1000]):
            wild.send_multipart(frames)
        for body in (b"", b"\xc1", b"{}", wire.encode({"op": "nosuch"}), wire.encode({"op": "read"})):
            peer = with_key(context.socket(zmq.REQ), house)
            peer.setsockopt(zmq.RCVTIMEO, 5000)
            peer.connect(f"tcp://127.0.0.1:{house.rep_port}")
            peer.send(body)
            answer = wire.decode(peer.recv())
            assert answer["ok"] is False
            assert answer["error"]["code"] in ("wrong_input", "version_mismatch")
            peer.close(linger=0)
        wild.close(linger=0)
    finally:
        context.term()
    with house.connect() as cloud:
        assert cloud.hello()["ok"]
    assert "Traceback" not in house.client_worker.log


def test_a_full_disk_is_told_at_once_and_passes(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    with small_disk(tmp_path / "house/state", 64) as disk:
        house = House(tmp_path / "house")
        house.configure(client="store_reserve = 8M")
        try:
            full_disk(house, disk)
        finally:
            house.close()


def full_disk(house: House, disk: Path) -> None:
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        assert cloud.vm.destroy(name="web1")["changed"]
        until((disk / "jobs.db.ballast").exists)
        rubbish = fill(disk)
        began = time.monotonic()
        with pytest.raises(MaglicaError, match="no more jobs are accepted") as error:
            cloud.vm.destroy.submit(name="web1", idempotency_key="k")
        assert time.monotonic() - began < 3.0
        assert error.value.code == "no_capacity"
        assert "make room" in error.value.hint
        assert len(cloud.job.list()) == 1, "it still answers from what it has, and nothing was half recorded"
        assert cloud.vm.list()[0]["state"] == "shut-off"
        rubbish.unlink()
        assert cloud.vm.destroy.submit(name="web1", idempotency_key="k").wait(20)["changed"] is False
        assert len(cloud.job.list()) == 2


def test_an_error_of_the_disk_ends_it_with_a_sentence(house: House) -> None:
    """systemd starts it again, and what is on the disk is read anew."""
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        _, hard = resource.prlimit(house.client_worker.process.pid, resource.RLIMIT_FSIZE)
        size = (house.folder / "state/jobs.db-wal").stat().st_size
        assert size > len(house.client_worker.log) + 1000
        resource.prlimit(house.client_worker.process.pid, resource.RLIMIT_FSIZE, (size, hard))
        with pytest.raises(MaglicaError, match="the job store cannot be written: disk I/O error"):
            cloud.vm.destroy.submit(name="web1", idempotency_key="k")
        until(lambda: not house.client_worker.alive)
        assert house.client_worker.process.returncode == 1
        assert "maglica_client_worker: the job store cannot be written: disk I/O error" in house.client_worker.log
        assert "Traceback" not in house.client_worker.log
        house.start()
        assert cloud.vm.destroy.submit(name="web1", idempotency_key="k").wait(20)["changed"]
        assert len(cloud.job.list()) == 1


def test_programs_say_who_they_are() -> None:
    from tests.daemons import HOME

    for program in ("maglica_client_worker", "maglica_host_worker"):
        for option, expected in (("--version", "maglica 0.1.0\n"), ("--help", f"usage: {program} ")):
            run = subprocess.run(
                [HOME / "bin" / program, option], capture_output=True, text=True, timeout=20, check=True
            )
            assert run.stdout.startswith(expected)


def test_the_house_closes_what_it_opened(house: House) -> None:
    """A test of the tests: no daemon outlives its house."""
    house.start()
    pid = house.client_worker.process.pid
    house.close()
    until(lambda: not Path(f"/proc/{pid}").exists())
