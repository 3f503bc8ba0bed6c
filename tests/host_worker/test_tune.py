"""Limits, shares and pinning: words and values, and what libvirt's test driver makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.errors import Refused
from maglica.host_worker import signs, undo
from maglica.host_worker.size import pinning, tuning
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, domain, world

RUNS = 1
MAC = "52:54:00:12:34:56"
MEMORY = {"hard_limit": tuning.UNLIMITED, "soft_limit": 1 << 20}


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    """web1 runs with 2 of 4 vCPUs, web2 is off."""
    more = domain("web1", state=RUNS, mac=MAC).replace("<vcpu>1</vcpu>", "<vcpu current='2'>4</vcpu>")
    names = [f"{name}.img" for name in ("web1", "web2", IMAGE)]
    found = Ward(tmp_path, world(tmp_path, off=("web2", IMAGE), volumes=names, more=more))
    yield found
    found.close()


# -------------------------------------------------------------------------------------------- words and values


@pytest.mark.parametrize(
    ("kind", "given", "offered", "values"),
    [
        ("memtune", ["hard_limit=1G"], MEMORY, {"hard_limit": 1 << 20}),
        ("memtune", ["hard_limit=unlimited", "soft_limit=512K"], MEMORY,
         {"hard_limit": tuning.UNLIMITED, "soft_limit": 512}),
        ("numatune", ["numa_nodeset=0-1,3"], {"numa_nodeset": ""}, {"numa_nodeset": "0-1,3"}),
        ("numatune", ["numa_mode=interleave"], {"numa_mode": 0}, {"numa_mode": 2}),
        ("blkiotune", ["weight=250"], {"weight": 0}, {"weight": 250}),
        ("blkdeviotune", ["total_bytes_sec=10M"], {"total_bytes_sec": 0}, {"total_bytes_sec": 10 << 20}),
        ("blkdeviotune", ["total_iops_sec=500", "group_name=a"], {"total_iops_sec": 0, "group_name": ""},
         {"total_iops_sec": 500, "group_name": "a"}),
        ("blkdeviotune", ["total_bytes_sec=0"], {"total_bytes_sec": 5}, {"total_bytes_sec": 0}),
        ("blkdeviotune", ["total_bytes_sec_max_length=3"], {"total_bytes_sec_max_length": 0},
         {"total_bytes_sec_max_length": 3}),
        ("iftune", ["inbound.average=2M"], {"inbound.average": 0}, {"inbound.average": 2048}),
        ("schedinfo", ["vcpu_quota=-1"], {"vcpu_quota": 0}, {"vcpu_quota": -1}),
    ],
)  # fmt: skip
def test_what_was_asked_for(kind: str, given: list[str], offered: dict[str, Any], values: dict[str, Any]) -> None:
    assert tuning.wanted(kind, given, offered) == values


@pytest.mark.parametrize(
    ("kind", "given", "offered", "words", "hint"),
    [
        ("memtune", "hard_limti=1G", MEMORY, "memtune has no parameter hard_limti", "did you mean hard_limit?"),
        ("memtune", "zzz=1", MEMORY, "memtune has no parameter zzz", "there are hard_limit, soft_limit"),
        ("memtune", "hard_limit=1000", MEMORY, "'1000' has no unit", "expected a size such as 512M, or unlimited"),
        ("iftune", "inbound.average=fast", {"inbound.average": 0}, "'fast' is not a size", "0 for no limit"),
        ("schedinfo", "cpu_shares=many", {"cpu_shares": 1024}, "'many' is not a whole number", "a whole number"),
        ("numatune", "numa_mode=loose", {"numa_mode": 0}, "'loose' is not a whole number", "strict, preferred"),
    ],
)
def test_what_is_no_value(kind: str, given: str, offered: dict[str, Any], words: str, hint: str) -> None:
    with pytest.raises(Refused) as refused:
        tuning.wanted(kind, [given], offered)
    assert words in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("kind", "name", "text", "value"),
    [
        ("memtune", "hard_limit", "unlimited", tuning.UNLIMITED),
        ("memtune", "hard_limit", "1G", 1 << 20),
        ("numatune", "numa_mode", "strict", 0),
        ("blkdeviotune", "read_bytes_sec", "0", 0),
        ("blkdeviotune", "read_bytes_sec", "10M", 10 << 20),
        ("blkdeviotune", "read_iops_sec", "700", 700),
        ("iftune", "outbound.burst", "128K", 128),
        ("blkiotune", "device_weight", "/dev/sda,500", "/dev/sda,500"),
    ],
)
def test_what_is_shown_can_be_given_back(kind: str, name: str, text: str, value: Any) -> None:
    assert tuning.shown(kind, name, value) == text
    assert tuning.wanted(kind, [f"{name}={text}"], {name: value}) == {name: value}


@pytest.mark.parametrize(("found", "text"), [([], "none"), ([0], "0"), ([3, 0, 1, 2, 8], "0-3,8"), ([1, 3], "1,3")])
def test_lists_of_cpus(found: list[int], text: str) -> None:
    assert pinning.listed(found) == text


def test_cpus_that_there_are() -> None:
    assert pinning.chosen("all", [0, 1, 3], "host1 has CPUs") == [0, 1, 3]
    assert pinning.chosen("0-1,^0", [0, 1], "host1 has CPUs") == [1]
    for wanted, words in (("2", "host1 has CPUs 0-1, not 2"), ("0-9", "not 2-9"), ("1,^1", "leaves nothing over")):
        with pytest.raises(Refused, match=words):
            pinning.chosen(wanted, [0, 1], "host1 has CPUs")


# ------------------------------------------------------------------------------------------------------- tuning


def shown(ward: Ward, name: str, kind: str, **args: Any) -> dict[str, tuple[Any, Any]]:
    """Parameter -> (live, config)."""
    items = ward.read("vm tuning", name=name, kind=kind, **args)["items"]
    return {item["parameter"]: (item["live"], item["config"]) for item in items}


@pytest.mark.parametrize(
    ("kind", "given", "device"),
    [
        ("memtune", {"hard_limit": "2G", "soft_limit": "1G"}, None),
        ("numatune", {"numa_mode": "preferred", "numa_nodeset": "0"}, None),
        ("blkiotune", {"weight": "250"}, None),
        ("blkdeviotune", {"read_bytes_sec": "10M", "read_bytes_sec_max": "20M"}, "vda"),
        ("iftune", {"inbound.average": "2M", "inbound.peak": "4M"}, MAC),
    ],
)
def test_each_kind_is_set_and_shown(ward: Ward, kind: str, given: dict[str, str], device: str | None) -> None:
    args = {"kind": kind, "device": device}
    before = shown(ward, "web1", **args)
    result = ward.do("vm tune", name="web1", set=given, **args)
    assert (result["changed"], result["set"]) == (True, given)
    after = shown(ward, "web1", **args)
    assert {name: after[name] for name in given} == {name: (value, value) for name, value in given.items()}
    assert {name: one for name, one in after.items() if name not in given} == {
        name: one for name, one in before.items() if name not in given
    }
    assert ward.do("vm tune", name="web1", set=given, **args)["changed"] is False
    assert ward.work.report()["steps"] == []


def test_what_runs_and_what_will_are_two_things(ward: Ward) -> None:
    ward.do("vm tune", name="web1", kind="memtune", set="hard_limit=2G", apply="live")
    ward.do("vm tune", name="web1", kind="memtune", set="hard_limit=1G", apply="config")
    assert shown(ward, "web1", "memtune")["hard_limit"] == ("2G", "1G")
    ward.do("vm tune", name="web2", kind="memtune", set="hard_limit=1G")
    assert shown(ward, "web2", "memtune")["hard_limit"] == (None, "1G")


def test_processor_time(ward: Ward) -> None:
    (name, (live, _)) = next(iter(shown(ward, "web1", "schedinfo").items()))
    result = ward.do("vm tune", name="web1", kind="schedinfo", set=f"{name}=77")
    assert result["before"] == {name: live}


def test_io_weight(ward: Ward) -> None:
    assert ward.do("vm set-io-weight", name="web1", weight=250)["set"] == {"weight": "250"}
    assert shown(ward, "web1", "blkiotune")["weight"] == ("250", "250")
    assert ward.do("vm set-io-weight", name="web1", weight=250)["changed"] is False
    for weight in (0, 99, 1001, "heavy"):
        with pytest.raises(Refused):
            declare.build("vm set-io-weight", {"name": "web1", "weight": weight})


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"kind": "memtune", "set": "hard_limit=1G", "device": "vda"}, "wrong_input", "--device=vda would do nothing"),
        ({"kind": "memtune", "set": "nosuch=1"}, "wrong_input", "memtune has no parameter nosuch"),
        ({"kind": "blkdeviotune", "set": "total_iops_sec=1", "device": "vdz"}, "unknown_entity", "has no disk vdz"),
        ({"kind": "iftune", "set": "inbound.average=1M", "device": "52:54:00:00:00:99"}, "unknown_entity",
         "no network card"),
        ({"kind": "memtune", "set": "hard_limit=1G", "apply": "live", "name": "web2"}, "wrong_state", "web2 is off"),
        ({"kind": "memtune", "set": "hard_limit=1G", "name": IMAGE}, "protected", "is an image"),
    ],
)  # fmt: skip
def test_what_is_not_set(ward: Ward, args: dict[str, Any], code: str, words: str) -> None:
    error = ward.refusal("vm tune", **{"name": "web1", **args})
    assert error.code == code
    assert words in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("verb", "args", "words"),
    [
        ("vm tune", {"kind": "memtune"}, "--set is missing"),
        ("vm tune", {"kind": "memtune", "set": "hard_limit"}, "'hard_limit' is not NAME=VALUE"),
        ("vm tune", {"kind": "blkdeviotune", "set": "total_iops_sec=1"}, "--device is missing"),
        ("vm tuning", {"kind": "iftune"}, "--device is missing"),
        ("vm tuning", {"kind": "cputune"}, "'cputune' is none of them"),
        ("vm pin", {"cpus": "0-"}, "'0-' is not valid"),
        ("vm tune", {"kind": "memtune", "set": []}, "there is nothing in it"),
    ],
)
def test_what_cannot_be_meant(verb: str, args: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as refused:
        declare.build(verb, {"name": "web1", **args})
    assert words in refused.value.message


def test_a_sign_tells_what_is_set(ward: Ward) -> None:
    args = {"name": "web1", "kind": "memtune", "device": None, "values": {"hard_limit": 1 << 20}}
    shown = signs.sign("is_tuned", {}, **args, wheres=["live", "config"])
    ward.do("vm tune", name="web1", kind="memtune", set="hard_limit=1G", apply="live")
    assert not signs.seen(shown, ward.hypervisor)
    ward.do("vm tune", name="web1", kind="memtune", set="hard_limit=1G")
    assert signs.seen(shown, ward.hypervisor)


# ------------------------------------------------------------------------------------------------------ pinning


def pins(ward: Ward, name: str) -> dict[str, tuple[Any, Any]]:
    return {one["thread"]: (one["live"], one["config"]) for one in ward.read("vm pinning", name=name)["items"]}


def test_pinning(ward: Ward) -> None:
    """The test driver has CPUs 0, 2 and 4, and pins what runs; tests/lab/test_size.py has the rest."""
    before = pins(ward, "web1")
    assert list(before) == ["vcpu 0", "vcpu 1", "emulator"]
    assert set(before.values()) == {("all", "all")}
    assert ward.do("vm pin", name="web1", cpus="2,4", apply="live", vcpus="0-1")["thread"] == "vcpu 0-1"
    found = pins(ward, "web1")
    assert [found[f"vcpu {number}"][0] for number in range(2)] == ["2,4", "2,4"]
    assert found["emulator"] == ("all", "all")
    assert ward.do("vm pin", name="web1", cpus="2,4", apply="live", vcpus="0-1")["changed"] is False
    ward.do("vm pin", name="web1", cpus="0-4,^1,^3", emulator=True)
    assert pins(ward, "web1")["emulator"] == ("0,2,4", "0,2,4")
    ward.do("vm pin", name="web1", cpus="all", apply="live")
    assert pins(ward, "web1")["vcpu 0"][0] == "all"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"cpus": "8"}, "wrong_input", "host1 has CPUs 0,2,4, not 8"),
        ({"cpus": "0-9"}, "wrong_input", "not 1,3,5-9"),
        ({"cpus": "0", "vcpus": "1", "emulator": True}, "wrong_input", "--vcpus=1 would do nothing"),
        ({"cpus": "0", "vcpus": "4"}, "wrong_input", "web1 has vCPUs 0-3, not 4"),
        ({"cpus": "0", "apply": "live", "name": "web2"}, "wrong_state", "web2 is off"),
        ({"cpus": "0", "name": IMAGE}, "protected", "is an image"),
    ],
)
def test_what_is_not_pinned(ward: Ward, args: dict[str, Any], code: str, words: str) -> None:
    error = ward.refusal("vm pin", **{"name": "web1", **args})
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize("args", [{"vcpus": "0"}, {"emulator": True}])
def test_killed_before_or_after_it_pinned(ward: Ward, args: dict[str, Any]) -> None:
    """Its sign is seen when the last thread is where it shall be, and not before."""
    told: list[bool] = []

    def look() -> None:
        (kept,) = [entry.sign for entry in ward.journal.entries() if entry.id == ward.work.job]
        told.append(kept is not None and signs.seen(kept, ward.hypervisor))

    ward.journal.begin(f"job{ward.jobs + 1}", 1, "vm pin", "web1")
    result = ward.do("vm pin", name="web1", cpus="2,4", apply="live", changed=look, **args)
    assert told == [False, True]
    (entry,) = [entry for entry in ward.journal.entries() if entry.id == ward.work.job]
    assert entry.sign
    assert entry.sign["result"] == result
    gone = {**entry.sign, "args": {**entry.sign["args"], "name": "nosuch"}}
    assert not signs.seen(gone, ward.hypervisor)


def test_pinning_is_taken_back(ward: Ward) -> None:
    before = pins(ward, "web1")
    for args in ({"cpus": "0"}, {"cpus": "0", "emulator": True}):
        ward.do("vm pin", name="web1", apply="live", **args)
        assert pins(ward, "web1") != before
        assert undo.take_back(ward.work.job, ward.journal, ward.hypervisor) == []
        assert pins(ward, "web1") == before
