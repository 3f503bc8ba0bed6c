"""The host's journal: a real SQLite file that outlives its process."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed
from maglica.host_worker.journal import Entry, Journal, Undo


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


@pytest.fixture
def journal(path: str) -> Iterator[Journal]:
    found = Journal(path)
    yield found
    found.close()


def ended(state: str = "done", **more: Any) -> dict[str, Any]:
    return {"id": "job1", "attempt": 1, "state": state, "result": None, "error": None, **more}


def test_a_job_is_begun_once(journal: Journal) -> None:
    assert journal.begin("job1", 1, "vm start", "web1")
    assert not journal.begin("job1", 1, "vm start", "web1")
    assert not journal.begin("job1", 2, "vm start", "web1"), "one that is known here is not begun again"
    assert journal.begin("job2", 1, "vm start", None)
    journal.end("job1", ended())
    assert not journal.begin("job1", 1, "vm start", "web1"), "also when it has ended and nobody was told yet"


def test_what_a_job_was_doing_is_there_after_a_crash(path: str) -> None:
    """Killed without a word: every line was on the disk before anything was done."""
    pid = os.fork()
    if pid == 0:
        journal = Journal(path)
        journal.begin("job1", 1, "vm clone", "web1")
        journal.step("job1", "copy")
        journal.put_undo("job1", 1, "remove_part", {"path": "/a"})
        journal.put_undo("job1", 2, "remove_file", {"path": "/b", "inode": 5})
        journal.put_child("job1", 77, 1234)
        journal.begin("job2", 1, "vm start", "web2")
        journal.end("job2", ended())
        os.kill(os.getpid(), 9)
    assert os.waitpid(pid, 0)[1] == 9
    again = Journal(path)
    assert again.entries() == [
        Entry("job1", 1, "vm clone", "web1", "copy", None),
        Entry("job2", 1, "vm start", "web2", None, ended()),
    ]
    assert again.undos("job1") == [
        Undo(2, "remove_file", {"path": "/b", "inode": 5}),
        Undo(1, "remove_part", {"path": "/a"}),
    ], "the last made first"
    assert again.children("job1") == [(77, 1234)]
    assert again.jobs_to_undo() == ["job1"]
    again.close()


def test_it_is_known_by_a_name_of_its_own(path: str, tmp_path: Path) -> None:
    one = Journal(path)
    name = one.uuid
    one.close()
    again = Journal(path)
    assert again.uuid == name
    again.close()
    other = Journal(str(tmp_path / "other.db"))
    assert other.uuid != name
    other.close()


def test_it_counts_how_often_it_was_opened(path: str) -> None:
    for expected in range(1, 12):
        found = Journal(path)
        assert found.starts == expected
        found.close()


def test_a_good_end_forgets_how_to_undo(journal: Journal) -> None:
    journal.begin("job1", 1, "vm clone", "web1")
    journal.put_undo("job1", 1, "remove_part", {"path": "/a"})
    journal.put_child("job1", 77, 1234)
    journal.end("job1", ended("done"))
    assert journal.undos("job1") == []
    assert journal.children("job1") == []
    assert journal.jobs_to_undo() == []


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_another_end_keeps_what_could_not_be_undone(journal: Journal, state: str) -> None:
    journal.begin("job1", 1, "vm clone", "web1")
    journal.put_undo("job1", 1, "remove_part", {"path": "/a"})
    journal.end("job1", ended(state))
    assert journal.jobs_to_undo() == ["job1"]
    journal.forget("job1", 1)
    assert journal.entries() == []
    assert journal.undos("job1") == [Undo(1, "remove_part", {"path": "/a"})], "also after everybody was told"
    journal.forget_undo("job1", 1)
    assert journal.jobs_to_undo() == []


def test_only_what_has_ended_and_was_told_is_forgotten(journal: Journal) -> None:
    journal.begin("job1", 1, "vm start", "web1")
    journal.forget("job1", 1)
    assert [entry.id for entry in journal.entries()] == ["job1"], "it still runs"
    journal.end("job1", ended())
    journal.forget("job1", 2)
    assert [entry.id for entry in journal.entries()] == ["job1"], "another attempt's receipt"
    journal.forget("job1", 1)
    journal.forget("job1", 1)
    journal.forget("nosuch", 1)
    assert journal.entries() == []


def test_jobs_do_not_mix(journal: Journal) -> None:
    for name in ("job1", "job2"):
        journal.begin(name, 1, "vm clone", name)
        journal.put_undo(name, 1, "remove_part", {"path": f"/{name}"})
        journal.put_child(name, 1, 1)
    journal.step("job2", "copy")
    assert journal.jobs_to_undo() == ["job2", "job1"], "the latest first"
    journal.end("job1", ended())
    assert journal.undos("job2") == [Undo(1, "remove_part", {"path": "/job2"})]
    assert journal.children("job2") == [(1, 1)]
    assert [(entry.id, entry.step) for entry in journal.entries()] == [("job1", None), ("job2", "copy")]


def test_every_thread_may_write(journal: Journal) -> None:
    def work(number: int) -> None:
        for count in range(20):
            job = f"job{number}-{count}"
            journal.begin(job, 1, "vm start", None)
            journal.put_undo(job, 1, "remove_part", {"path": "/a"})
            journal.end(job, {**ended(), "id": job})
            journal.forget(job, 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert journal.entries() == []
    assert journal.jobs_to_undo() == []


def test_it_keeps_no_arguments(path: str, journal: Journal) -> None:
    """They may hold secrets, and nothing is ever done again from here."""
    raw = sqlite3.connect(path)
    columns = {row[1] for row in raw.execute("PRAGMA table_info(job)")}
    raw.close()
    assert columns == {"id", "attempt", "action", "object", "step", "outcome"}


def test_only_its_owner_may_read_it(path: str, journal: Journal) -> None:
    journal.begin("job1", 1, "vm start", None)
    for suffix in ("", "-wal", "-shm"):
        assert stat.S_IMODE(os.stat(path + suffix).st_mode) == 0o600


@pytest.mark.parametrize("content", [b"no database" * 200, b"SQLite format 3\0" + b"\xff" * 3000])
def test_a_file_that_is_no_journal_is_refused(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(Failed, match="cannot open the journal") as failed:
        Journal(path)
    assert failed.value.code == "environment_error"
    assert Path(path).read_bytes() == content


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"cannot open the journal .*nowhere"):
        Journal(str(tmp_path / "nowhere" / "journal.db"))


def test_a_journal_that_cannot_be_written_is_a_sentence(path: str) -> None:
    import resource

    journal = Journal(path)
    journal.begin("job1", 1, "vm start", "web1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        for write in (
            lambda: journal.begin("job2", 1, "vm start", "x" * 9000),
            lambda: journal.put_undo("job1", 1, "remove_part", {"path": "x" * 9000}),
            lambda: journal.end("job1", ended("failed", step="x" * 9000)),
        ):
            with pytest.raises(Failed, match="the journal cannot be written: ") as failed:
                write()
            assert failed.value.code == "environment_error"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.entries() == [Entry("job1", 1, "vm start", "web1", None, None)]
    journal.end("job1", ended("failed"))
    assert journal.entries()[0].outcome == ended("failed"), "with room again it goes on"
    journal.close()
