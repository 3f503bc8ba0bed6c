"""Answer -> text, in every format. Nothing is printed here."""

from __future__ import annotations

import math
from datetime import datetime
from types import NoneType
from typing import Any

from maglica.cli import query
from maglica.cli.answer import Answer, Value
from maglica.cli.cells import SUFFIXES, cell, heading, printable, width
from maglica.cli.options import Globals
from maglica.errors import Failed

GAP = "   "
MORE = " …"  # at the end of a header: further columns do not fit into this terminal
WHOLE = ("id", "job", "uuid")  # columns that are of no use when they are cut
NARROWEST = 8  # columns of a terminal that a shortened column keeps

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2"}
_STATES = {
    **dict.fromkeys(("running", "up", "done", "ok"), "green"),
    **dict.fromkeys(("crashed", "down", "failed", "lost", "refused", "partial", "bad"), "red"),
    **dict.fromkeys(
        ("degraded", "warn", "paused", "unknown", "queued", "claimed", "cancelled", "in-shutdown", "pm-suspended"),
        "yellow",
    ),
    **dict.fromkeys(("shut-off", "idle"), "dim"),
}


class Look:
    """What the paper is like: `columns` of the terminal (None: endless), whether it knows colours, the local time."""

    __slots__ = ("color", "columns", "now")

    def __init__(self, columns: int | None, color: bool, now: datetime) -> None:
        self.columns, self.color, self.now = columns, color, now


def render(answer: Answer, options: Globals, look: Look) -> str:
    """The text of an answer, with its last newline; '' when there is nothing to say."""
    if answer.items is not None:
        answer.items = _selected(answer, options)
    if options.output in ("table", "wide"):
        return _page(answer, options, look)
    if options.output == "csv":
        return _csv(answer, options)
    if options.output == "name":
        return "".join(f"{printable(_name(item))}\n" for item in _all(answer))
    if options.output == "jsonl":
        return "".join(json_line(item) for item in _all(answer))
    return tree(answer.envelope(), options.output)


def _selected(answer: Answer, options: Globals) -> list[Value]:
    known = (*answer.columns, *answer.wide)
    items = query.filtered(answer.items or [], options.filter, known)
    items = query.ordered(items, options.sort, known)
    if options.columns and options.output in ("json", "jsonl", "yaml"):
        keys = query.chosen(options.columns, known, _union(answer.items or []))
        return [{key: item.get(key) for key in keys} for item in items]
    return items


def _union(items: list[Value]) -> list[str]:
    return list(dict.fromkeys(key for item in items for key in item))


def _all(answer: Answer) -> list[Value]:
    return answer.items if answer.items is not None else [answer.item or {}]


def _name(item: Value) -> str:
    return str(next((item[key] for key in ("name", "id", "job") if item.get(key)), next(iter(item.values()), "")))


# ------------------------------------------------------------------------------------------------ for programs


def tree(value: Value, format: str) -> str:
    """An envelope as json or yaml."""
    if format == "yaml":
        return _yaml(value)
    return _json(value, indent=2)


