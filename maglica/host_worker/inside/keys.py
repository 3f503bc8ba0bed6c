"""Lines of authorized_keys: which are to be added or removed. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable


def blob(line: str) -> str:
    """The key itself: what follows its type. Options before it and a comment behind it do not make it another one.

    An option may hold blanks within quotes; a key's first characters are always the length and name of its type.
    """
    return next((word for word in line.split() if word.startswith("AAAA")), line)


def lines(text: str) -> list[str]:
    """The keys of a file."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def to_add(there: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """The lines whose keys are not there yet."""
    known = {blob(line) for line in there}
    return [line for line in wanted if blob(line) not in known]


def to_remove(there: Iterable[str], unwanted: Iterable[str]) -> list[str]:
    """The lines that are there, as they are there, with one of these keys."""
    known = {blob(line) for line in unwanted}
    return [line for line in there if blob(line) in known]
