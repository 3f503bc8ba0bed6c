"""Refusals that name VMs and hosts which not everybody may see, with what those are told who may not.

Names have to be free on all hosts, and VMs have to share nothing, whoever asks: so what is refused may be about
something that is not for him. `Doors.wording` decides which of the two he is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maglica.errors import Refused

About = tuple[str | None, str | None]  # (VM, host), None for one that everybody may know of


class Revealing(Refused):
    """A refusal in full. `about`: what it names; `instead`: the refusal for those who may not see all of that."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        about: Iterable[About],
        instead: Refused,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message, hint, details=details)
        self.about, self.instead = tuple(about), instead


def hosts(names: Iterable[str]) -> list[About]:
    """What names these hosts."""
    return [(None, name) for name in names]
