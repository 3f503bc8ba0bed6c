"""Virtual CPUs: how many there are and can be, and how another number comes about. Values in, values out.

https://libvirt.org/formatdomain.html#cpu-allocation
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

from maglica import kinds
from maglica.errors import Refused
from maglica.host_worker.domain.domain_xml import UNITS

# What a guest can be given something in, while it runs.
ALIVE = ("running", "idle", "paused")

LEAST_CACHE = 1 << 30  # bytes; with 256 MiB it was full after the boot of a Debian


class Vcpus(NamedTuple):
    """How many a guest has, and how many it can be given without a new start."""

    used: int
    most: int


class Facts(NamedTuple):
    """What a decision needs. `live` is None for a VM that is off."""

    name: str
    state: str
    stored: Vcpus
    live: Vcpus | None
    host: str
    host_cpus: int
    cramped: bool = False


class Plan(NamedTuple):
    """How many there will be, how many there were; what is to be done for it: nothing, where all are False."""

    wanted: int
    before: int
    most: int
    live: bool = False
    define: bool = False
    restart: bool = False


def read(text: str) -> Vcpus:
    """What a definition, or the XML of what runs, says."""
    element = ET.fromstring(text).find("vcpu")
    if element is None:
        return Vcpus(1, 1)
    most = int(element.text or 1)
    return Vcpus(int(element.get("current") or most), most)


def cramped(live: str) -> bool:
    """Whether another one may end an emulated guest: QEMU asserts (tcg_region_initial_alloc, seen with 7.2) when all of
    its cache for translated code is taken at that moment, which a small one nearly always is.
    """
    root = ET.fromstring(live)
    cache = root.find("./features/tcg/tb-cache")
    if root.get("type") != "qemu" or cache is None:
        return False
    return int(cache.text or 0) * UNITS.get(cache.get("unit", "KiB"), 1024) < LEAST_CACHE


def rewrite(text: str, count: int, wanted: int | None = None) -> str:
    """The definition with so many; how many there can be (`wanted`; None: as it is) is raised where it has to be, and
    the rest follows it.
    """
    root = ET.fromstring(text)
    vcpu = root.find("vcpu")
    if vcpu is None:
        vcpu = ET.SubElement(root, "vcpu")
    before = int(vcpu.text or 1)
    most = max(before if wanted is None else wanted, count)
    if most != before:
        most = _fit(root, most)
    vcpu.text = str(most)
    vcpu.attrib.pop("current", None)
    if count < most:
        vcpu.set("current", str(count))
    for single in root.findall("vcpus"):
        root.remove(single)  # which of them are there: libvirt counts anew
    return ET.tostring(root, encoding="unicode")


def _fit(root: ET.Element, most: int) -> int:
    """What has to agree with the most that there can be: whole sockets, and the last NUMA cell takes the new ones."""
    topology = root.find("./cpu/topology")
    if topology is not None:
        each = 1
        for part in ("dies", "clusters", "cores", "threads"):
            each *= int(topology.get(part, "1"))
        sockets = -(-most // each)
        topology.set("sockets", str(sockets))
        most = sockets * each
    cells = [cell for cell in root.findall("./cpu/numa/cell") if cell.get("cpus")]
    if cells:
        for cell in cells:
            kept = [str(number) for number in numbers(cell.get("cpus", "")) if number < most]
            if len(kept) < len(numbers(cell.get("cpus", ""))):
                cell.set("cpus", ",".join(kept))
        listed = [number for cell in cells for number in numbers(cell.get("cpus", ""))]
        first = max(listed) + 1
        if first < most:
            last = cells[-1]
            more = f"{first}-{most - 1}" if first < most - 1 else f"{first}"
            last.set("cpus", f"{last.get('cpus')},{more}")
    return most


def numbers(ranges: str) -> list[int]:
    """The numbers in a list such as 0-3,^2,8."""
    found: dict[int, None] = {}
    for part in filter(None, (part.strip() for part in ranges.split(","))):
        first, _, last = part.removeprefix("^").partition("-")
        for number in range(int(first), int(last or first) + 1):
            if part.startswith("^"):
                found.pop(number, None)
            else:
                found[number] = None
    return sorted(found)


def plan(want: int | str, facts: Facts, *, apply: str, offline: bool, most: int | None = None) -> Plan:
    """What is to be done; `most`: how many there can be from the next start on. `Refused` says what is possible
    instead.
    """
    name, live, stored = facts.name, facts.live, facts.stored
    now = stored.used if live is None or apply == "config" else live.used
    count = kinds.changed(now, want)
    _refuse_number(count, now, most, facts)
    if live is None and apply == "live":
        raise Refused("wrong_state", f"{name} is off: nothing of it is live", "leave out --apply=live")
    new = max(stored.most if most is None else most, count)
    define = count != stored.used or (most is not None and new != stored.most)
    if live is None or apply == "config":
        return Plan(count, now, new, define=define)
    todo = Plan(count, now, new, live=count != live.used, define=apply == "both" and define)
    if offline and (todo.live or todo.define):
        return todo._replace(live=False, define=True, restart=True)
    if todo.live:
        _refuse_live(count, facts, live)
    return todo


def _refuse_number(count: int, now: int, most: int | None, facts: Facts) -> None:
    name = facts.name
    if count < 1:
        raise Refused("wrong_input", f"{name} cannot have {count} vCPUs: it has {now}", "expected at least 1")
    if most is not None and count > most:
        raise Refused("wrong_input", f"{name} cannot have {count} vCPUs with --max={most}", f"expected at most {most}")
    for number in (count if count > now else 1, most or 1):
        if number > facts.host_cpus:
            raise Refused(
                "no_capacity",
                f"{name} cannot have {number} vCPUs: {facts.host} has {facts.host_cpus} CPUs",
                f"expected at most {facts.host_cpus}",
            )


def _refuse_live(count: int, facts: Facts, live: Vcpus) -> None:
    name = facts.name
    hint = f"--offline shuts {name} down, changes it and starts it again; --apply=config takes effect at its next start"
    if facts.state not in ALIVE:
        raise Refused("wrong_state", f"{name} is {facts.state}", "expected running, or shut-off")
    if count < live.used:
        words = f"{name} runs with {live.used} vCPUs: a running guest cannot be left with {count}"
        raise Refused("wrong_state", words, hint)
    if count > live.most:
        words = f"{name} can have at most {live.most} vCPUs while it runs, not {count}: so it was started"
        raise Refused("wrong_state", words, hint)
    if facts.cramped:
        words = f"{name} is emulated, with a small cache for translated code: another vCPU might end its QEMU"
        raise Refused("wrong_state", words, hint)
