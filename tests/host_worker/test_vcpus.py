"""Virtual CPUs: what a definition says, what becomes of it, and what is refused. Lists of values."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from maglica.errors import Refused
from maglica.host_worker.size import vcpus
from maglica.host_worker.size.vcpus import Facts, Plan, Vcpus

LIVE, DEFINE, RESTART = {"live": True}, {"define": True}, {"restart": True}


def definition(inside: str) -> str:
    return f"<domain type='kvm'><name>web1</name>{inside}</domain>"


EMULATED = "<domain type='qemu'><features><tcg><tb-cache unit='MiB'>{}</tb-cache></tcg></features></domain>"


def facts(stored: tuple[int, int], live: tuple[int, int] | None = None, *, cpus: int = 8, state: str = "") -> Facts:
    found = state or ("running" if live else "shut-off")
    return Facts("web1", found, Vcpus(*stored), Vcpus(*live) if live else None, "host1", cpus)


def test_what_a_definition_says() -> None:
    assert vcpus.read(definition("")) == (1, 1)
    assert vcpus.read(definition("<vcpu>4</vcpu>")) == (4, 4)
    assert vcpus.read(definition("<vcpu placement='static' current='2'>4</vcpu>")) == (2, 4)


@pytest.mark.parametrize(
    ("want", "found", "apply", "offline", "todo"),
    [
        (2, facts((1, 4)), "both", False, Plan(2, 1, 4, define=True)),
        (2, facts((1, 4)), "both", True, Plan(2, 1, 4, define=True)),  # a VM that is off needs no new start
        (6, facts((1, 4)), "config", False, Plan(6, 1, 6, define=True)),
        ("-1", facts((4, 4)), "both", False, Plan(3, 4, 4, define=True)),
        (4, facts((4, 4)), "both", False, Plan(4, 4, 4)),
        (2, facts((1, 4), (1, 4)), "both", False, Plan(2, 1, 4, live=True, define=True)),
        (2, facts((1, 4), (1, 4)), "live", False, Plan(2, 1, 4, live=True)),
        (2, facts((1, 4), (1, 4)), "config", False, Plan(2, 1, 4, define=True)),
        ("+2", facts((1, 4), (2, 4)), "both", False, Plan(4, 2, 4, live=True, define=True)),
        ("+2", facts((1, 4), (2, 4)), "config", False, Plan(3, 1, 4, define=True)),  # of what it says, not of what runs
        (2, facts((1, 4), (2, 4)), "both", False, Plan(2, 2, 4, define=True)),  # what runs has them already
        (2, facts((1, 4), (2, 4)), "live", False, Plan(2, 2, 4)),
        (1, facts((4, 4), (4, 4)), "both", True, Plan(1, 4, 4, define=True, restart=True)),
        (8, facts((4, 4), (4, 4)), "both", True, Plan(8, 4, 8, define=True, restart=True)),
        (4, facts((4, 4), (4, 4)), "both", True, Plan(4, 4, 4)),
        (1, facts((4, 4), (4, 4)), "config", False, Plan(1, 4, 4, define=True)),
        (8, facts((9, 9)), "both", False, Plan(8, 9, 9, define=True)),
        (9, facts((10, 10)), "both", False, Plan(9, 10, 10, define=True)),  # fewer is better, though still too many
    ],
)
def test_what_is_to_be_done(want: int | str, found: Facts, apply: str, offline: bool, todo: Plan) -> None:
    assert vcpus.plan(want, found, apply=apply, offline=offline) == todo


@pytest.mark.parametrize(
    ("want", "found", "apply", "code", "words"),
    [
        ("-5", facts((1, 1)), "both", "wrong_input", "web1 cannot have -4 vCPUs: it has 1"),
        ("-1", facts((1, 4), (1, 4)), "both", "wrong_input", "web1 cannot have 0 vCPUs: it has 1"),
        (9001, facts((1, 4)), "both", "no_capacity", "web1 cannot have 9001 vCPUs: host1 has 8 CPUs"),
        (9001, facts((1, 4), (1, 4)), "both", "no_capacity", "web1 cannot have 9001 vCPUs: host1 has 8 CPUs"),
        ("+8", facts((1, 4)), "both", "no_capacity", "web1 cannot have 9 vCPUs: host1 has 8 CPUs"),
        (1, facts((4, 4), (4, 4)), "both", "wrong_state", "a running guest cannot be left with 1"),
        (1, facts((4, 4), (4, 4)), "live", "wrong_state", "a running guest cannot be left with 1"),
        (5, facts((4, 4), (4, 4)), "both", "wrong_state", "web1 can have at most 4 vCPUs while it runs, not 5"),
        (2, facts((1, 4)), "live", "wrong_state", "web1 is off"),
        (2, facts((1, 4), (1, 4), state="crashed"), "both", "wrong_state", "web1 is crashed"),
    ],
)
def test_what_is_refused(want: int | str, found: Facts, apply: str, code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        vcpus.plan(want, found, apply=apply, offline=False)
    assert refused.value.code == code
    assert words in refused.value.message
    assert refused.value.hint


def test_the_most_there_can_be() -> None:
    found = facts((2, 2))
    assert vcpus.plan(2, found, apply="both", offline=False, most=4) == Plan(2, 2, 4, define=True)
    assert vcpus.plan(2, found, apply="both", offline=False, most=2) == Plan(2, 2, 2)
    running = facts((1, 2), (1, 2))
    assert vcpus.plan(2, running, apply="both", offline=False, most=4) == Plan(2, 1, 4, live=True, define=True)
    for most, words in ((9, "cannot have 9 vCPUs: host1 has 8 CPUs"), (2, "cannot have 3 vCPUs with --max=2")):
        with pytest.raises(Refused, match=words):
            vcpus.plan("+1", found, apply="both", offline=False, most=most)
    assert vcpus.read(vcpus.rewrite(definition("<vcpu>2</vcpu>"), 2, 4)) == (2, 4)
    assert vcpus.read(vcpus.rewrite(definition("<vcpu current='1'>4</vcpu>"), 1, 2)) == (1, 2)
    cells = "<vcpu>4</vcpu><cpu><numa><cell id='0' cpus='0-3'/></numa></cpu>"
    assert ET.fromstring(vcpus.rewrite(definition(cells), 1, 2)).find("./cpu/numa/cell[@cpus='0,1']") is not None


def test_another_one_may_end_an_emulated_guest() -> None:
    assert vcpus.cramped(EMULATED.format(64))
    assert vcpus.cramped(EMULATED.format(256))
    assert not vcpus.cramped(EMULATED.format(1024))
    assert not vcpus.cramped(EMULATED.format(64).replace("'qemu'", "'kvm'"))
    assert not vcpus.cramped("<domain type='qemu'/>")
    with pytest.raises(Refused, match="might end its QEMU"):
        vcpus.plan(2, facts((1, 4), (1, 4))._replace(cramped=True), apply="both", offline=False)


def rewritten(inside: str, count: int) -> ET.Element:
    return ET.fromstring(vcpus.rewrite(definition(inside), count))


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        ("<vcpu>1</vcpu>", 1, (1, 1)),
        ("<vcpu>1</vcpu>", 4, (4, 4)),
        ("<vcpu>4</vcpu>", 1, (1, 4)),
        ("<vcpu current='2'>4</vcpu>", 4, (4, 4)),
        ("<vcpu current='2'>4</vcpu>", 6, (6, 6)),
        ("", 2, (2, 2)),
    ],
)
def test_a_definition_with_another_number(before: str, count: int, after: tuple[int, int]) -> None:
    assert vcpus.read(vcpus.rewrite(definition(before), count)) == after


def test_sockets_stay_whole() -> None:
    topology = "<vcpu>4</vcpu><cpu><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>"
    root = rewritten(topology, 6)
    assert root.find("./cpu/topology[@sockets='2'][@cores='2'][@threads='2']") is not None
    assert vcpus.read(ET.tostring(root, encoding="unicode")) == (6, 8)
    assert rewritten(topology, 3).find("./cpu/topology[@sockets='1']") is not None


def test_new_ones_belong_to_the_last_numa_cell() -> None:
    cells = "<vcpu>4</vcpu><cpu><numa><cell id='0' cpus='0-1'/><cell id='1' cpus='2-3'/></numa></cpu>"
    assert [cell.get("cpus") for cell in rewritten(cells, 8).iter("cell")] == ["0-1", "2-3,4-7"]
    assert [cell.get("cpus") for cell in rewritten(cells, 5).iter("cell")] == ["0-1", "2-3,4"]
    assert [cell.get("cpus") for cell in rewritten(cells, 2).iter("cell")] == ["0-1", "2-3"]


def test_which_ones_are_plugged_in_is_left_to_libvirt() -> None:
    single = "<vcpu current='1'>2</vcpu><vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/></vcpus>"
    assert rewritten(single, 2).find("vcpus") is None


@pytest.mark.parametrize(
    ("ranges", "found"), [("0", [0]), ("0-3", [0, 1, 2, 3]), ("0-3,^2,8", [0, 1, 3, 8]), ("", []), (" 1 , 0 ", [0, 1])]
)
def test_lists_of_numbers(ranges: str, found: list[int]) -> None:
    assert vcpus.numbers(ranges) == found
