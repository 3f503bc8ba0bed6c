"""A small disk for tests that fill it: a tmpfs of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, mib: int) -> Iterator[Path]:
    """Mount a file system of that size on a new folder; whoever may not mount skips the test."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "maglica-test", str(path)]
    run = subprocess.run(mount, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"a file system cannot be mounted here: {run.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Take all room of a disk but `leave` bytes; the file that does."""
    path = folder / "rubbish"
    with path.open("ab", buffering=0) as file:
        room = os.statvfs(folder)
        left = room.f_bavail * room.f_frsize - leave
        while left > 0:
            try:
                left -= file.write(b"x" * min(left, 1 << 16))
            except OSError:
                break
    return path
