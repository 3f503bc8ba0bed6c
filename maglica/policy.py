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
        undo = by_name.get(member["name"])
        if member["state"] != job.DONE or (undo is None and member["changed"] is False):
            found.append(member)
            continue
        if undo is None:
            text = f"it was made and stays, although {why}: nothing tells which one it is; look, and remove it yourself"
            found.append({**member, "message": text})
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


_RANGE = re.compile(r"(\S+?)-([^\s-]+)(/\d{1,3})")


def has_addresses(text: str) -> bool:
    """Whether it stands for many addresses: `10.0.0.{n}/24`, or `10.0.0.10-10.0.0.49/24`."""
    return is_pattern(text) or _RANGE.fullmatch(text) is not None


def addresses(text: str, numbers: Sequence[int]) -> list[str]:
    """The address of each of these numbers: with the number in it, or the first, second, … of a range."""
    found = _RANGE.fullmatch(text)
    texts = [numbered(text, number) for number in numbers]
    if found and not is_pattern(text):
        texts = _range(text, *found.groups(), count=len(numbers))
    elif len(set(texts)) < len(texts):
        raise Refused(
            "wrong_input", f"--count={len(texts)} with one --ip={text}",
            "write --ip='10.0.0.{n}/24', a range such as 10.0.0.10-10.0.0.49/24, or leave out --ip",
        )  # fmt: skip
    for one in texts:
        try:
            kinds.INTERFACE.check(one)
        except ValueError as error:
            raise Refused("wrong_input", f"--ip={text}: {error}", f"expected {kinds.INTERFACE.expected}") from None
    return texts


def _range(text: str, first: str, last: str, prefix: str, *, count: int) -> list[str]:
    import ipaddress  # few need it

    try:
        low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    except ValueError as error:
        raise Refused("wrong_input", f"--ip={text}: {error}", "expected FIRST-LAST/PREFIX") from None
    size = int(high) - int(low) + 1
    if low.version != high.version or size < count:
        has = "is no range" if low.version != high.version or size < 1 else f"has {size} addresses"
        raise Refused("wrong_input", f"--ip={text} {has}; {count} are needed", "give a longer range, or make fewer")
    return [f"{low + number}{prefix}" for number in range(count)]


def one_of(values: Mapping[str, Any], distinct: str, first: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of the first of many, and those that all of them are made from by their numbers."""
    patterns = {distinct: str(values.get(distinct) or "")}
    own = {distinct: numbered(patterns[distinct], first)}
    if isinstance(values.get("ip"), str) and has_addresses(values["ip"]):
        patterns["ip"] = values["ip"]
        own["ip"] = addresses(values["ip"], [first])[0]
    return {**values, **own}, patterns


def refuse_no_pattern(pattern: str, count: int) -> None:
    """Refuse names that would all be one and the same."""
    if not is_pattern(pattern) or re.search(r"[{}]", _NUMBER.sub("", pattern)):
        raise Refused(
            "wrong_input", f"--count={count} needs a place for the number in the name {pattern}",
            "write --hostname='ci-{n}', or 'ci-{n:03}' for three digits",
        )  # fmt: skip
