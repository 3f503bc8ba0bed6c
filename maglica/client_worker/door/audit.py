"""The audit: who did what, from where, and what nobody was allowed to do. No clock: time is an argument."""

from __future__ import annotations

import logging
from typing import Any

from maglica.client_worker.door.keyring import STRANGER, Who
from maglica.client_worker.now import Now
from maglica.client_worker.store import Store
from maglica.errors import MaglicaError, Refused

log = logging.getLogger("maglica.client_worker")

DENIALS = 20  # of one known key, or of unknown ones from one address, that are written down in a minute
STRANGERS = 60  # the same of all unknown keys together: who may make keys and addresses fills the disk with neither
MINUTE = 60.0
CONNECT = "connect"
CUT = "connection"
STAYS = ("denied", "refused", "cut")  # what is written down of a request that comes to nothing
LONGEST = 500  # characters of a message or a name: what it repeats may be as long as a message of the bus


class Audit:
    """Lines that are committed together with what they are about."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._denials: dict[str, int] = {}
        self._since = float("-inf")
        self._held: list[tuple[Any, ...]] = []  # what was denied in something that may yet be taken back
        self._holds = 0

    def hold(self) -> None:
        """What is denied from now on is written down when it is let go: it stays, whatever becomes of the rest."""
        self._holds += 1

    def let_go(self) -> None:
        """The end of `hold`, as often as that was said."""
        self._holds -= 1
        if not self._holds:
            held, self._held = self._held, []
            try:
                for fields in held:
                    self._store.audit.put(*fields)
            except MaglicaError as error:
                log.error("%s", error.message)  # the commit of this turn says so to everybody

    def write(
        self, who: Who, action: str, about: str | None, outcome: str, now: Now, *, job: str | None = None,
        message: str | None = None, stays: bool = False,
    ) -> None:  # fmt: skip
        """Note what somebody did. `outcome`: done, accepted (a job), refused, denied, cut (a connection). `stays`: it
        was done beside the store, so that nothing takes it back.
        """
        fields = (
            now.ms, now.text, who.name, who.role, who.address, action, about and about[:LONGEST], job, outcome,
            message and message[:LONGEST],
        )  # fmt: skip
        if self._holds and (stays or outcome in STAYS):
            self._held.append(fields)
        else:
            self._store.audit.put(*fields)

    def denied(self, who: Who, action: str, about: str | None, message: str, now: Now) -> None:
        """Note what somebody may not do. Whoever tries again and again fills neither the disk nor the log."""
        last = self._worth(who, action, now)
        if last is not None:
            short = message[:LONGEST]
            log.warning(
                "denied key=%s role=%s address=%s action=%r: %s", who.name, who.role, who.address, action, short
            )
            self.write(who, action, about, "denied", now, message=short[: LONGEST - len(last)] + last)

    def cut(self, who: Who, why: str, now: Now) -> None:
        """Note that a connection was ended, whose peer took more than it may."""
        last = self._worth(who, CUT, now)
        if last is not None:
            self.write(who, CUT, None, "cut", now, message=why + last)

    def turned_down(self, who: Who, action: str, about: str | None, error: Refused, now: Now) -> None:
        """Note what somebody asked for and did not get, and why."""
        if error.code == "denied":
            self.denied(who, action, about, error.message, now)
        elif self._worth(who, action, now) is not None:
            self.write(who, action, about, "refused", now, message=error.message)

    def _worth(self, who: Who, action: str, now: Now) -> str | None:
        """What is said beside one more of these, or None when there were enough of them in this minute."""
        if now.mono - self._since > MINUTE:
            self._denials.clear()
            self._since = now.mono
        counted = [(who.name, DENIALS)]
        if who.role == STRANGER:
            counted = [(f"from {who.address}", DENIALS), ("from anywhere", STRANGERS)]
        if action == CONNECT:
            counted.append((f"{who.public} from {who.address}", 1))  # whoever was shut out knocks every second
        if any(self._denials.get(one, 0) >= most for one, most in counted):
            return None
        for one, _ in counted:
            self._denials[one] = self._denials.get(one, 0) + 1
        full = any(self._denials[one] == most > 1 for one, most in counted)
        return "; more of it in this minute is not written down" if full else ""
