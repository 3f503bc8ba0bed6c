"""One thing that is open on this host: what was read from it, and what was typed for it. No sockets, no clock."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from maglica.errors import MaglicaError
from maglica.window import SIZE, Window
from maglica.wire import Message

PENDING = SIZE  # bytes that were typed and that the guest has not read
TYPISTS = 256  # of whom it is known how much they typed: all of it is told each time
AGAIN = 3.0  # seconds after which a message without an answer is given again: a second more than it is held back
LATER = 1.0  # seconds after a refusal
LINGER = 15.0  # seconds that something stays open when the client worker knows nothing of it: it may have restarted


class Opened(NamedTuple):
    """What an opener gives.

    `file`: a descriptor that does not block; `before`: what it said before; `shared`: everybody sees the same, and who
    is too slow misses some; otherwise nothing is read that nobody has room for; `gone`: what its end means, in words;
    `close`: what else is to be done at the end.
    """

    file: int
    before: bytes
    shared: bool
    gone: str
    close: Callable[[], None]


class Source:
    """Something that is being opened, open, or over."""

    def __init__(self, what: str, now: float) -> None:
        self.what = what
        self.life = ""
        self.opened: Opened | None = None
        self.read = Window()  # what it said
        self.live = 0
        self.taken: dict[str, int] = {}  # viewer -> number of the next byte of what it types
        self.pending = bytearray()  # taken, and not yet read by the guest
        self.over = False
        self.error: MaglicaError | None = None
        self.resume = 0.0  # when it is read again: somebody prints faster than anybody reads
        self._n = 0
        self._asked: float | None = None  # when the message that is out was sent
        self._brings = False  # that message has bytes in it
        self._told: tuple[Any, ...] = ()  # the rest of what it said
        self._got = 0  # what the client worker has
        self._again = 0.0  # no message before that
        self.wanted = now  # when somebody was last known to look

    def begin(self, opened: Opened) -> None:
        """It is open."""
        self.life = os.urandom(8).hex()
        self.opened = opened
        self.read.push(opened.before)
        self.live = self.read.end

    def end(self, error: MaglicaError | None) -> None:
        """There will be no more bytes."""
        self.over, self.error = True, error

    @property
    def reads(self) -> bool:
        """Whether there is room for more of what it says."""
        return self.opened is not None and not self.over and (self.opened.shared or self.read.room > 0)

    @property
    def ready(self) -> bool:
        """Whether there is something to tell."""
        return bool(self.life) or self.over

    # ------------------------------------------------------------------------------------------ the bus

    def message(self, now: float) -> Message | None:
        """What is to be told now, if anything. There is always a message out, which the client worker holds back until
        something is typed; a new one takes its place when there is something to tell.
        """
        if not self.ready or now < self._again:
            return None
        state = (tuple(self.taken.items()), self.over, self.busy, self.full)
        news = not self._brings and (self.read.end > self._got or state != self._told)
        if self._asked is not None and now - self._asked < AGAIN and not news:
            return None
        at, data = self.read.since(self._got)
        self._n += 1
        self._asked, self._brings, self._told = now, bool(data), state
        over = self.over and at + len(data) == self.read.end
        return {
            "op": "flow", "stream": self.what, "life": self.life, "n": self._n, "start": self.read.start, "at": at,
            "data": data, "have": dict(self.taken), "live": self.live, "full": self.full, "busy": self.busy,
            "over": over, "error": self.error.to_wire() if over and self.error else None,
        }  # fmt: skip

    @property
    def busy(self) -> bool:
        return len(self.pending) >= PENDING // 2

    @property
    def full(self) -> bool:
        return self.opened is not None and not self.opened.shared and self.read.room < SIZE // 2

    def due(self, now: float) -> float:
        """Seconds until `message` has something to say by itself."""
        if not self.ready:
            return AGAIN
        asked = 0.0 if self._asked is None else self._asked + AGAIN
        return max(0.0, max(asked, self._again) - now)

    def rung(self, now: float) -> None:
        """Somebody wants to look, and the client worker holds no message of ours."""
        self.wanted = now
        self._again = 0.0
        if not self._brings:
            self._asked = None

    def answered(self, message: Message, now: float) -> bytes:
        """Act on an answer; what of it is to be typed now. `close` in it is not dealt with here."""
        if not message.get("ok"):
            if message.get("n") == self._n:
                self._asked, self._brings, self._again = None, False, now + LATER
            return b""
        if message.get("life") != self.life:
            return b""
        self.wanted = now
        if message["n"] == self._n:
            self._asked, self._brings = None, False
            self._got = min(max(message["got"], self.read.start), self.read.end)
        if self.opened and not self.opened.shared:
            self.read.forget(min(message["seen"], self._got))
        return b"".join(self._take(*piece) for piece in message["typed"])

    def _take(self, viewer: str, at: int, data: bytes) -> bytes:
        """What is new in what a viewer typed, as far as there is room for it."""
        had = self.taken.pop(viewer, at)
        self.taken[viewer] = had
        if len(self.taken) > TYPISTS:
            del self.taken[next(iter(self.taken))]  # who has typed nothing for longest
        if at > had:
            return b""
        new = bytes(data[had - at :][: max(0, PENDING - len(self.pending))])
        self.taken[viewer] = had + len(new)
        return new

    def forgotten(self, now: float) -> bool:
        """Whether nobody is likely to come back for it."""
        return now - self.wanted > LINGER
