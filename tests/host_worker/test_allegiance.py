"""What a host remembers of its client worker, in a real file."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from maglica.cluster import Cluster
from maglica.host_worker.allegiance import WRITE_EVERY, Allegiance, forget

RED = Cluster("red", 5, "0b")
FILE = "client_worker.json"


def test_it_is_remembered(tmp_path: Path) -> None:
    first = Allegiance(str(tmp_path))
    assert first.refresh() == Cluster()
    first.accept(RED)
    assert Allegiance(str(tmp_path)).known == RED
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    first.accept(Cluster("red", 6, "0a"))
    assert Allegiance(str(tmp_path)).known == Cluster("red", 6, "0b"), "no job that was handed out is forgotten"


def test_a_release_that_tells_nothing_changes_nothing(tmp_path: Path) -> None:
    known = Allegiance(str(tmp_path))
    known.accept(RED)
    known.accept(Cluster())
    assert known.known == RED


def test_jobs_are_remembered_without_a_file_for_each(tmp_path: Path) -> None:
    known = Allegiance(str(tmp_path))
    known.accept(RED)
    known.handed(["0d", "0c"], 100.0)
    assert Allegiance(str(tmp_path)).known.last_job == "0d"
    known.handed(["0e"], 100.1)
    assert known.known.last_job == "0e"
    assert Allegiance(str(tmp_path)).known.last_job == "0d"
    known.handed([], 100.1 + WRITE_EVERY)
    assert Allegiance(str(tmp_path)).known.last_job == "0e", "with the next report"
    known.handed(["0f"], 101.0 + WRITE_EVERY)
    known.close()
    assert Allegiance(str(tmp_path)).known.last_job == "0f"
    known.handed(["0a"], 200.0)
    assert known.known.last_job == "0f"


def test_somebody_may_make_it_forget_while_it_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = Allegiance(str(tmp_path))
    known.accept(RED)
    known.handed(["0c"], 1.0)
    known.handed(["0d"], 1.1)
    assert forget(str(tmp_path))
    assert known.refresh() == Cluster()
    assert "forgotten on request" in caplog.text
    assert not forget(str(tmp_path))
    known.close()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cluster": "red", "epoch": "x", "last_job": ""}', "\0"])
def test_a_broken_file_is_told_and_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    known = Allegiance(str(tmp_path))
    assert known.refresh() == Cluster()
    assert "is not readable" in caplog.text
    known.accept(RED)
    assert Allegiance(str(tmp_path)).known == RED


def test_a_place_that_cannot_be_written_does_not_stop_the_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"{FILE}.new").mkdir()
    known = Allegiance(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        known.accept(RED)
    assert "cannot write" in caplog.text
    assert known.refresh() == RED
    os.rmdir(tmp_path / f"{FILE}.new")
    known.close()
    assert Allegiance(str(tmp_path)).known == RED


def test_who_joins_anew_begins_anew(tmp_path: Path) -> None:
    """An administrator invited it: that is the word that it is meant."""
    Allegiance(str(tmp_path), "key one").accept(RED)
    assert Allegiance(str(tmp_path), "key one").known == RED
    joined = Allegiance(str(tmp_path), "key two")
    assert joined.refresh() == Cluster()
    joined.accept(Cluster("blue", 1, ""))
    assert Allegiance(str(tmp_path), "key two").known == Cluster("blue", 1, "")
