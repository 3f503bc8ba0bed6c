"""Memory: how much there is and can be, and how another size comes about. Values in, values out; sizes in bytes.

A guest boots with all of <memory>, of which its balloon takes what is beyond <currentMemory>; modules (DIMMs) can be
plugged in up to <maxMemory>. https://libvirt.org/formatdomain.html#memory-allocation and #memory-devices.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

from maglica import kinds
from maglica.errors import Refused
from maglica.host_worker.domain.domain_xml import UNITS
from maglica.host_worker.size.vcpus import ALIVE

MIB = 1 << 20

# A module has to be a multiple of the blocks in which Linux takes memory: 128 MiB, and 2 GiB in a guest of 64 GiB and
# more (arch/x86/mm/init_64.c, probe_memory_block_size).
BLOCK, LARGE_BLOCK, LARGE = 128 << 20, 2 << 30, 64 << 30


class Memory(NamedTuple):
    """`total`: with what it boots, and the modules in it; `now`: what the balloon leaves. `ceiling`, `slots`: how far
    and with how many modules it can grow, None and 0 where it cannot. `cells`: of NUMA.
    """

    total: int
    now: int
    ceiling: int | None = None
    slots: int = 0
    cells: int = 0
    modules: int = 0
    balloon: bool = True


class Facts(NamedTuple):
    """What a decision needs. `live` is None for a VM that is off; `free`: what the host has promised to nobody."""

    name: str
    state: str
    stored: Memory
    live: Memory | None
    host: str
    free: int


class Plan(NamedTuple):
    """How much there will be and was; how: by the balloon, by modules of these sizes (one for each cell), by another
    definition, by a new start. Nothing is to be done where all of them are empty.
    """

    size: int
    before: int
    balloon: bool = False
    modules: tuple[int, ...] = ()
    define: bool = False
    restart: bool = False


def read(text: str) -> Memory:
    """What a definition, or the XML of what runs, says."""
    root = ET.fromstring(text)
    total = _bytes(root.find("memory")) or 0
    ceiling = root.find("maxMemory")
    balloon = root.find("./devices/memballoon")
    return Memory(
        total,
        _bytes(root.find("currentMemory")) or total,
        _bytes(ceiling),
        int(ceiling.get("slots", "0")) if ceiling is not None else 0,
        len(root.findall("./cpu/numa/cell")),
        len(root.findall("./devices/memory")),
        balloon is None or balloon.get("model") != "none",
    )


def _bytes(element: ET.Element | None) -> int | None:
    return None if element is None else int(element.text or 0) * UNITS.get(element.get("unit", "KiB"), 1024)


def _put(root: ET.Element, tag: str, size: int, **more: str) -> None:
    element = root.find(tag)
    if element is None:
        element = ET.SubElement(root, tag)
    element.attrib.update({"unit": "KiB", **more})
    element.text = str(size >> 10)


def rewrite(text: str, size: int) -> str:
    """The definition with so much. What a guest can have at most is raised where it has to be, and goes down with it
    where it had all of it; modules become memory that it boots with.
    """
    root, old = ET.fromstring(text), read(text)
    if size > old.total or old.now == old.total:
        _drop_modules(root)
        _boot_with(root, size)
        if old.ceiling is not None:
            _put(root, "maxMemory", max(size, old.ceiling))
    _put(root, "currentMemory", size)
    return ET.tostring(root, encoding="unicode")


def _boot_with(root: ET.Element, size: int) -> None:
    _put(root, "memory", size)
    cells = root.findall("./cpu/numa/cell")
    for cell in cells:
        cell.set("unit", "KiB")
        cell.set("memory", str(size // len(cells) >> 10))


def _drop_modules(root: ET.Element) -> None:
    devices = root.find("devices")
    for module in root.findall("./devices/memory"):
        devices.remove(module)  # type: ignore[union-attr]  # it was just found in it


def with_most(text: str, most: int, slots: int | None, vcpus: int) -> str:
    """The definition of a guest that can be given up to `most`: by modules where it has slots for them (`slots`; None:
    as it is), by its balloon otherwise. `vcpus`: how many there can be; modules need a NUMA cell, which has them all.
    """
    root, old = ET.fromstring(text), read(text)
    wanted = old.slots if slots is None else slots
    for element in root.findall("maxMemory"):
        root.remove(element)
    if not wanted:
        _drop_modules(root)
        _boot_with(root, most)
        _put(root, "currentMemory", min(old.now, most))
        return ET.tostring(root, encoding="unicode")
    _put(root, "maxMemory", most, slots=str(wanted))
    if not old.cells:
        cpu = root.find("cpu")
        if cpu is None:
            cpu = ET.SubElement(root, "cpu")
        cpus = f"0-{vcpus - 1}" if vcpus > 1 else "0"
        ET.SubElement(ET.SubElement(cpu, "numa"), "cell", {"id": "0", "cpus": cpus})
        _boot_with(root, old.total)
    return ET.tostring(root, encoding="unicode")


def module(size: int, cell: int) -> str:
    """A memory module for one cell, as libvirt takes it."""
    memory = ET.Element("memory", {"model": "dimm"})
    target = ET.SubElement(memory, "target")
    ET.SubElement(target, "size", {"unit": "KiB"}).text = str(size >> 10)
    ET.SubElement(target, "node").text = str(cell)
    return ET.tostring(memory, encoding="unicode")


def plan(want: int | str, facts: Facts, *, apply: str, offline: bool, shrink: bool) -> Plan:
    """What is to be done; `Refused` says what is possible instead."""
    live, stored = facts.live, facts.stored
    now = stored.now if live is None or apply == "config" else live.now
    size = kinds.changed(now, want)
    _refuse_size(size, facts, stored if live is None else live)
    if live is None and apply == "live":
        raise Refused("wrong_state", f"{facts.name} is off: nothing of it is live", "leave out --apply=live")
    if live is None or apply == "config":
        todo = Plan(size, now, define=size != stored.now)
    elif offline:
        todo = Plan(size, now, define=size != live.now or size != stored.now, restart=size != live.now)
    else:
        todo = _live(size, facts, live, apply, shrink)
    total = live.total if live else stored.total
    if todo.modules or (todo.define and size > total):
        _refuse_room(size, size - total, facts)
    return todo


def _refuse_size(size: int, facts: Facts, memory: Memory) -> None:
    if size < kinds.LEAST_MEMORY:
        text = f"{facts.name} cannot have {words(size)} of memory: it has {words(memory.now)}"
        raise Refused("wrong_input", text, f"expected at least {words(kinds.LEAST_MEMORY)}")
    multiple = BLOCK * memory.cells if memory.cells else MIB
    if size % multiple:
        why = f": it comes in blocks of {words(BLOCK)} for each of {memory.cells} NUMA cells" if memory.cells else ""
        below = size // multiple * multiple
        raise Refused(
            "wrong_input",
            f"{facts.name} cannot have {words(size)} of memory, which is not a multiple of {words(multiple)}{why}",
            f"{words(below) + ' or ' if below >= kinds.LEAST_MEMORY else ''}{words(below + multiple)} would do",
        )


def _refuse_room(size: int, more: int, facts: Facts) -> None:
    if more > facts.free:
        raise Refused(
            "no_capacity",
            f"{facts.name} cannot have {words(size)} of memory: that is {words(more)} more, and {facts.host} has"
            f" {words(max(0, facts.free))} that it has promised to nobody",
            "give another VM less, or move this one to a host with more",
        )


def _live(size: int, facts: Facts, live: Memory, apply: str, shrink: bool) -> Plan:
    name, define = facts.name, apply == "both" and size != facts.stored.now
    if size == live.now:
        return Plan(size, live.now, define=define)
    offline = (
        f"--offline shuts {name} down, changes it and starts it again; --apply=config takes effect at its next start"
    )
    if facts.state not in ALIVE:
        raise Refused("wrong_state", f"{name} is {facts.state}", "expected running, or shut-off")
    if size < live.now and not shrink:
        raise Refused(
            "wrong_state",
            f"{name} runs with {words(live.now)}: what is taken from it kills its processes if it has none to spare",
            f"{offline}; --shrink takes it all the same",
        )
    if size <= live.total:
        if not live.balloon:
            raise Refused("wrong_state", f"{name} has no balloon that could change its memory while it runs", offline)
        return Plan(size, live.now, balloon=True, define=define)
    return Plan(
        size, live.now, balloon=live.now < live.total, modules=_modules(size, facts, live, offline), define=define
    )


def _modules(size: int, facts: Facts, live: Memory, offline: str) -> tuple[int, ...]:
    name = facts.name
    if live.ceiling is None or not live.slots or not live.cells:
        raise Refused(
            "wrong_state",
            f"{name} can have at most {words(live.total)} while it runs, not {words(size)}: it has no"
            " slots for memory modules",
            f"{offline}; `maglica vm set-max-memory {name} --size=… --slots=16` makes slots",
        )
    if size > live.ceiling:
        text = f"{name} can have at most {words(live.ceiling)} while it runs, not {words(size)}"
        raise Refused("wrong_state", text, f"{offline}; `maglica vm set-max-memory {name}` raises it")
    if live.slots - live.modules < live.cells:
        text = f"{name} has {live.slots} slots for memory modules, {live.modules} of them taken"
        raise Refused("wrong_state", f"{text}; {live.cells} are needed", offline)
    each, block = (size - live.total) // live.cells, LARGE_BLOCK if live.total >= LARGE else BLOCK
    if each % block or (size - live.total) % live.cells:
        raise Refused(
            "wrong_input",
            f"{name} can grow in steps of {words(block * live.cells)} while it runs, not by {words(size - live.total)}",
            f"choose another size; {offline}",
        )
    return (each,) * live.cells


def plan_most(want: int | str, slots: int | None, facts: Facts, host_bytes: int) -> int:
    """The most that a guest shall have; `Refused` where that cannot be. `host_bytes`: the host's memory."""
    stored = facts.stored
    by_slots = bool(stored.slots if slots is None else slots)
    most = kinds.changed(stored.ceiling if by_slots and stored.ceiling else stored.total, want)
    _refuse_size(most, facts, stored._replace(cells=1) if by_slots else stored)
    floor = stored.total if by_slots else stored.now
    if most < floor:
        raise Refused(
            "wrong_input",
            f"{facts.name} has {words(floor)} of memory: at most {words(most)} is less",
            f"expected at least {words(floor)}; `maglica vm set-memory` gives it less",
        )
    if most > host_bytes:
        raise Refused(
            "no_capacity",
            f"{facts.name} can never have {words(most)} of memory: {facts.host} has {words(host_bytes)}",
            f"expected at most {words(host_bytes)}",
        )
    if not by_slots:
        _refuse_room(most, most - stored.total, facts)
    return most


def words(size: int) -> str:
    """A size as people write it."""
    for unit, shift in (("T", 40), ("G", 30), ("M", 20)):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return f"{size >> 20}M" if size % MIB == 0 or size >= 1 << 30 else f"{size >> 10}K"
