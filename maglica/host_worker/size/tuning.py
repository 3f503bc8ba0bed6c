"""libvirt's typed parameters: words -> values, values -> words, checked against what libvirt offers. Values in and out.

https://libvirt.org/html/libvirt-libvirt-domain.html (VIR_DOMAIN_MEMORY_PARAM_…, …)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from maglica import kinds
from maglica.declare import nearest
from maglica.errors import Refused
from maglica.host_worker.size.memory import words

Values = dict[str, Any]

UNLIMITED = 9007199254740991  # VIR_DOMAIN_MEMORY_PARAM_UNLIMITED, in KiB
NUMA_MODES = ("strict", "preferred", "interleave", "restrictive")  # virDomainNumatuneMemMode


def unit(kind: str, name: str) -> str:
    """What libvirt counts a parameter in; '' for numbers and words without a unit."""
    if kind == "memtune":
        return "KiB"
    if kind == "iftune":
        return "KiB" if name.endswith("burst") else "KiB/s"
    if kind == "blkdeviotune" and "_bytes_sec" in name and not name.endswith("_length"):
        return "B/s"
    if kind == "blkdeviotune" and name.endswith("_length"):
        return "s"
    return "us" if kind == "schedinfo" and name.endswith(("_period", "_quota")) else ""


def shown(kind: str, name: str, value: Any) -> str:
    """A value as it could be given back; 0 means no limit in most places, and is said so."""
    measure = unit(kind, name)
    if kind == "memtune" and int(value) >= UNLIMITED:
        return "unlimited"
    if measure.startswith(("KiB", "B")):
        return words(int(value) << 10 if measure.startswith("KiB") else int(value)) if value else "0"
    if name == "numa_mode" and isinstance(value, int) and 0 <= value < len(NUMA_MODES):
        return NUMA_MODES[value]
    return str(value)


def wanted(kind: str, given: Sequence[str], offered: Values) -> Values:
    """What was asked for as libvirt takes it; `offered`: what it told of this kind, whose types are the right ones."""
    found: Values = {}
    for one in given:
        name, _, text = one.partition("=")
        if name not in offered:
            close = nearest(name, offered)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(offered) or 'none'}"
            raise Refused("wrong_input", f"{kind} has no parameter {name}", hint)
        try:
            found[name] = _value(kind, name, text, offered[name])
        except ValueError as error:
            raise Refused(
                "wrong_input", f"{kind}: {name}: {error}", f"expected {_expected(kind, name, offered)}"
            ) from None
    return found


def _expected(kind: str, name: str, offered: Values) -> str:
    if unit(kind, name).startswith(("KiB", "B")):
        return f"a size such as 512M, or {'unlimited' if kind == 'memtune' else '0 for no limit'}"
    if name == "numa_mode":
        return f"one of {', '.join(NUMA_MODES)}"
    return "a whole number" if type(offered[name]) is int else "a number" if type(offered[name]) is float else "a text"


def _value(kind: str, name: str, text: str, like: Any) -> Any:
    measure = unit(kind, name)
    if kind == "memtune" and text in ("unlimited", "-1"):
        return UNLIMITED
    if measure.startswith(("KiB", "B")) and isinstance(like, int):
        size = int(kinds.SIZE.check(text)) if text != "0" else 0
        return size >> 10 if measure.startswith("KiB") else size
    if name == "numa_mode" and text in NUMA_MODES:
        return NUMA_MODES.index(text)
    if isinstance(like, bool):
        return bool(kinds.BOOL.check(text))
    if isinstance(like, int):
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise ValueError(f"{text!r} is not a whole number")
        return int(text)
    return float(text) if isinstance(like, float) else text


def rows(kind: str, live: Values | None, config: Values | None) -> list[Values]:
    """The table of one kind."""
    names = list(dict.fromkeys([*(live or {}), *(config or {})]))
    return [
        {
            "parameter": name,
            "live": shown(kind, name, live[name]) if live is not None and name in live else None,
            "config": shown(kind, name, config[name]) if config is not None and name in config else None,
            "unit": unit(kind, name) or None,
            "live_value": (live or {}).get(name),
            "config_value": (config or {}).get(name),
        }
        for name in names
    ]
