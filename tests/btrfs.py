"""A file system that shares blocks, for tests: btrfs in a file, on a loop device."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def btrfs(folder: Path, mib: int = 192) -> Iterator[Path]:
    """Mount one on a new folder inside `folder`; skips where there is no mkfs.btrfs, loop device or right to mount."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("there is no mkfs.btrfs here (package btrfs-progs)")
    image, path = folder / "btrfs.img", folder / "btrfs"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
    run = subprocess.run(["mount", "-o", "loop", str(image), str(path)], capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"a loop device cannot be mounted here: {run.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
        image.unlink()
