"""What the client worker knows of its hosts. No sockets, no clock: time is an argument, in seconds that only grow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from maglica.errors import Refused

STATES = ("up", "degraded", "down", "unknown")
BEATS = 3  # unheard beats after which a host counts as down, or as one that does not hear
SKEW = 2.0  # seconds between two clocks that are worth telling
MOST_REFUSALS = 256  # remembered: names are what strangers say
MUCH_SKEW = 60.0  # seconds after which times in logs and records of two machines no longer fit together


class Host:
    """One host, as its last message showed it."""

    def __init__(self, name: str, journal: str = "", incarnation: int = 0, facts: dict[str, Any] | None = None) -> None:
        self.name = name
        self.journal = journal
        self.incarnation = incarnation
        self.facts = facts or {}
        self.start: tuple[int, str] = (0, "")  # its process: how often the journal was opened, and a word of its own
        self.seq = 0  # the number of its last report
        self.heard: float | None = None  # when, this client worker's monotonic seconds
        self.beat = 0  # the number of the last beat that it heard
        self.hears = 0.0  # when it last told of a beat that it had not told of before
        self.skew: float | None = None  # seconds that its clock is ahead of ours
        self.barred = ""  # why it cannot speak to us at all: it has no key
        self.joined = False  # with a key of which it has not said anything yet
        self.unwanted: list[str] = []  # jobs that it has and that were given up as lost while it was away
        self.version: str | None = None
        self.features: list[str] = []
        self.actions: frozenset[str] | None = None  # that it can do; None: its release does not tell


class Refusal(NamedTuple):
    """A hello that was turned down: when, why, and what helps."""

    at: float
    why: str
    hint: str


class Fleet:
    """All hosts: those that the settings name and those that ever said hello."""

    def __init__(self, beat: float, started: float) -> None:
        self.beat = beat
        self.started = started  # silence is counted from here: what nobody could tell us is nobody's silence
        self.hosts: dict[str, Host] = {}
        self.refusals: dict[str, Refusal] = {}  # host -> of its last hello that was turned down
        self._removed: dict[str, int] = {}  # host -> its incarnation, below which it never speaks again
        self.removals = 0  # counted: what could not be recorded is taken back
        self.number = 0  # of the last beat
        self.next_beat = started
        self._awake = started

    def know(self, name: str) -> Host:
        """The host of that name; a new one when it was not known."""
        return self.hosts.setdefault(name, Host(name, incarnation=self._removed.get(name, 0)))

    def recall(self, recorded: Iterable[tuple[str, str, int, dict[str, Any]]]) -> None:
        """Know what is recorded of hosts, (name, journal, incarnation, facts), as far as they are not known: after a
        start, or when the removal of one could not be recorded.
        """
        for name, journal, incarnation, facts in recorded:
            if name not in self.hosts or not self.hosts[name].journal:
                host = self.know(name)
                host.journal, host.incarnation, host.facts = journal, incarnation, facts

    def forget(self, name: str) -> None:
        """There is no such host any more. Should it come back, what is still on its way from before is not heard."""
        self._removed[name] = self.hosts.pop(name).incarnation
        self.removals += 1

    def awake(self, now: float) -> None:
        """The loop turns. When it has not for longer than a beat, because this process was stopped or starved, its
        hosts could not be heard: they get the grace that they get after a start.
        """
        if now - self._awake > self.beat + 1.0:
            self.started = now
        self._awake = now

    def refused(self, name: str, why: str, hint: str, now: float) -> None:
        """A hello of that name was turned down."""
        self.refusals.pop(name, None)
        self.refusals[name] = Refusal(now, why, hint)
        while len(self.refusals) > MOST_REFUSALS:
            del self.refusals[next(iter(self.refusals))]

    def strike(self, now: float) -> int | None:
        """The number of the beat that is to be published now; None when it is not time yet."""
        if now < self.next_beat:
            return None
        self.number += 1
        self.next_beat = now + self.beat
        return self.number

    @property
    def patience(self) -> float:
        """Seconds of silence after which a host counts as down."""
        return self.beat * BEATS

    def silence(self, host: Host, now: float) -> float:
        """Seconds in which a host could have been heard and was not."""
        return now - max(self.started, self.started if host.heard is None else host.heard)

    def alive(self, host: Host, now: float) -> bool:
        """Whether it has been heard, and not too long ago."""
        return host.heard is not None and self.silence(host, now) <= self.patience

    def state(self, host: Host, now: float) -> str:
        """`up`; `degraded`: it reports, and something is wrong with it; `down`; or `unknown`: not heard of since this
        client worker started, and still within its grace.
        """
        if host.barred or self.silence(host, now) > self.patience:
            return "down"
        if host.heard is None:
            return "unknown"
        return "degraded" if self.troubles(host, now) else "up"

    def troubles(self, host: Host, now: float) -> list[str]:
        """What is wrong with a host that reports, each in words. None of it takes part in any other decision."""
        found = []
        if "beats" in host.features and now - host.hears > self.patience:
            found.append(f"can call but does not hear: no beat of the client worker for {now - host.hears:.0f} s")
        if host.facts.get("libvirt") not in (None, "ok"):
            found.append(str(host.facts["libvirt"]))
        found += [str(host.facts[word]) for word in ("trouble", "notice") if host.facts.get(word)]
        if host.skew is not None and abs(host.skew) > MUCH_SKEW:
            found.append(skewed(host.skew))
        return found

    def why(self, host: Host, now: float) -> str:
        """The state in words."""
        if host.barred:
            return host.barred
        if self.alive(host, now):
            return "; ".join(self.troubles(host, now)) or "reports regularly"
        refusal = self.refusals.get(host.name)
        if refusal and now - refusal.at <= self.patience:
            return f"was refused: {refusal.why}"
        if host.heard is None:
            since = "it joined" if host.joined else "the client worker started"
            return f"has not reported since {since}"
        return f"last heard {now - host.heard:.0f} s ago"

    def answering(self, now: float) -> list[str]:
        """The hosts worth asking: all that are not known to be down."""
        return sorted(name for name, host in self.hosts.items() if self.state(host, now) != "down")

    def silent(self, now: float) -> dict[str, str]:
        """The hosts that are down, and why that is thought."""
        return {
            name: self.why(host, now) for name, host in sorted(self.hosts.items()) if self.state(host, now) == "down"
        }

    def hello(self, name: str, journal: str, now: float, start: tuple[int, str] = (0, "")) -> Host:
        """A host worker has started. Gives it the next incarnation number, or its own once more when it asks again.

        Raises `Refused` while another worker of that name, with another journal, is alive. A network may deliver what
        was sent on a broken connection long after what came later: a hello of an earlier start is refused as well.
        """
        host = self.know(name)
        # Right after our own start everybody who was known counts as alive, whoever speaks first.
        if host.journal and host.journal != journal and self.state(host, now) != "down":
            raise Refused(
                "already_exists",
                f"another host worker called {name} is alive",
                "every host needs a name of its own: set [host_worker] name; after a re-installation wait "
                f"{self.beat * BEATS:.0f} s and try again",
            )
        if host.journal == journal and start[0] < host.start[0] and self.alive(host, now):
            raise Refused("wrong_state", f"a hello of {name} came late: a later start of it has been heard")
        if not start[1] or (journal, start) != (host.journal, host.start):
            host.incarnation += 1
            host.seq = 0
        host.journal, host.start, host.heard, host.joined = journal, start, now, False
        host.beat, host.hears = 0, now
        return host

    def heard(self, name: str, incarnation: int, now: float, seq: int | None = None) -> Host:
        """A host worker reports. Raises `Refused` when it is unknown, a newer one has taken its place, or a later
        report (`seq` counts them) has overtaken this one: what it says it has is no longer true.
        """
        host = self.hosts.get(name)
        if host is None or not host.journal:
            raise Refused("unknown_entity", f"host {name} is not known here", "it has to say hello first")
        if host.incarnation != incarnation:
            raise Refused(
                "locked",
                f"incarnation {incarnation} of {name} was replaced by {host.incarnation}",
                "this worker has to stop",
                details={"fenced": True, "known": host.incarnation},
            )
        if seq is not None:
            if seq <= host.seq:
                raise Refused("wrong_state", f"report {seq} of {name} came late: {host.seq} has been heard")
            host.seq = seq
        if not self.alive(host, now):
            host.hears = now  # it was away, and could not hear there
        host.heard = now
        return host

    def hears(self, host: Host, number: int, now: float) -> None:
        """A host tells the last beat that it heard."""
        if host.beat < number <= self.number:
            host.beat, host.hears = number, now


def skewed(seconds: float) -> str:
    """The difference of two clocks in words; `seconds` that the host's is ahead of ours."""
    return f"its clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the client worker's"
