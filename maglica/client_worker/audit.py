"""The audit: who did what, from where, and what nobody was allowed to do. No clock: time is an argument."""

from __future__ import annotations

import logging

from maglica.client_worker.keyring import Who
from maglica.client_worker.now import Now
from maglica.client_worker.store import Store

log = logging.getLogger("maglica.client_worker")

DENIALS = 20  # of one key from one address that are written down in a minute
MINUTE = 60.0


class Audit:
    """Lines that are committed together with what they are about."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._denials: dict[tuple[str, str], int] = {}
        self._since = float("-inf")

    def write(
        self, who: Who, action: str, about: str | None, outcome: str, now: Now, *, job: str | None = None,
        message: str | None = None,
    ) -> None:  # fmt: skip
        """Note what somebody did. `outcome`: done, accepted (a job), refused, denied."""
        self._store.put_audit(
            now.ms, now.text, who.name, who.role, who.address, action, about, job, outcome, message
        )  # fmt: skip

    def denied(self, who: Who, action: str, about: str | None, message: str, now: Now) -> None:
        """Note what somebody may not do. Whoever tries again and again fills neither the disk nor the log."""
        if now.mono - self._since > MINUTE:
            self._denials.clear()
            self._since = now.mono
        again = self._denials.get((who.public, who.address), 0) + 1
        self._denials[who.public, who.address] = again
        if again > DENIALS:
            return
        last = "; more of it in this minute is not written down" if again == DENIALS else ""
        log.warning("denied key=%s role=%s address=%s action=%r: %s", who.name, who.role, who.address, action, message)
        self.write(who, action, about, "denied", now, message=message + last)
