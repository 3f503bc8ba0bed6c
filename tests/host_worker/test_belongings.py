"""Files of a pool that are no disks: nobody gets one into a VM of his own. Real files, in a world of libvirt's test
driver that is told to take its disks for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Refused
from maglica.host_worker.device import belongings
from tests.host_worker.test_guest_headers import forged
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, MiB, of_files, write

SNAPSHOT = """<domainsnapshot><name>s1</name><memory snapshot='external' file='{pool}/kept'/><disks>
<disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='{pool}/over'/></disk>
</disks></domainsnapshot>"""


def iso(path: Path, word: bytes = b"CD001") -> None:
    path.write_bytes((bytes(32769) + word).ljust(MiB, b"\0"))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    found = tmp_path / "pool"
    found.mkdir()
    return found


@pytest.fixture
def ward(tmp_path: Path, pool: Path) -> Iterator[Ward]:
    """ci-1 and prod-1 with raw disks, an image; prod-1 was saved, and has a seed, firmware and a log of its console."""
    found = Ward(tmp_path, of_files(tmp_path, pool, "ci-1", "prod-1", IMAGE), pool_reserve=1 << 20)
    found.hypervisor.set_mark("prod-1", {"saved": str(pool / "elsewhere"), "seed": str(pool / "prod-1-seed.iso")})
    found.hypervisor.set_mark("ci-1", {"seed": str(pool / "ci-1-seed.iso")})
    found.hypervisor.driver = "files"
    yield found
    found.close()


OTHERS = [
    ("prod-1.saved", "protected", "is the memory of a VM that was saved, and no disk"),
    ("prod-1.1b7q2k0m4z.core", "protected", "is the memory of a VM that was dumped"),
    ("prod-1.s1.memory", "protected", "is the memory that a snapshot of a VM keeps"),
    ("prod-1_VARS.fd", "protected", "is what the firmware of a VM keeps"),
    ("elsewhere", "protected", "is the memory of prod-1, which was saved"),
    ("prod-1-seed.iso", "protected", "is the seed of prod-1"),
    ("prod-1.img.1b7q2k0m4z.part", "locked", "is what another job is working on"),
    ("prod-1.img.1b7q2k0m4z.removed", "locked", "is what another job is working on"),
    ("prod-1.img.1b7q2k0m4z.replaced", "locked", "is what another job is working on"),
    ("prod-1-seed.iso.1b7q2k0m4z.user-data", "locked", "is what another job is working on"),
]


@pytest.mark.parametrize(("file", "code", "words"), OTHERS)
def test_what_is_no_disk_is_plugged_in_nowhere(ward: Ward, pool: Path, file: str, code: str, words: str) -> None:
    iso(pool / file)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("vm attach-disk", {"source": file, "format": "raw"}),
        ("vm attach-disk", {"source": str(pool / file), "format": "raw"}),
        ("vm attach-iso", {"iso": file}),
    ]
    write(pool / "over.qcow2", forged(file.encode(), b"raw"))
    asked.append(("vm attach-disk", {"source": "over.qcow2"}))
    for action, args in asked:
        error = ward.refusal(action, name="ci-1", **args)
        assert (error.code, words in error.message) == (code, True), error.message
        assert error.hint


def test_what_a_snapshot_of_another_vm_is_made_of_is_none_either(ward: Ward, pool: Path) -> None:
    connection = ward.hypervisor._connect()
    connection.lookupByName("prod-1").snapshotCreateXML(SNAPSHOT.format(pool=pool))
    for file in ("kept", "over"):
        iso(pool / file)
        for action, args in (("vm attach-disk", {"source": file, "format": "raw"}), ("vm attach-iso", {"iso": file})):
            error = ward.refusal(action, name="ci-1", **args)
            assert (error.code, "snapshot s1 of prod-1" in error.message) == ("protected", True), error.message
    belongings.refuse(str(pool / "over"), "prod-1", ward.host)
    with pytest.raises(Refused, match="the memory that snapshot s1 of prod-1 keeps"):
        belongings.refuse(str(pool / "kept"), "prod-1", ward.host)


def test_nobody_reads_the_disk_of_another_vm_from_behind_his_own(ward: Ward, pool: Path) -> None:
    """A raw disk, whose guest wrote that it rests on something, comes back as a qcow2."""
    write(pool / "mine.img", forged(b"prod-1.img", b"raw"))
    error = ward.refusal("vm attach-disk", name="ci-1", source="mine.img", format="qcow2")
    assert (error.code, "which prod-1 has as its disk vda" in error.message) == ("protected", True), error.message
    write(pool / "over.qcow2", forged(f"{IMAGE}.img".encode(), b"raw"))
    assert ward.do("vm attach-disk", name="ci-1", source="over.qcow2")["path"] == str(pool / "over.qcow2")


@pytest.mark.parametrize(("word", "good"), [(b"CD001", True), (b"BEA01", True), (b"", False), (b"cd001", False)])
def test_a_medium_is_an_iso(ward: Ward, pool: Path, word: bytes, good: bool) -> None:
    iso(pool / "cd.iso", word)
    if good:
        belongings.refuse_no_iso(str(pool / "cd.iso"), ward.host)
        return
    error = ward.refusal("vm attach-iso", name="ci-1", iso="cd.iso")
    assert (error.code, "is no ISO file" in error.message) == ("wrong_input", True)
    (pool / "cd.iso").write_bytes(b"short")
    assert "is no ISO file" in ward.refusal("vm attach-iso", name="ci-1", iso="cd.iso").message


def test_what_is_its_own_may_come_back(ward: Ward, pool: Path) -> None:
    iso(pool / "ci-1-seed.iso")
    told = ward.do("vm attach-iso", name="ci-1", iso="ci-1-seed.iso")
    assert told["path"] == str(pool / "ci-1-seed.iso")
    write(pool / "data.img", b"")
    assert ward.do("vm attach-disk", name="ci-1", source="data.img")["path"] == str(pool / "data.img")
