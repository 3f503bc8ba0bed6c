"""The host's journal: a real SQLite file that outlives its process."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from maglica.errors import Failed
from maglica.host_worker.journal import Damaged, Entry, Journal, Undo, open_journal, set_aside, wal_is_damaged
from maglica.host_worker.undo import HARMLESS


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


def test_what_must_survive_a_power_cut_is_synced(journal: Journal) -> None:
    """Before anything is changed and before anything is told: an fsync. Elsewhere the next one will do."""
    said: list[str] = []
    journal.connection.set_trace_callback(said.append)

    def synced(work: Callable[[], object]) -> bool:
        said.clear()
        work()
        commit = said.index("COMMIT")
        before = [words for words in said[:commit] if "synchronous" in words]
        after = [words for words in said[commit:] if "synchronous" in words]
        assert after == (["PRAGMA synchronous = FULL"] if before else []), "nothing else is committed so"
        return not before

    assert not synced(lambda: journal.begin("job1", 1, "vm start", "web1")), "it looks first"
    assert synced(lambda: journal.will("job1")), "it goes on to change something"
    assert synced(lambda: journal.step("job1", "start"))
    assert synced(lambda: journal.put_undo("job1", 1, "remove_part", {"path": "/a"}))
    assert synced(lambda: journal.forget_undo("job1", 1))
    assert synced(lambda: journal.end("job1", ended()))
    assert not synced(lambda: journal.forget([("job1", 1)])), "it is told, and acknowledged, once more"
    with pytest.raises(TypeError):
        journal.begin("job2", 1, "vm start", b"no JSON")  # type: ignore[arg-type]
    assert journal.connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_what_a_job_was_doing_is_there_after_a_crash(path: str) -> None:
    """Killed without a word: every line was on the disk before anything was done."""
    pid = os.fork()
    if pid == 0:
        journal = Journal(path)
        journal.begin("job1", 1, "vm clone", "web1")
        journal.step("job1", "copy")
        journal.put_undo("job1", 1, "remove_part", {"path": "/a"})
        journal.put_undo("job1", 2, "remove_file", {"path": "/b", "inode": 5})
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
    journal.end("job1", ended("done"))
    assert journal.undos("job1") == []
    assert journal.jobs_to_undo() == []


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_another_end_keeps_what_could_not_be_undone(journal: Journal, state: str) -> None:
    journal.begin("job1", 1, "vm clone", "web1")
    journal.put_undo("job1", 1, "remove_part", {"path": "/a"})
    journal.end("job1", ended(state))
    assert journal.jobs_to_undo() == ["job1"]
    journal.forget([("job1", 1)])
    assert journal.entries() == []
    assert journal.undos("job1") == [Undo(1, "remove_part", {"path": "/a"})], "also after everybody was told"
    journal.forget_undo("job1", 1)
    assert journal.jobs_to_undo() == []


@pytest.mark.parametrize("end", [lambda one: one.end("job1", ended("failed")), lambda one: one.let_go("job1")])
def test_what_may_harm_others_is_not_noted_once_a_job_has_ended(journal: Journal, end: Callable[..., None]) -> None:
    """Nor what lies below it: the overlay may be half merged."""
    journal.begin("job1", 1, "vm set-disk", "web1")
    for number, what in enumerate(("remove_part", "merge_overlay", "remove_part", "remove_volumes"), 1):
        journal.put_undo("job1", number, what, {})
    end(journal)
    assert [(undo.number, undo.what) for undo in journal.undos("job1")] == [(4, "remove_volumes"), (3, "remove_part")]


def test_only_what_has_ended_and_was_told_is_forgotten(journal: Journal) -> None:
    journal.begin("job1", 1, "vm start", "web1")
    journal.forget([("job1", 1)])
    assert [entry.id for entry in journal.entries()] == ["job1"], "it still runs"
    journal.end("job1", ended())
    journal.forget([("job1", 2)])
    assert [entry.id for entry in journal.entries()] == ["job1"], "another attempt's receipt"
    journal.forget([("job1", 1)])
    journal.forget([("job1", 1)])
    journal.forget([("nosuch", 1)])
    assert journal.entries() == []


def test_jobs_do_not_mix(journal: Journal) -> None:
    for name in ("job1", "job2"):
        journal.begin(name, 1, "vm clone", name)
        journal.put_undo(name, 1, "remove_part", {"path": f"/{name}"})
    journal.step("job2", "copy")
    assert journal.jobs_to_undo() == ["job2", "job1"], "the latest first"
    journal.end("job1", ended())
    assert journal.undos("job2") == [Undo(1, "remove_part", {"path": "/job2"})]
    assert [(entry.id, entry.step) for entry in journal.entries()] == [("job1", None), ("job2", "copy")]


def test_every_thread_may_write(journal: Journal) -> None:
    def work(number: int) -> None:
        for count in range(20):
            job = f"job{number}-{count}"
            journal.begin(job, 1, "vm start", None)
            journal.put_undo(job, 1, "remove_part", {"path": "/a"})
            journal.end(job, {**ended(), "id": job})
            journal.forget([(job, 1)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert journal.entries() == []
    assert journal.jobs_to_undo() == []


def test_it_keeps_no_arguments(path: str, journal: Journal) -> None:
    """They may hold secrets, and nothing is ever done again from here."""
    journal.close()
    raw = sqlite3.connect(path)
    columns = {row[1] for row in raw.execute("PRAGMA table_info(job)")}
    raw.close()
    assert columns == {"id", "attempt", "action", "object", "step", "sign", "outcome", "crc"}


def test_only_its_owner_may_read_it(path: str, journal: Journal) -> None:
    journal.begin("job1", 1, "vm start", None)
    for suffix in ("", "-wal"):
        assert stat.S_IMODE(os.stat(path + suffix).st_mode) == 0o600


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


# ------------------------------------------------------------------------------------------------- damage


class Content(NamedTuple):
    """All that a journal says."""

    uuid: str
    entries: list[Entry]
    undos: dict[str, list[Undo]]


def content(journal: Journal) -> Content:
    return Content(journal.uuid, journal.entries(), {job: journal.undos(job) for job in journal.jobs_to_undo()})


def filled(path: str, jobs: int = 40, *, settled: bool = False) -> Content:
    """A journal with rows of every kind, as a host worker leaves it that is killed: its last writes are in the WAL,
    unless it had `settled`.
    """
    pid = os.fork()
    if pid == 0:
        journal = Journal(path)
        for number in range(jobs):
            job = f"job{number:03}"
            journal.begin(job, 1, "vm clone", f"web{number}")
            for count in range(1, 4):
                journal.put_undo(job, count, "remove_part", {"path": f"/pool/web{number}-{count}.{job}.part"})
            journal.put_undo(job, 4, "undefine", {"uuid": f"uuid-{number}"})
            journal.step(job, "copy", {"what": "defined", "args": {"uuid": job}, "result": {"name": job}})
            if number % 3 == 0:
                journal.end(job, {**ended("failed"), "id": job, "error": {"message": "x" * 40 * number}})
            if number == (jobs - 1 if settled else jobs // 2):
                journal.settle()
        os.kill(os.getpid(), 9)
    assert os.waitpid(pid, 0)[1] == 9
    copies = {suffix: Path(path + suffix).read_bytes() for suffix in ("", "-wal")}
    journal = Journal(path)
    found = content(journal)
    journal.close()
    for suffix, data in copies.items():
        Path(path + suffix).write_bytes(data)
    assert len(found.entries) == jobs
    return found


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_no_flipped_bit_changes_anything_in_silence(tmp_path: Path, suffix: str) -> None:
    """Each of some hundred: the journal says what it said before, or it is found to be damaged."""
    original = tmp_path / "original.db"
    before = filled(str(original), 80, settled=not suffix)
    files = {name: Path(str(original) + name).read_bytes() for name in ("", "-wal")}
    assert len(files[suffix]) > 50_000
    chance = random.Random(20261120)
    verdicts = Counter[str]()
    for number in range(200):
        path = str(tmp_path / f"{number}.db")
        bit = chance.randrange(len(files[suffix]) * 8)
        for name, data in files.items():
            Path(path + name).write_bytes(flipped(data, bit) if name == suffix else data)
        try:
            journal = Journal(path)
        except Damaged:
            verdicts["found"] += 1
            continue
        assert content(journal) == before, f"bit {bit} of {suffix or 'the file'}"
        verdicts["harmless"] += 1
        journal.close()
    assert verdicts["found"] > 50
    if not suffix:
        assert verdicts["harmless"] > 1, "also a check that calls everything damaged is none"


@pytest.mark.parametrize("cut", [1, 24, 4000, 4096, 5000, 4120 * 3 + 7])
def test_a_wal_that_was_cut_off_by_a_crash_is_no_damage(path: str, cut: int) -> None:
    """That is how a process leaves it that is killed while it writes: the last commits never were."""
    before = filled(path)
    wal = Path(path + "-wal")
    wal.write_bytes(wal.read_bytes()[:-cut])
    assert not wal_is_damaged(str(wal))
    journal = Journal(path)
    assert journal.uuid == before.uuid
    journal.close()


def test_killed_while_it_writes_it_is_never_taken_for_damaged(path: str) -> None:
    """Again and again, at any moment, on top of what the last one left."""
    chance = random.Random(1)
    name = ""
    for number in range(25):
        ready, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            journal = Journal(path)
            os.write(done, b"x")
            for count in range(10_000):
                job = f"job{number}-{count}"
                journal.begin(job, 1, "vm clone", "x" * chance.randrange(5000))
                journal.put_undo(job, 1, "remove_part", {"path": "y" * chance.randrange(9000)})
                journal.end(job, ended("failed"))
            os._exit(0)
        os.read(ready, 1)
        time.sleep(chance.random() / 50)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(done)
        journal = Journal(path)
        assert name in ("", journal.uuid)
        name = journal.uuid
        journal.close()


def damaged(path: str, text: bytes, times: int = 1) -> None:
    """Change a letter of what is in the file."""
    data = Path(path).read_bytes()
    assert text in data
    Path(path).write_bytes(data.replace(text, text[:-1] + b"#", times))


def test_a_damaged_journal_is_set_aside_and_what_is_good_is_carried_over(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = Journal(path)
    for number in range(3):
        one.begin(f"job{number}", 1, "vm clone", f"web{number}")
        one.put_undo(f"job{number}", 1, "remove_part", {"path": f"/{number}"})
        one.put_undo(f"job{number}", 2, "undefine", {"uuid": f"uuid-{number}"})
    one.end("job2", {**ended("failed"), "id": "job2"})
    one.close()
    damaged(path, b"uuid-1")
    bad = Path(path).read_bytes()
    with pytest.raises(Damaged):
        Journal(path)
    again = open_journal(path, HARMLESS)
    assert again.uuid != one.uuid
    assert [entry.id for entry in again.entries()] == ["job2"], "an end is true; what had none becomes lost"
    assert again.undos("job0") == [Undo(1, "remove_part", {"path": "/0"})], "somebody else's turn with that VM"
    assert "job=job0 may have left something behind; look at it: undefine" in caplog.text
    assert again.undos("job1") == [Undo(1, "remove_part", {"path": "/1"})]
    (aside,) = set_aside(path)
    assert (Path(path).parent / aside).read_bytes() == bad, "it may tell somebody more"
    assert "is damaged" in caplog.text
    assert aside in caplog.text
    again.close()
    third = open_journal(path, HARMLESS)
    assert third.uuid == again.uuid
    assert third.jobs_to_undo() == ["job1", "job0"], "what has ended is not undone behind anybody's back"
    third.close()


def test_with_its_last_writes_in_doubt_only_harmless_undos_are_carried_over(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of the job may be what is missing: then the VM is somebody's, and must stay."""
    filled(path, 4)
    wal = Path(path + "-wal")
    data = wal.read_bytes()
    wal.write_bytes(flipped(data, (len(data) - 100) * 8))
    journal = open_journal(path, HARMLESS)
    undos = [undo.what for job in journal.jobs_to_undo() for undo in journal.undos(job)]
    assert set(undos) == {"remove_part"}
    assert "job=job001 may have left something behind; look at it: undefine" in caplog.text
    journal.close()


