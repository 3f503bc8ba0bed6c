"""What is wanted of many at once: how they are spread, how many side by side, what one that fails means for the rest.

Values in, values out: the command line offers these options, the client worker decides by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from maglica import job, kinds
from maglica.declare import Record, arg
from maglica.errors import Failed, Refused

MOST = 1000  # jobs of one group

KEEP_GOING, FAIL_FAST, ALL_OR_NOTHING = "keep-going", "fail-fast", "all-or-nothing"
UNDONE = "undone"  # of a member: it was done, and was taken back
ON_FAILURE = (KEEP_GOING, FAIL_FAST, ALL_OR_NOTHING)


class Policy(Record):
    """Of a group of jobs."""

    spread: str = arg(
        kinds.choice("host", "fill"), "new VMs evenly over the hosts, or one host after the other", default="host"
    )
    max_parallel: int | None = arg(kinds.integer(1, MOST), "jobs side by side, over all hosts", default=None)
    on_failure: str = arg(
        kinds.choice(*ON_FAILURE),
        "when one fails: go on with the others, begin no more, or take back all that was made; --keep-going,"
        " --fail-fast and --all-or-nothing for short",
        default=KEEP_GOING,
    )
    min: int | None = arg(
        kinds.integer(1, MOST), "succeed when at least so many are done; all by default", default=None
    )

    @classmethod
    def called(cls) -> str:
        return "group"


# The three choices as people know them from other tools.
FLAGS = {"keep_going": KEEP_GOING, "fail_fast": FAIL_FAST, "all_or_nothing": ALL_OR_NOTHING}


def needed(policy: Mapping[str, Any], count: int) -> int:
    """How many of `count` have to succeed."""
    return min(policy.get("min") or count, count)


def decided(policy: Mapping[str, Any], states: Mapping[str, int], count: int) -> str | None:
    """What is done about a group whose jobs are in these states: `stop` (begin no more), `undo`, or nothing."""
    possible = sum(states.get(state, 0) for state in (*job.OPEN, job.DONE))
    if policy.get("on_failure", KEEP_GOING) == KEEP_GOING or possible >= needed(policy, count):
        return None
    return "stop" if policy["on_failure"] == FAIL_FAST else "undo"


def taken_back(members: Sequence[dict[str, Any]], undos: Sequence[job.Job], why: str) -> list[dict[str, Any]]:
    """The members of a group as they stand after jobs that take back what they made; `why` that was decided."""
    by_name = {undo["object"]: undo for undo in undos}
    found = []
    for member in members:
        undo = by_name.get(member["name"]) if member["state"] == job.DONE else None
        if undo is None:
            found.append(member)
            continue
        gone = undo["state"] == job.DONE
        text = f"it was made and removed again because of {why}"
        if not gone:
            reason = (undo["error"] or {}).get("message") or f"its removal is {undo['state']}"
            text = f"it was made and shall be removed because of {why}: {reason}"
        error = Failed("cancelled", text, job=undo["id"]).to_wire()
        state = UNDONE if gone else member["state"]
        found.append({**member, "state": state, "changed": not gone, "message": text, "error": error})
    return found


# ------------------------------------------------------------------------------------------------ names by number

_NUMBER = re.compile(r"\{n(?::0?([1-9]))?\}")
_SPLIT = re.compile(r"\{n(?::0?[1-9])?\}")


def is_pattern(text: str) -> bool:
    """Whether a name has a place for a number: `ci-{n}`, `ci-{n:03}`."""
    return bool(_NUMBER.search(text))


def numbered(pattern: str, number: int) -> str:
    """The name with that number: `ci-{n:03}` and 7 are `ci-007`."""
    return _NUMBER.sub(lambda found: f"{number:0{found[1] or 1}d}", pattern)


def number_of(pattern: str, name: str) -> int | None:
    """The number that makes this name out of the pattern; None when none does. `ci-{n}` makes `ci-7`, not `ci-07`."""
    shape = r"(\d{1,9})".join(map(re.escape, _SPLIT.split(pattern)))
    found = re.fullmatch(shape, name)
    if not found or not found.groups():
        return None
    number = int(found[1])
    return number if numbered(pattern, number) == name else None


def refuse_no_pattern(pattern: str, count: int) -> None:
    """Refuse names that would all be one and the same."""
    if not is_pattern(pattern) or re.search(r"[{}]", _NUMBER.sub("", pattern)):
        raise Refused(
            "wrong_input", f"--count={count} needs a place for the number in the name {pattern}",
            "write --hostname='ci-{n}', or 'ci-{n:03}' for three digits",
        )  # fmt: skip
