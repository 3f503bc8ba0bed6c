"""Several names in one word: `ci-{1..20}`, `{a,b}.example.jp`, `'ci-*'`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from maglica.errors import Refused

AT_MOST = 10_000  # names that one command may stand for


def expand(words: Iterable[str]) -> list[str]:
    """All names that the words stand for, each once, in the order in which they come. Globs stay as they are."""
    found: dict[str, None] = {}
    for word in words:
        found.update(dict.fromkeys(_braces(word)))
        if len(found) > AT_MOST:
            raise Refused("wrong_input", f"{word} and what stands before it are more than {AT_MOST} names")
    return list(found)


def _braces(word: str) -> list[str]:
    group = re.search(r"\{([^{}]*)\}", word)
    if not group:
        return [word]
    middles = _alternatives(group[1])
    if middles is None:
        raise Refused("wrong_input", f"cannot read {group[0]} in {word}", "write {1..20} or {a,b}")
    tails = _braces(word[group.end() :])
    if len(middles) * len(tails) > AT_MOST:
        raise Refused("wrong_input", f"{word} stands for more than {AT_MOST} names")
    return [word[: group.start()] + middle + tail for middle in middles for tail in tails]


def _alternatives(inside: str) -> list[str] | None:
    numbers = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", inside)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if abs(last - first) >= AT_MOST:
            raise Refused("wrong_input", f"{{{inside}}} stands for more than {AT_MOST} names")
        padded = any(len(end) > 1 and end.startswith("0") for end in numbers.groups())
        digits = max(map(len, numbers.groups())) if padded else 0
        step = 1 if first <= last else -1
        return [f"{number:0{digits}d}" for number in range(first, last + step, step)]
    return inside.split(",") if "," in inside else None


def is_glob(word: str) -> bool:
    """Whether a name is a pattern that stands for what there is."""
    return any(letter in word for letter in "*?[")


def matching(pattern: str, known: Iterable[str]) -> list[str]:
    """The known names that a pattern stands for."""
    from fnmatch import fnmatchcase  # only for those who need it

    return [name for name in known if fnmatchcase(name, pattern)]
