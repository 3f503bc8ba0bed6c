"""Larger disks: what is refused, which partitions grow, what is brought to its end after a crash."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed, Refused
from maglica.host_worker import signs, undo
from maglica.host_worker.disk import qcow2, volumes
from maglica.host_worker.disk.modes import Volume
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.guest import growing
from maglica.host_worker.guest.growing import Part
from maglica.host_worker.size import disks, enlarging
from maglica.host_worker.size.disks import Facts
from maglica.host_worker.work import Work
from tests.host_worker.test_jobs_vm import Ward, Watched
from tests.host_worker.worlds import IMAGE, GiB, MiB, domain, world

PLAIN = Facts("web1", "vda", "/images/web1.qcow2", "qcow2", 4 * GiB, True, None, 0, "", "default", 100 * GiB, 1 << 40)
THICK, THIN = Volume("vg0", "web1", None), Volume("vg0", "web1", "pool0")


# ------------------------------------------------------------------------------------------------------ the size


@pytest.mark.parametrize(
    ("want", "facts", "size"),
    [
        (5 * GiB, PLAIN, 5 * GiB),
        ("+1048576K", PLAIN, 5 * GiB),
        (4 * GiB, PLAIN, 4 * GiB),  # nothing to do: nothing else is asked
        (4 * GiB, PLAIN._replace(format="vmdk", used_by="web2", room=0), 4 * GiB),
        (104 * GiB, PLAIN, 104 * GiB),
        (5 * GiB, PLAIN._replace(format="raw"), 5 * GiB),
        (5 * GiB, PLAIN._replace(format="raw", file=False, volume=THICK), 5 * GiB),
        (500 * GiB, PLAIN._replace(format="raw", file=False, volume=THIN), 500 * GiB),  # it takes no room by that
    ],
)
def test_a_new_size(want: int | str, facts: Facts, size: int) -> None:
    assert disks.plan(want, facts) == size


@pytest.mark.parametrize(
    ("want", "facts", "code", "words"),
    [
        (3 * GiB, PLAIN, "wrong_input", "disk vda of web1 has 4G and cannot shrink to 3G"),
        ("-1048576K", PLAIN, "wrong_input", "cannot shrink to 3G"),
        ("-8388608K", PLAIN, "wrong_input", "cannot shrink to -4096M"),
        (4 * GiB + 100, PLAIN, "wrong_input", "not a multiple of 512"),
        (2 << 40, PLAIN, "no_capacity", "disk vda of web1 cannot have 2T: the limit is 1T"),
        (105 * GiB, PLAIN, "no_capacity", "cannot grow by 101G: pool default has 100G to give"),
        (105 * GiB, PLAIN._replace(file=False, volume=THICK), "no_capacity", "pool default has 100G to give"),
        (5 * GiB, PLAIN._replace(room=-GiB), "no_capacity", "pool default has 0M to give"),
        (5 * GiB, PLAIN._replace(used_by="web2"), "protected", "web2 rests on it"),
        (5 * GiB, PLAIN._replace(file=False), "environment_error", "which is no logical volume of this host"),
        (5 * GiB, PLAIN._replace(format="vmdk"), "environment_error", "is of format vmdk"),
        (5 * GiB, PLAIN._replace(snapshots=2), "wrong_state", "has 2 snapshots in it"),
    ],
)
def test_sizes_that_are_refused(want: int | str, facts: Facts, code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        disks.plan(want, facts)
    assert refused.value.code == code
    assert words in refused.value.message
    assert refused.value.hint


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    cdrom = (
        "<disk type='file' device='cdrom'><source file='/iso/x.iso'/><target dev='sda' bus='sata'/><readonly/></disk>"
    )
    shared = "<disk type='file' device='disk'><source file='/s'/><target dev='vdb' bus='virtio'/><shareable/></disk>"
    more = domain("web2", more=cdrom + shared, state=5)
    found = Ward(
        tmp_path, world(tmp_path, off=(IMAGE,), volumes=["web2.img", f"{IMAGE}.img"], more=more), disk_limit=20 * GiB
    )
    yield found
    found.close()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"size": "1G"}, "wrong_input", "disk vda of web2 has 4G and cannot shrink to 1G"),
        ({"size": "-1G", "target": "vda"}, "wrong_input", "cannot shrink to 3G"),
        ({"size": "21G"}, "no_capacity", "disk vda of web2 cannot have 21G: the limit is 20G"),
        ({"size": "5G", "target": "vdz"}, "unknown_entity", "web2 has no disk vdz"),
        ({"size": "5G", "target": "sda"}, "wrong_input", "disk sda of web2 is a cdrom"),
        ({"size": "5G", "target": "vdb"}, "wrong_input", "disk vdb of web2 is read-only, or shared with others"),
        ({"size": "5G", "name": IMAGE}, "protected", f"{IMAGE} is an image"),
        ({"size": "5G"}, "environment_error", "host1 has no real disks"),
    ],
)
def test_disks_that_stay_as_they_are(ward: Ward, args: dict[str, Any], code: str, words: str) -> None:
    error = ward.refusal("vm set-disk", **{"name": "web2", **args})
    assert error.code == code
    assert words in error.message


def test_the_same_size_changes_nothing(ward: Ward) -> None:
    for size in ("4G", 4 * GiB):
        assert ward.do("vm set-disk", name="web2", size=size)["changed"] is False
    assert ward.work.report()["steps"] == []


def test_it_says_which_disks_there_are(ward: Ward) -> None:
    assert ward.refusal("vm set-disk", name="web2", size="5G", target="vdz").hint == "its disks are vda"


def test_a_disk_on_a_network() -> None:
    text = domain("web1").replace("type='file' device='disk'", "type='network' device='disk'", 1)
    text = text.replace("<source file=", "<source protocol='rbd' name=")
    error = disks.refusal("web1", "vda", domain_xml.read(text).disks)
    assert error.message.startswith("disk vda of web1 is on a network")
    assert error.hint == "web1 has no disk of its own"


# ------------------------------------------------------------------------------------------------- what is on it


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([], None),
        ([Part(1, 1 * MiB, 99 * MiB)], 1),
        # A cloud image: the root is the first by number, and lies last.
        ([Part(1, 128 * MiB, 999 * MiB), Part(14, 1 * MiB, 4 * MiB), Part(15, 4 * MiB, 127 * MiB)], 1),
        ([Part(1, 1, 9), Part(2, 10, 99, "extended"), Part(5, 11, 99, "logical")], 5),
        ([Part(1, 1, 9), Part(2, 10, 99, "extended")], 1),
    ],
)
def test_the_last_partition(parts: list[Part], found: int | None) -> None:
    last = growing.last(parts)
    assert (last.number if last else None) == found


LOGICAL = [
    Part(1, 1 * MiB, 2 * MiB - 1),
    Part(2, 2 * MiB, 9 * MiB - 1, "extended"),
    Part(5, 3 * MiB, 9 * MiB - 1, "logical"),
]


@pytest.mark.parametrize(
    ("parts", "number", "sectors", "gpt", "todo"),
    [
        ([Part(1, 1 * MiB, 10 * MiB - 1)], 1, 40960, False, [(1, 40959)]),
        ([Part(1, 1 * MiB, 10 * MiB - 1)], 1, 40960, True, [(1, 40926)]),
        ([Part(1, 1 * MiB, 10 * MiB - 1)], 1, 20480, False, []),
        ([Part(1, 1 * MiB, 10 * MiB - 1)], 1, 20490, True, []),  # what is new belongs to the table
        (LOGICAL, 5, 40960, False, [(2, 40959), (5, 40959)]),
        ([Part(1, 1 * MiB, 10 * MiB - 1)], 1, 2**33, False, [(1, 2**32 - 2)]),  # more than such a table can count
    ],
)
def test_partitions_that_grow(
    parts: list[Part], number: int, sectors: int, gpt: bool, todo: list[tuple[int, int]]
) -> None:
    part = next(one for one in parts if one.number == number)
    assert growing.to_grow(parts, part, sectors, 512, gpt=gpt) == todo


def test_a_volume_is_extended() -> None:
    assert volumes.extend(THIN, 5 * GiB)[-3:] == [f"{5 * GiB}b", "--", "vg0/web1"]


# ------------------------------------------------------------------------------------------------------- crashes


def test_a_volume_that_was_extended_is_no_sign_that_qemu_knows(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, extend = tmp_path / "device", tmp_path / "bin" / "lvextend"
    device.write_bytes(bytes(8 * MiB))
    extend.parent.mkdir()
    extend.write_text(f"#!/bin/sh\nexec truncate -s 16M {device}\n")
    extend.chmod(0o755)
    monkeypatch.setenv("PATH", f"{extend.parent}:{os.environ['PATH']}")
    facts = PLAIN._replace(name="web2", path=str(device), format="raw", capacity=8 * MiB, file=False, volume=THICK)
    work = Watched("job1", 60.0, ward.journal, lambda: None)
    work.hypervisor = ward.hypervisor
    with pytest.raises(Failed):  # the test driver resizes nothing
        enlarging._running(facts, 16 * MiB, False, ward.host, work, {})
    assert device.stat().st_size == 16 * MiB
    assert [step["name"] for step in work.report()["steps"]] == ["extend", "resize"]


def run(*argv: object) -> str:
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_a_merge_that_was_interrupted_is_brought_to_its_end(ward: Ward, tmp_path: Path, format: str) -> None:
    disk, part = tmp_path / "web1.img", tmp_path / "web1.img.job1.part"
    run("qemu-img", "create", "-q", "-f", format, disk, "8M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", disk, part, "16M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 12M 64k", part)
    shown = signs.sign("disk_holds", {}, path=str(disk), format=format, size_bytes=16 * MiB, without=[str(part)])
    assert not signs.seen(shown, ward.hypervisor)
    ward.journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    ward.journal.put_undo("job1", 2, "merge_overlay", {"part": str(part)})
    run("qemu-img", "resize", "-q", "-f", format, disk, "16M")  # as far as it came
    assert not signs.seen(shown, ward.hypervisor), "larger, and not all of it is there"
    assert undo.take_back("job1", ward.journal, ward.hypervisor) == []
    assert signs.seen(shown, ward.hypervisor)
    assert "Pattern verification failed" not in run("qemu-io", "-f", format, "-c", "read -P 7 12M 64k", disk)
    assert not part.exists()
    undo.merge_overlay(ward.hypervisor, str(part))  # once more does nothing


def overlaid(folder: Path) -> tuple[Path, Path]:
    """(a disk of 8 MiB, an overlay of 16 that has something new)."""
    disk, part = folder / "web1.img", folder / "web1.img.job1.part"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk, part, "16M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 12M 64k", part)
    return disk, part


def test_an_overlay_is_kept_until_its_merge_has_succeeded(ward: Ward, tmp_path: Path) -> None:
    """The disk may hold half of it: what is left of the overlay's own undo must not throw it away."""
    disk, part = overlaid(tmp_path)
    away = disk.rename(tmp_path / "away")  # no merge succeeds without it
    ward.journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    ward.journal.put_undo("job1", 2, "merge_overlay", {"part": str(part)})
    left = undo.take_back("job1", ward.journal, ward.hypervisor)
    assert [one.words.split(" ")[0] for one in left] == ["merge_overlay", "remove_part"]
    assert left[1].words.endswith(": waits for merge_overlay")
    assert part.exists()
    assert [one.number for one in ward.journal.undos("job1")] == [2, 1]
    away.rename(disk)
    assert undo.take_back("job1", ward.journal, ward.hypervisor) == []
    assert "Pattern verification failed" not in run("qemu-io", "-f", "qcow2", "-c", "read -P 7 12M 64k", disk)
    assert not part.exists()


