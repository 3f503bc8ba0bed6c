"""Which way a clone's disks are made, and in which pool: facts in, decisions out."""

from __future__ import annotations

from typing import Any

import pytest

from maglica.actions.vm.clone import AUTO, MODES
from maglica.errors import Refused
from maglica.host_worker.disk import modes
from maglica.host_worker.disk.modes import AT_ONCE, Choice, Fullness, Source, Volume
from maglica.host_worker.domain.domain_xml import Disk

GIB = 1 << 30
CANNOT = "the file system of the pool cannot share blocks"
ELSEWHERE = "the image lies on another file system than the pool"


def pool(name: str, room: int = 9 * GIB, unshared: str = CANNOT, type: str = "dir", path: str = "") -> dict[str, Any]:
    return {"name": name, "type": type, "path": path or f"/pools/{name}", "room_bytes": room, "unshared": unshared}


def source(target: str = "vda", size: int = 2 * GIB, **more: Any) -> Source:
    disk = Disk(target, "virtio", "disk", "file", f"/images/{target}", "qcow2", True)
    return Source(disk, f"/images/{target}", 4 * size, size, **more)


def device(thin: bool = True, group: str = "vg0", full: Fullness | None = None) -> Source:
    return source(file=False, volume=Volume(group, "el9.original", "thin" if thin else None), fullness=full)


LVM = pool("lvm", type="logical", path="/dev/vg0", unshared="no files")


def choose(
    asked: str = AUTO,
    sources: list[Source] | None = None,
    pools: list[dict[str, Any]] | None = None,
    *,
    original: bool = True,
    order: tuple[str, ...] = MODES,
    wanted: str | None = None,
    files: bool = True,
) -> Choice:
    pools = [pool("p")] if pools is None else pools
    found = modes.ways(sources or [source()], pools, original=original, order=order, files=files, thin_limit=90)
    return modes.choose(asked, found, pools, wanted, "web1 cannot be cloned")


