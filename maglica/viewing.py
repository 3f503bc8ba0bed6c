"""A client's end of a stream: what to ask for, what has come, what was typed and not taken yet. No sockets, no clock.

`client_worker/streams/streams.py` is the other end. Whoever drives this sends `message`s and hands in what is answered.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, from_wire
from maglica.window import PIECE, Window
from maglica.wire import Message

HOLD = 2.0  # seconds that a request may be held back
AGAIN = 3.0  # seconds after which one is given again
RETRY = 0.5  # seconds after an error that may pass
OUTAGE = 60.0  # seconds without a word after which it is given up
PASSING = frozenset({"host_down", "timeout", "unreachable", "no_capacity", "unknown_entity"})


class Output(NamedTuple):
    """Bytes that came. `before`: they were there before this viewer was."""

    data: bytes
    before: bool


class Gap(NamedTuple):
    """So many bytes were left out: they came faster than they were asked for."""

    bytes: int


class Opened(NamedTuple):
    """It is open. `silent`: why nothing can be typed, '' if it can."""

    host: str
    vm: str
    silent: str


class Anew(NamedTuple):
    """What was open is another one now: its host worker was started anew. `unsure`: typed bytes that may be lost."""

    unsure: int


class Trouble(NamedTuple):
    """Nothing comes for now, and why; it is tried again."""

    why: str


class Better(NamedTuple):
    """It goes on."""


class Over(NamedTuple):
    """There is no more. `error`: unless that is as it should be."""

    error: MaglicaError | None


Event = Output | Gap | Opened | Anew | Trouble | Better | Over


class Viewing:
    """One stream, as whoever looks at it has it. `look`: nothing will be typed."""

    def __init__(self, action: Action, now: float, *, look: bool = False) -> None:
        self.key = os.urandom(16).hex()
        self._action, self._look = action, look
        self.life, self.have = "", 0
        self.live = 0  # what comes before that was there before
        self.typed = Window()
        self._got = 0  # of what was typed, the client worker has it up to here
        self._sent = 0  # and was sent it up to here
        self._n = 0
        self._asked: float | None = None
        self._again = 0.0
        self._heard = now
        self._trouble = ""
        self._full = False  # what is out brings nothing
        self.over = False

    def type(self, data: bytes) -> int:
        """Have bytes typed; how many there was room for."""
        return self.typed.put(data)

    # ------------------------------------------------------------------------------------------- asking

    def message(self, now: float, *, full: bool = False) -> Message | None:
        """The request that is to be sent now, if any. `full`: nothing is to be brought for now."""
        if self.over or now < self._again:
            return None
        fresh = bool(self.life) and self.typed.end > self._sent and self._sent - self._got < PIECE
        if self._asked is not None and now - self._asked < AGAIN and not fresh and full == self._full:
            return None
        self._full = full
        at, data = self.typed.since(self._got) if self.life else (self._got, b"")
        self._sent = at + len(data)
        self._n += 1
        self._asked = now
        more = self.typed.end > self._sent or self.typed.room < self.typed.size // 2
        return {
            "op": "stream", "key": self.key, "action": self._action.NAME, "args": self._action.values(), "n": self._n,
            "life": self.life, "have": self.have, "at": at, "data": data, "taken": self.typed.start, "timeout": HOLD,
            "more": more, "look": self._look, "full": full,
        }  # fmt: skip

    def bye(self) -> Message:
        """The last word."""
        self.over = True
        self._n += 1
        return {
            "op": "stream", "key": self.key, "action": self._action.NAME, "args": self._action.values(), "n": self._n,
            "bye": True,
        }  # fmt: skip

    def pause(self, now: float) -> float:
        """Seconds until there is something to be asked."""
        if self.over:
            return AGAIN
        return max(0.0, max(self._again, 0.0 if self._asked is None else self._asked + AGAIN) - now)

    def tick(self, now: float) -> list[Event]:
        """What silence means."""
        silence = now - self._heard
        if self.over or silence <= AGAIN + 0.5:
            return []
        if silence > OUTAGE:
            self.over = True
            hint = "what is there goes on; open it again when the client worker is back"
            return [Over(Failed("unreachable", f"the client worker has not answered for {silence:.0f} s", hint))]
        return self._troubled("the client worker does not answer; trying again")

    def _troubled(self, why: str) -> list[Event]:
        if self._trouble:
            return []
        self._trouble = why
        return [Trouble(why)]

    # ------------------------------------------------------------------------------------------ answers

    def answered(self, message: Message, now: float) -> list[Event]:
        """What an answer brings."""
        mine = message.get("n", self._n) == self._n
        if self.over or not (mine or message.get("ok")):
            return []
        if not message.get("ok"):
            return self._refused(from_wire(message.get("error") or {}), now)
        self._heard = now
        if mine:
            self._asked = None
        if not message["life"]:
            if message.get("over"):
                return self._ended(message)
            return []  # still being opened
        events: list[Event] = []
        if message["life"] != self.life:
            if not mine:
                return []  # from before
            events += self._begins(message)
        if self._trouble and not message.get("away"):
            self._trouble = ""
            events.append(Better())
        if message.get("away"):
            events += self._troubled(f"host {message['host']} does not answer; waiting for it")
        self.live = message["live"]
        events += self._brought(message["at"], message["data"], message["live"])
        if message["taken"] is not None:
            self.typed.forget(message["taken"])
        if mine:
            got = message["got"]
            self._got = self.typed.start if got is None else min(max(got, self.typed.start), self.typed.end)
            self._sent = self._got
        if message.get("over") and self.have >= message["at"] + len(message["data"]):
            events += self._ended(message)
        return events

    def _begins(self, message: Message) -> list[Event]:
        events: list[Event] = []
        if self.life:
            # Whether what was under way has arrived, nobody knows: it is not typed twice.
            unsure = self._sent - self.typed.start
            self.typed.forget(self._sent)
            events.append(Anew(unsure))
        else:
            events.append(Opened(message["host"], message["vm"], message["silent"]))
        self.life, self.have = message["life"], message["at"]
        self.typed = _moved(self.typed)
        self._got = self._sent = 0
        return events

    def _brought(self, at: int, data: bytes, live: int) -> list[Event]:
        events: list[Event] = []
        if at > self.have:
            events.append(Gap(at - self.have))
            self.have = at
        new = data[self.have - at :]
        before = new[: max(0, live - self.have)]
        if before:
            events.append(Output(before, True))
        if new[len(before) :]:
            events.append(Output(new[len(before) :], False))
        self.have += len(new)
        return events

    def _ended(self, message: Message) -> list[Event]:
        self.over = True
        return [Over(from_wire(message["error"]) if message.get("error") else None)]

    def _refused(self, error: MaglicaError, now: float) -> list[Event]:
        self._asked = None
        if not self.life or error.code not in PASSING or now - self._heard > OUTAGE:
            self.over = True
            return [Over(error)]
        self._again = now + RETRY
        return self._troubled(error.message)


def _moved(window: Window) -> Window:
    """The same bytes, numbered from 0 on."""
    fresh = Window()
    fresh.put(window.since(window.start, window.size)[1])
    return fresh
