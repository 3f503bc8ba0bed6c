"""Who waits for news of jobs and groups. No sockets, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from maglica.bus import Route
from maglica.client_worker.now import Now
from maglica.errors import Refused
from maglica.job import FINAL, Job

LONGEST_WAIT = 10.0  # seconds that an answer is held back for a job to change; the asker asks again
MOST_OF_PEER = 1000  # waits of one key; each is looked at in every turn of the loop
GROUP_PAUSE = 0.2  # seconds between two answers about a group to the same asker: it changes a thousand times


class Waiter(NamedTuple):
    """Somebody who wants to hear when a job or group is another than at `rev` (which a restart may have set back)."""

    route: Route
    job: str
    rev: int
    deadline: float
    ended: bool  # nothing but its end is of interest
    peer: str = ""  # whose requests are counted together with this one
    earliest: float = 0.0  # of a group: before then its changes are not told

    def hears(self, record: Job) -> bool:
        """Whether the record of the job as it is now is what he waits for."""
        return record["state"] in FINAL or (record["rev"] != self.rev and not self.ended)


class Waiters:
    """All of them, and which groups have changed since somebody asked for them."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[Waiter]] = {}  # by job or group
        self._of_peer: Counter[str] = Counter()
        # Changes of groups, counted since somebody first asked for them; and those with news for their waiters.
        self._group_rev: dict[str, int] = {}
        self._stirred: set[str] = set()
        self._undo_of: dict[str, str] = {}  # group -> the one whose works it takes back, as far as that was shown
        self._told: list[Waiter] = []  # who waits no more, since it was last certain that they were told

    def add(self, waiter: Waiter) -> None:
        """Raises `Refused` when its peer has as many waiting as one may."""
        if self._of_peer[waiter.peer] >= MOST_OF_PEER:
            raise Refused(
                "no_capacity",
                f"{MOST_OF_PEER} requests of one peer wait for news of jobs already",
                "wait for a group instead of its jobs; each program may have a key of its own: `maglica key new`",
            )
        self._waiters.setdefault(waiter.job, []).append(waiter)
        self._of_peer[waiter.peer] += 1

    def rev(self, group_id: str, now: Now, *, over: bool) -> int:
        """At which change a group is; from now on they are counted, unless it is `over`."""
        return self._group_rev.get(group_id, now.ms) if over else self._group_rev.setdefault(group_id, now.ms)

    def undoes(self, undo_id: str, group_id: str | None) -> None:
        """What changes in the one group is news of the other one, whose works it takes back."""
        if group_id is not None and group_id in self._group_rev:
            self._undo_of[undo_id] = group_id

    def changed(self, record: Job) -> list[Waiter]:
        """A job is another than before: those who are to be told, and wait no more."""
        for group in (record["group"], self._undo_of.get(record["group"] or "")):
            if group in self._group_rev:  # nobody has asked for the others
                self._group_rev[group] += 1
                self._stirred.add(group)
        return self._gone([one for one in self._waiters.get(record["id"], []) if one.hears(record)])

    def due(self, now: Now, is_over: Callable[[str], bool]) -> Iterator[list[Waiter]]:
        """Those who have waited long enough, and those whose groups have changed: together those who wait for the
        same, and they wait no more. `is_over`: whether a group is.
        """
        for waiters in list(self._waiters.values()):
            yield self._gone([one for one in waiters if now.mono >= one.deadline])
        for group_id in sorted(self._stirred):
            over = is_over(group_id)
            mine = self._waiters.get(group_id, [])
            yield self._gone([one for one in mine if over or (now.mono >= one.earliest and not one.ended)])
            if over:
                self._group_rev.pop(group_id, None)
                self._undo_of = {undo: of for undo, of in self._undo_of.items() if of != group_id}
        self._stirred &= self._waiters.keys()

    def deadlines(self) -> list[float]:
        """When somebody is to be told at the latest, as far as is known now."""
        return [
            waiter.earliest if name in self._stirred and not waiter.ended else waiter.deadline
            for name, waiters in self._waiters.items()
            for waiter in waiters
        ]

    def certain(self) -> None:
        """Those who were told so far stay told."""
        self._told.clear()

    def mark(self) -> int:
        """How many were told since then."""
        return len(self._told)

    def untold(self, mark: int) -> None:
        """Those who were told after the first `mark` were not, and wait on."""
        for waiter in self._told[mark:]:
            self.add(waiter)
        del self._told[mark:]

    def _gone(self, waiters: list[Waiter]) -> list[Waiter]:
        self._told += waiters
        for waiter in waiters:
            mine = self._waiters[waiter.job]
            mine.remove(waiter)
            if not mine:
                del self._waiters[waiter.job]
            self._of_peer[waiter.peer] -= 1
            if not self._of_peer[waiter.peer]:
                del self._of_peer[waiter.peer]
        return waiters