def refusal(*args: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        choose(*args, **more)
    return refused.value


# ------------------------------------------------------------------------------------------- what auto takes


@pytest.mark.parametrize(
    ("sources", "pools", "original", "mode", "at"),
    [
        ([source()], [pool("p", unshared="")], True, "reflink", "p"),
        ([source(), source("vdb", elsewhere=True)], [pool("p", unshared="")], True, "full", "p"),  # they would share it
        ([source()], [pool("p")], True, "linked", "p"),
        (
            [source()],
            [pool("big"), pool("same", GIB, unshared="")],
            True,
            "reflink",
            "same",
        ),  # the mode before the room
        ([source()], [pool("a", 3 * GIB), pool("b", 5 * GIB), pool("c", 4 * GIB)], True, "linked", "b"),
        ([source()], [pool("same", 1, unshared=""), pool("other")], True, "linked", "other"),  # no room to share in
        ([source()], [pool("p")], False, "full", "p"),  # a VM may be started again
        ([source()], [pool("p", unshared="")], False, "reflink", "p"),  # which harms nobody here
        ([source(rests_on="/images/base")], [pool("p", unshared="")], True, "linked", "p"),
        ([source(), source("vdb", rests_on="/images/base")], [pool("p", unshared="")], True, "linked", "p"),
        ([device()], [pool("p"), LVM], True, "thin", "lvm"),
        ([device()], [pool("p"), LVM], False, "thin", "lvm"),
        ([device(thin=False)], [pool("p"), LVM], True, "full", "p"),
        ([device(group="vg1")], [pool("p"), LVM], True, "full", "p"),
        ([device(), source("vdb")], [pool("p"), LVM], True, "full", "p"),  # not one way for both
        ([source(file=False)], [pool("p", unshared="")], True, "full", "p"),  # a device that is no volume
    ],
)
def test_auto(sources: list[Source], pools: list[dict[str, Any]], original: bool, mode: str, at: str) -> None:
    found = choose(AUTO, sources, pools, original=original)
    assert (found.mode, found.pool["name"]) == (mode, at)
    whole = sum(one.allocation_bytes for one in sources)
    assert found.needed_bytes == {"full": whole, "thin": 0}.get(mode, AT_ONCE * len(sources))


def test_it_says_why_this_one_and_not_a_cheaper_one() -> None:
    assert choose(pools=[pool("p", unshared="")]).why == "the first that [host_worker] clone_modes names"
    assert choose().why == f"not reflink: {CANNOT} (p)"
    assert choose(pools=[pool("p"), pool("q", unshared=ELSEWHERE)]).why == f"not reflink: {CANNOT} (p); {ELSEWHERE} (q)"
    words = choose(original=False).why
    assert words.startswith(f"not reflink: {CANNOT} (p); not linked: it is no image")
    assert words.endswith("not thin: disk vda is no logical volume")
    assert choose("full").why == "--mode=full"
    short = choose(pools=[pool("same", 0, unshared=""), pool("other")]).why
    assert short == "not reflink: 1 MiB of disk are needed, pool same has 0 MiB to give"


def test_the_setting_says_what_auto_tries() -> None:
    shared = [pool("p", unshared="")]
    assert choose(pools=shared, order=("full",)).mode == "full"
    assert choose(pools=shared, order=("linked", "reflink")).mode == "linked"
    assert choose("reflink", pools=shared, order=("full",)).mode == "reflink"  # asked for
    error = refusal(order=("reflink",))
    assert error.message == f"web1 cannot be cloned: reflink: {CANNOT} (p); " + "; ".join(
        f"{mode}: [host_worker] clone_modes leaves it out" if mode != "thin" else "thin: disk vda is no logical volume"
        for mode in MODES[1:]
    )


@pytest.mark.parametrize("full", [Fullness(90.0, 3.0), Fullness(12.5, 99.9), Fullness(100.0, 100.0)])
def test_a_thin_pool_that_is_nearly_full_takes_no_clone(full: Fullness) -> None:
    """Neither where it was asked for, nor by itself; and what is missing is room."""
    error = refusal("thin", [device(full=full)], [pool("p"), LVM])
    assert error.code == "no_capacity"
    assert f"thin pool vg0/thin is full to {full.data:g} % (metadata: {full.metadata:g} %)" in error.message
    assert "lvextend" in error.hint
    found = choose(AUTO, [device(full=full)], [pool("p"), LVM])
    assert (found.mode, found.pool["name"]) == ("full", "p")
    assert "not thin: thin pool vg0/thin is full" in found.why
    told = [way.told() for way in modes.ways([device(full=full)], [LVM], original=True, order=MODES, files=True,
                                             thin_limit=90)]  # fmt: skip
    (thin,) = [way for way in told if way["mode"] == "thin"]
    assert (thin["pools"], thin["auto"]) == ([], False), "placement passes such a host over"


@pytest.mark.parametrize("full", [Fullness(89.9, 89.9), Fullness(0.0, 0.0), None])
def test_a_thin_pool_with_room(full: Fullness | None) -> None:
    assert choose("thin", [device(full=full)], [pool("p"), LVM]).mode == "thin"


def test_a_full_pool_is_no_reason_where_thin_is_impossible() -> None:
    error = refusal("thin", [device(group="vg1", full=Fullness(99, 1))], [pool("p"), LVM])
    assert (error.code, "/dev/vg1" in error.message) == ("environment_error", True)


def test_a_snapshot_needs_no_free_room_in_its_group() -> None:
    """All of a group is often given to its thin pool."""
    assert choose("thin", [device()], [pool("p"), {**LVM, "room_bytes": 0}]).pool["name"] == "lvm"


# --------------------------------------------------------------------------------- what was asked for, or nothing


@pytest.mark.parametrize(
    ("asked", "sources", "pools", "words"),
    [
        ("reflink", [source()], [pool("p")], f"reflink: {CANNOT} (p)"),
        ("reflink", [source(file=False)], [pool("p")], "reflink: disk vda is a device"),
        ("reflink", [source(rests_on="/b")], [pool("p", unshared="")], "reflink: disk vda itself rests on /b"),
        ("thin", [source()], [pool("p"), LVM], "thin: disk vda is no logical volume"),
        ("thin", [device(thin=False)], [LVM], "thin: the logical volume vg0/el9.original is not thin"),
        ("thin", [device(group="vg1")], [LVM], "thin: no active pool of type logical is /dev/vg1"),
        ("linked", [source()], [LVM], "linked: there is no pool of files"),
        ("full", [device()], [LVM], "full: there is no pool of files"),
    ],
)
def test_never_another_mode(asked: str, sources: list[Source], pools: list[dict[str, Any]], words: str) -> None:
    error = refusal(asked, sources, pools)
    assert (error.code, error.message) == ("environment_error", f"web1 cannot be cloned: {words}")
    assert error.hint == "--mode=auto takes what is possible"


def test_an_overlay_that_was_asked_for_may_rest_on_what_nobody_guards() -> None:
    assert choose("linked", original=False).mode == "linked"
    assert choose("linked", [device()], [pool("p")]).mode == "linked"


def test_what_has_no_room_is_not_replaced_either() -> None:
    error = refusal("full", pools=[pool("p", GIB), pool("q", GIB - 1)])
    assert error.code == "no_capacity"
    assert error.message == "web1 cannot be cloned: full: 2048 MiB of disk are needed, pool p has 1024 MiB to give"
    nothing = refusal(pools=[pool("p", 0)])
    assert nothing.code == "no_capacity"
    assert "linked: 1 MiB of disk are needed" in nothing.message
    assert "full: 2048 MiB" in nothing.message


# ---------------------------------------------------------------------------------------------------- --pool


def test_a_pool_that_was_asked_for() -> None:
    two = [pool("fast", GIB, unshared=""), pool("slow")]
    assert (choose(pools=two, wanted="slow").mode, choose(pools=two, wanted="slow").pool["name"]) == ("linked", "slow")
    assert choose(pools=two, wanted="fast").mode == "reflink"
    assert choose("linked", pools=two, wanted="fast").pool["name"] == "fast"
    assert refusal("reflink", pools=two, wanted="slow").message == f"web1 cannot be cloned: reflink: {CANNOT}"
    assert "full: pool lvm is of type logical" in refusal("full", pools=[*two, LVM], wanted="lvm").message
    assert "thin: pool slow is of type dir" in refusal("thin", [device()], [*two, LVM], wanted="slow").message
    error = refusal(pools=two, wanted="nosuch")
    assert (error.message, error.hint) == (
        "this host has no active pool called nosuch that takes disks",
        "it has fast, slow",
    )


def test_a_driver_without_files_copies() -> None:
    pools = [pool("p", type="dir")]
    assert choose(pools=pools, files=False).mode == "full"
    for mode in ("linked", "reflink"):
        assert f"{mode}: {mode if mode == 'reflink' else 'overlay'}" in refusal(mode, pools=pools, files=False).message


def test_what_a_survey_tells() -> None:
    told = [way.told() for way in modes.ways([source()], [pool("p")], original=True, order=MODES, files=True)]
    assert [(way["mode"], way["auto"], way["pools"]) for way in told] == [
        ("reflink", False, []),
        ("linked", True, ["p"]),
        ("thin", False, []),
        ("full", True, ["p"]),
    ]