def test_a_damaged_journal_throws_no_overlay_away_whose_merge_has_begun(ward: Ward, tmp_path: Path) -> None:
    """What is carried over is harmless: also when the note of the merge is among what was lost."""
    disk, part = overlaid(tmp_path)
    merging = tmp_path / "web1.img.job1.merge.part"
    away = disk.rename(tmp_path / "away")
    work = Work("job1", 60.0, ward.journal, lambda: None)
    work.undo("remove_part", path=str(part))
    with pytest.raises(Failed, match="merge into") as failed:
        enlarging.merge(str(part), str(merging), str(disk), work)
    assert failed.value.message.endswith("there is no way back: it is brought to its end, and the disk is larger then")
    assert failed.value.details["stays"] == f"the disk {disk} is larger"
    for one in ward.journal.undos("job1"):
        if one.what in undo.HARMLESS:
            undo.UNDOS[one.what](ward.hypervisor, **one.args)
    assert merging.exists()
    away.rename(disk)
    shown = signs.sign(
        "disk_holds", {}, path=str(disk), format="qcow2", size_bytes=16 * MiB, without=[str(part), str(merging)]
    )
    assert not signs.seen(shown, ward.hypervisor)
    assert undo.take_back("job1", ward.journal, ward.hypervisor) == []
    assert signs.seen(shown, ward.hypervisor)
    assert "Pattern verification failed" not in run("qemu-io", "-f", "qcow2", "-c", "read -P 7 12M 64k", disk)


def test_an_overlay_that_was_not_merged_is_thrown_away(ward: Ward, tmp_path: Path) -> None:
    disk, part = tmp_path / "web1.img", tmp_path / "web1.img.job1.part"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk, part, "16M")
    ward.journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    assert undo.take_back("job1", ward.journal, ward.hypervisor) == []
    assert not part.exists()
    header = qcow2.header(str(disk))
    assert header is not None
    assert header.capacity_bytes == 8 * MiB
