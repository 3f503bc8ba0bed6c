"""A job's states, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, final

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
OPEN = (QUEUED, CLAIMED, RUNNING)
PARTIAL = "partial"  # of a group: some of its jobs are done, others are not and never will be

# Each may follow those that it is listed with. `claimed -> queued` does not exist: a job never changes hosts, and the
# same attempt is handed out again when its host did not get it. Out of `lost` leads only a person's verdict.
MAY_FOLLOW: dict[str, frozenset[str]] = {
    QUEUED: frozenset(),
    CLAIMED: frozenset({QUEUED}),
    RUNNING: frozenset({CLAIMED}),
    DONE: frozenset({CLAIMED, RUNNING, LOST}),
    FAILED: frozenset({CLAIMED, RUNNING, LOST}),
    CANCELLED: frozenset({QUEUED, CLAIMED, RUNNING}),
    LOST: frozenset({CLAIMED, RUNNING}),
}


@final
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
    by: str | None  # the name of the key that asked for it; None in records of older releases
    owner: str  # user@machine, as whoever asked tells it
    reason: str | None
    group: str | None  # the group that it was submitted in
    retry_of: str | None  # the job that it tries again
    verdict: dict[str, Any] | None  # of a person, about a lost job: {"as", "reason", "by", "owner", "at", "was"}
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


# What records of older releases lack; None is what it would have been.
LATER = frozenset({"by", "group", "retry_of", "verdict"})


@final
class Group(TypedDict):
    """Many jobs that were asked for at once, as it is stored. How they stand is in the jobs themselves."""

    id: str
    key: str
    action: str
    args: dict[str, Any]  # those that all of them have; secrets masked
    by: str | None
    owner: str
    reason: str | None
    retry_of: str | None  # the group whose failed jobs it tries again
    created_at: str
    # {"name", "args", "job", "error"} of each, in the order in which they were asked for; `job` is None when it was
    # refused, with the reason in `error`. `args` has what only this one has.
    members: list[dict[str, Any]]
    request: dict[str, Any] | None  # {"action", "args"}: what was asked for, where the jobs followed from it
    policy: dict[str, Any]  # what is not as usual of `policy.Policy`
    note: str | None  # what whoever asked should know: fewer than he asked for, say
    # What was decided when too many had failed: {"what": `stop` or `undo`, "why", "at"}. In the store's own column.
    decision: dict[str, Any] | None
    undo_of: str | None  # the group whose works it takes back


# What records of groups of older releases lack.
LATER_OF_GROUPS: dict[str, Any] = {"request": None, "policy": {}, "note": None, "undo_of": None}


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
        "changed": changed(record),
        "message": error.get("message"),
    }


def changed(record: Job) -> bool | None:
    """Whether it has changed anything; None while nobody can tell."""
    if record["state"] == DONE:
        told = (record["result"] or {}).get("changed", True)
        return None if told is None else bool(told)
    error = record["error"] or {}
    if {"left_behind", "stays"} & (error.get("details") or {}).keys():
        return True
    if error.get("kind") == "refused" or (record["state"] == CANCELLED and record["claimed_at"] is None):
        return False  # turned down, or stopped, before anything was touched
    return None


def group_state(states: Mapping[str, int], count: int, needed: int | None = None, *, undone: bool = False) -> str:
    """The state of a group of `count` members, of which so many have jobs in these states; the others were refused.

    `needed`: how many have to succeed; all of them by default. `undone`: what they made was taken back.
    """
    if any(states.get(state) for state in OPEN):
        return QUEUED if sum(states.values()) == states.get(QUEUED) else RUNNING
    if undone:
        return FAILED
    if states.get(DONE, 0) >= (count if needed is None else needed):
        return DONE
    if states.get(DONE):
        return PARTIAL
    ends = {state for state in (FAILED, CANCELLED, LOST) if states.get(state)}
    return ends.pop() if len(ends) == 1 and sum(states.values()) == count else FAILED


def _took(record: Job) -> float | None:
    """Seconds from its submission to its end."""
    if record["ended_at"] is None:
        return None
    from datetime import datetime

    began, ended = (datetime.fromisoformat(text) for text in (record["created_at"], record["ended_at"]))
    return round((ended - began).total_seconds(), 3)
