"""The time, as an argument."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple


class Now(NamedTuple):
    mono: float  # seconds that only grow; what decisions use
    ms: int  # milliseconds since 1970; what people see

    @property
    def text(self) -> str:
        return text(self.ms)


def text(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> Now:
    """This moment."""
    return Now(time.monotonic(), time.time_ns() // 1_000_000)
