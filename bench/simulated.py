"""Simulated host workers, many in one process: the real loop and real messages; no libvirt, no journal, no threads.

`python3 -m bench.simulated SETTINGS KEYS FROM TO VMS LOG` is the hosts h<FROM> … h<TO - 1> with that many VMs each,
until it is ended. A job ends the moment it is handed out; its result says when that was told. LOG gets a line for each
hello and each report: seconds, op, host.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import zmq

from bench.bare import Curve
from bench.crowd import Crowd, waiting
from maglica import VERSION, config, wire
from maglica.bus import endpoint
from maglica.cluster import Cluster
from maglica.declare import SLOTS
from maglica.host_worker.allegiance import Allegiance
from maglica.host_worker.main import Loop

GIB = 1 << 30


class Journal:
    """What a loop asks of a journal."""

    def __init__(self, name: str) -> None:
        self.uuid = f"journal-of-{name}"
        self.starts = 1


class Host:
    """What a loop asks of a host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.needs = None  # no job of it asks another host for anything


class Memory(Allegiance):
    """What a host remembers of its client worker, without a file for each."""

    def __init__(self) -> None:
        super().__init__("")

    def _read(self) -> Cluster:
        return Cluster()

    def refresh(self) -> Cluster:
        return self.known

    def _write(self) -> None:
        self._written = self.known


class Runner:
    """Answers at once, and ends every job at once."""

    def __init__(self, name: str, vms: int) -> None:
        self.host, self.journal = Host(name), Journal(name)
        self._answers: list[wire.Message] = []
        self._done: dict[str, dict[str, Any]] = {}
        self._news = False
        self._domains = [{"name": f"{name}-vm{n}", "state": "running"} for n in range(vms)]

    def read(self, message: wire.Message) -> None:
        if message["action"] == "host ping":
            value: dict[str, Any] = {"items": [{"name": self.host.name, "version": VERSION}]}
        else:
            value = {
                "driver": "test", "active": len(self._domains), "vcpus": 64, "memory_free_bytes": 64 * GIB,
                "domains": self._domains, "pools": [{"name": "default", "free_bytes": 100 * GIB}],
            }  # fmt: skip
        self._answers.append({"ask": message["ask"], "ok": True, "value": value})

    def answers(self) -> list[wire.Message]:
        ready, self._answers = self._answers, []
        return ready

    def begin(self, handed: dict[str, Any]) -> None:
        self._news = True
        self._done[handed["id"]] = {
            "id": handed["id"], "attempt": handed["attempt"], "state": "done", "result": {"changed": False},
            "error": None, "step": None, "progress": None, "steps": [], "commands": [],
        }  # fmt: skip

    def urgent(self, now: float, progress_every: float) -> bool:
        news, self._news = self._news, False
        return news

    def state(self) -> dict[str, Any]:
        for outcome in self._done.values():
            outcome["result"].setdefault("told_at", time.monotonic())
        done = list(self._done.values())
        return {"have": sorted(self._done), "done": done, "progress": [], "free": dict.fromkeys(SLOTS, 64)}

    def acknowledged(self, receipts: list[dict[str, Any]]) -> None:
        for receipt in receipts:
            self._done.pop(receipt["id"], None)

    def cancel(self, job_id: str) -> None:
        pass  # it has ended already

    def current_facts(self) -> dict[str, Any]:
        return {"version": VERSION, "libvirt": "ok", "vms_running": len(self._domains)}


class Sockets:
    """One host's sockets, in a context that it shares with many."""

    def __init__(
        self, crowd: Crowd, member: SimulatedHost, name: str, curve: Curve, settings: config.Settings, log: IO[str]
    ) -> None:
        self._crowd, self._member, self._name, self._curve = crowd, member, name, curve
        self._client, self._log = settings.client, log
        self.sub, self.dealer = self._listen(), self._call()

    def _listen(self) -> zmq.Socket[bytes]:
        socket = self._socket(zmq.SUB)
        socket.setsockopt(zmq.SUBSCRIBE, wire.topic(self._name))
        socket.connect(endpoint(self._client.address, self._client.pub_port))
        return socket

    def _call(self) -> zmq.Socket[bytes]:
        socket = self._socket(zmq.DEALER)
        socket.connect(endpoint(self._client.address, self._client.rep_port))
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._crowd.context.socket(kind)
        self._crowd.watch(self._member, socket)
        self._curve.call(socket)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        return socket

    def wake(self) -> None:
        """Nothing of a simulated host comes from another thread."""

    def send(self, message: wire.Message) -> None:
        if message["op"] in ("hello", "sync"):
            self._log.write(f"{time.monotonic():.3f} {message['op']} {self._name}\n")
        with suppress(zmq.Again):
            self.dealer.send_multipart([b"", wire.encode(message)], zmq.NOBLOCK)

    def reconnect(self) -> None:
        self._crowd.forget(self.sub, self.dealer)
        self.sub, self.dealer = self._listen(), self._call()

    def diagnosis(self) -> None:
        return None  # the keys fit

    def listen_again(self) -> None:
        self._crowd.forget(self.sub)
        self.sub = self._listen()


class SimulatedHost:
    """A host worker's own loop over such sockets."""

    def __init__(
        self, crowd: Crowd, name: str, curve: Curve, vms: int, settings: config.Settings, log: IO[str]
    ) -> None:
        self._sockets = Sockets(crowd, self, name, curve, settings, log)
        self._loop = Loop(self._sockets, Runner(name, vms), Memory(), settings.client.beat)  # type: ignore[arg-type]

    def turn(self, now: float) -> None:
        while heard := [list(_decoded(socket)) for socket in (self._sockets.sub, self._sockets.dealer)]:
            if not any(heard):
                return
            self._loop.hear(*heard)
            self._loop.speak(now)

    def tick(self, now: float) -> None:
        if self._loop.pause(now) <= 0:
            self._loop.speak(now)
        self.turn(now)


def _decoded(socket: zmq.Socket[bytes]) -> Iterator[wire.Message]:
    for frames in waiting(socket):
        yield wire.decode(frames[-1], wire.MAX_ANSWER_BYTES)


def main(file: str, keys: str, first: str, last: str, vms: str, log: str) -> None:
    settings = config.load(file)
    logging.getLogger("maglica").setLevel(logging.ERROR)  # a thousand hosts would say the same
    server, *pairs = Path(keys).read_text().splitlines()
    secrets = [pair.split()[1] for pair in pairs]
    crowd = Crowd()
    with open(log, "w", encoding="ascii", buffering=1) as lines:
        hosts = [
            SimulatedHost(crowd, f"h{n}", Curve(server, secrets[n]), int(vms), settings, lines)
            for n in range(int(first), int(last))
        ]
        crowd.run(hosts)


if __name__ == "__main__":
    main(*sys.argv[1:])
