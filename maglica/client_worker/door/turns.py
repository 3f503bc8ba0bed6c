"""Whose request is next: every key's in turn, however many connections it has. No sockets, no clock.

libzmq gives one message of each connection after the other, so that ten connections of one key would have ten turns
where its neighbour has one. So what came in waits here, by key, and the keys take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from maglica import wire
from maglica.bus import Request
from maglica.client_worker.door.doors import peer
from maglica.client_worker.door.limits import Rates
from maglica.errors import Refused

AT_ONCE = 8  # requests of one key in one turn of the loop: together they share a commit
WAITING = 1000  # requests of one key that may wait
WAITING_BYTES = 16 * wire.MAX_BYTES  # the same in bytes


class Turns:
    """Requests that wait, by key (by connection on an open bus)."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._waiting: dict[str, deque[Request]] = {}
        self._bytes: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, request: Request, now: float) -> Refused | None:
        """Have a request wait for its turn; why not, when its key asks too much. Nothing of it is decoded before."""
        who, size = peer(request.public, request.route), len(request.body)
        if not self._rates.admit(who, size, now):
            return Refused(
                "no_capacity",
                f"more than {self._rates.per_second} requests within a second are not accepted from one peer",
                "try again in a second; [client] request_rate sets the limit",
            )
        waiting, held = self._waiting.get(who, deque()), self._bytes.get(who, 0)
        if waiting and (len(waiting) >= WAITING or held + size > WAITING_BYTES):
            self._rates.refused(who, now)
            return Refused(
                "no_capacity",
                f"{len(waiting)} requests of one peer wait already",
                "wait for answers before more is asked; each program may have a key of its own: `maglica key new`",
            )
        waiting.append(request)
        self._waiting[who], self._bytes[who] = waiting, held + size
        return None

    def floods(self, request: Request, now: float) -> bool:
        """Whether whoever was refused goes on all the same."""
        return self._rates.overdrawn(peer(request.public, request.route), now)

    def take(self) -> Iterator[Request]:
        """What is dealt with in this turn of the loop: one request of each key, then the next of each, and so on."""
        for _ in range(AT_ONCE):
            for who, waiting in list(self._waiting.items()):
                request = waiting.popleft()
                self._bytes[who] -= len(request.body)
                if not waiting:
                    del self._waiting[who], self._bytes[who]
                yield request
