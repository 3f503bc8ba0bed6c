"""What tells two definitions of a domain apart: the one that runs, say, from the one that is stored. Text in, rows out.

libvirt writes into a definition that runs what it made up for this run: ids, aliases, addresses, ports. That is no
difference, as long as the other one leaves it open.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from maglica.declare import MASK
from maglica.host_worker.domain import tree
from maglica.host_worker.hypervisor import Hypervisor

Row = dict[str, str | None]

# What belongs to a run, wherever it stands in <devices>.
OF_A_RUN = frozenset(("alias", "backingStore", "mirror", "privateData", "acpi"))
# What libvirt adds by itself to a run, at the top.
ADDED = frozenset(("seclabel", "resource", "genid"))
# Devices that have a name of their own; of the others the place among their kind is one.
NAMES = {"disk": "target/@dev", "interface": "mac/@address", "filesystem": "target/@dir", "channel": "target/@name"}
# What libvirt chooses for a run where the definition leaves it open.
CHOSEN = frozenset(("port", "tlsPort", "websocket", "tty", "listen", "address", "index", "portid", "bridge", "path"))


def rows(live: str, stored: str) -> list[Row]:
    """`{"what", "now", "next"}`: each thing that is otherwise in what is stored. None: it is not there."""
    now, then = _facts(ET.fromstring(live)), _facts(ET.fromstring(stored))
    if then.get("cpu/@mode", "host-model") == "host-model":  # or none at all: libvirt writes down what it chose
        now, then = _without_model(now), _without_model(then)
    found: list[Row] = []
    for key in dict.fromkeys([*now, *then]):
        here, there = now.get(key), then.get(key)
        if here != there and not _by_libvirt(key, here, there):
            found.append({"what": key, "now": here, "next": there})
    return _whole(found, now, then)


def of(name: str, hypervisor: Hypervisor) -> list[Row]:
    """What will be otherwise in a domain after its next start."""
    return rows(hypervisor.running_definition(name), hypervisor.definition(name))


def public(found: list[Row]) -> list[Row]:
    """Without passwords."""
    return [
        {"what": row["what"], **{side: MASK if row[side] else row[side] for side in ("now", "next")}}
        if tree.is_secret(str(row["what"]).rpartition("/@")[2])
        else row
        for row in found
    ]


def _by_libvirt(key: str, here: str | None, there: str | None) -> bool:
    """Whether libvirt made this up for the run."""
    name = key.rsplit("/", 1)[-1].lstrip("@")
    if key.startswith("cpu/feature[") and there is None:
        return True  # a model of processors as this host has it
    if key == "cpu/@check":
        return here == "full"
    if here is not None and there is None:
        return name in CHOSEN or "/address" in key or "/target/" in key or "/listen" in key
    return here is not None and there in ("-1", "") and name in CHOSEN


def _without_model(facts: dict[str, str]) -> dict[str, str]:
    kept = ("cpu/topology", "cpu/numa")
    return {key: value for key, value in facts.items() if not key.startswith("cpu/") or key.startswith(kept)}


def _whole(found: list[Row], now: dict[str, str], then: dict[str, str]) -> list[Row]:
    """A device that is in one of them alone is one difference, not as many as it has attributes."""
    told: list[Row] = []
    for row in found:
        device = _device(str(row["what"]))
        if device is None:
            told.append(row)
            continue
        here, there = (any(_device(key) == device for key in side) for side in (now, then))
        if here and there:
            told.append(row)
        elif all(one["what"] != device for one in told):
            told.append({"what": device, "now": "there" if here else None, "next": "there" if there else None})
    return told


def _device(key: str) -> str | None:
    parts = key.split("/")
    return "/".join(parts[:2]) if len(parts) > 1 and parts[0] == "devices" else None


def _facts(root: ET.Element) -> dict[str, str]:
    """Each attribute and each text of a definition, under a name that is the same in both."""
    found: dict[str, str] = {}
    for child in root:
        if child.tag == "devices":
            numbers: dict[str, int] = {}
            for device in child:
                number = numbers[device.tag] = numbers.get(device.tag, -1) + 1
                _collect(device, f"devices/{device.tag}[{_name(device, number)}]", found)
        elif child.tag not in ADDED:
            _collect(child, child.tag, found)
    found.update({f"@{name}": value for name, value in root.attrib.items() if name != "id"})
    return found


def _name(device: ET.Element, number: int) -> str:
    path, _, attribute = NAMES.get(device.tag, "").partition("/@")
    named = device.find(path) if path else None
    return (named.get(attribute) if named is not None else None) or str(number)


def _collect(element: ET.Element, path: str, found: dict[str, str]) -> None:
    for name, value in element.attrib.items():
        found[f"{path}/@{name}"] = value
    text = (element.text or "").strip()
    if text or (not element.attrib and not len(element)):
        found[path] = text
    numbers: dict[str, Any] = {}
    for child in element:
        if child.tag in OF_A_RUN or not isinstance(child.tag, str):
            continue
        tag = child.tag.rpartition("}")[2]
        if path == "cpu" and tag == "feature":
            _collect(child, f"cpu/feature[{child.get('name')}]", found)
            continue
        number = numbers[tag] = numbers.get(tag, 0) + 1
        _collect(child, f"{path}/{tag}" + (f"[{number}]" if number > 1 else ""), found)
