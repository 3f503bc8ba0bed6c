"""Bad weather between the client worker and everybody else: messages that are lost, doubled, late and overtaken.

TCP would do none of this to a connection that stands; whoever copes with it copes with connections that break at any
moment. It is made inside the client worker, where messages are whole: every leg passes through there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maglica.bus import Server


class Weather:
    """What becomes of each message while the file `storm` exists.

    Shares of 1; `late` is the most seconds that one may be held back.
    """

    def __init__(self, storm: Path, *, drop: float, double: float, delay: float, late: float, seed: int) -> None:
        self._storm = storm
        self._drop, self._double, self._delay, self._late = drop, double, delay, late
        self._chance = random.Random(seed)
        self._held: list[tuple[float, Callable[[], object]]] = []

    def send(self, deliver: Callable[[], object]) -> None:
        """Deliver something, or do not, or twice, or later."""
        if not self._storm.exists():
            deliver()
            return
        if self._chance.random() < self._drop:
            return
        for _ in range(2 if self._chance.random() < self._double else 1):
            if self._chance.random() < self._delay:
                self._held.append((time.monotonic() + self._chance.uniform(0, self._late), deliver))
            else:
                deliver()

    def release(self) -> None:
        """Deliver what was held back for long enough."""
        now = time.monotonic()
        due = [deliver for when, deliver in self._held if when <= now]
        self._held = [one for one in self._held if one[0] > now]
        for deliver in due:
            deliver()

    def next(self, timeout: float) -> float:
        """Seconds until something is due, at most `timeout`."""
        now = time.monotonic()
        return max(0.0, min([timeout, *(when - now for when, _ in self._held)]))


def into_client_worker(weather: Weather) -> None:
    receive, answer, publish = Server.receive, Server.answer, Server.publish
    arrived: list[Any] = []

    def received(server: Server, timeout: float, *args: Any) -> list[Any]:
        for event in receive(server, weather.next(timeout), *args):
            weather.send(lambda event=event: arrived.append(event))  # type: ignore[misc]
        weather.release()
        taken = list(arrived)
        arrived.clear()
        return taken

    Server.receive = received  # type: ignore[method-assign, assignment]
    Server.answer = lambda *args: weather.send(lambda: answer(*args))  # type: ignore[method-assign]
    Server.publish = lambda *args: weather.send(lambda: publish(*args))  # type: ignore[method-assign]
