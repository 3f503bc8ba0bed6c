"""Looks into disks that take long: begun once, told when they are over, made anew when the disk has changed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from maglica.host_worker.reading import Reading
from tests.waiting import until


def test_a_look_is_begun_once_and_kept_while_the_disk_stays_as_it_is(tmp_path: Path) -> None:
    disk = tmp_path / "vda"
    disk.write_bytes(b"one")
    go, looks = threading.Event(), []

    def look() -> dict[str, object]:
        looks.append(disk.read_bytes())
        go.wait(10)
        return {"machine_id": disk.read_text()}

    reading = Reading()
    assert reading.look([str(disk)], look) is None
    assert reading.look([str(disk)], look) is None, "it is at work: nothing is begun twice"
    go.set()
    assert until(lambda: reading.look([str(disk)], look)) == {"machine_id": "one"}
    assert looks == [b"one"]
    disk.write_bytes(b"two")
    assert until(lambda: reading.look([str(disk)], look)) == {"machine_id": "two"}
    with pytest.raises(FileNotFoundError):
        reading.look([str(tmp_path / "gone")], look)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_look_that_fails_is_over_too(tmp_path: Path) -> None:
    def fail() -> dict[str, object]:
        raise SystemExit(1)

    reading = Reading()
    found = until(lambda: reading.look([str(tmp_path)], fail))
    assert found == {"why": "its disks could not be read"}
