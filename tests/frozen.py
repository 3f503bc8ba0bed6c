"""Processes that nothing ends for a while, as those that wait in the kernel for storage that does not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import until


@contextmanager
def freezer() -> Iterator[Callable[[int], None]]:
    """Gives a function that freezes a process by its id: what is sent to it, SIGKILL too, takes effect at the end of
    this block. Skips the test where the kernel has no such control groups for us.
    """
    group = Path(f"/sys/fs/cgroup/freezer/maglica-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"there is no freezer of control groups to be had: {error.strerror}")

    def freeze(pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")

    try:
        yield freeze
    finally:
        (group / "freezer.state").write_text("THAWED")
        until(lambda: (group / "cgroup.procs").read_text() == "", 20, "what was frozen has ended")
        group.rmdir()