@pytest.mark.parametrize("content", [b"no database" * 200, b"SQLite format 3\0" + b"\xff" * 3000])
def test_a_file_that_is_no_journal_is_set_aside(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    journal = open_journal(path, HARMLESS)
    assert journal.entries() == []
    assert journal.begin("job1", 1, "vm start", None)
    (aside,) = set_aside(path)
    assert (Path(path).parent / aside).read_bytes() == content, "it may be the only copy of something"
    journal.close()


def test_damage_that_is_found_while_it_is_used_is_fatal(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.begin("job1", 1, "vm start", "web1")
    journal.connection.execute("UPDATE job SET object = 'web2'")  # as a broken disk might
    with pytest.raises(Failed, match="a row of job is not what was written"):
        journal.entries()
    assert journal.fatal is not None
    journal.close()
    with pytest.raises(Damaged):
        Journal(path)


def test_a_journal_of_the_first_layout_is_taken_over(path: str) -> None:
    raw = sqlite3.connect(path)
    raw.executescript(
        """
        CREATE TABLE self (name TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE job (
            id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, action TEXT NOT NULL, object TEXT, step TEXT, outcome TEXT
        );
        CREATE TABLE undo (
            job TEXT NOT NULL, number INTEGER NOT NULL, what TEXT NOT NULL, args TEXT NOT NULL,
            PRIMARY KEY (job, number)
        );
        CREATE TABLE child (job TEXT NOT NULL, pid INTEGER NOT NULL, born INTEGER NOT NULL);
        INSERT INTO self VALUES ('uuid', 'its-name'), ('starts', '7');
        INSERT INTO job VALUES ('job1', 1, 'vm clone', 'web1', 'copy', NULL), ('job2', 1, 'vm start', NULL, NULL, '{}');
        INSERT INTO undo VALUES ('job1', 1, 'remove_part', '{"path": "/a"}');
        PRAGMA journal_mode = WAL;
        """
    )
    raw.close()
    journal = Journal(path)
    assert (journal.uuid, journal.starts) == ("its-name", 8)
    assert [entry[:6] for entry in journal.entries()] == [
        ("job1", 1, "vm clone", "web1", "copy", None),
        ("job2", 1, "vm start", None, None, {}),
    ]
    assert journal.undos("job1") == [Undo(1, "remove_part", {"path": "/a"})]
    journal.close()


def test_a_journal_of_a_later_layout_is_left_alone(path: str) -> None:
    journal = Journal(path)
    journal.write(lambda: journal.put("self", "layout", "9"))
    journal.close()
    with pytest.raises(Failed, match="has layout 9, this release knows 2") as failed:
        open_journal(path, HARMLESS)
    assert failed.value.code == "version_mismatch"
