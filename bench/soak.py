"""A long time of mixed load: memory and file descriptors of the daemons have to stay where they are.

`make soak DURATION=1h`. The first third warms up; what the last third takes is compared with what the middle one took.
Exits 1 when something has grown.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from bench import world
from bench.figures import Figure
from bench.world import House, Process
from maglica import kinds
from maglica.cloud import Connection
from maglica.declare import Action, build
from maglica.errors import MaglicaError
from tests.daemons import RUNNING

MEMORY_MAY_GROW = 2.0  # MiB: SQLite's page cache fills up to that
DESCRIPTORS_MAY_GROW = 3.0  # connections that were caught in the middle of their opening or closing
HOSTS = ("host1", "host2")
VMS = 6  # of each host


class Sample(NamedTuple):
    """What a process takes at a moment."""

    memory: float  # MiB
    descriptors: int


def sample(pid: int) -> Sample:
    return Sample(world.own_memory(pid), world.descriptors(pid))


def growth(values: Sequence[float]) -> float:
    """How much more the last third takes than the middle one."""
    third = len(values) // 3
    return statistics.median(values[-third:]) - statistics.median(values[third:-third])


def judged(name: str, samples: Sequence[Sample]) -> list[Figure]:
    """What came of one process; at least six samples."""
    memory, descriptors = [one.memory for one in samples], [float(one.descriptors) for one in samples]
    return [
        Figure(f"{name}: more memory", growth(memory), "MiB", MEMORY_MAY_GROW, note=f"{memory[-1]:.1f} at the end"),
        Figure(
            f"{name}: more file descriptors", growth(descriptors), "", DESCRIPTORS_MAY_GROW,
            note=f"{descriptors[-1]:.0f} at the end",
        ),
    ]  # fmt: skip


class Load:
    """Everything that people do, until it is told to stop; what was done is counted."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.errors: list[Exception] = []
        kinds = (self._jobs, self._jobs, self._reads, self._visitors, self._leavers, self._hosts_come_and_go)
        self._threads = [threading.Thread(target=self._endlessly, args=(kind,), daemon=True) for kind in kinds]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _endlessly(self, kind: Callable[[Connection, int], None]) -> None:
        try:
            with Connection(self._house.settings()) as connection:
                for turn in count():
                    if self._stop.is_set():
                        return
                    kind(connection, turn)
                    self.done[kind.__name__.strip("_")] += 1
        except Exception as error:  # told by the main thread: a load that is none proves nothing
            self.errors.append(error)

    def _jobs(self, connection: Connection, turn: int) -> None:
        """A VM is switched off and on; half of all orders find nothing to do."""
        name = f"{HOSTS[turn % 2]}-vm{turn // 4 % VMS}"
        order = build("vm destroy", {"name": name}) if turn // 2 % 2 else _start(name)
        connection.submit(order, reason="soak").wait(30.0)

    def _reads(self, connection: Connection, turn: int) -> None:
        for name, args in (("vm list", {}), ("host list", {}), ("job list", {"last": 20}), ("host ping", {})):
            connection.call(name, args)
        with suppress(MaglicaError):
            connection.call("vm info", {"name": "nobody"})

    def _visitors(self, connection: Connection, turn: int) -> None:
        """A command of its own connection, as the command line is one."""
        with Connection(self._house.settings()) as visitor:
            visitor.call("vm list", {})

    def _leavers(self, connection: Connection, turn: int) -> None:
        """Somebody waits for a job and goes away before it has changed."""
        with Connection(self._house.settings()) as leaver:
            handle = leaver.submit(_start(f"host1-vm{turn % VMS}"))
            with suppress(MaglicaError):
                leaver.wait(handle.id, handle.record["rev"], 0.0)
        self._stop.wait(0.05)

    def _hosts_come_and_go(self, connection: Connection, turn: int) -> None:
        log = self._house.folder / "simulated.log"
        hosts = Process("bench.simulated", self._house.config, self._house.folder / "simulated.keys", 0, 10, 2, log)
        self._stop.wait(8.0)
        hosts.stop()
        self._stop.wait(1.0)


def _start(name: str) -> Action:
    # Hosts that just went away would be waited for.
    return build("vm start", {"name": name, "ignore_missing": True})


def run(seconds: float) -> list[Figure]:
    """What came of this many seconds of load."""
    samples: dict[str, list[Sample]] = {}
    with world.house(beat="0.5s", client="keep_jobs = 60s\nread_timeout = 1s") as house:
        world.enrol(house, 10)
        house.start()
        for host in HOSTS:
            house.start_host(host, {f"{host}-vm{number}": RUNNING for number in range(VMS)})
        daemons = {"client worker": house.client_worker, **house.hosts}
        load = Load(house)
        load.start()
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until and not load.errors:
                for name, daemon in daemons.items():
                    samples.setdefault(name, []).append(sample(daemon.process.pid))
                time.sleep(max(0.2, seconds / 360))
        finally:
            load.stop()
    if load.errors:
        raise load.errors[0]
    done = [Figure(f"{name.replace('_', ' ')}, done", number, "times") for name, number in load.done.items()]
    return [*done, *(figure for name in samples for figure in judged(name, samples[name]))]


def main() -> int:
    parser = argparse.ArgumentParser("make soak", description="Load the daemons for a long time; exit 1 if they grow.")
    parser.add_argument("--duration", type=kinds.DURATION.check, default=3600.0, help="such as 90s or 1h (default)")
    figures = run(parser.parse_args().duration)
    for figure in figures:
        print(figure.line)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
