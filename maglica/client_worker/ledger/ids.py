"""Ids of jobs and groups: they sort by the time of submission, and are short enough to be typed."""

from __future__ import annotations

import secrets

from maglica.client_worker.now import Now

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: sorts like the number, no letters that look alike
EPOCH_2026_MS = 1_767_225_600_000


class Ids:
    """Gives each job its own."""

    def __init__(self, last_id: str | None) -> None:
        """`last_id`: of the job that was submitted last. Ids sort by submission also when the clock was set back while
        we were away: locks are given in their order.
        """
        self._last_ms = _ms(last_id or "0")

    def new(self, now: Now) -> str:
        """Ten characters that sort by time: eight of milliseconds since 2026, two of chance."""
        self._last_ms = max(now.ms - EPOCH_2026_MS, self._last_ms + 1)
        return _digits(self._last_ms) + secrets.choice(BASE32) + secrets.choice(BASE32)


def own_key() -> str:
    """The key of a job that nobody asks for by one of his own. It can neither be guessed nor be taken before."""
    return secrets.token_hex(16)


def id_at(ms: int) -> str:
    """What ids of that moment begin with; `ms` since 1970."""
    return _digits(max(0, ms - EPOCH_2026_MS))


def _digits(ms: int) -> str:
    return "".join(BASE32[(ms >> shift) & 31] for shift in range(35, -1, -5))


def _ms(job_id: str) -> int:
    """The milliseconds in an id."""
    ms = 0
    for digit in job_id[:8]:
        ms = ms * 32 + BASE32.index(digit)
    return ms
