"""What a clone will be, and what may be deleted: facts in, decisions out."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from maglica.actions.vm.clone import VmClone
from maglica.errors import Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.clone.plan import ClonePlan, Copy
from maglica.host_worker.disk import modes
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.domain.domain_xml import Disk, Domain

GIB = 1 << 30
UUID = "22222222-2222-4222-8222-222222222222"
JOB = "1b7q2k0m4z"
FRESH = ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]


def pool(name: str, free: int, type: str = "dir", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": type,
        "path": f"/pools/{name}",
        "capacity_bytes": 100 * GIB,
        "free_bytes": free,
        "reserve_bytes": 0,
        "room_bytes": free,
        "unshared": "tests say no",
        **more,
    }


def disk(target: str = "vda", format: str = "qcow2", **more: Any) -> Disk:
    usual = Disk(target, "virtio", "disk", "file", f"/images/{target}.{format}", format, True)
    return usual._replace(**more)


def source(target: str = "vda", format: str = "qcow2", size: int = GIB) -> Source:
    return Source(disk(target, format), f"/images/{target}.{format}", 4 * size, size)


def image(*disks: Disk, nics: int = 1, nvram: str | None = None) -> Domain:
    cards: list[dict[str, str | None]] = [{"mac": f"52:54:00:00:00:0{n}", "type": "network"} for n in range(nics)]
    return Domain("el9.original", "u", "kvm", 1, GIB, "pc", "x86_64", list(disks), cards, nvram, None, {})


def clone(want: dict[str, Any] | None = None, **more: Any) -> ClonePlan:
    sources = more.pop("sources", [source()])
    usual: dict[str, Any] = {
        "uuid": UUID,
        "fresh_macs": FRESH,
        "job": JOB,
        "pool": None,
        "order": ["full"],
        "emulated": False,
        "files": True,
    }
    found = more.pop("image", image(*(one.disk for one in sources)))
    pools = more.pop("pools", [pool("default", 50 * GIB)])
    action = VmClone(**{"image": "el9.original", "hostname": "web1", **(want or {})})
    return plan.clone(action, found, sources, pools, **{**usual, **more})


# ------------------------------------------------------------------------------------------------ pools


def roomiest(*pools: dict[str, Any], wanted: str | None = None, needed: int = 0) -> str:
    found = modes.ways([source(size=needed)], pools, original=True, order=["full"], files=True)
    return str(modes.choose("auto", found, pools, wanted, "x").pool["name"])


@pytest.mark.parametrize(
    "free",
    [
        [1, 2, 3],
        [3, 2, 1],
        [1, 3, 2],
        [2, 1, 3],
        [5, 1, 4],  # the first Maglica took the last that beats its predecessor: here the 4
        [1, 5, 2, 3],
        [0, 0, 7, 0, 1],
    ],
)
def test_the_pool_with_most_room(free: list[int]) -> None:
    """D10: the true maximum, wherever it stands in the list."""
    pools = [pool(f"pool{n}", room * GIB) for n, room in enumerate(free)]
    assert roomiest(*pools) == f"pool{free.index(max(free))}"
    shuffled = random.Random(3)
    for _ in range(10):
        shuffled.shuffle(pools)
        assert roomiest(*pools) == f"pool{free.index(max(free))}"


def test_only_pools_of_files_take_disks() -> None:
    """D10: by kind, not by luck."""
    good = pool("files", GIB)
    others = [pool(kind, 99 * GIB, kind) for kind in ("logical", "rbd", "iscsi", "disk", "zfs", "mpath", "gluster")]
    assert roomiest(*others, good) == "files"
    lost = pool("lost", 99 * GIB, path=None)
    usable = plan.usable_pools([*others, good, lost], None, files=True)
    assert [one["name"] for one in usable] == ["logical", "files"]
    for kind in ("fs", "netfs"):
        assert roomiest(good, pool(kind, 2 * GIB, kind)) == kind
    with pytest.raises(Refused, match="there is no pool of files") as refused:
        roomiest(*others)
    assert refused.value.code == "environment_error"


def test_the_pool_that_the_settings_name() -> None:
    pools = [pool("big", 9 * GIB), pool("small", GIB)]
    assert roomiest(*pools, wanted="small") == "small"
    with pytest.raises(Refused, match="no active pool called nosuch"):
        roomiest(*pools, wanted="nosuch")
    with pytest.raises(Refused, match="full: pool lvm is of type logical"):
        roomiest(*pools, pool("lvm", GIB, "logical"), wanted="lvm")
    with pytest.raises(Refused, match="2048 MiB of disk are needed, pool small has 1024 MiB to give"):
        roomiest(*pools, wanted="small", needed=2 * GIB)


def with_room(free: int, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"reserve": 0, "reserves": {}, "promised": lambda name: 0}
    return plan.with_room([pool("p", free)], **{**usual, **more})[0]


def test_some_room_stays_free() -> None:
    assert roomiest(with_room(3 * GIB, reserve=GIB), needed=2 * GIB) == "p"
    with pytest.raises(Refused) as refused:
        roomiest(with_room(3 * GIB - 1, reserve=GIB), needed=2 * GIB)
    assert refused.value.code == "no_capacity"
    assert refused.value.message == "x: full: 2048 MiB of disk are needed, pool p has 2047 MiB to give"
    with pytest.raises(Refused, match="pool p has 0 MiB to give"):
        roomiest(with_room(GIB, reserve=2 * GIB), needed=1)


def test_each_pool_has_a_reserve_of_its_own() -> None:
    assert with_room(9 * GIB, reserve=GIB)["room_bytes"] == 8 * GIB
    assert with_room(9 * GIB, reserve=GIB, reserves={"p": 5 * GIB, "q": 1})["room_bytes"] == 4 * GIB
    assert with_room(9 * GIB, reserve=GIB, promised=lambda name: 2 * GIB)["room_bytes"] == 6 * GIB
    (group,) = plan.with_room([pool("p", 0, "logical")], GIB, {}, lambda name: 0)
    assert (group["room_bytes"], group["reserve_bytes"]) == (0, 0)  # nothing of it is taken


def test_the_pools_that_a_survey_tells_are_those_that_a_clone_can_use() -> None:
    pools = [pool("a", GIB), pool("b", GIB, "logical"), pool("c", GIB), pool("d", GIB, "rbd")]
    names = [one["name"] for one in plan.usable_pools(pools, None, files=True)]
    assert names == ["a", "b", "c"]
    assert [one["name"] for one in plan.usable_pools(pools, "c", files=True)] == ["c"]
    assert plan.usable_pools(pools, "d", files=True) == []
    assert len(plan.usable_pools(pools, None, files=False)) == 4


# ------------------------------------------------------------------------------------------ disks, names


def test_the_whole_plan() -> None:
    found = clone(image=image(disk(), nvram="/nvram/el9.original_VARS.fd"), emulated=True)
    assert found == ClonePlan(
        image="el9.original",
        name="web1",
        uuid=UUID,
        macs=FRESH[:1],
        mode="full",
        why="the first that [host_worker] clone_modes names",
        needed_bytes=GIB,
        pool="default",
        free_bytes=50 * GIB,
        copies=[
            Copy(
                target="vda",
                source="/images/vda.qcow2",
                source_format="qcow2",
                part=f"/pools/default/web1.qcow2.{JOB}.part",
                path="/pools/default/web1.qcow2",
                format="qcow2",
                capacity_bytes=4 * GIB,
                allocation_bytes=GIB,
            )
        ],
        nvram=("/nvram/el9.original_VARS.fd", "/nvram/web1_VARS.fd"),
        emulated=True,
        job=JOB,
    )
    assert found.shown() == {
        "image": "el9.original",
        "name": "web1",
        "mode": "full",
        "why": "the first that [host_worker] clone_modes names",
        "needed_bytes": GIB,
        "saved_bytes": 0,
        "pool": "default",
        "disks": [{"target": "vda", "path": "/pools/default/web1.qcow2", "format": "qcow2", "capacity_bytes": 4 * GIB}],
        "macs": FRESH[:1],
        "emulated": True,
    }


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ([source("vda", "qcow2")], ["web1.qcow2"]),
        ([source("vda", "raw")], ["web1.img"]),
        ([source("vda", "vmdk")], ["web1.vmdk"]),
        ([source("vda", "qcow2"), source("vdb", "raw")], ["web1-vda.qcow2", "web1-vdb.img"]),
        ([source("vdz", "raw"), source("vdaa", "raw")], ["web1-vdz.img", "web1-vdaa.img"]),
        ([], []),
    ],
)
def test_names_of_files(sources: list[Source], names: list[str]) -> None:
    """D15: the VM and the target, never the time of day."""
    found = clone(sources=sources)
    assert [copy.path for copy in found.copies] == [f"/pools/default/{name}" for name in names]
    assert [copy.part for copy in found.copies] == [f"/pools/default/{name}.{JOB}.part" for name in names]
    assert len({copy.path for copy in found.copies}) == len(sources)


def test_a_name_of_a_file_is_not_longer_than_a_file_system_takes() -> None:
    longest = ".".join(["a" * 31] * 2) + "b"
    found = clone({"hostname": longest}, sources=[source("vda"), source("vdb")])
    for copy in found.copies:
        assert len(copy.part.rsplit("/", 1)[1]) <= 255


def test_overlays() -> None:
    found = clone({"mode": "linked"}, sources=[source("vda", "raw"), source("vdb", "qcow2")])
    assert [(copy.source_format, copy.format) for copy in found.copies] == [("raw", "qcow2"), ("qcow2", "qcow2")]
    assert [copy.path for copy in found.copies] == ["/pools/default/web1-vda.qcow2", "/pools/default/web1-vdb.qcow2"]
    with pytest.raises(Refused, match="overlays need disks that are files"):
        clone({"mode": "linked"}, files=False)


def test_what_is_needed_at_once() -> None:
    two = [source("vda", size=3 * GIB), source("vdb", size=5 * GIB)]
    assert clone(sources=two).needed_bytes == 8 * GIB
    linked = clone({"mode": "linked"}, sources=two, pools=[pool("p", GIB)])
    assert linked.needed_bytes == 2 * modes.AT_ONCE
    assert linked.shown()["saved_bytes"] == 8 * GIB - 2 * modes.AT_ONCE
    with pytest.raises(Refused, match="8192 MiB of disk are needed"):
        clone(sources=two, pools=[pool("p", 8 * GIB - 1)])
    assert clone(sources=two, pools=[pool("p", 8 * GIB)])


def test_a_snapshot_is_a_device_of_its_group() -> None:
    volume = modes.Volume("vg0", "el9.original", "thin")
    device = Source(disk("vda", "raw", source="block"), "/dev/vg0/el9.original", 4 * GIB, GIB, False, None, volume)
    group = pool("lvm", 9 * GIB, "logical", path="/dev/vg0")
    todo = clone({"mode": "thin"}, sources=[device], pools=[pool("default", 50 * GIB), group])
    assert (todo.pool, todo.needed_bytes) == ("lvm", 0)
    assert (todo.copies[0].path, todo.copies[0].part) == ("/dev/vg0/web1", f"/dev/vg0/web1.{JOB}.part")
    assert (todo.copies[0].format, todo.copies[0].volume) == ("raw", volume)
    found = plan.edits(todo, VmClone(image="a", hostname="web1"), {"vda": "/dev/vg0/web1"})
    assert found.devices == {"vda"}


def test_a_disk_that_cannot_be_copied_is_not_shared_in_silence() -> None:
    foreign = Disk("vdb", "virtio", "disk", "network", None, "raw", False, foreign=True)
    with pytest.raises(Refused, match=r"disk vdb of el9.original is of type network") as refused:
        clone(image=image(disk(), foreign))
    assert refused.value.code == "environment_error"


# --------------------------------------------------------------------------------------------- addresses


def test_as_many_addresses_as_cards() -> None:
    for count in (0, 1, 2):
        assert clone(image=image(disk(), nics=count)).macs == FRESH[:count]


def test_addresses_that_were_asked_for() -> None:
    asked = ["52:54:00:11:11:11", "52:54:00:22:22:22"]
    assert clone({"mac": asked}, image=image(disk(), nics=2)).macs == asked
    for count in (0, 1, 3):
        with pytest.raises(Refused, match=f"--mac names 2 addresses, el9.original has {count} network cards"):
            clone({"mac": asked}, image=image(disk(), nics=count))


def test_random_addresses_are_in_qemus_range() -> None:
    chance = random.Random(1)
    found = [plan.random_mac(chance) for _ in range(1000)]
    assert all(re.fullmatch("52:54:00(:[0-9a-f]{2}){3}", mac) for mac in found)
    assert len(set(found)) == 1000


# ---------------------------------------------------------------------------------------------- the edits


def test_the_edits_of_a_plan() -> None:
    want = VmClone(image="el9.original", hostname="web1", vcpus=4, memory="2G")
    todo = clone(image=image(disk(), nvram="/nvram/x.fd"), emulated=True)
    found = plan.edits(todo, want, {"vda": "/elsewhere/a.qcow2"})
    assert found.name == "web1"
    assert found.uuid == UUID
    assert found.macs == FRESH[:1]
    assert found.disks == {"vda": ("/elsewhere/a.qcow2", "qcow2")}
    assert found.nvram == "/nvram/web1-x.fd"
    assert (found.vcpus, found.memory_bytes) == (4, 2 * GIB)
    assert found.emulated
    mark = {"kind": "clone", "image": "el9.original", "job": JOB, "mode": "full", "customize": "guestfs"}
    assert found.mark == mark
    assert plan.edits(clone(), VmClone(image="a", hostname="b"), {"vda": "/a"}).nvram is None


# ---------------------------------------------------------------------------------------------- removing


@pytest.mark.parametrize(
    ("disks", "others", "doomed", "kept"),
    [
        (["/a"], {}, ["/a"], {}),
        ([], {"db1": ["/a"]}, [], {}),
        (["/a", "/b"], {"db1": ["/c"]}, ["/a", "/b"], {}),
        (["/a", "/b"], {"db1": ["/b"]}, ["/a"], {"/b": "db1"}),  # two domains, one disk
        (["/base"], {"clone1": ["/overlay", "/base"]}, [], {"/base": "clone1"}),  # somebody rests on it
        (["/base"], {"x": ["/o2", "/o1", "/base"]}, [], {"/base": "x"}),  # at any depth
        (["/a"], {"z": ["/a"], "b": ["/a"]}, [], {"/a": "z"}),
        (["/a"], {"db1": ["/a.part", "/aa", "/"]}, ["/a"], {}),
    ],
)
def test_what_may_be_deleted(
    disks: list[str], others: dict[str, list[str]], doomed: list[str], kept: dict[str, str]
) -> None:
    """D16: never what another domain uses, be it as the file behind its own."""
    assert plan.removable(disks, others) == (doomed, kept)
