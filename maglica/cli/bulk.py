"""The options for many at once: how many, which numbers, what is wanted of them as a group. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from maglica import kinds, policy
from maglica.declare import Action, Arg, Where, arg
from maglica.errors import Refused
from maglica.policy import Policy


class Bulk(Policy):
    """What a command about many takes beside its own arguments."""

    count: int | None = arg(kinds.integer(1, policy.MOST), "make so many; {n} in the name is the number", default=None)
    first: str = arg(kinds.FIRST, "the first number; next: after the highest that there is", default="1")
    keep_going: bool = arg(kinds.BOOL, "the same as --on-failure=keep-going", default=False)
    fail_fast: bool = arg(kinds.BOOL, "the same as --on-failure=fail-fast", default=False)
    all_or_nothing: bool = arg(kinds.BOOL, "the same as --on-failure=all-or-nothing", default=False)


class Wish(NamedTuple):
    """What is wanted of many. `patterns`: what has a place for the number, the name and perhaps the address, where
    `total` of them are made.
    """

    policy: Policy
    total: int | None = None
    first: str = "1"
    patterns: Mapping[str, str] = {}


ONE = Wish(Policy())
_MADE = ("count", "first", "spread")
_UNDONE = ("all_or_nothing",)


def offered(action: type[Action]) -> dict[str, Arg]:
    """The options that an action takes for many: none where it changes nothing, or takes one object only."""
    subject = action.subject()
    if not action.CHANGES or (subject and subject.kind is kinds.SOURCE):  # of which there is one
        return {}
    left_out: tuple[str, ...] = ()
    if action.WHERE == Where.MANY:
        left_out = ("count", "first", "max_parallel")  # its own: --count and --forks
        if action.VERB != "create":
            left_out += ("spread", *_UNDONE)
    elif not action.makes():
        left_out = (*_MADE, *_UNDONE)
    return {name: field for name, field in Bulk.FIELDS.items() if name not in left_out and name not in action.FIELDS}


def shown(action: type[Action]) -> list[Arg]:
    """Those that a help text explains: the short forms stand with what they are short for."""
    found = sorted(offered(action).values(), key=lambda field: field.name not in ("count", "first"))
    return [field for field in found if field.name not in policy.FLAGS]


def wish(action: type[Action], given: Mapping[str, Any], values: dict[str, Any]) -> Wish:
    """What the options say. A name with a place for a number is replaced in `values` by that of the first."""
    said = dict(given)
    flags = [name for name in policy.FLAGS if kinds.BOOL.check(said.pop(name, False))]
    words = {policy.FLAGS[name] for name in flags} | ({said["on_failure"]} if "on_failure" in said else set())
    if len(words) > 1:
        told = " and ".join(sorted(words))
        raise Refused("wrong_input", f"{action.NAME}: {told} exclude each other", "say one of them")
    if flags:
        said["on_failure"] = policy.FLAGS[flags[0]]
    checked = Bulk(**said)
    own = Policy(**{name: checked.values()[name] for name in Policy.FIELDS})
    if own.values()["on_failure"] == policy.ALL_OR_NOTHING and values.get("wait"):
        values.setdefault("on_timeout", "remove")  # a clone that is only slow would stay otherwise: not nothing
    pattern = str(values.get(action.distinct()) or "") if action.makes() else ""
    if checked.count is None and not policy.is_pattern(pattern):
        if "first" in said:
            raise Refused("wrong_input", f"{action.NAME}: --first belongs to --count", "add --count=N")
        return Wish(own)
    count = checked.count or 1
    policy.refuse_no_pattern(pattern, count)
    first = int(checked.first) if checked.first.isdigit() else 1
    sample, patterns = policy.one_of(values, action.distinct(), first)
    values |= sample
    return Wish(own, count, checked.first, patterns)
