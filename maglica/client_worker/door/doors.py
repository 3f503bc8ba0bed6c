"""Who may come in, and who may do what; what was denied is written down. No clock: time is an argument."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, NoReturn, TypeVar

from maglica import wire
from maglica.bus import Route
from maglica.client_worker.door import keyring
from maglica.client_worker.door.audit import Audit
from maglica.client_worker.door.keyring import Keyring, Who
from maglica.client_worker.door.limits import Rates
from maglica.client_worker.now import Now
from maglica.client_worker.revealing import Revealing
from maglica.declare import Action
from maglica.errors import MaglicaError, Refused
from maglica.keys import fingerprint
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")

T = TypeVar("T")

SHUT = 60.0  # seconds


class Caller(NamedTuple):
    """Whoever asks: where the answer goes, and whose key it is."""

    route: Route
    who: Who

    @property
    def peer(self) -> str:
        """Whose requests are counted together."""
        return peer(self.who.public, self.route)


def peer(public: str, route: Route) -> str:
    """Whose requests are counted together: one key's; one connection's on an open bus."""
    return public or route[0].hex()


class Doors:
    """The keyring is asked, and the audit is told when it says no."""

    def __init__(self, ring: Keyring, audit: Audit, rates: Rates) -> None:
        self._keyring = ring
        self.audit = audit
        self._rates = rates
        self._shut: dict[str, float] = {}  # until when a key may not listen

    def enter(self, op: str, message: Message, who: Who, now: Now) -> None:
        """Hosts speak for themselves, people ask, strangers join; on an open bus everybody does everything."""
        if self._keyring.is_open:
            return
        if op == "join" or (op == "ping" and who.role != keyring.STRANGER):
            return
        if who.role == keyring.STRANGER:
            why = f"the key {who.name} ({fingerprint(who.public)}) is not known here, or is no longer good"
            self._deny(who, op, why, "people get one by `maglica key new`, hosts by `maglica host invite`", now)
        if op in wire.OF_HOSTS:
            if who.role != keyring.HOST or who.name != message["host"]:
                why = f"the key of {who} cannot speak for host {message['host']}"
                self._deny(who, op, why, "every host has a key of its own: `maglica host invite`", now)
        elif op not in wire.OF_PEOPLE or who.role == keyring.HOST:
            self._deny(who, op, f"the key of {who} is for a host worker only", "`maglica key new` is for people", now)

    def _deny(self, who: Who, what: str, message: str, hint: str, now: Now) -> NoReturn:
        self.audit.denied(who, what, None, message, now)
        raise Refused("denied", message, hint)

    def may(
        self,
        who: Who,
        action: type[Action],
        now: Now,
        *,
        vm: str | None = None,
        host: str | None = None,
        least: str | None = None,
    ) -> None:
        """Ask the keyring, and write down when it says no.

        What the key is good for is looked up once more: hosts were asked meanwhile, and it may have been revoked.
        """
        who = self._keyring.who(who.public, who.address, now.ms)
        self.noted(
            who,
            action.NAME,
            vm or host or None,
            now,
            lambda: self._keyring.may(who, action, vm=vm, host=host, least=least),
        )

    def weigh(self, caller: Caller, jobs: int, now: Now) -> None:
        """A request for many jobs counts as many requests; its first one was counted when it was let in."""
        if not self._rates.weigh(caller.peer, jobs, now.mono):
            raise Refused(
                "no_capacity",
                f"{jobs} jobs at once are not accepted so soon after so much else from one peer",
                "try again in a second; [client] request_rate sets the limit",
            )

    def noted(self, who: Who, what: str, about: str | None, now: Now, work: Callable[[], T]) -> T:
        """Do some work; when it is denied to whoever asks for it, write that down."""
        try:
            return work()
        except Refused as error:
            if error.code == "denied":
                self.audit.denied(who, what, about, error.message, now)
            raise

    @contextmanager
    def wording(self, who: Who) -> Iterator[None]:
        """What is refused within is told to whoever asks in words that name nothing which he may not see."""
        try:
            yield
        except Revealing as error:
            told: Refused = error
            while isinstance(told, Revealing) and not self._sees(who, told):
                told = told.instead
            raise told from None

    def _sees(self, who: Who, error: Revealing) -> bool:
        return all(self._keyring.sees(who, vm=vm, host=host) for vm, host in error.about)

    def admits(self, public: str, address: str, now: Now, *, listens: bool) -> bool:
        """Whether a key may connect at all."""
        shut = listens and now.mono < self._shut.get(public, 0.0)
        good = self._keyring.admits(public, now.ms, listens=listens) and not shut
        if not good:
            who = self._keyring.who(public, address, now.ms)
            known = who.name != fingerprint(public)
            try:
                why = "the key is no longer good" if known else "unknown key"
                if who.role != keyring.STRANGER:
                    why = "it sent what no subscriber sends" if shut else "only hosts listen"
                self.audit.denied(who, "connect", None, why, now)
            except MaglicaError as error:
                log.error("%s", error.message)  # it stays outside all the same
        return good

    def cut(self, public: str, address: str, why: str, now: Now) -> None:
        """A connection was ended because of what its peer did. Nothing was heard of it yet: `public` is empty."""
        who = self._keyring.who(public, address, now.ms) if public else Who("unknown", keyring.STRANGER, "", address)
        try:
            self.audit.cut(who, why, now)
        except MaglicaError as error:
            log.error("%s", error.message)  # the log has it

    def breach(self, public: str, address: str, now: Now) -> None:
        """A subscriber sent what no subscriber sends, so that all of them had to begin anew: it stays away a while."""
        self._shut = {key: until for key, until in self._shut.items() if now.mono < until}
        self._shut[public] = now.mono + SHUT
        self.cut(public, address, "it sent what no subscriber sends", now)

    def may_hear(self, public: str, topic: bytes, now: Now) -> bool:
        """Whether a key may listen to a topic: a host to its own."""
        return self._keyring.may_hear(public, wire.host_of(topic), now.ms)
