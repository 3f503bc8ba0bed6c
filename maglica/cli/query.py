"""--filter, --sort and --columns, applied to a list of items. Values in, values out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maglica import kinds
from maglica.cli.cells import SUFFIXES
from maglica.declare import nearest
from maglica.errors import Refused

Item = dict[str, Any]

_CONDITION = re.compile(r"\s*([A-Za-z][\w-]*)\s*(!=|!~|>=|<=|=|~|>|<)\s*(.*?)\s*", re.DOTALL)


def filtered(items: list[Item], wanted: str | None, columns: Iterable[str]) -> list[Item]:
    """The items that satisfy every condition: `key=value`, `key!=value`, `key~regex`, `key>10G`, with commas."""
    if wanted is None:
        return items
    known = _keys(items, columns)
    tests = [_condition(part, known) for part in re.split(r",|\s+and\s+", wanted) if part.strip()]
    return [item for item in items if all(test(item) for test in tests)]


def _condition(text: str, known: list[str]) -> Callable[[Item], bool]:
    found = _CONDITION.fullmatch(text)
    if not found:
        raise Refused(
            "wrong_input",
            f"--filter: cannot read {text.strip()!r}",
            "write key=value, key!=value, key~regex or key>10G",
        )
    key, sign, value = known_key("--filter", found[1], known), found[2], found[3]
    if sign in ("~", "!~"):
        pattern = _pattern(value)
        return lambda item: any(pattern.search(_plain(one)) for one in _each(item.get(key))) is (sign == "~")
    if sign in ("=", "!="):
        return lambda item: any(_equal(one, value) for one in _each(item.get(key))) is (sign == "=")
    limit = _number(value)
    return lambda item: _compare(item.get(key), sign, limit)


def _pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as error:
        raise Refused("wrong_input", f"--filter: {value!r} is no regular expression: {error}") from None


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) and value else [None if value == [] else value]


def _plain(value: Any) -> str:
    if value is None:
        return "?"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _equal(value: Any, word: str) -> bool:
    if isinstance(value, bool):
        return word.lower() in (("1", "yes", "true", "on") if value else ("0", "no", "false", "off"))
    if isinstance(value, (int, float)):
        return _amount(word) == value
    if any(letter in word for letter in "*?[") and value is not None:
        from fnmatch import fnmatchcase

        return fnmatchcase(_plain(value), word)
    return _plain(value) == word


def _amount(word: str) -> float | None:
    """The number in a word: plain, a size or a duration."""
    for read in (float, kinds.SIZE.check, kinds.DURATION.check):
        try:
            return float(read(word))
        except ValueError:
            continue
    return None


def _number(word: str) -> float | str:
    found = _amount(word)
    return word if found is None else found


def _compare(value: Any, sign: str, limit: float | str) -> bool:
    """An unknown value is neither greater nor less than anything."""
    if value is None or isinstance(value, (list, dict)):
        return False
    if isinstance(limit, float) and not isinstance(value, (int, float)):
        return False
    left: Any = value if isinstance(limit, float) else _plain(value)
    right: Any = limit
    return bool({">": left > right, "<": left < right, ">=": left >= right, "<=": left <= right}[sign])


def ordered(items: list[Item], keys: Sequence[str] | None, columns: Iterable[str]) -> list[Item]:
    """The items sorted by some keys, the first counts most; `-key`: the greatest first. Unknown values come last."""
    known = _keys(items, columns)
    found = list(items)
    for word in reversed(keys or []):
        key = known_key("--sort", word.lstrip("+-"), known)
        down = word.startswith("-")
        told = [item for item in found if item.get(key) is not None]
        told.sort(key=lambda item: _rank(item[key]), reverse=down)
        found = told + [item for item in found if item.get(key) is None]
    return found


def _rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, (int, float)):
        return (0, value)
    # vm2 before vm10
    parts = re.split(r"(\d+)", str(value).casefold())
    return (1, [(int(part), "") if part.isdigit() else (-1, part) for part in parts])


def chosen(words: Sequence[str] | None, usual: Sequence[str], known: Iterable[str]) -> list[str]:
    """The columns to show: the usual ones, those that are listed, or the usual ones and each `+key`."""
    if not words:
        return list(usual)
    found = list(usual) if all(word.startswith("+") for word in words) else []
    keys = list(dict.fromkeys([*usual, *known]))
    for word in words:
        key = known_key("--columns", word.lstrip("+"), keys)
        if key not in found:
            found.append(key)
    return found


def _keys(items: list[Item], columns: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*columns, *(key for item in items for key in item)]))


def known_key(option: str, word: str, known: Sequence[str]) -> str:
    """The key that a word means; `memory` is enough for `memory_bytes`."""
    name = word.strip().lower().replace("-", "_").replace(" ", "_")
    if name in known:
        return name
    for suffix in SUFFIXES:
        if name + suffix in known:
            return name + suffix
    close = nearest(name, known)
    hint = f"did you mean {close}?" if close else f"known are {', '.join(known)}"
    raise Refused("wrong_input", f"{option}: there is no column {word.strip()}", hint)