def json_line(value: Any) -> str:
    """A value as one line of json."""
    return _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    import json

    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, default=str, allow_nan=False) + "\n"
    except ValueError:  # JSON has no word for it, and what a host tells may be anything
        return json.dumps(_finite(value), indent=indent, ensure_ascii=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    """The value with `null`, unknown, for numbers that are none."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _yaml(value: Value) -> str:
    try:
        import yaml
    except ImportError:
        raise Failed(
            "environment_error",
            "--output=yaml needs PyYAML, which is not installed",
            "install python3-yaml, or use --output=json",
        ) from None
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))


def _csv(answer: Answer, options: Globals) -> str:
    import csv
    import io

    items = _all(answer)
    usual = (*answer.columns, *answer.wide) or tuple(_union(items))
    columns = query.chosen(options.columns, usual, _union(items))
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    if options.headers:
        writer.writerow(columns)
    writer.writerows([_raw(item.get(column)) for column in columns] for item in items)
    return page.getvalue()


def _raw(value: Any) -> Any:
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    if isinstance(value, list) and not any(isinstance(inner, (list, dict)) for inner in value):
        return " ".join(map(str, value))
    return json_line(value).strip()


# -------------------------------------------------------------------------------------------------- for people


def _page(answer: Answer, options: Globals, look: Look) -> str:
    if answer.text is not None:
        return answer.text
    if answer.items is None:
        return sheet(answer.item or {}, look)
    usual = answer.columns or tuple(_union(answer.items))
    if options.output == "wide":
        usual = (*usual, *answer.wide)
    columns = query.chosen(options.columns, usual, (*answer.wide, *_union(answer.items)))
    return table(answer.items, columns, look, headers=options.headers)


def table(items: list[Value], columns: list[str], look: Look, *, headers: bool = True, indent: str = "") -> str:
    """A header line, a line of dashes, and columns padded to the widest cell."""
    rows = [[cell(column, item.get(column), look.now) for column in columns] for item in items]
    top = [heading(column) for column in columns]
    widths = [max(map(width, [title, *column])) for title, *column in zip(top, *rows, strict=True)]
    more = ""
    if look.columns is not None:
        words = [_words(column, items) for column in columns]
        widths = _fitted(widths, words, look.columns - len(indent))
        more = MORE if len(widths) < len(columns) else ""
    lines = []
    if headers and columns:
        dashes = "-" * (sum(widths) + len(GAP) * (len(widths) - 1))
        lines += [_line(top, widths) + more, dashes]
    lines += [_line(row, widths, _painter(columns, look)) for row in rows]
    return "".join(f"{indent}{line}".rstrip() + "\n" for line in lines)


def _fitted(widths: list[int], may_shrink: list[bool], room: int) -> list[int]:
    """Widths that fit into the room, for as many columns as can be shown at all, from the left; one at least."""
    for count in range(len(widths), 0, -1):
        left = room if count == len(widths) else room - len(MORE)
        kept = _narrowed(widths[:count], may_shrink, left - len(GAP) * (count - 1))
        if sum(kept) <= left - len(GAP) * (count - 1):
            return kept
    return _narrowed(widths[:1], may_shrink, room - len(MORE))


def _narrowed(widths: list[int], may_shrink: list[bool], room: int) -> list[int]:
    """Widths whose sum is the room, or more: the widest columns of words give way, as far as they can still be read.

    The first column is what people copy from a table, so that it gives way least readily.
    """
    widths = list(widths)
    while sum(widths) > room:
        ranks = [(columns / 3 if place == 0 else columns, -place) for place, columns in enumerate(widths)]
        places = [place for place in range(len(widths)) if may_shrink[place] and widths[place] > NARROWEST]
        if not places:
            break
        widths[max(places, key=lambda place: ranks[place])] -= 1
    return widths


def _words(column: str, items: list[Value]) -> bool:
    """Whether a column holds words, which can be shortened; a number or a time that is cut tells something wrong."""
    return (
        column not in WHOLE
        and not column.endswith(SUFFIXES)
        and all(isinstance(item.get(column), (str, list, NoneType)) for item in items)
    )


def _line(cells: list[str], widths: list[int], paint: Any = None) -> str:
    parts = []
    for place, (text, room) in enumerate(zip(cells, widths, strict=False)):  # columns without room have no width
        short = cut(text, room)
        padding = " " * (room - width(short))
        parts.append((paint(place, short) if paint else short) + padding)
    return GAP.join(parts)


def _painter(columns: list[str], look: Look) -> Any:
    if not look.color:
        return None
    return lambda place, text: painted(text) if columns[place] in ("state", "libvirt") else text


def painted(word: str) -> str:
    """A state in its colour."""
    colour = _STATES.get(word)
    return f"\x1b[{_COLOURS[colour]}m{word}\x1b[0m" if colour else word


def cut(text: str, room: int) -> str:
    """The text in at most `room` columns, with … where something is left out."""
    if width(text) <= room:
        return text
    kept = text[: max(0, room - 1)]
    while width(kept) > room - 1:
        kept = kept[:-1]
    return kept + "…"


def sheet(item: Value, look: Look, indent: str = "") -> str:
    """One object: `Key: value` lines, aligned; lists of maps as small tables below their key."""
    if "name" in item and "host" in item:
        item = {"name": item["name"], "host": item["host"], **item}
        if item["host"] == item["name"]:
            del item["host"]
    plain = {key: value for key, value in item.items() if not _nested(value)}
    room = max((width(heading(key)) for key in plain), default=0) + 3
    lines = []
    for key, value in plain.items():
        text = cell(key, value, look.now)
        shown = painted(text) if look.color and key == "state" else text
        lines.append(f"{indent}{(heading(key) + ':').ljust(room)}{shown}".rstrip() + "\n")
    for key, value in item.items():
        if _nested(value):
            lines.append(f"{indent}{heading(key)}:\n{_below(key, value, look, indent + '  ')}")
    return "".join(lines)


def _nested(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(inner, dict) for inner in value)
    return isinstance(value, dict) and bool(value)


def _below(key: str, value: Any, look: Look, indent: str) -> str:
    if isinstance(value, dict):
        # {"seconds": {"copy": 1.5}} says of each what `copy_seconds` would say.
        unit = f"_{key}" if key in ("seconds", "bytes") else ""
        return sheet({name + unit: inner for name, inner in value.items()}, look, indent)
    items = [inner for inner in value if isinstance(inner, dict)]
    # Who asks for all of one thing gets all of it: better a line that wraps than a path that is cut.
    return table(items, _union(items), Look(None, look.color, look.now), indent=indent)
