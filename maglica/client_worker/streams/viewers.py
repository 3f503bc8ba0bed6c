"""What is remembered of a stream that is carried: who looks at it, and the bytes that are under way.

No sockets, no clock: time is an argument. `streams.py` decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from maglica import wire
from maglica.bus import Route
from maglica.client_worker.door.doors import Caller
from maglica.declare import Action
from maglica.errors import MaglicaError
from maglica.window import Window

CONSOLE_PACE = 1 << 20  # bytes a second of one console; more than that nobody reads


class Carried(NamedTuple):
    """What can be carried. `shared`: all see the same, and who is too slow misses some of it; otherwise everybody has
    his own and misses nothing. `pace`: bytes a second from the host.
    """

    shared: bool
    pace: float


CARRIED = {"vm console": Carried(True, CONSOLE_PACE), "vm vnc": Carried(False, float("inf"))}


class Held(NamedTuple):
    """A request that is held back."""

    route: Route
    n: int
    until: float
    prompt: bool  # whoever asks wants to know as soon as something was taken of what it brings
    known: int  # what it knows to have been taken
    life: str = ""  # of a host's request
    full: bool = False  # whoever asks has no room


class Pace:
    """Bytes a second of one peer or stream, in a bucket that holds a second's worth."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._left, self._at = rate, rate, now

    def spend(self, size: int, now: float) -> None:
        self._left = min(self._rate, self._left + (now - self._at) * self._rate) - size
        self._at = now

    def free(self) -> float:
        """When something may be taken again."""
        return self._at if self._left >= 0 else self._at - self._left / self._rate


class Viewer:
    """Somebody who looks at a stream, and perhaps types."""

    def __init__(self, key: str, caller: Caller, action: Action, look: bool, now: float) -> None:
        self.key, self.who, self.peer, self.action = key, caller.who, caller.peer, action
        self.look = look  # does not want to type
        self.stream: Stream | None = None  # while its VM is being looked for
        self.held: Held | None = None
        self.n = 0
        self.seen = now
        self.life, self.have = "", 0  # what it has seen
        self.live = 0  # what comes before that was there before it came
        self.typed: Window | None = None  # what it typed and its host has not taken; None before it typed anything
        self.silent = ""  # why it may not type
        self.noted = False  # in the audit


class Stream:
    """One thing that is open on a host, and everybody who looks at it."""

    def __init__(self, host: str, what: str, action: Action, now: float) -> None:
        self.host, self.what, self.action = host, what, action
        self.vm = str(getattr(action, "name"))
        self.carried = CARRIED[action.NAME]
        self.viewers: dict[str, Viewer] = {}
        self.life, self.live = "", 0
        self.window = Window()
        self.taken: dict[str, int] = {}  # viewer -> what the host has taken of what it typed
        self.held: Held | None = None
        self.brought = False  # what is held has brought bytes, and waits to hear that they came
        self.busy = False  # the host takes nothing that was typed for now: its guest does not read
        self.n = 0
        self.since = self.heard = now
        self.rung = self.spoken = float("-inf")  # when its host was rung, and answered
        self.pace = Pace(self.carried.pace, now)
        self.over = False
        self.error: MaglicaError | None = None

    @property
    def seen(self) -> int:
        """The bytes that everybody has."""
        return min((viewer.have for viewer in self.viewers.values() if viewer.life == self.life), default=0)

    def typed(self) -> list[list[Any]]:
        """[viewer, number of the first byte, bytes] of what was typed and the host has not taken."""
        found: list[list[Any]] = []
        left = 0 if self.busy else wire.MAX_BYTES // 2
        for viewer in self.viewers.values():
            if viewer.typed and viewer.typed.end > viewer.typed.start and left > 0:
                at, data = viewer.typed.since(viewer.typed.start)
                found.append([viewer.key, at, data])
                left -= len(data)
        return found
