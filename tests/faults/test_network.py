"""Links that go silent, break and crawl; processes that stop and go on; workers that were replaced meanwhile."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from maglica.daemon import EXIT_FENCED
from tests.daemons import RUNNING
from tests.faults.stage import LONG, VMS, Stage
from tests.forward import Forward
from tests.waiting import until


def up(stage: Stage, *names: str) -> None:
    for name in names:
        until(lambda name=name: stage.state_of(name) == "up", 30, f"{name} is up")  # type: ignore[misc]


def spoil(legs: list[Forward], chance: random.Random, stop: threading.Event) -> None:
    """One leg after the other is silent, torn or slow for a moment."""
    while not stop.wait(chance.uniform(0.02, 0.2)):
        leg = chance.choice(legs)
        what = chance.choice(["cut", "tear", "slow"])
        if what == "tear":
            leg.tear()
        else:
            setattr(leg, what, True if what == "cut" else 0.05)
            stop.wait(chance.uniform(0.1, 1.0))
            leg.cut, leg.slow = False, 0.0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_links_that_break(stage: Stage, seed: int) -> None:
    stage.start()
    legs = [leg for name, own in VMS.items() for leg in stage.behind(name, own)]
    up(stage, *VMS)
    stop = threading.Event()
    trouble = threading.Thread(target=spoil, args=(legs, random.Random(seed), stop))
    trouble.start()
    try:
        stage.submit(200 if LONG else 60)
    finally:
        stop.set()
        trouble.join()
    assert stage.audit() == []
    assert not stage.restarts, "nobody had to be started again"


@pytest.mark.slow
@pytest.mark.parametrize("which", ["PUB", "REP"])
def test_one_leg_is_cut(stage: Stage, which: str) -> None:
    """Without the bell jobs come with the next beat; without the ledger they wait."""
    stage.start()
    bell, ledger = stage.behind("host1", ["a1", "b1"])
    up(stage, "host1")
    only = {"host1": ["a1", "b1"]}
    stage.submit(4, vms=only)
    (bell if which == "PUB" else ledger).cut = True
    if which == "PUB":
        # A submission begins with a question to the host, which it does not hear until it has made its ear anew.
        until(lambda: stage.state_of("host1") == "degraded", 30)
        bell.cut = False
    else:
        until(lambda: stage.state_of("host1") == "down", 30)
        ledger.cut = False
    stage.submit(4, vms=only)
    assert stage.audit() == []


@pytest.mark.slow
@pytest.mark.parametrize("who", ["client_worker", "host1"])
def test_a_daemon_is_stopped_and_goes_on(stage: Stage, who: str) -> None:
    """SIGSTOP in the middle of jobs, for longer than anybody's patience."""
    stage.open()
    daemon = stage.client_worker if who == "client_worker" else stage.hosts[who]
    stage.submit(12, seconds=0.2)
    for _ in range(3):
        daemon.signal(signal.SIGSTOP)
        if who == "client_worker":
            until(lambda: "does not answer" in stage.hosts["host1"].log, 20)
        else:
            until(lambda: stage.state_of(who) == "down", 20)
        daemon.signal(signal.SIGCONT)
        stage.submit(12, seconds=0.2)
    assert stage.audit() == []
    assert not stage.restarts


@pytest.mark.slow
def test_a_worker_that_was_replaced_stops_when_it_goes_on(stage: Stage) -> None:
    """A second machine takes the name of one that hangs: the first, when it wakes up, ends, and acts no more."""
    stage.start()
    first = stage.start_host("host1", dict.fromkeys(VMS["host1"], RUNNING))
    stage.submit(3, vms={"host1": VMS["host1"]}, seconds=2.0)
    until(lambda: any(stage.effects.glob("*/*.1")), 20, "jobs are in their middle")
    first.signal(signal.SIGSTOP)
    until(lambda: stage.state_of("host1") == "down", 20)
    other = stage.folder / "other"
    settings = stage.folder / "second.conf"
    settings.write_text((stage.folder / "host1.conf").read_text().replace(f"{stage.folder}/state", f"{other}"))
    second = stage.daemon("maglica_host_worker", f"--config={settings}", "--name=host1", log="second")
    stage.hosts["second"] = second
    second.start()
    up(stage, "host1")
    first.signal(signal.SIGCONT)
    assert first.process.wait(30) == EXIT_FENCED
    assert "this worker has to stop" in first.log or "was replaced" in first.log
    until(stage.settled, 20, "its jobs have ended")
    assert {record["state"] for record in stage.records().values()} == {"lost"}
    assert second.alive


# ------------------------------------------------------------------------------------------- strangers' bytes

GARBAGE: dict[str, Callable[[], bytes]] = {
    "http": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "ssh": lambda: b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls": lambda: bytes.fromhex("16030100c8010000c40303") + os.urandom(200),
    "random": lambda: os.urandom(5000),
    "half a greeting": lambda: b"\xff\0\0\0\0\0\0\0\x01\x7f\x03",
    "a greeting and a frame of 2^62 bytes": lambda: (
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL".ljust(32, b"\0") + bytes(32) + b"\x02" + (1 << 62).to_bytes(8, "big")
    ),
    "a greeting and half a frame": lambda: (
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL".ljust(32, b"\0") + bytes(32) + b"\x04\x19\x05READY"
    ),
    "nothing": lambda: b"",
}


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_strangers_with_other_words(stage: Stage) -> None:
    """What is not our protocol costs nothing and disturbs nobody, on either port."""
    stage.open({"host1": VMS["host1"]})
    stage.submit(6, vms={"host1": VMS["host1"]})
    before = resident(stage.client_worker.process.pid)
    connections = []
    for _ in range(5):
        for port in (stage.pub_port, stage.rep_port):
            for said in GARBAGE.values():
                one = socket.create_connection(("127.0.0.1", port), 5)
                connections.append(one)
                try:
                    one.sendall(said())
                except OSError:
                    pass  # it has hung up already
    stage.submit(6, vms={"host1": VMS["host1"]})
    for one in connections:
        one.close()
    assert resident(stage.client_worker.process.pid) < before + (32 << 20)
    assert stage.audit() == []
    assert "unexpected error" not in stage.client_worker.log
    assert "Traceback" not in stage.client_worker.log
