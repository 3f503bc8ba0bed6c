"""What is measured: daemons as the tests start them, processes that belong to them, what they take."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maglica.bus import new_pair
from maglica.client_worker.door.keyring import HOST
from maglica.client_worker.store import Store
from maglica.cloud import Connection
from maglica.errors import MaglicaError
from tests.daemons import HOME, House, free_ports

__all__ = ["HOME", "House", "Process", "free_ports", "hosts_up", "house", "simulate", "wait_until"]


class Process:
    """A Python process of ours, for as long as its house stands."""

    def __init__(self, *argv: str | Path | int) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", *(str(word) for word in argv)], cwd=HOME)
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def house(*sections: str, beat: str = "2s", client: str = "", host_worker: str = "") -> Iterator[House]:
    """A client worker in a folder of its own, not started yet; everything ends with the block."""
    with tempfile.TemporaryDirectory(prefix="maglica-bench-") as folder:
        built = House(Path(folder))
        built.configure(*sections, client=client, host_worker=host_worker, beat=beat)
        try:
            yield built
        finally:
            built.close()


def store(built: House) -> Store:
    """The job store of a client worker that does not run; to be closed."""
    os.makedirs(built.folder / "state", mode=0o700, exist_ok=True)
    return Store(str(built.folder / "state" / "jobs.db"))


def enrol(built: House, hosts: int) -> None:
    """Let simulated hosts in at a client worker that is not running yet, without an invitation for each."""
    file, known = store(built), [built.admin().server]
    for name in (f"h{number}" for number in range(hosts)):
        public, secret = new_pair()
        file.keys.put(public, name, HOST, "2026-01-01T00:00:00.000Z", "bench", None, None)
        known.append(f"{public} {secret}")
    file.commit()
    file.close()
    (built.folder / "simulated.keys").write_text("\n".join(known))


def simulate(built: House, hosts: int, *, processes: int = 1, vms: int = 0) -> list[Path]:
    """Start simulated hosts that were enrolled, and wait until all are up; the logs of what they say."""
    logs, started = [], []
    for number in range(processes):
        first, last = hosts * number // processes, hosts * (number + 1) // processes
        logs.append(built.folder / f"simulated-{first}.log")
        started.append(
            built.add(
                Process("bench.simulated", built.config, built.folder / "simulated.keys", first, last, vms, logs[-1])
            )
        )
    with Connection(built.settings()) as connection:

        def up() -> bool:
            if not all(process.alive for process in started):
                raise SystemExit("a process of simulated hosts has ended")
            return hosts_up(connection) >= hosts

        wait_until(up, 60, f"{hosts} simulated hosts")
    return logs


def hosts_up(connection: Connection) -> int:
    """How many hosts are up; 0 while the client worker does not answer."""
    try:
        return sum(item["state"] == "up" for item in connection.call("host list", {})["items"])
    except MaglicaError:
        return 0


def wait_until(ready: Callable[[], bool], patience: float, what: str) -> None:
    deadline = time.monotonic() + patience
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not there after {patience:g} s")
        time.sleep(0.02)


def memory(pid: int) -> float:
    """MiB that this process takes: its own and its share of what it has in common with others (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} tells no PSS")


def own_memory(pid: int) -> float:
    """MiB that this process has of its own, without files that it maps."""
    return _status(pid, "RssAnon")


def resident(pid: int) -> float:
    """MiB of this process that are in memory, those that others share included."""
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} tells no {name}")


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
