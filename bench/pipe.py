"""Many jobs at once: what programs do that do not wait for each answer before they ask again."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import zmq

from bench.bare import Curve
from maglica import job, wire
from maglica.bus import endpoint
from maglica.cloud import owner
from maglica.declare import Action
from maglica.job import Job
from tests.daemons import House

PATIENCE = 30_000  # milliseconds that nothing may come back
CONNECTIONS = 8
WINDOW = 25  # jobs under way on each; the client worker keeps no more than 64 unread answers for a connection


class Pipes:
    """Submits jobs on some connections and hears of their ends."""

    def __init__(self, house: House) -> None:
        client, key = house.settings().client, house.admin()
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._open: dict[zmq.Socket[bytes], int] = {}  # jobs under way on each connection
        for _ in range(CONNECTIONS):
            socket = self._context.socket(zmq.DEALER)
            Curve(key.server, key.secret).call(socket)
            socket.connect(endpoint(client.address, client.rep_port))
            self._poller.register(socket, zmq.POLLIN)
            self._open[socket] = 0

    def run(self, actions: Iterable[Action], *, until: float = float("inf")) -> list[Job]:
        """Their records at the end, in the order in which they were heard of; no more are submitted after `until`."""
        ended: list[Job] = []
        left = deque(actions)
        while True:
            if time.monotonic() >= until:
                left.clear()
            self._submit(left)
            if not any(self._open.values()):
                return ended
            ready = self._poller.poll(PATIENCE)
            if not ready:
                raise SystemExit("the client worker gives no answer")
            for socket, _ in ready:
                record = _job(socket.recv_multipart()[-1])
                if record["state"] in job.FINAL:
                    ended.append(record)
                    self._open[socket] -= 1
                else:
                    wait = {"op": "wait", "id": record["id"], "rev": record["rev"], "timeout": 10.0, "ended": True}
                    _send(socket, wait)

    def _submit(self, left: deque[Action]) -> None:
        """Keep every connection busy, one after the other."""
        for _ in range(WINDOW):
            for socket, under_way in self._open.items():
                if left and under_way < WINDOW:
                    action = left.popleft()
                    key, args = os.urandom(16).hex(), action.values()
                    _send(socket, {"op": "submit", "key": key, "action": action.NAME, "args": args, "owner": owner()})
                    self._open[socket] = under_way + 1

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *error: object) -> None:
        self._context.destroy(linger=0)


def _send(socket: zmq.Socket[bytes], message: dict[str, Any]) -> None:
    socket.send_multipart([b"", wire.encode(message)])


def _job(answer: bytes) -> Job:
    found: Job = wire.result(wire.decode(answer, wire.MAX_ANSWER_BYTES))["job"]
    return found
