"""Memory: what a definition says, what becomes of it, and what is refused. Lists of values."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from maglica.errors import Refused
from maglica.host_worker.size import memory
from maglica.host_worker.size.memory import Facts, Memory, Plan

M, G = 1 << 20, 1 << 30
NUMA = "<cpu><numa><cell id='0' cpus='0' memory='1048576' unit='KiB'/></numa></cpu>"


def definition(inside: str, devices: str = "") -> str:
    return f"<domain type='kvm'><name>web1</name>{inside}<devices>{devices}</devices></domain>"


def facts(stored: Memory, live: Memory | None = None, *, free: int = 8 * G, state: str = "") -> Facts:
    return Facts("web1", state or ("running" if live else "shut-off"), stored, live, "host1", free)


def has(total: int, now: int | None = None, **more: object) -> Memory:
    return Memory(total, total if now is None else now, **more)  # type: ignore[arg-type]


SLOTS = {"ceiling": 8 * G, "slots": 4, "cells": 1}


def test_what_a_definition_says() -> None:
    assert memory.read(definition("<memory unit='GiB'>2</memory>")) == has(2 * G)
    text = definition("<memory>2097152</memory><currentMemory>1048576</currentMemory>", "<memballoon model='none'/>")
    assert memory.read(text) == has(2 * G, G, balloon=False)
    slots = f"<maxMemory slots='4' unit='GiB'>8</maxMemory><memory unit='GiB'>1</memory>{NUMA}"
    assert memory.read(definition(slots, "<memory model='dimm'/>")) == has(G, **SLOTS, modules=1)


@pytest.mark.parametrize(
    ("want", "found", "apply", "offline", "todo"),
    [
        (2 * G, facts(has(G)), "both", False, Plan(2 * G, G, define=True)),
        ("+1048576K", facts(has(G)), "both", False, Plan(2 * G, G, define=True)),
        (512 * M, facts(has(G)), "both", False, Plan(512 * M, G, define=True)),  # off: it may shrink
        (G, facts(has(G)), "both", False, Plan(G, G)),
        (G, facts(has(G), has(G)), "both", False, Plan(G, G)),
        (G, facts(has(2 * G), has(G)), "both", False, Plan(G, G, define=True)),
        (2 * G, facts(has(2 * G, G), has(2 * G, G)), "both", False, Plan(2 * G, G, balloon=True, define=True)),
        (2 * G, facts(has(2 * G, G), has(2 * G, G)), "live", False, Plan(2 * G, G, balloon=True)),
        (2 * G, facts(has(G), has(G)), "config", False, Plan(2 * G, G, define=True)),
        (2 * G, facts(has(G), has(G)), "both", True, Plan(2 * G, G, define=True, restart=True)),
        (512 * M, facts(has(G), has(G)), "both", True, Plan(512 * M, G, define=True, restart=True)),
        (G, facts(has(G), has(G)), "both", True, Plan(G, G)),
        (G, facts(has(2 * G), has(G)), "both", True, Plan(G, G, define=True)),  # what runs has it already
        (2 * G, facts(has(G, **SLOTS), has(G, **SLOTS)), "both", False, Plan(2 * G, G, modules=(G,), define=True)),
        (
            2 * G, facts(has(G, 512 * M, **SLOTS), has(G, 512 * M, **SLOTS)), "live", False,
            Plan(2 * G, 512 * M, balloon=True, modules=(G,)),
        ),
        (
            2 * G, facts(has(G), has(G, ceiling=8 * G, slots=4, cells=2)), "live", False,
            Plan(2 * G, G, modules=(512 * M, 512 * M)),
        ),
    ],
)  # fmt: skip
def test_what_is_to_be_done(want: int | str, found: Facts, apply: str, offline: bool, todo: Plan) -> None:
    assert memory.plan(want, found, apply=apply, offline=offline, shrink=False) == todo


def test_a_running_guest_shrinks_only_when_that_was_said() -> None:
    found = facts(has(G), has(G))
    assert memory.plan(512 * M, found, apply="both", offline=False, shrink=True) == Plan(
        512 * M, G, balloon=True, define=True
    )
    with pytest.raises(Refused, match=r"web1 runs with 1G: what is taken from it kills"):
        memory.plan(512 * M, found, apply="both", offline=False, shrink=False)


@pytest.mark.parametrize(
    ("want", "found", "apply", "code", "words"),
    [
        ("-2097152K", facts(has(G)), "both", "wrong_input", "web1 cannot have -1024M of memory: it has 1G"),
        (8 * M, facts(has(G)), "both", "wrong_input", "web1 cannot have 8M of memory"),
        (G + 1024, facts(has(G)), "both", "wrong_input", "which is not a multiple of 1M"),
        (4097 * M, facts(has(G, **SLOTS)), "both", "wrong_input", "4097M of memory, which is not a multiple of 128M"),
        (4097 * M, facts(has(G, **SLOTS), has(G, **SLOTS)), "both", "wrong_input", "not a multiple of 128M"),
        (1000 * G, facts(has(G)), "both", "no_capacity", "that is 999G more, and host1 has 8G"),
        (1000 * G, facts(has(G), has(G)), "config", "no_capacity", "host1 has 8G that it has promised to nobody"),
        (4 * G, facts(has(G, **SLOTS), has(G, **SLOTS), free=2 * G), "both", "no_capacity", "that is 3G more"),
        (2 * G, facts(has(G)), "live", "wrong_state", "web1 is off"),
        (2 * G, facts(has(G), has(G)), "both", "wrong_state", "at most 1G while it runs, not 2G: it has no slots"),
        (16 * G, facts(has(G), has(G, **SLOTS)), "both", "wrong_state", "at most 8G while it runs, not 16G"),
        (2 * G, facts(has(G), has(G, **SLOTS, modules=4)), "both", "wrong_state", "4 slots for memory modules, 4 of"),
        (2 * G, facts(has(2 * G), has(2 * G, G, balloon=False)), "both", "wrong_state", "has no balloon"),
        (2 * G, facts(has(G), has(G), state="crashed"), "both", "wrong_state", "web1 is crashed"),
        (
            65 * G,
            facts(has(64 * G), has(64 * G, ceiling=99 * G, slots=4, cells=1)),
            "both",
            "wrong_input",
            "steps of 2G",
        ),
    ],
)
def test_what_is_refused(want: int | str, found: Facts, apply: str, code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        memory.plan(want, found, apply=apply, offline=False, shrink=False)
    assert refused.value.code == code
    assert words in refused.value.message
    assert refused.value.hint


def test_a_definition_with_another_size() -> None:
    plain = definition("<memory unit='GiB'>1</memory>")
    for size in (512 * M, G, 2 * G):
        assert memory.read(memory.rewrite(plain, size)) == has(size)
    ballooned = definition("<memory unit='GiB'>2</memory><currentMemory unit='GiB'>1</currentMemory>")
    assert memory.read(memory.rewrite(ballooned, 512 * M)) == has(2 * G, 512 * M)
    assert memory.read(memory.rewrite(ballooned, 2 * G)) == has(2 * G)
    assert memory.read(memory.rewrite(ballooned, 3 * G)) == has(3 * G)


def test_modules_become_memory_that_it_boots_with() -> None:
    slots = "<maxMemory slots='4' unit='GiB'>2</maxMemory><memory unit='GiB'>2</memory>"
    cells = "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB'/><cell id='1' cpus='1' memory='0'/></numa></cpu>"
    text = memory.rewrite(definition(slots + cells, "<memory model='dimm'/><disk/>"), 4 * G)
    root = ET.fromstring(text)
    assert root.find("./devices/memory") is None
    assert root.find("./devices/disk") is not None
    assert [(cell.get("memory"), cell.get("unit")) for cell in root.iter("cell")] == [("2097152", "KiB")] * 2
    assert memory.read(text) == has(4 * G, ceiling=4 * G, slots=4, cells=2)


def test_room_for_modules() -> None:
    text = memory.with_most(definition("<memory unit='GiB'>1</memory>"), 8 * G, 16, vcpus=4)
    assert memory.read(text) == has(G, ceiling=8 * G, slots=16, cells=1)
    cell = ET.fromstring(text).find("./cpu/numa/cell")
    assert cell is not None
    assert (cell.get("cpus"), cell.get("memory")) == ("0-3", "1048576")
    assert memory.read(memory.with_most(text, 4 * G, None, vcpus=4)).ceiling == 4 * G
    back = memory.with_most(text, 2 * G, 0, vcpus=4)
    assert memory.read(back) == has(2 * G, G, cells=1)


def test_room_for_the_balloon() -> None:
    text = memory.with_most(definition("<memory unit='GiB'>1</memory>"), 2 * G, None, vcpus=1)
    assert memory.read(text) == has(2 * G, G)


@pytest.mark.parametrize(
    ("want", "slots", "found", "most"),
    [
        (2 * G, None, has(G), 2 * G),
        ("+1048576K", None, has(G), 2 * G),
        (G, None, has(2 * G, G), G),
        (9 * G, 16, has(G), 9 * G),  # nobody is promised what may be plugged in one day
        ("-1048576K", None, has(G, **SLOTS), 7 * G),
    ],
)
def test_the_most(want: int | str, slots: int | None, found: Memory, most: int) -> None:
    assert memory.plan_most(want, slots, facts(found, free=4 * G), 16 * G) == most


@pytest.mark.parametrize(
    ("want", "slots", "found", "code", "words"),
    [
        (512 * M, None, has(G), "wrong_input", "web1 has 1G of memory: at most 512M is less"),
        (512 * M, 16, has(G), "wrong_input", "at most 512M is less"),
        (64 * G, 16, has(G), "no_capacity", "web1 can never have 64G of memory: host1 has 16G"),
        (8 * G, None, has(G), "no_capacity", "that is 7G more, and host1 has 4G"),
        (G + 64 * M, 16, has(G), "wrong_input", "not a multiple of 128M"),
    ],
)
def test_what_cannot_be_the_most(want: int, slots: int | None, found: Memory, code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        memory.plan_most(want, slots, facts(found, free=4 * G), 16 * G)
    assert refused.value.code == code
    assert words in refused.value.message


def test_a_module() -> None:
    root = ET.fromstring(memory.module(G, 1))
    assert root.attrib == {"model": "dimm"}
    assert (root.findtext("./target/size"), root.findtext("./target/node")) == ("1048576", "1")
