"""Many jobs at once on one connection: what a program does that does not wait for each answer."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import zmq

from maglica import job, wire
from maglica.bus import endpoint
from maglica.cloud import owner
from maglica.declare import Action
from maglica.job import Job
from tests.daemons import House

PATIENCE = 60_000  # milliseconds that nothing may come back


class Pipe:
    """Submits jobs and hears of their ends; at most `window` of them are under way at a time."""

    def __init__(self, house: House, window: int) -> None:
        client = house.settings().client
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(endpoint(client.address, client.rep_port))
        self._window = window

    def run(self, actions: Iterable[Action], *, until: float = float("inf")) -> list[Job]:
        """Their records at the end, in the order in which they were heard of; no more are submitted after `until`."""
        ended: list[Job] = []
        left, open_jobs = deque(actions), 0
        while left or open_jobs:
            while left and open_jobs < self._window:
                if time.monotonic() >= until:
                    left.clear()
                    break
                self._submit(left.popleft())
                open_jobs += 1
            if not open_jobs:
                break
            record = self._receive()
            if record["state"] in job.FINAL:
                ended.append(record)
                open_jobs -= 1
            else:
                self._send({"op": "wait", "id": record["id"], "rev": record["rev"], "timeout": 10.0, "ended": True})
        return ended

    def _submit(self, action: Action) -> None:
        args = action.values()
        key = os.urandom(16).hex()
        self._send({"op": "submit", "key": key, "action": action.NAME, "args": args, "owner": owner()})

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send_multipart([b"", wire.encode(message)])

    def _receive(self) -> Job:
        if not self._socket.poll(PATIENCE):
            raise SystemExit("the client worker gives no answer")
        found: Job = wire.result(wire.decode(self._socket.recv_multipart()[-1], wire.MAX_ANSWER_BYTES))["job"]
        return found

    def close(self) -> None:
        self._context.destroy(linger=0)
