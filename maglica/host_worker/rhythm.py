"""When a host worker speaks, when it makes its sockets anew, and whether it still hears.

No sockets and no clock: time is an argument, in seconds that only grow.
"""

from __future__ import annotations

import random
from collections.abc import Callable

ANSWER_WITHIN = 2.0  # seconds; after that the sockets are made anew and everything is told again
PATIENT = 2  # times that this doubles while there is no answer
PROGRESS_EVERY = 0.5  # seconds between two reports of progress
UNHEARD = 3  # beats without a publication, while answers come, after which the ear is made anew
DOUBLINGS = 4  # times that this doubles while it does not help


class Rhythm:
    """One host worker's conversation. `chance(low, high)` draws a number: not all hosts shall speak at once."""

    def __init__(self, beat: float, chance: Callable[[float, float], float] = random.uniform) -> None:
        self.beat = beat
        self.listens = False  # the client worker publishes beats
        self.failures = 0  # requests without an answer, one after the other
        self._chance = chance
        self._asked: float | None = None  # when the request that is out was sent
        self._due = 0.0  # when the next one is to be sent
        self._answered = 0.0  # when the last answer came
        self._ear: float | None = None  # when something was heard last, or the ear was made
        self._ears = 0  # made in vain, one after the other
        self._patience = UNHEARD * beat

    @property
    def waiting(self) -> bool:
        """Whether a request is out: there is never more than one."""
        return self._asked is not None

    def pause(self, now: float) -> float:
        """Seconds until there is something to do."""
        if self._asked is not None:
            return max(0.0, self._asked + self._answer_within - now)
        # Progress that came right after the last report waits here for its turn.
        return min(PROGRESS_EVERY, max(0.0, self._due - now))

    @property
    def _answer_within(self) -> float:
        """Seconds that a request waits; longer after each one in vain. A client worker to which a thousand hosts come
        back at once needs seconds for their handshakes, and new sockets would make it begin with ours once more.
        """
        return ANSWER_WITHIN * 2.0 ** min(self.failures, PATIENT)

    def due(self, now: float) -> bool:
        return not self.waiting and now >= self._due

    def at_once(self, now: float) -> None:
        """The next request need not wait for the beat."""
        self._due = now

    def later(self, now: float, seconds: float) -> None:
        """The next request waits so long."""
        self._due = now + seconds

    def asks(self, now: float) -> None:
        self._asked = now
        if self._ear is None:
            self._ear = now  # it is as old as the first question: before that nothing could be heard

    def answered(self, now: float) -> None:
        self._asked, self.failures = None, 0
        self._answered = now
        self._due = now + self.beat

    def unanswered(self, now: float) -> bool:
        """Whether the request that is out has waited long enough."""
        return self._asked is not None and now - self._asked >= self._answer_within

    def reconnects(self, now: float) -> None:
        """All sockets are new: ask again, a little later each time, and at a moment of one's own (full jitter)."""
        self.failures += 1
        self._asked = None
        self._ear = now
        self._due = now + self._chance(0.0, min(self.beat, 0.1 * 2 ** min(self.failures, 16)))

    def heard(self, now: float) -> None:
        """A publication came."""
        self._ear, self._ears = now, 0
        self._patience = UNHEARD * self.beat

    def deaf(self, now: float) -> bool:
        """Whether answers have been coming for a while and no publication has: it can call but does not hear."""
        return self.listens and self._ear is not None and self._answered - self._ear >= self._patience

    def listens_anew(self, now: float) -> None:
        """The ear is a new one. It is given more time every time it does not help."""
        self._ears += 1
        self._ear = now
        self._patience = UNHEARD * self.beat * 2 ** min(self._ears, DOUBLINGS) + self._chance(0.0, self.beat)
