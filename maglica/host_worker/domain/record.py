"""What people say of a VM: its state in their books, whether it is protected, tags, owner, a description.

It lives in the mark in the domain's definition, and so goes wherever the definition goes. Pure: values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ONLINE, MAINTENANCE, RETIRED = STATES = ("online", "maintenance", "retired")

Mark = dict[str, str]


def told(mark: Mapping[str, str]) -> dict[str, Any]:
    """The record, as lists and `vm info` show it."""
    return {
        "record_state": mark.get("state", ONLINE),
        "protected": mark.get("protected") == "yes",
        "tags": tags(mark),
        "owner": mark.get("owner"),
        "description": mark.get("description"),
    }


def tags(mark: Mapping[str, str]) -> list[str]:
    return [tag for tag in mark.get("tags", "").split(",") if tag]


def with_state(mark: Mapping[str, str], state: str) -> Mark:
    """`online` is what a VM is of which nothing is said."""
    return _with(mark, "state", "" if state == ONLINE else state)


def with_protection(mark: Mapping[str, str], protected: bool) -> Mark:
    return _with(mark, "protected", "yes" if protected else "")


def with_tags(mark: Mapping[str, str], more: Iterable[str] = (), less: Iterable[str] = ()) -> Mark:
    """Tags in the order in which they were given, each once."""
    gone = set(less)
    kept = dict.fromkeys(tag for tag in (*tags(mark), *more) if tag not in gone)
    return _with(mark, "tags", ",".join(kept))


def with_owner(mark: Mapping[str, str], owner: str) -> Mark:
    return _with(mark, "owner", owner.strip())


def with_description(mark: Mapping[str, str], text: str) -> Mark:
    return _with(mark, "description", text.strip())


def _with(mark: Mapping[str, str], name: str, value: str) -> Mark:
    kept = {key: one for key, one in mark.items() if key != name}
    return {**kept, name: value} if value else kept
