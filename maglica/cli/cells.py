"""One value -> the text that a person reads. The end of a key says what its value is: `_bytes`, `_seconds`, `_at`."""

from __future__ import annotations

import math
import shlex
from datetime import datetime
from typing import Any

UNKNOWN = "?"
# What many things simply do not have: None says so, and not that nobody knows it.
ABSENT = frozenset(
    (
        "message",
        "waits_for",
        "position",
        "first_in_line",
        "group",
        "reason",
        "by",
        "step",
        "retry_of",
        "verdict",
        "error",
        "job",
        "object",
        "revoked_at",
        "took_seconds",
        "note",
        "template",
        "fleet",
        "tags",
        "undo",
    )
)
NEVER = frozenset(("expires_at",))  # None is a date that does not come
SUFFIXES = ("_bytes", "_seconds", "_at")
SPELLED = {
    word.lower(): word
    for word in (
        *("CPU", "CPUs", "DNS", "ID", "IDs", "IP", "IPs", "KVM", "MAC", "MACs", "MHz", "NICs", "NUMA", "NVRAM", "OS"),
        *("QEMU", "URI", "URL", "UUID", "vCPU", "vCPUs", "VM", "VMs", "VNC"),
    )
}


def heading(key: str) -> str:
    """A key as people read it: `memory_free_bytes` is `Memory free`."""
    for suffix in SUFFIXES:
        if key.endswith(suffix) and key != suffix[1:]:
            key = key.removesuffix(suffix)
            break
    words = [SPELLED.get(word, word) for word in key.split("_")]
    return (
        words[0][:1].upper() + words[0][1:] + "".join(f" {word}" for word in words[1:])
        if key not in SPELLED
        else words[0]
    )


def cell(key: str, value: Any, now: datetime) -> str:
    """A value as text on one line; `?` when it is unknown. `now` is a local time."""
    return printable(_text(key, value, now)).replace("\n", " ")


def _text(key: str, value: Any, now: datetime) -> str:
    if value is None:
        return "" if key in ABSENT else "never" if key in NEVER else UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(key, value)
    if isinstance(value, str):
        return when(value, now) if key.endswith("_at") or key == "at" else value
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(name, inner, now)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        if key == "argv":
            return shlex.join(map(str, value))
        return ", ".join(_item(key, inner, now) for inner in value)
    return str(value)


def _item(key: str, value: Any, now: datetime) -> str:
    if isinstance(value, dict) and value:
        first = next((name for name in ("name", "path", "id") if value.get(name)), next(iter(value)))
        return _text(first, value[first], now)
    return _text(key, value, now)


def number(key: str, value: float) -> str:
    """A number with the unit that its key tells."""
    if isinstance(value, float) and not math.isfinite(value):
        return UNKNOWN
    if key.endswith("_bytes"):
        return size(int(value))
    if key.endswith("_seconds") or key == "seconds":
        return duration(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def size(count: int) -> str:
    """Bytes: `512 MiB`, `1.5 GiB`."""
    value = float(abs(count))
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop(0)
    sign = "-" if count < 0 else ""
    return f"{sign}{value:.1f}".removesuffix(".0") + f" {units[0]}"


def duration(seconds: float) -> str:
    """Seconds: `0.4 ms`, `3.2 s`, `3m 20s`, `4h 5m`, `7d 3h`."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if 0 < seconds < 0.9995:
        return (f"{seconds * 1000:.1f}" if seconds < 0.00995 else f"{seconds * 1000:.0f}").removesuffix(".0") + " ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for unit, small, length, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length}{unit}" + (f" {rest}{small}" if rest else "")
    return f"{whole} s"


def when(text: str, now: datetime) -> str:
    """An RFC 3339 time in this terminal's time zone: the time of day when it is today, otherwise the day as well."""
    try:
        moment = datetime.fromisoformat(text).astimezone(now.tzinfo)
    except (ValueError, OverflowError):
        return text
    return moment.strftime("%H:%M:%S" if moment.date() == now.date() else "%Y-%m-%d %H:%M")


def written(kind: str, value: Any) -> str:
    """A value as a person would write it in a command or a settings file: `512M`, `90s`; empty when it is not set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    units = {
        "size": (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)),
        "duration": (("d", 86400), ("h", 3600), ("m", 60)),
    }
    for unit, length in units.get(kind, ()):
        if value >= length and value % length == 0:
            return f"{int(value // length)}{unit}"
    if kind == "duration":
        return f"{value:g}s"
    return f"{value:g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """The text with every control character made visible: what came from a guest must not drive this terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "    " if c == "\t" else _visible(c) for c in text)


def _visible(letter: str) -> str:
    return letter if letter == "\xa0" else f"\\x{ord(letter):02x}"


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # only for names outside ASCII

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
