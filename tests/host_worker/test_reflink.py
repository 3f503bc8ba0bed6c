"""Copies that share their blocks: on a real btrfs, and on file systems that cannot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.errors import Failed
from maglica.host_worker.disk import reflink
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.domain.domain_xml import Disk
from tests.btrfs import btrfs
from tests.small_disk import small_disk

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs(tmp_path_factory.mktemp("reflink")) as path:
        yield path


def free(path: Path) -> int:
    subprocess.run(["sync", "-f", str(path)], check=True)
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def test_a_copy_is_a_file_of_its_own_that_takes_no_room(shared: Path) -> None:
    image, copy = shared / "image", shared / "copy"
    image.write_bytes(os.urandom(24 * MIB))
    before = free(shared)
    reflink.copy(str(image), str(copy))
    assert before - free(shared) < MIB
    assert copy.read_bytes() == image.read_bytes()
    with copy.open("r+b") as file:
        file.write(b"mine")
    assert image.read_bytes()[:4] != b"mine"
    for path in (image, copy):
        path.unlink()


def test_a_large_sparse_file_costs_no_more_than_a_small_one(shared: Path) -> None:
    large = shared / "large"
    with large.open("wb") as file:
        file.truncate(20 << 30)
        file.seek(19 << 30)
        file.write(b"end")
    reflink.copy(str(large), str(shared / "copy"))
    found = (shared / "copy").stat()
    assert (found.st_size, found.st_blocks * 512 < MIB) == (20 << 30, True)
    large.unlink(), (shared / "copy").unlink()


def test_it_never_replaces_a_file(shared: Path) -> None:
    (shared / "image").write_bytes(b"x" * 4096)
    (shared / "taken").write_text("precious")
    with pytest.raises(Failed, match="File exists"):
        reflink.copy(str(shared / "image"), str(shared / "taken"))
    assert (shared / "taken").read_text() == "precious"


@pytest.mark.parametrize("nocow", ["off", "on"])
def test_a_volume_that_libvirt_made_can_be_shared_too(shared: Path, nocow: str) -> None:
    """libvirt gives files on btrfs an attribute without which the kernel refuses to share their blocks."""
    image, copy = shared / f"nocow-{nocow}", shared / f"nocow-{nocow}-copy"
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", "-o", f"nocow={nocow}", str(image), "8M"], check=True)
    assert reflink.nocow(str(image)) == (nocow == "on")
    assert reflink.impossible(str(image), str(shared)) == ""
    reflink.copy(str(image), str(copy))
    assert reflink.nocow(str(copy)) == (nocow == "on")


def test_a_probe_tells_why_not_and_leaves_nothing(shared: Path, tmp_path: Path) -> None:
    image, elsewhere = shared / "probed", tmp_path / "elsewhere"
    image.write_bytes(b"x" * 8192)
    names = sorted(os.listdir(shared))
    elsewhere.write_bytes(b"x" * 8192)
    assert reflink.impossible(str(image), str(shared)) == ""
    assert reflink.impossible(str(elsewhere), str(shared)) == "the image lies on another file system than the pool"
    assert reflink.impossible(str(image), str(shared / "nosuch")) == "No such file or directory"
    assert sorted(os.listdir(shared)) == names
    with small_disk(tmp_path / "tmpfs", 1) as other:
        (other / "image").write_bytes(b"x" * 4096)
        why = reflink.impossible(str(other / "image"), str(other))
        assert why == "the file system of the pool cannot share blocks"
        assert os.listdir(other) == ["image"]


def test_what_was_tried_is_remembered_for_a_pair_of_file_systems(shared: Path, tmp_path: Path) -> None:
    storage = Storage()
    for name in ("a", "b"):
        (shared / name).write_bytes(b"x" * 8192)
        (tmp_path / name).write_bytes(b"x" * 8192)

    def source(path: Path) -> Source:
        return Source(Disk("vda", "virtio", "disk", "file", str(path), "raw", True), str(path), 8192, 8192)

    assert storage.unshared([source(shared / "a")], str(shared)) == ""
    assert "another file system" in storage.unshared([source(shared / "a"), source(tmp_path / "a")], str(shared))
    tried: list[str] = []
    kept = reflink.impossible
    reflink.impossible = lambda *paths: tried.append(paths[0]) or kept(*paths)  # type: ignore[func-returns-value]
    try:
        assert storage.unshared([source(shared / "b")], str(shared)) == ""
        assert "another file system" in storage.unshared([source(tmp_path / "b")], str(shared))
        assert tried == []
        storage.unshared([source(shared / "b")], str(tmp_path))  # another pool
        assert tried == [str(shared / "b")]
    finally:
        reflink.impossible = kept
