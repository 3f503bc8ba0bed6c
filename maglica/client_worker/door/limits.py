"""What one peer may take: which connections are cut off, and who asks too often. Numbers in, verdicts out.

No sockets, no clock, no threads: time is an argument, in seconds that only grow. What the attacks did before there were
these limits, and do now, is in docs/measurements.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from maglica import wire
from maglica.bus import UNREAD

# Whole messages that may wait in libzmq, and the one that is under way: more bytes than this, since the loop was given
# one last, can only be a message without an end.
UNHEARD_BYTES = (UNREAD + 1) * wire.MAX_BYTES + 64 * 1024
# The same, once the loop has seen that no whole message waits.
UNFINISHED_BYTES = 2 * wire.MAX_BYTES
# A subscriber says a few hundred bytes with keys, and a topic takes 46 times its length in libzmq's tree.
SUBSCRIBER_BYTES = 16 * 1024
DRIP = 32  # bytes a second that heartbeats of both sides may take, encrypted
DEAF = 10.0  # seconds without reading a byte of what waits for it
HURRY = 1.0  # the same when memory is short
SMALL = 64 * 1024  # bytes of one connection that are not worth a look even then
SUBSCRIBER_SMALL = 4 * 1024
AT_ONCE = 16  # connections cut in one look for want of memory; the next look sees what that gave back
YOUNG = 1.0  # seconds that a connection has for its first request
MOST_OF_KEY = 128  # connections of one key: each of them is asked before somebody else's turn comes


class Seen(NamedTuple):
    """One connection, at one look."""

    inode: int  # of its socket: a name that is not used again, as a file descriptor is
    fd: int
    subscriber: bool  # on the PUB port; on the REP port otherwise
    address: str
    port: int  # the peer's
    taken: int  # bytes that libzmq has read of it
    given: int  # bytes that it has acknowledged
    waiting: int  # bytes for it that do not fit its window
    heard: int  # whole messages that the loop was given of this file descriptor
    key: str = ""  # whose the last one was, as far as that is known


class Cut(NamedTuple):
    """A connection to be ended, and why."""

    seen: Seen
    reason: str
    amount: int  # bytes that it has piled up, or connections of its address or key


class _Past:
    """What is remembered of a connection between two looks."""

    __slots__ = ("before", "emptied", "given", "heard", "key", "mark", "marked", "moved", "settled", "since")

    def __init__(self, seen: Seen, fresh: bool, emptied: int, now: float) -> None:
        self.since = self.marked = self.moved = now
        self.heard, self.given, self.emptied = seen.heard, seen.given, emptied
        # `taken` when the loop was last given a message; 0 when it was given none yet.
        self.mark = 0 if fresh else seen.taken
        self.settled = self.mark  # what was taken at a moment since when the loop has found nothing whole any more
        self.before = seen.taken
        self.key = "" if fresh else seen.key  # a number of a file is used again: not whoever had it before

    def look(self, seen: Seen, emptied: int, now: float) -> None:
        if seen.heard != self.heard:
            self.heard, self.marked = seen.heard, now
            self.mark = self.settled = self.before = seen.taken
            self.emptied, self.key = emptied, seen.key
        elif emptied >= self.emptied + 2:
            # One of the two began after the look before: what was taken by then, and was whole, would have been heard.
            self.settled = self.before
            self.before, self.emptied = seen.taken, emptied
        if seen.given != self.given or not seen.waiting:
            self.given, self.moved = seen.given, now


class Watch:
    """Remembers connections from look to look and says which ones are to be cut off."""

    def __init__(self, memory_limit: int, file_limit: int) -> None:
        self._memory_limit, self._file_limit = memory_limit, file_limit
        self._past: dict[int, _Past] = {}
        self._heard: dict[int, int] = {}  # by file descriptor, at the last look
        self._cut: set[int] = set()

    def look(self, all_seen: list[Seen], *, emptied: int, memory: int, others: int, now: float) -> list[Cut]:
        """The connections that are to be cut off.

        `emptied`: how often the loop has found nothing whole any more; `memory`: bytes that this process holds;
        `others`: open files that are no connections.
        """
        there = {seen.inode for seen in all_seen}
        self._cut &= there
        self._past = {inode: past for inode, past in self._past.items() if inode in there}
        rest: list[Seen] = []
        cuts: list[Cut] = []
        for seen in all_seen:
            if seen.inode in self._cut:
                continue
            past = self._past.get(seen.inode)
            if past is None:
                fresh = seen.heard == self._heard.get(seen.fd, 0)
                past = self._past[seen.inode] = _Past(seen, fresh, emptied, now)
            past.look(seen, emptied, now)
            seen = seen._replace(key=past.key)
            cut = _excess(seen, past, now)
            if cut:
                cuts.append(cut)
            else:
                rest.append(seen)
        self._heard = {seen.fd: seen.heard for seen in all_seen}
        if not cuts and memory > self._memory_limit // 2:
            cuts = self._heaviest(rest, now)
        cuts += self._of_key(rest)
        cuts += self._crowd(rest, others, now)
        self._cut |= {cut.seen.inode for cut in cuts}
        return cuts

    def _heaviest(self, rest: list[Seen], now: float) -> list[Cut]:
        """Memory is short: those who hold most of it, though none of them more than it may."""
        found: list[tuple[int, Cut]] = []
        for seen in rest:
            past = self._past[seen.inode]
            piled = seen.taken - past.mark
            if seen.subscriber and seen.taken > SUBSCRIBER_SMALL + DRIP * (now - past.since):
                found.append((46 * seen.taken, Cut(seen, "many subscriptions", seen.taken)))
            elif not seen.subscriber and piled > SMALL + DRIP * (now - past.marked):
                found.append((piled, Cut(seen, "unfinished message", piled)))
            elif seen.waiting and now - past.moved >= HURRY:
                found.append((seen.waiting, Cut(seen, "does not read", seen.waiting)))
        found.sort(key=lambda pair: -pair[0])
        return [cut for _, cut in found[:AT_ONCE]]

    def _of_key(self, rest: list[Seen]) -> list[Cut]:
        """The connections of one key that are too many: those that came last."""
        groups: dict[str, list[Seen]] = {}
        for seen in rest:
            if seen.key and not seen.subscriber:
                groups.setdefault(seen.key, []).append(seen)
        cuts = []
        for group in groups.values():
            if len(group) > MOST_OF_KEY:
                group.sort(key=lambda seen: self._past[seen.inode].since)
                cuts += [Cut(seen, "too many connections of one key", len(group)) for seen in group[MOST_OF_KEY:]]
        return cuts

    def _crowd(self, rest: list[Seen], others: int, now: float) -> list[Cut]:
        """Files run short: the surplus of those addresses that have most connections."""
        room = self._file_limit - self._file_limit // 8 - others
        if len(rest) <= room:
            return []
        groups: dict[str, list[Seen]] = {}
        for seen in rest:
            groups.setdefault(network(seen.address), []).append(seen)
        share = fair_share([len(group) for group in groups.values()], room)
        cuts = []
        for group in groups.values():
            if len(group) > share:
                group.sort(key=lambda seen: self._standing(seen, now))
                cuts += [Cut(seen, "too many connections", len(group)) for seen in group[share:]]
        return cuts

    def _standing(self, seen: Seen, now: float) -> tuple[bool, float]:
        """Who stays first: whoever was heard, or had no time for it yet; then whoever came first."""
        past = self._past[seen.inode]
        mute = not seen.subscriber and past.mark == 0 and now - past.since > YOUNG
        return mute, past.since


def _excess(seen: Seen, past: _Past, now: float) -> Cut | None:
    """Why a connection must go, whatever else goes on."""
    if seen.subscriber:
        if seen.taken > SUBSCRIBER_BYTES + DRIP * (now - past.since):
            return Cut(seen, "many subscriptions", seen.taken)
    else:
        drip = DRIP * (now - past.marked)
        if seen.taken - past.mark > UNHEARD_BYTES + drip or past.settled - past.mark > UNFINISHED_BYTES + drip:
            return Cut(seen, "unfinished message", seen.taken - past.mark)
    if seen.waiting and now - past.moved >= DEAF:
        return Cut(seen, "does not read", seen.waiting)
    return None


def network(address: str) -> str:
    """Whose an address is: itself, or the /64 that one subscriber of a provider has at least."""
    address = address.removeprefix("::ffff:").partition("%")[0]
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))


def fair_share(sizes: Iterable[int], room: int) -> int:
    """The largest share so that groups of these sizes, none with more than its share, fit into the room."""
    left, ordered = room, sorted(sizes)
    for index, size in enumerate(ordered):
        share = max(0, left) // (len(ordered) - index)
        if size > share:
            return share
        left -= size
    return max(ordered, default=0)


class Rates:
    """A bucket of tokens for each peer. A request costs one, and one more for each 16 KiB: decoding is what costs.

    A second bucket of the same size holds how often a peer may be refused: who empties that too does not listen.
    """

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self._rate = float(per_second)
        self._buckets: dict[str, tuple[float, float, float]] = {}  # peer -> tokens, refusals that are left, and when

    def admit(self, who: str, size: int, now: float) -> bool:
        """Whether a request of so many bytes is looked at."""
        tokens, refusals = self._now(who, now)
        cost = min(1.0 + size // 16384, self._rate)
        good = tokens >= cost
        if good:
            self._buckets[who] = (tokens - cost, refusals, now)
        else:
            self.refused(who, now)
        if len(self._buckets) > 10_000:
            self._buckets = {one: had for one, had in self._buckets.items() if min(self._now(one, now)) < self._rate}
        return good

    def weigh(self, who: str, jobs: int, now: float) -> bool:
        """Whether a request for so many jobs is done, of which one was counted when it was let in. It costs as many
        requests, but never more than half a second's worth: it has to be possible.
        """
        tokens, refusals = self._now(who, now)
        cost = min(jobs - 1.0, self._rate / 2)
        good = tokens >= cost
        if good:
            self._buckets[who] = tokens - cost, refusals, now
        return good

    def refused(self, who: str, now: float) -> None:
        """A request was turned down."""
        tokens, refusals = self._now(who, now)
        self._buckets[who] = tokens, max(0.0, refusals - 1.0), now

    def overdrawn(self, who: str, now: float) -> bool:
        """Whether a peer goes on although it was refused a whole second's worth of requests."""
        return self._now(who, now)[1] < 1.0

    def _now(self, who: str, now: float) -> tuple[float, float]:
        tokens, refusals, when = self._buckets.get(who, (self._rate, self._rate, now))
        more = self._rate * (now - when)
        return min(self._rate, tokens + more), min(self._rate, refusals + more)
