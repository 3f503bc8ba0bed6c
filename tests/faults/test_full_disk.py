"""No room under the store and the journals while jobs are in their middle."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.faults.stage import Stage
from tests.small_disk import fill, small_disk
from tests.waiting import until


@pytest.mark.slow
def test_the_disk_is_full_for_a_while(tmp_path: Path, impatience: None) -> None:
    """Nothing is accepted that cannot be kept; what was accepted ends as it should, once there is room again."""
    (tmp_path / "house").mkdir()
    with small_disk(tmp_path / "house/state", 64) as disk:
        stage = Stage(tmp_path / "house")
        try:
            filled(stage, disk)
        finally:
            stage.close()


def filled(stage: Stage, disk: Path) -> None:
    stage.configure(client="store_reserve = 8M")
    stage.passing |= {"no_capacity", "environment_error"}
    stage.open()
    until((disk / "jobs.db.ballast").exists, 20)
    stage.submit(24, seconds=0.5)
    rubbish = fill(disk)
    people = threading.Thread(target=stage.submit, args=(12,), kwargs={"seconds": 0.2})
    people.start()
    people.join(2.0)
    assert people.is_alive(), "jobs were accepted that cannot be kept"
    rubbish.unlink()
    people.join(30)
    assert stage.audit() == []
    assert len(stage.accepted) == 36
