"""Answer -> text, in every format. Nothing is printed here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from maglica.cli import query
from maglica.cli.answer import Answer, Value
from maglica.cli.cells import cell, heading, printable, width
from maglica.cli.options import Globals
from maglica.errors import Failed

GAP = "   "
NARROWEST = 8  # columns of a terminal that a shortened column keeps

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2"}
_STATES = {
    **dict.fromkeys(("running", "up", "done"), "green"),
    **dict.fromkeys(("crashed", "down", "failed", "lost", "refused"), "red"),
    **dict.fromkeys(("paused", "unknown", "queued", "claimed", "cancelled", "in-shutdown", "pm-suspended"), "yellow"),
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
    import json

    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def json_line(value: Any) -> str:
    """A value as one line of json."""
    import json

    return json.dumps(value, ensure_ascii=False, default=str) + "\n"


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
    if look.columns is not None:
        widths = _narrowed(widths, look.columns - len(indent))
    lines = []
    if headers and columns:
        lines += [_line(top, widths), "-" * (sum(widths) + len(GAP) * (len(widths) - 1))]
    lines += [_line(row, widths, _painter(columns, look)) for row in rows]
    return "".join(f"{indent}{line}".rstrip() + "\n" for line in lines)


def _narrowed(widths: list[int], room: int) -> list[int]:
    """Widths that fit into the room: the widest columns give way, none below what can still be read."""
    widths = list(widths)
    room -= len(GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths, default=0) > NARROWEST:
        widest = widths.index(max(widths))
        others = sorted(widths)[-2] if len(widths) > 1 else NARROWEST
        widths[widest] = max(min(widths[widest] - 1, others), widths[widest] - (sum(widths) - room), NARROWEST)
    return widths


def _line(cells: list[str], widths: list[int], paint: Any = None) -> str:
    parts = []
    for place, (text, room) in enumerate(zip(cells, widths, strict=True)):
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
    return table(items, _union(items), look, indent=indent)
