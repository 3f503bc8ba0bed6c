"""What a command found out, before it is printed: the tree that JSON shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maglica.declare import Action
from maglica.errors import EXIT_STATUS, MaglicaError

SCHEMA = "maglica/1"
PARTIAL = EXIT_STATUS["partial"]

Value = dict[str, Any]


class Answer:
    """Either `items` or one `item`. `text` replaces the table where a story says more than a table."""

    __slots__ = ("columns", "item", "items", "kind", "missing_hosts", "observed_at", "text", "wide")

    def __init__(
        self,
        kind: str,
        *,
        items: list[Value] | None = None,
        item: Value | None = None,
        observed_at: str | None = None,
        missing_hosts: list[Value] | None = None,
        columns: Sequence[str] = (),
        wide: Sequence[str] = (),
        text: str | None = None,
    ) -> None:
        self.kind = kind
        self.items = items
        self.item = item
        self.observed_at = observed_at or now_text()
        self.missing_hosts = missing_hosts or []
        self.columns = tuple(columns)
        self.wide = tuple(wide)
        self.text = text

    def envelope(self) -> Value:
        """The tree of json and yaml."""
        tree = head(self.kind, self.observed_at, self.missing_hosts)
        if self.items is not None:
            return {**tree, "items": self.items}
        return {**tree, "item": self.item}


def of_read(action: type[Action], message: Value) -> Answer:
    """The answer that the client worker gave to a read."""
    return Answer(
        message.get("kind") or kind(action),
        items=message.get("items"),
        item=message.get("item"),
        observed_at=message.get("observed_at"),
        missing_hosts=message.get("missing_hosts"),
        columns=action.COLUMNS,
        wide=action.WIDE,
    )


def kind(action: type[Action]) -> str:
    return action.NAME.replace(" ", ".")


def subject_of(action: Action) -> str:
    """What an action is about, in a word: its subject, otherwise what it locks."""
    subject = action.subject()
    if subject:
        return str(action.values()[subject.name])
    locks = action.locks()
    return locks[0].partition(":")[2] if locks else action.NAME


def status(errors: Sequence[MaglicaError], count: int) -> int:
    """The exit status of `count` things of which some went wrong: that of the first error when all did."""
    if not errors:
        return 0
    return errors[0].exit_status if len(errors) == count else PARTIAL


def told_of(name: str, error: MaglicaError) -> str:
    """An error of one of several things, which is named: one line, and one for the hint."""
    message = error.message if name in error.message else f"{name}: {error.message}"
    return message + (f"\n  {error.hint}" if error.hint else "")


def head(kind: str | None, observed_at: str, missing_hosts: list[Value]) -> Value:
    return {"schema": SCHEMA, "kind": kind, "observed_at": observed_at, "missing_hosts": missing_hosts}


def failure(kind: str | None, error: MaglicaError) -> Value:
    """The tree that tells of an error."""
    return {**head(kind, now_text(), []), "error": problem(error)}


def problem(error: MaglicaError) -> Value:
    """An error as it stands in a tree."""
    told = error.to_wire()
    return {name: told[name] for name in ("code", "message", "hint", "retryable", "job", "details")}


def now_text() -> str:
    """This moment: RFC 3339 in UTC, with milliseconds."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
