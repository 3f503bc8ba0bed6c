"""What is measured. Each function sets up its own world and yields its figures; `Size` says how much of everything."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgpack
import zmq

from bench import copies as copying
from bench import verbs, world
from bench.bare import Curve
from bench.figures import Figure, compare, ratio, share, timed
from bench.flood import flood
from bench.pipe import Pipes
from bench.transfers import transfers
from bench.world import HOME, House, Process
from maglica import job
from maglica.bus import new_pair
from maglica.cloud import Connection
from maglica.declare import Action, build
from maglica.job import Job
from tests.daemons import RUNNING, Daemon


class Size(NamedTuple):
    """How much is done."""

    turns: int  # pairs of batches
    batch: int  # round trips in one batch
    hosts: int  # simulated
    gathers: int
    jobs: int  # one after the other
    burst: int
    seconds: float  # of sustained load
    finished: int  # jobs that are over and still in the store
    clones: int  # on a hypervisor of the lab
    clone_turns: int
    floods: int
    flooded: float  # seconds of each
    disk_mib: int  # data on a disk that is copied


FULL = Size(
    turns=15,
    batch=200,
    hosts=1000,
    gathers=60,
    jobs=200,
    burst=100,
    seconds=8.0,
    finished=10_000,
    clones=100,
    clone_turns=3,
    floods=5,
    flooded=2.0,
    disk_mib=512,
)
TINY = Size(
    turns=1,
    batch=3,
    hosts=4,
    gathers=3,
    jobs=3,
    burst=5,
    seconds=0.5,
    finished=20,
    clones=3,
    clone_turns=1,
    floods=1,
    flooded=0.2,
    disk_mib=4,
)


def round_trip(size: Size) -> Iterator[Figure]:
    """A live read through one host worker, against a bare loop."""
    with world.house() as house, Connection(house.settings()) as connection:
        house.start()
        house.start_host("host1", {"web1": RUNNING})
        ping = build("host ping", {})
        daemons = {"client worker": house.client_worker, "host worker": house.hosts["host1"]}
        with _bare(house, "host", 1) as (bare, _):
            before = {name: world.cpu_seconds(daemon.process.pid) for name, daemon in daemons.items()}
            pairs = compare(lambda: connection.read(ping), bare, size.batch, size.turns)
        done = size.batch * (size.turns + 1)
        yield ratio("round trip of a live read", 2.0, pairs, "bare pyzmq loop with CURVE")
        for name, daemon in daemons.items():
            took = world.cpu_seconds(daemon.process.pid) - before[name]
            yield Figure(f"processor time of the {name} for one read", 1e6 * took / done, "us")


def fan_out(size: Size) -> Iterator[Figure]:
    """A live read of all hosts at once, against a bare loop with as many hosts."""
    with world.house() as house, Connection(house.settings()) as connection:
        world.enrol(house, size.hosts)
        house.start()
        world.simulate(house, size.hosts, processes=2)
        ping = build("host ping", {})
        seconds: list[float] = []

        def ask() -> None:
            seconds.append(timed(lambda: _all_answer(connection.read(ping), size.hosts)))

        with _bare(house, "crowd", size.hosts, processes=2) as (bare, server):
            pairs = compare(ask, bare, 1, size.gathers)
            floor = f"the bare loop's {world.memory(server.pid):.0f} MiB"
        yield ratio(f"fan-out and gather over {size.hosts} hosts", 2.0, pairs, "bare pyzmq loop with CURVE")
        yield Figure("the slowest of a hundred of them", 1000 * share(seconds, 99), "ms", 1000.0)
        name = f"client worker's memory with {size.hosts} hosts, after {size.gathers} questions to all"
        yield Figure(name, _memory(house.client_worker), "MiB", 120.0, note=floor)


def jobs(size: Size) -> Iterator[Figure]:
    """Durable jobs that find nothing to do: one, a burst, a steady stream; in an empty store, then in a full one."""
    for finished in (0, size.finished):
        with world.house(client="queue_limit = 100000") as house, Connection(house.settings()) as connection:
            _fill(house, finished)
            house.start()
            house.start_host("host1", dict.fromkeys(_vms(size.burst), RUNNING))
            among = f", {finished} finished jobs in the store" if finished else ""
            yield from _one_job(connection, size, among)
            yield from _burst(house, size, among)
        with world.house(client="queue_limit = 100000") as house, Connection(house.settings()) as connection:
            _fill(house, finished)
            world.enrol(house, 8)
            house.start()
            world.simulate(house, 8, vms=25)
            yield from _sustained(house, size, among)
            yield from _waiter(connection, size, among)


def _one_job(connection: Connection, size: Size, among: str) -> Iterator[Figure]:
    start = build("vm start", {"name": "vm0"})
    connection.submit(start).wait()
    seconds = [timed(lambda: connection.submit(start).wait()) for _ in range(size.jobs)]
    name = f"one job, submit to result, one VM of {size.burst}{among}"
    yield Figure(name, 1000 * statistics.median(seconds), "ms", 4.0, note=f"p95 {1000 * share(seconds, 95):.2f} ms")


def _burst(house: House, size: Size, among: str) -> Iterator[Figure]:
    starts = [build("vm start", {"name": name}) for name in _vms(size.burst)]
    with Pipes(house) as pipe:
        took = [timed(lambda: _all_done(pipe.run(starts), size.burst)) for _ in range(5)]
    yield Figure(f"{size.burst} jobs to one host, all back{among}", statistics.median(took), "s", 0.3)


def _sustained(house: House, size: Size, among: str) -> Iterator[Figure]:
    names = [f"h{host}-vm{vm}" for vm in range(25) for host in range(8)]
    starts = [build("vm start", {"name": name}) for name in names]
    with Pipes(house) as pipe:
        _all_done(pipe.run(starts), len(starts))
        before, began = world.cpu_seconds(house.client_worker.process.pid), time.monotonic()
        endless = chain.from_iterable(repeat(starts))
        done = pipe.run(islice(endless, 1_000_000), until=began + size.seconds)
        took = time.monotonic() - began
    _all_done(done, len(done))
    cpu = 1e6 * (world.cpu_seconds(house.client_worker.process.pid) - before) / len(done)
    note = f"{cpu:.0f} us of the client worker's processor time each"
    yield Figure(f"jobs over 8 hosts, sustained{among}", len(done) / took, "per second", 2000.0, True, note)


def _waiter(connection: Connection, size: Size, among: str) -> Iterator[Figure]:
    start = build("vm start", {"name": "h0-vm0"})
    late = []
    for _ in range(size.jobs):
        handle = connection.submit(start)
        told_at = handle.wait()["told_at"]
        late.append(1000 * (time.monotonic() - told_at))
    name = f"from the host's report of an end to the client that waits for it{among}"
    yield Figure(name, statistics.median(late), "ms", 2.0, note=f"p95 {share(late, 95):.2f} ms")


def memory(size: Size) -> Iterator[Figure]:
    """What the daemons take after some work."""
    with world.house() as house, Connection(house.settings()) as connection:
        house.start()
        house.start_host("host1", {"web1": RUNNING})
        for _ in range(size.jobs):
            connection.submit(build("vm start", {"name": "web1"})).wait()
            connection.call("vm list", {})
        for name, daemon, target in (
            ("client worker's memory", house.client_worker, 40.0),
            ("host worker's memory, libvirt loaded", house.hosts["host1"], 60.0),
        ):
            # The share of what is mapped by others too is small where many run the same Python.
            note = f"{world.resident(daemon.process.pid):.0f} MiB with all that others share"
            yield Figure(name, _memory(daemon), "MiB", target, note=note)


def restart(size: Size) -> Iterator[Figure]:
    """The client worker is killed and started again while all its hosts go on."""
    with world.house() as house:
        world.enrol(house, size.hosts)
        house.start()
        logs = world.simulate(house, size.hosts, processes=2)
        time.sleep(1.0)
        house.client_worker.kill()
        began = time.monotonic()
        house.client_worker.start()
        with Connection(house.settings()) as connection:
            world.wait_until(lambda: world.hosts_up(connection) >= size.hosts, 60, "all hosts after the restart")
        took = time.monotonic() - began
        used = f"{world.cpu_seconds(house.client_worker.process.pid):.1f} s of its processor time"
        yield Figure(f"client worker's restart until all {size.hosts} hosts are up", took, "s", 15.0, note=used)
        time.sleep(1.0)
        busiest = max(_per_tenth(logs, began).values())
        note = f"{100 * busiest / size.hosts:.0f} % of the hosts"
        yield Figure("hellos and reports in the busiest tenth of a second after it", busiest, "messages", note=note)


def command(size: Size) -> Iterator[Figure]:
    """A command as a whole process, against the least that a command with these libraries can be."""
    with world.house() as house:
        house.start()
        house.start_host("host1", {"web1": RUNNING})
        # As a package that was installed: its modules are compiled. The floor's are, wherever zmq comes from.
        environment = {key: value for key, value in house.environment().items() if key != "PYTHONDONTWRITEBYTECODE"}

        def run(*argv: str | Path) -> Callable[[], object]:
            return lambda: subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True)

        floor = run(sys.executable, "-c", "import zmq")
        pairs = compare(run(HOME / "bin" / "maglica", "vm", "list"), floor, 1, size.turns + 10)
        yield ratio("maglica vm list, whole process", 1.6, pairs, "python3 -c 'import zmq'")


def others(size: Size) -> Iterator[Figure]:
    """What somebody who asks as much as he can takes from others."""
    yield from flood(size.floods, size.flooded)


def copies(size: Size) -> Iterator[Figure]:
    """Clones without customisation, against what a shell does for the same disks."""
    yield from copying.copies(size.clones, size.clone_turns)


def images(size: Size) -> Iterator[Figure]:
    """Images that go from host to host."""
    return transfers(size.disk_mib, max(1, size.turns // 3))


def single(size: Size) -> Iterator[Figure]:
    """Verbs on one VM, against virsh on its host."""
    yield from verbs.verbs(size.turns)


MEASUREMENTS = {
    "round-trip": round_trip,
    "fan-out": fan_out,
    "jobs": jobs,
    "memory": memory,
    "restart": restart,
    "command": command,
    "copies": copies,
    "flood": others,
    "transfers": images,
    "verbs": single,
}


@contextmanager
def _bare(house: House, kind: str, hosts: int, processes: int = 1) -> Iterator[tuple[Callable[[], object], Process]]:
    """A bare client worker with bare hosts: how to ask it, and its process."""
    pub, rep = world.free_ports(2)
    server, peer = new_pair(), new_pair()
    process = house.add(Process("bench.bare", server.public, server.secret, "server", pub, rep, hosts))
    for number in range(processes):
        part = [hosts * number // processes, hosts * (number + 1) // processes] if kind == "crowd" else []
        house.add(Process("bench.bare", server.public, peer.secret, kind, pub, rep, *part))
    context = zmq.Context()
    requester = context.socket(zmq.REQ)
    requester.setsockopt(zmq.REQ_RELAXED, 1)
    Curve(server.public, peer.secret).call(requester)
    requester.connect(f"tcp://127.0.0.1:{rep}")
    question = msgpack.packb({"op": "read", "action": "host ping", "args": {}})

    def answered(patience: int) -> bool:
        requester.send(question)
        return bool(requester.poll(patience)) and len(msgpack.unpackb(requester.recv())["items"]) == hosts

    # A question before every host has subscribed gets no answer.
    world.wait_until(lambda: answered(3000), 60, "the bare loop")

    def ask() -> None:
        if not answered(30_000):
            raise SystemExit("the bare loop lost a message")

    try:
        yield ask, process
    finally:
        context.destroy(linger=0)


def _all_answer(answer: dict[str, Any], hosts: int) -> None:
    if len(answer["items"]) != hosts or answer["missing_hosts"]:
        raise SystemExit(f"{len(answer['items'])} of {hosts} hosts answered")


def _all_done(records: list[Job], count: int) -> None:
    bad = [record for record in records if record["state"] != job.DONE]
    if bad or len(records) != count:
        raise SystemExit(f"{len(records)} of {count} jobs ended, {len(bad)} of them not well: {bad[:1]}")


def _vms(count: int) -> list[str]:
    return [f"vm{number}" for number in range(count)]


def _memory(daemon: Daemon) -> float:
    return world.memory(daemon.process.pid)


def _fill(house: House, count: int) -> None:
    """Jobs that ended some time ago, in the store of a client worker that is not running yet."""
    if not count:
        return
    store = world.store(house)
    for number in range(count):
        record = _ended(number)
        store.jobs.add(record)
        store.jobs.save(record, journal="journal", ended_ms=time.time_ns() // 1_000_000)
    store.commit()
    store.close()


def _ended(number: int) -> Job:
    action: Action = build("vm start", {"name": f"old{number}"})
    known = {
        "id": f"00{number:08d}", "rev": 4, "key": f"old-{number}", "action": action.NAME, "args": action.values(),
        "object": f"old{number}", "host": "host1", "slot": "quick", "locks": action.locks(), "limit_seconds": 60.0,
        "attempt": 1, "state": job.DONE, "owner": "bench@here", "cancel": False, "steps": [], "commands": [],
        "result": {"changed": False},
    }  # fmt: skip
    times = {name: "2026-01-01T00:00:00.000Z" for name in Job.__annotations__ if name.endswith("_at")}
    return cast(Job, {**dict.fromkeys(Job.__annotations__), **times, **known})


def _per_tenth(logs: list[Path], since: float) -> Counter[int]:
    """How many messages were sent in each tenth of a second."""
    stamps = [float(line.split()[0]) for log in logs for line in log.read_text().splitlines()]
    return Counter(int(10 * (stamp - since)) for stamp in stamps if stamp >= since)
