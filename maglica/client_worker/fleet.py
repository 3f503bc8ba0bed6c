"""What the client worker knows of its hosts. No sockets, no clock: time is an argument, in seconds that only grow."""

from __future__ import annotations

from typing import Any

from maglica.errors import Refused

BEATS = 3  # unheard beats after which a host counts as down


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
        self.version: str | None = None
        self.features: list[str] = []


class Fleet:
    """All hosts: those that the settings name and those that ever said hello."""

    def __init__(self, beat: float, started: float) -> None:
        self.beat = beat
        self.started = started
        self.hosts: dict[str, Host] = {}

    def know(self, name: str) -> Host:
        """The host of that name; a new one when it was not known."""
        return self.hosts.setdefault(name, Host(name))

    def state(self, host: Host, now: float) -> str:
        """`up`, `down`, or `unknown`: not heard of since this client worker started, and still within its grace."""
        patience = self.beat * BEATS
        if host.heard is not None:
            return "up" if now - host.heard <= patience else "down"
        return "unknown" if now - self.started <= patience else "down"

    def why(self, host: Host, now: float) -> str:
        """The state in words."""
        if host.heard is None:
            return "has not reported since the client worker started"
        if self.state(host, now) == "up":
            return "reports regularly"
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
        if host.journal == journal and start[0] < host.start[0] and self.state(host, now) == "up":
            raise Refused("wrong_state", f"a hello of {name} came late: a later start of it has been heard")
        if not start[1] or (journal, start) != (host.journal, host.start):
            host.incarnation += 1
            host.seq = 0
        host.journal, host.start, host.heard = journal, start, now
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
        host.heard = now
        return host
