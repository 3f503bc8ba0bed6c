"""The job store: a real SQLite file."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import maglica.client_worker.store
from maglica import job
from maglica.client_worker.store import MOST_LIKE, SCHEMA_VERSION, STEPS, Store
from maglica.errors import Failed, Refused
from maglica.job import Job
from tests.small_disk import fill, small_disk

PACKAGE = maglica.client_worker.store
MODULES = [importlib.import_module(f"{PACKAGE.__name__}.{one.name}") for one in pkgutil.iter_modules(PACKAGE.__path__)]
SQL: dict[str, str] = {name: text for module in MODULES for name, text in getattr(module, "SQL", {}).items()}
NOBODY: dict[str, Any] = {"state": None, "vm": None, "host": None}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    found = Store(path)
    yield found
    found.close()


def record(number: int, **more: Any) -> Job:
    """A queued job; jobs with a greater number were submitted later."""
    usual: dict[str, Any] = {
        "id": f"job{number:04d}",
        "rev": 1,
        "key": f"key{number}",
        "action": "vm start",
        "args": {"name": "web1"},
        "object": "web1",
        "host": "host1",
        "slot": "quick",
        "locks": ["vm:web1"],
        "state": job.QUEUED,
        "owner": "me@desk",
        "claimed_at": None,
        "error": None,
        **dict.fromkeys(job.LATER),
    }
    return Job(**{**usual, **more})  # type: ignore[typeddict-item]


def ids(records: list[Job]) -> list[str]:
    return [one["id"] for one in records]


def end(store: Store, one: Job, state: str = job.DONE, ended_ms: int = 1000) -> None:
    store.jobs.save(Job(**{**one, "state": state}), journal="j", ended_ms=ended_ms)  # type: ignore[typeddict-item]


# ------------------------------------------------------------------------------------------- durability


def test_what_was_committed_is_there_after_a_restart(path: str) -> None:
    store = Store(path)
    store.jobs.add(record(1))
    store.hosts.put("host1", "journal", 3, {"libvirt": "ok"})
    store.commit()
    store.close()
    again = Store(path)
    assert again.jobs.get("job0001") == record(1)
    assert again.jobs.by_key("key1") == record(1)
    assert again.jobs.holders("vm:web1") == ["job0001"]
    assert again.hosts.all() == [("host1", "journal", 3, {"libvirt": "ok"})]
    again.close()


def test_what_was_not_committed_is_not_there(path: str) -> None:
    store = Store(path)
    store.jobs.add(record(1))
    store.close()
    again = Store(path)
    assert again.jobs.get("job0001") is None
    assert again.jobs.holders("vm:web1") == []
    again.close()


def test_it_survives_its_process_being_killed(path: str) -> None:
    """As sure as SQLite can be made: WAL, and every commit reaches the disk."""
    pid = os.fork()
    if pid == 0:
        store = Store(path)
        store.jobs.add(record(1))
        store.commit()
        store.jobs.add(record(2))
        os.kill(os.getpid(), 9)
    assert os.waitpid(pid, 0)[1] == 9
    again = Store(path)
    assert ids(again.jobs.open()) == ["job0001"]
    again.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    raw.close()


def test_only_its_owner_may_read_it(path: str, store: Store) -> None:
    """It holds hashes of passwords while their jobs are open."""
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    store.jobs.add(record(1))
    store.commit()
    for suffix in ("-wal", "-shm"):
        assert stat.S_IMODE(os.stat(path + suffix).st_mode) == 0o600


def test_every_start_counts(path: str) -> None:
    for expected in (1, 2, 3):
        store = Store(path)
        assert store.next_epoch() == expected
        store.close()


def test_every_statement_is_one_that_sqlite_understands(path: str, store: Store) -> None:
    assert len(SQL) == sum(len(getattr(module, "SQL", {})) for module in MODULES) > 60, "no name is given twice"
    raw = sqlite3.connect(path)
    for name, statement in SQL.items():
        raw.execute(f"EXPLAIN {statement}", [None] * statement.count("?")).fetchall()
        assert name
    raw.close()


def test_a_commit_says_when_something_of_its_turn_was_lost(store: Store) -> None:
    """All requests of a turn share a transaction: when one of them breaks it, no other may be told that it is safe."""
    store.jobs.add(record(1))
    with pytest.raises(Failed) as failed:
        store.jobs.add(record(2, key="key1"))
    assert failed.value.code == "environment_error"
    with pytest.raises(Failed):
        store.commit()
    assert store.jobs.get("job0001") is None
    store.jobs.add(record(3))
    store.commit()
    assert ids(store.jobs.open()) == ["job0003"]


# ---------------------------------------------------------------------------- a full disk, a broken disk, damage


def test_a_full_disk_is_a_sentence_and_what_ends_is_still_recorded(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48) as disk:
        store = Store(str(disk / "jobs.db"), reserve=4 << 20)
        store.keep_room()
        store.jobs.add(record(1, state="running"))
        store.commit()
        store.refuse_when_low()
        rubbish = fill(disk, leave=1 << 20)
        with pytest.raises(Refused, match="full but for 1 MiB; no more jobs are accepted") as refused:
            store.refuse_when_low()
        assert refused.value.code == "no_capacity"
        assert str(disk) in refused.value.hint
        fill(disk)
        for number in range(2, 9):
            store.jobs.add(record(number, reason="x" * 1_000_000))
            if number == 2:
                with pytest.raises(Failed, match="full"):
                    store.commit()
                store.jobs.add(record(number, reason="x" * 1_000_000))  # it is told again
            store.commit()  # with the room that the ballast held
        assert not (disk / "jobs.db.ballast").exists()
        fill(disk)
        with pytest.raises(Failed):
            store.jobs.add(record(9, reason="x" * 20_000_000))
        with pytest.raises(Failed, match=r"the job store cannot be written: .*full") as failed:
            store.commit()
        assert failed.value.code == "no_capacity"
        assert str(disk) in failed.value.hint
        assert store.fatal is None, "a full disk is endured"
        assert store.jobs.get("job0009") is None
        assert len(store.jobs.open()) == 8, "what is there can be read"
        rubbish.unlink()
        store.jobs.add(record(10))
        store.commit()
        with pytest.raises(Refused):
            store.refuse_when_low()
        store.keep_room()
        store.refuse_when_low()
        assert (disk / "jobs.db.ballast").stat().st_size == 16 << 20
        store.close()
        again = Store(str(disk / "jobs.db"))
        assert len(again.jobs.open()) == 9
        again.close()


def test_on_a_full_disk_it_still_opens_with_what_the_ballast_held(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48) as disk:
        store = Store(str(disk / "jobs.db"))
        store.keep_room()
        store.close()
        fill(disk)
        store = Store(str(disk / "jobs.db"))
        assert store.next_epoch() == 1
        with pytest.raises(Refused):
            store.refuse_when_low()
        store.close()


def test_an_error_of_the_disk_is_fatal(path: str, store: Store) -> None:
    """Not a full one: after such an error nobody knows what of the commit is on the disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store.jobs.add(record(1, reason="x" * 100_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(Failed, match="the job store cannot be written: disk I/O error") as failed:
            store.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.code == "environment_error"
    assert store.fatal is failed.value
    again = Store(path)
    assert again.jobs.get("job0001") is None
    again.close()


def test_a_mistake_in_a_request_is_not_fatal(store: Store) -> None:
    store.jobs.add(record(1))
    with pytest.raises(Failed):
        store.jobs.add(record(2, key="key1"))
    assert store.fatal is None


def test_a_damaged_store_is_refused_and_says_what_to_do(path: str) -> None:
    store = Store(path)
    for number in range(1, 60):
        store.jobs.add(record(number, reason="x" * 500))
    store.commit()
    store.close()
    data = bytearray(Path(path).read_bytes())
    data[4096 * 3 : 4096 * 3 + 64] = b"\xff" * 64
    Path(path).write_bytes(data)
    with pytest.raises(Failed, match=r"cannot open the job store .*: it is damaged: ") as failed:
        Store(path)
    for words in ("a backup", "-wal away", "jobs that run"):
        assert words in failed.value.hint
    assert Path(path).read_bytes() == data


def everything(path: str) -> bytes:
    return b"".join(Path(path + suffix).read_bytes() for suffix in ("", "-wal"))


def test_a_secret_of_an_ended_job_is_in_none_of_the_files(path: str, store: Store) -> None:
    secret = "$6$salt$" + "s3cr3t" * 14
    for number in range(1, 30):
        store.jobs.add(record(number, args={"root_password_hash": secret, "more": "x" * 300 * number}))
        store.commit()
    assert secret.encode() in everything(path)
    for number in range(1, 30):
        ended = record(number, state="done", args={"root_password_hash": "***", "more": "x" * 300 * number})
        store.jobs.save(ended, journal=None, ended_ms=1)
        store.commit()
    store.settle(idle=True)
    assert secret.encode() in everything(path), "nobody asked for it: it costs a write of the whole log"
    store.wipe_soon()
    store.settle(idle=False)
    assert secret.encode() in everything(path), "not while somebody waits"
    store.settle(idle=True)
    assert secret.encode() not in everything(path)


def test_secrets_are_wiped_also_when_it_never_rests(path: str, store: Store) -> None:
    store.jobs.add(record(1, args={"root_password_hash": "s3cr3t"}))
    store.commit()
    store.jobs.save(record(1, state="done", args={}), journal=None, ended_ms=1)
    store.commit()
    store.wipe_soon()
    for _ in range(60):
        store.settle(idle=False)
    assert b"s3cr3t" not in everything(path)


@pytest.mark.parametrize("content", [b"no database" * 200, b"SQLite format 3\0" + b"\xff" * 3000])
def test_a_file_that_is_no_store_is_refused(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(Failed, match="cannot open the job store") as failed:
        Store(path)
    assert "a backup" in failed.value.hint
    assert Path(path).read_bytes() == content, "it may be the only copy of something"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"cannot open the job store .*nowhere"):
        Store(str(tmp_path / "nowhere" / "jobs.db"))


def test_a_store_of_another_release_is_left_alone(path: str) -> None:
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(Failed, match=f"has layout 99, this release knows {SCHEMA_VERSION}") as failed:
        Store(path)
    assert failed.value.code == "version_mismatch"


@pytest.mark.parametrize("layout", range(1, SCHEMA_VERSION))
def test_a_store_of_an_older_release_is_brought_up_to_date(path: str, layout: int) -> None:
    raw = sqlite3.connect(path)
    for step in STEPS[:layout]:
        raw.executescript(step)
    raw.execute(f"PRAGMA user_version = {layout}")
    raw.execute("INSERT INTO meta VALUES ('kept', 7)")
    raw.commit()
    raw.close()
    Store(path).close()
    fresh = Store(path + ".fresh")
    fresh.close()
    layouts = []
    for file in (path, fresh.path):
        raw = sqlite3.connect(file)
        layouts.append(raw.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall())
        raw.close()
    assert layouts[0] == layouts[1]
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT value FROM meta WHERE name = 'kept'").fetchone() == (7,)
    raw.close()


# ------------------------------------------------------------------------------------------------- jobs


def test_the_same_key_is_found_again(store: Store) -> None:
    store.jobs.add(record(1))
    assert store.jobs.by_key("key1") == record(1)
    assert store.jobs.by_key("key") is None
    assert store.jobs.get("job0001") == record(1)
    assert store.jobs.get("job") is None


def test_jobs_by_the_beginning_of_their_ids(store: Store) -> None:
    for number in range(12):
        store.jobs.add(record(number))
    assert ids(store.jobs.like("job000")) == [f"job000{n}" for n in range(10)]
    assert len(store.jobs.like("job")) <= MOST_LIKE, "some are enough to ask back"
    assert ids(store.jobs.like("job001")) == ["job0010", "job0011"]
    assert store.jobs.like("job1") == []
    assert store.jobs.like("%") == store.jobs.like("_") == []


def test_a_saved_job_is_found_as_it_was_saved(store: Store) -> None:
    one = record(1)
    store.jobs.add(one)
    one["state"], one["step"], one["rev"] = job.CLAIMED, "copy", 2
    store.jobs.save(one, journal="journal A", ended_ms=None)
    assert store.jobs.get("job0001") == one
    assert store.jobs.journal_of("job0001") == "journal A"
    assert store.jobs.journal_of("job0002") is None


def test_the_journal_that_a_job_was_handed_to_is_not_forgotten(store: Store) -> None:
    one = record(1)
    store.jobs.add(one)
    one["state"] = job.CLAIMED
    store.jobs.save(one, journal="journal A", ended_ms=None)
    one["cancel"] = True
    store.jobs.save(one, journal=None, ended_ms=None)
    assert store.jobs.journal_of("job0001") == "journal A"


def test_the_latest_id(store: Store) -> None:
    assert store.jobs.last_id() is None
    for number in (2, 9, 5):
        store.jobs.add(record(number))
    end(store, record(9))
    assert store.jobs.last_id() == "job0009"


def test_open_jobs(store: Store) -> None:
    states = [job.QUEUED, job.CLAIMED, job.RUNNING, job.DONE, job.FAILED, job.CANCELLED, job.LOST]
    for number, state in enumerate(states):
        one = record(number, host="host1" if number % 2 else "host2")
        store.jobs.add(one)
        one["state"] = state
        store.jobs.save(one, journal="j", ended_ms=5 if state in job.FINAL else None)
    assert store.jobs.count_open() == 3
    assert ids(store.jobs.open()) == ["job0000", "job0001", "job0002"]
    assert ids(store.jobs.open("host1")) == ["job0001"]
    assert store.jobs.open("host") == []


def test_lists_are_the_newest_in_the_order_of_time(store: Store) -> None:
    for number in range(6):
        store.jobs.add(record(number, object=f"web{number % 2}", host=f"host{number % 3}"))
    end(store, record(5, object="web1", host="host2"), job.FAILED)
    assert ids(store.jobs.latest(3, **NOBODY)) == ["job0003", "job0004", "job0005"]
    assert ids(store.jobs.latest(9, **{**NOBODY, "vm": "web1"})) == ["job0001", "job0003", "job0005"]
    assert ids(store.jobs.latest(9, **{**NOBODY, "host": "host2"})) == ["job0002", "job0005"]
    assert ids(store.jobs.latest(9, state="failed", vm="web1", host="host2")) == ["job0005"]
    assert ids(store.jobs.latest(1, **{**NOBODY, "state": "queued"})) == ["job0004"]
    assert store.jobs.latest(9, **{**NOBODY, "vm": "' OR 1=1 --"}) == []


def test_old_jobs_are_forgotten_and_open_ones_never(store: Store) -> None:
    for number, ended in ((1, 1000), (2, 2000), (3, None)):
        one = record(number)
        store.jobs.add(one)
        if ended:
            end(store, one, ended_ms=ended)
    assert store.prune(2000) == 1
    assert ids(store.jobs.latest(9, **NOBODY)) == ["job0002", "job0003"]
    assert store.prune(1 << 60) == 1
    assert ids(store.jobs.latest(9, **NOBODY)) == ["job0003"]


# ----------------------------------------------------------------------------------------- locks, slots


def claimable(store: Store, host: str = "host1", slot: str = "quick", at_most: int = 9) -> list[str]:
    return ids(store.jobs.claimable(host, slot, at_most))


def test_jobs_on_one_vm_run_in_the_order_of_submission(store: Store) -> None:
    for number in (1, 2, 3):
        store.jobs.add(record(number))
    assert store.jobs.holders("vm:web1") == ["job0001", "job0002", "job0003"]
    for number in (1, 2, 3):
        assert claimable(store) == [f"job{number:04d}"]
        store.jobs.save(record(number, state=job.CLAIMED), journal="j", ended_ms=None)
        assert claimable(store) == [], "its lock is held until it has ended"
        store.jobs.save(record(number, state=job.RUNNING), journal="j", ended_ms=None)
        assert claimable(store) == []
        end(store, record(number))
    assert store.jobs.holders("vm:web1") == []


def test_a_lock_counts_across_hosts(store: Store) -> None:
    store.jobs.add(record(1, host="host2"))
    store.jobs.add(record(2, host="host1"))
    assert claimable(store, "host1") == []
    assert claimable(store, "host2") == ["job0001"]


def test_all_locks_are_taken_at_once(store: Store) -> None:
    """So that there is no deadlock: whoever came first has both."""
    store.jobs.add(record(1, locks=["vm:a", "vm:b"]))
    store.jobs.add(record(2, locks=["vm:b", "vm:c"]))
    store.jobs.add(record(3, locks=["vm:c", "vm:a"]))
    store.jobs.add(record(4, locks=["vm:d"]))
    store.jobs.add(record(5, locks=[]))
    assert claimable(store) == ["job0001", "job0004", "job0005"]
    end(store, record(1))
    assert claimable(store) == ["job0002", "job0004", "job0005"], "3 waits for c, which 2 asked for first"
    end(store, record(2))
    assert claimable(store) == ["job0003", "job0004", "job0005"]


def test_a_queued_job_that_is_cancelled_gives_its_place_back(store: Store) -> None:
    store.jobs.add(record(1))
    store.jobs.add(record(2))
    store.jobs.add(record(3))
    store.jobs.save(record(2, state=job.CANCELLED), journal=None, ended_ms=5)
    assert store.jobs.holders("vm:web1") == ["job0001", "job0003"]


def test_slots_are_told_apart_and_limit_what_is_handed_out(store: Store) -> None:
    for number in range(1, 7):
        slot = "disk" if number % 2 else "quick"
        store.jobs.add(record(number, slot=slot, locks=[f"vm:{number}"]))
    assert claimable(store, slot="disk") == ["job0001", "job0003", "job0005"]
    assert claimable(store, slot="disk", at_most=2) == ["job0001", "job0003"]
    assert claimable(store, slot="quick", at_most=1) == ["job0002"]
    assert claimable(store, at_most=0) == claimable(store, at_most=-1) == []
    assert claimable(store, "host10") == claimable(store, "host") == []


def test_hosts_that_wait_for_a_lock(store: Store) -> None:
    store.jobs.add(record(1, host="host2"))
    store.jobs.add(record(2, host="host1", state=job.CLAIMED))
    store.jobs.add(record(3, host="host2"))
    store.jobs.add(record(4, host="host3", locks=["vm:other"]))
    assert store.jobs.hosts_behind("vm:web1") == ["host2"]
    assert store.jobs.hosts_behind("vm:nobody") == []


@pytest.mark.parametrize("name", [name for name, statement in SQL.items() if statement.startswith(("SELECT", "WITH"))])
def test_no_question_reads_all_jobs_that_ever_were(path: str, name: str) -> None:
    Store(path).close()
    raw = sqlite3.connect(path)
    statement = SQL[name]
    plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", ["x"] * statement.count("?"))]
    raw.close()
    for step in plan:
        assert not step.startswith("SCAN job") or "job_open" in step or "job_unfinished" in step, plan
        assert not step.startswith("SCAN lock"), plan


def test_finding_the_next_job_does_not_get_slow_behind_a_long_queue(store: Store) -> None:
    for number in range(3000):
        store.jobs.add(record(number, locks=[f"vm:{number % 1000}"], host="host1" if number % 2 else "host2"))
    store.commit()
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    store.connection.set_progress_handler(count, 1000)  # counts the machine's own steps: no clock can be unlucky
    assert len(claimable(store, "host1", at_most=8)) == 8
    store.connection.set_progress_handler(None, 0)
    assert steps < 50


# ------------------------------------------------------------------------------------------------ hosts


def test_hosts_are_kept_and_forgotten(store: Store) -> None:
    store.hosts.put("host1", "a", 1, {})
    store.hosts.put("host2", "b", 1, {"x": [1]})
    store.hosts.put("host1", "c", 2, {"libvirt": "ok"})
    assert store.hosts.all() == [("host1", "c", 2, {"libvirt": "ok"}), ("host2", "b", 1, {"x": [1]})]
    store.hosts.remove("host1")
    store.hosts.remove("host9")
    assert [name for name, *_ in store.hosts.all()] == ["host2"]


def test_a_record_is_json_that_any_tool_can_read(path: str, store: Store) -> None:
    store.jobs.add(record(1, reason="für später"))
    store.commit()
    raw = sqlite3.connect(path)
    row = raw.execute("SELECT record, state, host, slot FROM job").fetchone()
    raw.close()
    assert json.loads(row[0])["reason"] == "für später"
    assert row[1:] == ("queued", "host1", "quick")
