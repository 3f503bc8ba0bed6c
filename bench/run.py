"""Measurements, each as a ratio of two things taken turn by turn in one run: these figures survive a noisy machine.

`make bench` prints them; docs/measurements.md keeps what was measured.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgpack
import zmq

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

from maglica import config  # noqa: E402
from maglica.cloud import Connection  # noqa: E402
from maglica.declare import build  # noqa: E402
from maglica.errors import MaglicaError  # noqa: E402

TURNS = 15  # pairs of batches
BATCH = 200  # round trips in one batch


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def process(*argv: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts; it dies with this one at the latest."""
    started = subprocess.Popen([str(word) for word in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


def settings_file(folder: Path, pub_port: int, rep_port: int) -> Path:
    path = folder / "maglica.conf"
    path.write_text(
        f"[client]\nbind = 127.0.0.1\npub_port = {pub_port}\nrep_port = {rep_port}\n"
        f"[host_worker]\nname = host1\nlibvirt_uri = test:///default\nacceleration = tcg\nstop_grace = 1s\n"
        f"[paths]\nstate = {folder}/state\nruntime = {folder}/run\n"
    )
    return path


def bare_client(rep_port: int) -> Callable[[], None]:
    requester = zmq.Context.instance().socket(zmq.REQ)
    requester.setsockopt(zmq.LINGER, 0)
    requester.connect(f"tcp://127.0.0.1:{rep_port}")
    question = msgpack.packb({"op": "read", "action": "host ping", "args": {}})

    def ask() -> None:
        requester.send(question)
        msgpack.unpackb(requester.recv())

    return ask


def wait_for(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come up")
        time.sleep(0.1)


def is_up(connection: Connection) -> bool:
    try:
        return any(item["state"] == "up" for item in connection.call("host list", {})["items"])
    except MaglicaError:
        return False


def batch(work: Callable[[], object], times: int) -> float:
    """Seconds that one of `times` takes."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def compare(
    ours: Callable[[], object], floor: Callable[[], object], times: int, turns: int
) -> tuple[float, float, float]:
    """(median of ours, median of the floor, median ratio) in seconds; taken turn by turn, after a first warm turn."""
    batch(ours, times), batch(floor, times)
    pairs = [(batch(ours, times), batch(floor, times)) for _ in range(turns)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def command(*argv: str | Path, config_file: Path) -> Callable[[], object]:
    words = [str(word) for word in argv]
    environment = {**os.environ, "MAGLICA_CONFIG": str(config_file)}
    return lambda: subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)


def show(name: str, target: float, figures: tuple[float, float, float], floor: str) -> None:
    ours, least, ratio = figures
    verdict = "met" if ratio <= target else "MISSED"
    print(
        f"{name}: {ours * 1000:.2f} ms; {floor}: {least * 1000:.2f} ms; ratio {ratio:.2f}"
        f" (target <= {target:g}: {verdict})"
    )


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maglica-bench-")))
        pub, rep, bare_pub, bare_rep = free_ports(4)
        file = settings_file(folder, pub, rep)
        stack.enter_context(process(HOME / "bin" / "maglica_client_worker", "--config", file))
        stack.enter_context(process(HOME / "bin" / "maglica_host_worker", "--config", file))
        stack.enter_context(process(sys.executable, HOME / "bench" / "bare.py", "server", str(bare_pub), str(bare_rep)))
        stack.enter_context(process(sys.executable, HOME / "bench" / "bare.py", "host", str(bare_pub), str(bare_rep)))
        connection = stack.enter_context(Connection(config.load(str(file))))
        wait_for(lambda: is_up(connection), "the host worker")
        time.sleep(1.0)  # until the bare SUB has subscribed
        ping = build("host ping", {})
        figures = compare(lambda: connection.read(ping), bare_client(bare_rep), BATCH, TURNS)
        show("round trip of a live read", 3.0, figures, "bare pyzmq loop")
        stop, start = build("vm stop", {"name": "test"}), build("vm start", {"name": "test"})
        connection.submit(stop).wait()
        job = batch(lambda: connection.submit(start).wait(), 1)
        noop = statistics.median(batch(lambda: connection.submit(start).wait(), 20) for _ in range(5))
        print(
            f"a durable job that finds nothing to do, submit to result: {noop * 1000:.2f} ms"
            f" (the first: {job * 1000:.2f} ms)"
        )
        python = [sys.executable, "-c", "import zmq"]
        cli = command(HOME / "bin" / "maglica", "vm", "list", config_file=file)
        figures = compare(cli, command(*python, config_file=file), 1, 25)
        show("maglica vm list, whole process", 1.6, figures, "python3 -c 'import zmq'")


if __name__ == "__main__":
    main()
