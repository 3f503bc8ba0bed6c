"""The checksum of what a guest sees: the same in every format, and another one for every other byte."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from maglica.errors import Failed
from maglica.host_worker.image import nbd

BLOCK = 64 << 10


def qemu(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, timeout=60, capture_output=True)


def digest(path: Path, format: str, folder: Path) -> str:
    return nbd.digest(str(path), format, folder=str(folder), mark="", timeout=60)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A disk whose end is no multiple of a block, with data at odd places."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate((5 << 20) + 512 * 3)
        for at in (0, 70_000, (1 << 20) - 10, (4 << 20) + 5, (5 << 20) + 512):
            file.seek(at)
            file.write(random.Random(at).randbytes(1000))
    return path


def by_hand(content: bytes) -> str:
    """The same without QEMU: what the documentation says."""
    found = hashlib.sha256(len(content).to_bytes(8, "big"))
    for at in range(0, len(content), BLOCK):
        block = content[at : at + BLOCK]
        if any(block):
            found.update(at.to_bytes(8, "big") + block)
    return found.hexdigest()


def test_it_is_what_the_documentation_says_in_every_format(tmp_path: Path, raw: Path) -> None:
    expected = by_hand(raw.read_bytes())
    assert digest(raw, "raw", tmp_path) == expected
    for number, options in enumerate(
        (["-O", "qcow2"], ["-O", "qcow2", "-c"], ["-O", "vmdk"], ["-O", "qcow2", "-S", "0"])
    ):
        qemu("qemu-img", "convert", "-f", "raw", *options, raw, tmp_path / f"{number}")
        assert digest(tmp_path / f"{number}", options[1], tmp_path) == expected, options
    qemu("qemu-img", "create", "-f", "qcow2", "-b", raw, "-F", "raw", tmp_path / "overlay")
    assert digest(tmp_path / "overlay", "qcow2", tmp_path) == expected
    assert not list(tmp_path.glob("*.sock"))


def test_one_byte_and_one_sector_make_another(tmp_path: Path, raw: Path) -> None:
    before = digest(raw, "raw", tmp_path)
    with raw.open("r+b") as file:
        file.seek(3 << 20)
        file.write(b"x")
    changed = digest(raw, "raw", tmp_path)
    os.truncate(raw, raw.stat().st_size + 512)
    assert len({before, changed, digest(raw, "raw", tmp_path)}) == 3


def test_an_empty_disk_has_one_too(tmp_path: Path) -> None:
    qemu("qemu-img", "create", "-f", "qcow2", tmp_path / "disk", "1G")
    assert digest(tmp_path / "disk", "qcow2", tmp_path) == hashlib.sha256((1 << 30).to_bytes(8, "big")).hexdigest()


def test_it_can_be_ended(tmp_path: Path, raw: Path) -> None:
    def check() -> None:
        raise Failed("cancelled", "the job was cancelled")

    with pytest.raises(Failed, match="cancelled"):
        nbd.digest(str(raw), "raw", folder=str(tmp_path), mark="", timeout=60, check=check)
    with pytest.raises(Failed, match=r"took too long|was not read within"):
        nbd.digest(str(raw), "raw", folder=str(tmp_path), mark="", timeout=0.001)
    assert not list(tmp_path.glob("*.sock"))


def test_a_disk_that_is_missing_or_broken_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"cannot read .*nothing"):
        digest(tmp_path / "nothing", "raw", tmp_path)
    (tmp_path / "broken").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(100))
    with pytest.raises(Failed, match=r"cannot read .*broken"):
        digest(tmp_path / "broken", "qcow2", tmp_path)
