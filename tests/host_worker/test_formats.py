"""What comes from elsewhere is looked at by our own eyes first: headers that name other files are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from maglica.errors import Refused
from maglica.host_worker.disk import formats


def made(path: Path, format: str, *options: str, size: str = "8M") -> bytes:
    """The first bytes of a disk that qemu-img makes."""
    subprocess.run(["qemu-img", "create", "-q", "-f", format, *options, str(path), size], check=True, timeout=60)
    return path.read_bytes()[: formats.HEAD]


BOOTABLE = bytes(510) + b"\x55\xaa" + bytes(1024)


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vhdx"])
@pytest.mark.parametrize("told", [True, False])
def test_a_disk_that_qemu_makes_is_what_it_is(tmp_path: Path, format: str, told: bool) -> None:
    head = made(tmp_path / "disk", format)
    assert formats.inspect(head, format if told else None, "disk") == format


def test_old_qcow2_and_streamed_vmdk_are_taken(tmp_path: Path) -> None:
    assert formats.inspect(made(tmp_path / "old", "qcow2", "-o", "compat=0.10"), None, "old") == "qcow2"
    made(tmp_path / "disk", "qcow2")
    argv = ["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([*argv, str(tmp_path / "disk"), str(tmp_path / "stream")], check=True, timeout=60)
    assert formats.inspect((tmp_path / "stream").read_bytes()[: formats.HEAD], None, "stream") == "vmdk"


def test_a_raw_disk_needs_a_boot_sector_or_somebody_who_says_so() -> None:
    assert formats.inspect(BOOTABLE, None, "disk") == "raw"
    assert formats.inspect(bytes(4096), "raw", "disk") == "raw"
    with pytest.raises(Refused, match="neither a header that is known nor a boot sector") as refused:
        formats.inspect(bytes(4096), None, "disk")
    assert "--format=raw" in refused.value.hint


@pytest.mark.parametrize("told", ["raw", "qcow2", None])
def test_a_backing_file_is_refused_whatever_it_is_called(tmp_path: Path, told: str | None) -> None:
    """A guest may have written such a header into its raw disk."""
    (tmp_path / "secret").write_bytes(b"root:hash" + bytes(511))
    head = made(tmp_path / "disk", "qcow2", "-b", str(tmp_path / "secret"), "-F", "raw")
    with pytest.raises(Refused, match="backing file"):
        formats.inspect(head, told, "disk")


@pytest.mark.parametrize("told", ["raw", "qcow2", None])
def test_a_data_file_is_refused(tmp_path: Path, told: str | None) -> None:
    head = made(tmp_path / "disk", "qcow2", "-o", f"data_file={tmp_path / 'elsewhere'}")
    with pytest.raises(Refused, match="data in another file"):
        formats.inspect(head, told, "disk")


def test_a_vmdk_of_several_files_is_refused(tmp_path: Path) -> None:
    for subformat in ("monolithicFlat", "twoGbMaxExtentSparse"):
        head = made(tmp_path / f"{subformat}.vmdk", "vmdk", "-o", f"subformat={subformat}")
        with pytest.raises(Refused, match="names other files"):
            formats.inspect(head, None, "disk")


def test_a_vmdk_with_a_parent_or_without_a_capacity_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "base.vmdk", "vmdk")
    child = made(tmp_path / "child.vmdk", "vmdk", "-b", str(tmp_path / "base.vmdk"), "-F", "vmdk")
    with pytest.raises(Refused, match="parent"):
        formats.inspect(child, None, "disk")
    whole = (tmp_path / "base.vmdk").read_bytes()[: formats.HEAD]
    with pytest.raises(Refused, match="names other files"):
        formats.inspect(whole[:12] + bytes(8) + whole[20:], None, "disk")


def test_an_encrypted_and_a_corrupt_qcow2_are_refused(tmp_path: Path) -> None:
    head = bytearray(made(tmp_path / "disk", "qcow2"))
    with pytest.raises(Refused, match="encrypted"):
        formats.inspect(bytes(head[:32]) + b"\0\0\0\2" + bytes(head[36:]), None, "disk")
    head[79] |= 2
    with pytest.raises(Refused, match="corrupt"):
        formats.inspect(bytes(head), None, "disk")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"<!DOCTYPE html>", "a web page"),
        (b"PK\3\4", "a zip archive"),
        (bytes(257) + b"ustar", "a tar archive"),
        (bytes(64) + b"\x7f\x10\xda\xbe", "a VDI disk"),
        (bytes(32769) + b"CD001", "a CD"),
    ],
)
def test_what_is_no_disk_is_called_by_its_name(head: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words):
        formats.inspect(head + bytes(1024), "raw", "it")


def test_a_wrong_word_is_told() -> None:
    with pytest.raises(Refused, match="it is raw, not qcow2") as refused:
        formats.inspect(BOOTABLE, "qcow2", "it")
    assert "--format=raw" in refused.value.hint
