"""What a queued job waits for, in words and for programs. Values in, values out."""

from __future__ import annotations

from typing import Any, NamedTuple

from maglica.job import OPEN, QUEUED, Job

NAMED = 3  # jobs that are named; more are counted


class Waiting(NamedTuple):
    """`position`: 1 is the next of its class on its host. `blocked_on`: {"kind", …}: a host, a lock, a slot or nothing
    but its turn.
    """

    position: int | None
    waits_for: str | None
    blocked_on: dict[str, Any] | None


NOTHING = Waiting(None, None, None)


def for_host(record: Job, ahead: int | None, why: str) -> Waiting:
    """Nothing begins there, and nothing ends, before the host is back. `ahead`: None when it was given to the host."""
    host = record["host"]
    position = None if ahead is None else ahead + 1
    return Waiting(position, f"host {host}, which {why}", {"kind": "host", "host": host})


def for_lock(record: Job, ahead: int, lock: str, holder: Job | None) -> Waiting:
    """An earlier job holds a lock that it needs, or waits for it in front of it."""
    if holder is None or holder["state"] not in OPEN:
        return for_slot(record, ahead, [])
    what = lock.replace("vm:", "VM ", 1)
    stands = f"in step {holder['step']}" if holder["step"] else f"which is {holder['state']}"
    stands = "which is queued itself" if holder["state"] == QUEUED else stands
    text = f"{what}, held by job {holder['id']} ({holder['action']}, {stands})"
    return Waiting(ahead + 1, text, {"kind": "lock", "lock": lock, "job": holder["id"]})


def for_group(record: Job, ahead: int, bound: int) -> Waiting:
    """As many of its group are at work as may be side by side."""
    group = record["group"]
    text = f"its turn in group {group}, of which {bound} may be at work at once"
    return Waiting(ahead + 1, text, {"kind": "group", "group": group})


def for_slot(record: Job, ahead: int, working: list[str]) -> Waiting:
    """Its locks are free: it begins as soon as its host has room."""
    slot, host = record["slot"], record["host"]
    if not working and not ahead:
        return Waiting(1, f"its turn: {host} takes it with its next report", {"kind": "turn", "host": host})
    named = ", ".join(working[:NAMED]) + (f" and {len(working) - NAMED} more" if len(working) > NAMED else "")
    taken = f"; taken by {named}" if working else ""
    before = f"; {ahead} before it" if ahead else ""
    return Waiting(ahead + 1, f"a {slot} slot on {host}{taken}{before}", {"kind": "slot", "slot": slot, "host": host})
