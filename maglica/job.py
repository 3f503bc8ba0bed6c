"""A job's states, and which may follow which."""

from __future__ import annotations

from typing import Any, TypedDict

from maglica import declare
from maglica.errors import Refused

QUEUED = "queued"  # recorded; waits for a lock, a slot or its host
CLAIMED = "claimed"  # handed to its host
RUNNING = "running"  # its host has begun
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"
LOST = "lost"  # its host no longer knows of it: somebody has to look

FINAL = frozenset({DONE, FAILED, CANCELLED, LOST})

# Each may follow those that it is listed with. `claimed -> queued` does not exist: a job never changes hosts, and the
# same attempt is handed out again when its host did not get it.
MAY_FOLLOW: dict[str, frozenset[str]] = {
    QUEUED: frozenset(),
    CLAIMED: frozenset({QUEUED}),
    RUNNING: frozenset({CLAIMED}),
    DONE: frozenset({CLAIMED, RUNNING}),
    FAILED: frozenset({CLAIMED, RUNNING}),
    CANCELLED: frozenset({QUEUED, CLAIMED, RUNNING}),
    LOST: frozenset({CLAIMED, RUNNING}),
}


class Job(TypedDict):
    """A job's record, as it is stored, travels and is shown. Times are RFC 3339 in UTC; unknown is None."""

    id: str
    rev: int  # grows with every change
    key: str  # the requester's own key: the same key is the same job
    action: str
    args: dict[str, Any]
    object: str | None  # the VM or image that it is about
    host: str
    slot: str
    locks: list[str]
    limit_seconds: float
    attempt: int
    state: str
    by: str  # the name of the key that asked for it
    owner: str  # user@machine, as whoever asked tells it
    reason: str | None
    cancel: bool  # somebody asked for it to be stopped
    created_at: str
    claimed_at: str | None
    started_at: str | None
    ended_at: str | None
    updated_at: str
    step: str | None
    progress: dict[str, int] | None  # {"done_bytes", "total_bytes"}
    steps: list[dict[str, Any]]  # {"name", "seconds", "note"}
    commands: list[dict[str, Any]]  # {"argv", "exit_status", "seconds", "stderr"}
    result: dict[str, Any] | None
    error: dict[str, Any] | None  # as MaglicaError.to_wire


def may_become(old: str, new: str) -> bool:
    """Whether a job in state `old` may go to state `new`."""
    return old in MAY_FOLLOW[new]


def masked(record: Job) -> dict[str, Any]:
    """A job's arguments without secrets. Of an action that this release does not know, nothing is shown."""
    try:
        return declare.mask(declare.find(record["action"]).action.FIELDS, record["args"])
    except Refused:
        return dict.fromkeys(record["args"], "***")


def shown(record: Job) -> dict[str, Any]:
    """A job as people see it: secrets masked, and what follows from its fields."""
    error = record["error"] or {}
    return {
        **record,
        "args": masked(record),
        "took_seconds": _took(record),
        "message": error.get("message"),
    }


def _took(record: Job) -> float | None:
    """Seconds from its submission to its end."""
    if record["ended_at"] is None:
        return None
    from datetime import datetime

    began, ended = (datetime.fromisoformat(text) for text in (record["created_at"], record["ended_at"]))
    return round((ended - began).total_seconds(), 3)
