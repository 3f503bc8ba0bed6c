"""Verbs that make VMs larger and smaller, at libvirt's test driver: what changes, what does not, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica import declare
from maglica.errors import Refused
from maglica.host_worker import signs, undo
from maglica.host_worker.size import memory, vcpus
from tests.host_worker.test_jobs_vm import CRASHED, Ward, ward_with
from tests.host_worker.worlds import IMAGE, GiB, MiB, domain, world

RUNS = 1


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    found = made(tmp_path)
    yield found
    found.close()


def made(folder: Path) -> Ward:
    """web1 runs with 1 of 4 vCPUs and 512 of 1024 MiB, web2 is off with 1 and 512 MiB."""
    folder.mkdir(exist_ok=True)
    small = domain("web1", state=RUNS, memory=1024 * MiB).replace("<vcpu>1</vcpu>", "<vcpu current='1'>4</vcpu>")
    small = small.replace("</memory>", "</memory><currentMemory unit='MiB'>512</currentMemory>")
    names = [f"{name}.img" for name in ("web1", "web2", IMAGE)]
    return Ward(folder, world(folder, off=("web2", IMAGE), volumes=names, more=small))


def has(ward: Ward, name: str) -> list[object]:
    """(vCPUs, memory) of the definition, then of what runs."""
    found = ward.hypervisor.shape(name)
    texts = [found.stored] + ([found.live] if found.live else [])
    return [(vcpus.read(text).used, memory.read(text).now) for text in texts]


# -------------------------------------------------------------------------------------------------- set-vcpus


def test_more_vcpus_while_it_runs(ward: Ward) -> None:
    assert ward.do("vm set-vcpus", name="web1", vcpus="+1") == {
        "name": "web1", "host": "host1", "state": "running", "changed": True, "vcpus": 2, "before": 1,
        "max_vcpus": 4, "guest_vcpus": None, "note": "if it does not use them: in the guest: "
        "for c in /sys/devices/system/cpu/cpu*/online; do echo 1 > $c; done",
    }  # fmt: skip
    assert has(ward, "web1") == [(2, 512 * MiB), (2, 512 * MiB)]
    assert ward.do("vm set-vcpus", name="web1", vcpus=3, apply="live")["vcpus"] == 3
    assert ward.do("vm set-vcpus", name="web1", vcpus=4, apply="config")["before"] == 2
    assert [count for count, _ in has(ward, "web1")] == [4, 3]  # type: ignore[misc]
    assert ward.do("vm set-vcpus", name="web1", vcpus=4)["changed"] is True
    assert [count for count, _ in has(ward, "web1")] == [4, 4]  # type: ignore[misc]


def test_the_same_number_changes_nothing(ward: Ward) -> None:
    for name in ("web1", "web2"):
        before = ward.hypervisor.shape(name)
        for offline in (False, True):
            assert ward.do("vm set-vcpus", name=name, vcpus=1, offline=offline)["changed"] is False
        assert ward.hypervisor.shape(name) == before
        assert ward.work.report()["steps"] == []


def test_a_vm_that_is_off_gets_another_definition(ward: Ward) -> None:
    assert ward.do("vm set-vcpus", name="web2", vcpus=8)["note"] is None
    assert has(ward, "web2") == [(8, 512 * MiB)]
    assert ward.do("vm set-vcpus", name="web2", vcpus="-7", offline=True)["state"] == "shut-off"
    assert has(ward, "web2") == [(1, 512 * MiB)]


def test_fewer_vcpus_take_a_new_start(ward: Ward) -> None:
    ward.do("vm set-vcpus", name="web1", vcpus=4)
    result = ward.do("vm set-vcpus", name="web1", vcpus=2, offline=True)
    assert (result["state"], result["changed"], result["before"]) == ("running", True, 4)
    assert [count for count, _ in has(ward, "web1")] == [2, 2]  # type: ignore[misc]
    assert [step["name"] for step in ward.work.report()["steps"]] == ["shut down", "define", "start"]
    result = ward.do("vm set-vcpus", name="web1", vcpus=1, apply="config")
    assert result["note"] == "it takes effect at its next start"
    assert [count for count, _ in has(ward, "web1")] == [1, 2]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"name": "web1", "vcpus": 9001}, "no_capacity", "web1 cannot have 9001 vCPUs: host1 has 8 CPUs"),
        ({"name": "web2", "vcpus": 9001}, "no_capacity", "web2 cannot have 9001 vCPUs: host1 has 8 CPUs"),
        ({"name": "web1", "vcpus": 9001, "offline": True}, "no_capacity", "host1 has 8 CPUs"),
        ({"name": "web2", "vcpus": "-5"}, "wrong_input", "web2 cannot have -4 vCPUs: it has 1"),
        ({"name": "web1", "vcpus": 5}, "wrong_state", "web1 can have at most 4 vCPUs while it runs"),
        ({"name": "web2", "vcpus": 2, "apply": "live"}, "wrong_state", "web2 is off"),
        ({"name": IMAGE, "vcpus": 2}, "protected", f"{IMAGE} is an image"),
        ({"name": "nosuch", "vcpus": 2}, "unknown_entity", "there is no VM nosuch on this host"),
    ],
)
def test_numbers_that_are_refused(ward: Ward, args: dict[str, object], code: str, words: str) -> None:
    before = [ward.hypervisor.definition(name) for name in ("web1", "web2", IMAGE)]
    error = ward.refusal("vm set-vcpus", **args)
    assert error.code == code
    assert words in error.message
    assert [ward.hypervisor.definition(name) for name in ("web1", "web2", IMAGE)] == before


def test_how_many_it_can_be_given_while_it_runs(ward: Ward) -> None:
    result = ward.do("vm set-vcpus", name="web1", vcpus=2, max=8)
    assert (result["vcpus"], result["max_vcpus"]) == (2, 8)
    found = ward.hypervisor.shape("web1")
    assert found.live is not None
    assert (vcpus.read(found.stored), vcpus.read(found.live)) == ((2, 8), (2, 4))
    assert ward.do("vm set-vcpus", name="web1", vcpus=2, max=8)["changed"] is False
    for args, words in (
        ({"max": 4, "apply": "live"}, "--apply=live leaves it alone"),
        ({"max": 1}, "more than --max=1"),
    ):
        with pytest.raises(Refused, match=words):
            declare.build("vm set-vcpus", {"name": "web1", "vcpus": 2, **args})


def test_how_many_it_can_be_given_also_when_the_number_was_defined_before(ward: Ward) -> None:
    ward.do("vm set-vcpus", name="web1", vcpus=2, apply="config")
    assert ward.do("vm set-vcpus", name="web1", vcpus=2, max=8)["changed"] is True
    found = ward.hypervisor.shape("web1")
    assert found.live is not None
    assert (vcpus.read(found.stored), vcpus.read(found.live)) == ((2, 8), (2, 4))


def test_a_running_guest_keeps_its_vcpus(ward: Ward) -> None:
    ward.do("vm set-vcpus", name="web1", vcpus=2)
    error = ward.refusal("vm set-vcpus", name="web1", vcpus=1)
    assert error.message == "web1 runs with 2 vCPUs: a running guest cannot be left with 1"
    assert "--offline" in error.hint
    assert "--apply=config" in error.hint


@pytest.mark.parametrize("vcpus", [0, -5, "0", "+0", "two", "1.5", "1000000000", True, None, ""])
def test_numbers_that_are_none(vcpus: object) -> None:
    with pytest.raises(Refused) as refused:
        declare.build("vm set-vcpus", {"name": "web1", "vcpus": vcpus})
    assert refused.value.code == "wrong_input"
    assert "--vcpus" in refused.value.message


def test_a_vm_that_is_neither_on_nor_off_is_left_alone(tmp_path: Path) -> None:
    ward = ward_with(tmp_path, CRASHED)
    assert ward.refusal("vm set-vcpus", name="web1", vcpus=2).message == "web1 is crashed"
    ward.close()


def test_what_would_go_on_from_a_saved_state(ward: Ward) -> None:
    """It would start with what it had, whatever its definition says."""
    ward.hypervisor._connect().lookupByName("web1").managedSave()
    error = ward.refusal("vm set-vcpus", name="web1", vcpus=2)
    assert error.code == "wrong_state"
    assert "the memory of web1 was saved" in error.message


# ------------------------------------------------------------------------------------------------- set-memory


def test_the_balloon(ward: Ward) -> None:
    result = ward.do("vm set-memory", name="web1", size="+256M")
    assert (result["memory_bytes"], result["before_bytes"], result["changed"]) == (768 * MiB, 512 * MiB, True)
    assert (result["guest_bytes"], result["note"]) == (768 * MiB, None)
    assert has(ward, "web1") == [(1, 768 * MiB), (1, 768 * MiB)]
    ward.do("vm set-memory", name="web1", size="1G", apply="live")
    assert [size for _, size in has(ward, "web1")] == [768 * MiB, GiB]  # type: ignore[misc]
    ward.do("vm set-memory", name="web1", size="512M", shrink=True)
    assert [size for _, size in has(ward, "web1")] == [512 * MiB, 512 * MiB]  # type: ignore[misc]
    assert memory.read(ward.hypervisor.definition("web1")).total == GiB, "what it can be given stays"


def test_the_same_size_changes_nothing(ward: Ward) -> None:
    for name in ("web1", "web2"):
        before = ward.hypervisor.shape(name)
        assert ward.do("vm set-memory", name=name, size="512M")["changed"] is False
        assert ward.hypervisor.shape(name) == before


def test_memory_of_a_vm_that_is_off(ward: Ward) -> None:
    for size in (2 * GiB, 256 * MiB):
        assert ward.do("vm set-memory", name="web2", size=size)["memory_bytes"] == size
        assert memory.read(ward.hypervisor.definition("web2"))[:2] == (size, size)


def test_memory_beyond_the_balloon_takes_a_new_start(ward: Ward) -> None:
    assert ward.do("vm set-memory", name="web1", size="2G", offline=True)["state"] == "running"
    assert has(ward, "web1") == [(1, 2 * GiB), (1, 2 * GiB)]
    ward.do("vm set-memory", name="web1", size="1G", offline=True)
    assert has(ward, "web1") == [(1, GiB), (1, GiB)]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"name": "web1", "size": "1000G"}, "wrong_state", "web1 can have at most 1G while it runs"),
        ({"name": "web1", "size": "1000G", "offline": True}, "no_capacity", "that is 999G more, and host1 has"),
        ({"name": "web2", "size": "1000G"}, "no_capacity", "web2 cannot have 1000G of memory"),
        ({"name": "web1", "size": "256M"}, "wrong_state", "web1 runs with 512M"),
        ({"name": "web2", "size": "-512M"}, "wrong_input", "web2 cannot have 0M of memory"),
        ({"name": "web2", "size": "-5G"}, "wrong_input", "of memory: it has 512M"),
        ({"name": "web2", "size": "524289K"}, "wrong_input", "which is not a multiple of 1M"),
        ({"name": "web2", "size": "1G", "apply": "live"}, "wrong_state", "web2 is off"),
        ({"name": IMAGE, "size": "1G"}, "protected", f"{IMAGE} is an image"),
    ],
)
def test_sizes_that_are_refused(ward: Ward, args: dict[str, object], code: str, words: str) -> None:
    before = [ward.hypervisor.definition(name) for name in ("web1", "web2", IMAGE)]
    error = ward.refusal("vm set-memory", **args)
    assert error.code == code
    assert words in error.message
    assert [ward.hypervisor.definition(name) for name in ("web1", "web2", IMAGE)] == before


@pytest.mark.parametrize("size", [0, -5, "0", "4", "+4", "4097", "-0G", "lots", "1.5G", None, "+", "2000000T"])
def test_sizes_that_are_none(size: object) -> None:
    for verb in ("vm set-memory", "vm set-max-memory"):
        with pytest.raises(Refused) as refused:
            declare.build(verb, {"name": "web1", "size": size})
        assert refused.value.code == "wrong_input"


def test_the_most_memory(ward: Ward) -> None:
    result = ward.do("vm set-max-memory", name="web2", size="1G")
    assert (result["max_memory_bytes"], result["before_bytes"], result["note"]) == (GiB, 512 * MiB, None)
    assert memory.read(ward.hypervisor.definition("web2"))[:2] == (GiB, 512 * MiB)
    assert ward.do("vm set-max-memory", name="web2", size="1G")["changed"] is False
    result = ward.do("vm set-max-memory", name="web1", size="2G")
    assert result["note"] == "it takes effect at its next start"
    ward.do("vm restart", name="web1")
    ward.do("vm set-memory", name="web1", size="2G")
    assert has(ward, "web1")[1] == (1, 2 * GiB)


def test_offline_and_apply_contradict_each_other() -> None:
    for verb, value in (("vm set-vcpus", {"vcpus": 1}), ("vm set-memory", {"size": "1G"})):
        with pytest.raises(Refused, match="--offline changes what runs and the definition"):
            declare.build(verb, {"name": "web1", "offline": True, "apply": "live", **value})
        assert declare.build(verb, {"name": "web1", "offline": True, **value}).asks_whole_fleet()
        assert not declare.build(verb, {"name": "web1", **value}).asks_whole_fleet()


# ----------------------------------------------------------------------------------------------------- crashes


class Killed(BaseException):
    """As sudden as a power cut."""


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("vm set-vcpus", {"name": "web1", "vcpus": 2}),
        ("vm set-vcpus", {"name": "web1", "vcpus": 6, "offline": True}),
        ("vm set-memory", {"name": "web1", "size": "1G"}),
        ("vm set-memory", {"name": "web2", "size": "1G"}),
        ("vm set-max-memory", {"name": "web1", "size": "2G"}),
    ],
)
def test_a_crash_leaves_the_old_or_the_new(tmp_path: Path, verb: str, args: dict[str, object]) -> None:
    name, seen = str(args["name"]), set()
    for at in range(1, 30):
        ward = made(tmp_path / str(at))
        before, left = ward.hypervisor.definition(name), at

        def die() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        ward.journal.begin("job1", 1, verb, name)
        try:
            ward.do(verb, changed=die, **args)
            assert seen == {"old", "new"}
            return
        except Killed:
            (entry,) = ward.journal.entries()
            if entry.sign and signs.seen(entry.sign, ward.hypervisor):
                assert ward.hypervisor.definition(name) != before
                seen.add("new")
            else:
                assert undo.take_back("job1", ward.journal, ward.hypervisor) == []
                assert ward.hypervisor.definition(name) == before
                seen.add("old")
        finally:
            ward.close()
    raise AssertionError("it never got through")


def test_a_guest_that_cannot_be_started_is_started_as_it_was(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    from maglica.errors import Failed

    start, before = ward.hypervisor.start, ward.hypervisor.definition("web1")

    def stubborn(name: str) -> None:
        if ward.hypervisor.definition(name) != before:
            raise Failed("environment_error", "no memory left")
        start(name)

    monkeypatch.setattr(ward.hypervisor, "start", stubborn)
    with pytest.raises(Failed, match="no memory left"):
        ward.do("vm set-vcpus", name="web1", vcpus=2, offline=True)
    assert ward.hypervisor.state("web1") == "running"
    assert ward.hypervisor.definition("web1") == before
