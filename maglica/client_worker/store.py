"""The job store. The only file of the client worker with SQL in it; every statement has a name.

SQLite in WAL mode with `synchronous=FULL`: what was committed survives a power cut. One transaction per turn of the
loop: `write` opens it when needed, `commit` ends it, and only then may anything be told to anybody.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from maglica.errors import Failed
from maglica.job import FINAL, Job

# The layout, as it grew: a store is brought up to date by the steps that it has not seen. A step is never changed.
STEPS = [
    """
CREATE TABLE job (
    id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, host TEXT NOT NULL, state TEXT NOT NULL, slot TEXT NOT NULL,
    object TEXT, action TEXT NOT NULL, journal TEXT, ended_ms INTEGER, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX job_open ON job (host, state, id) WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX job_ended ON job (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE lock (name TEXT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (name, job)) WITHOUT ROWID;
CREATE INDEX lock_job ON lock (job);
CREATE TABLE host (name TEXT PRIMARY KEY, journal TEXT NOT NULL, incarnation INTEGER NOT NULL, facts TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0);
""",
    """
CREATE TABLE key (
    public TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_ms INTEGER, revoked_at TEXT
) WITHOUT ROWID;
CREATE TABLE invitation (
    digest TEXT PRIMARY KEY, host TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_ms INTEGER NOT NULL, used_at TEXT, used_by TEXT, address TEXT
) WITHOUT ROWID;
CREATE TABLE audit (
    n INTEGER PRIMARY KEY AUTOINCREMENT, ms INTEGER NOT NULL, at TEXT NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
    address TEXT NOT NULL, action TEXT NOT NULL, object TEXT, job TEXT, outcome TEXT NOT NULL, message TEXT
);
CREATE INDEX audit_ms ON audit (ms);
""",
    # Open jobs are found without a look at those that have ended, queued ones without a look at those of other slots.
    """
CREATE INDEX job_unfinished ON job (id) WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX job_queued ON job (host, slot, id) WHERE state = 'queued';
""",
]
SCHEMA_VERSION = len(STEPS)

OPEN = "state IN ('queued', 'claimed', 'running')"

SQL = {
    "job": "SELECT record FROM job WHERE id = ?",
    "job by key": "SELECT record FROM job WHERE key = ?",
    "jobs by prefix": "SELECT record FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT 5",
    "put job": "INSERT INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "set job": "UPDATE job SET state = ?, journal = coalesce(?, journal), ended_ms = ?, record = ? WHERE id = ?",
    "last id": "SELECT max(id) FROM job",
    "count open": f"SELECT count(*) FROM job WHERE {OPEN}",
    "open of host": f"SELECT record FROM job WHERE host = ? AND {OPEN} ORDER BY id",
    "handed of host": (
        f"SELECT record FROM job WHERE host = ? AND state IN ('claimed', 'running') AND {OPEN} ORDER BY id"
    ),
    "open": f"SELECT record FROM job WHERE {OPEN} ORDER BY id",
    "journal of job": "SELECT journal FROM job WHERE id = ?",
    "hosts behind lock": (
        "SELECT DISTINCT job.host FROM lock JOIN job ON job.id = lock.job WHERE lock.name = ? AND job.state = 'queued'"
    ),
    # All locks of a job are taken at once and in order of submission: it waits while any earlier open job holds one.
    "claimable": (
        "SELECT record FROM job WHERE host = ? AND state = 'queued' AND slot = ? AND NOT EXISTS ("
        " SELECT 1 FROM lock AS mine JOIN lock AS other ON other.name = mine.name"
        " WHERE mine.job = job.id AND other.job < mine.job) ORDER BY id LIMIT ?"
    ),
    "put lock": "INSERT INTO lock VALUES (?, ?)",
    "free locks": "DELETE FROM lock WHERE job = ?",
    "lock holders": "SELECT name, job FROM lock WHERE name = ? ORDER BY job",
    "hosts": "SELECT name, journal, incarnation, facts FROM host ORDER BY name",
    "put host": (
        "INSERT INTO host VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET journal = excluded.journal, incarnation = excluded.incarnation, facts = excluded.facts"
    ),
    "remove host": "DELETE FROM host WHERE name = ?",
    # The newest one stays: hosts compare it with what they were handed, and ids go on from it.
    "old jobs": "DELETE FROM job WHERE ended_ms < ? AND id < (SELECT max(id) FROM job)",
    "keys": "SELECT public, name, role, created_at, created_by, expires_ms, revoked_at FROM key ORDER BY created_at",
    "put key": "INSERT OR REPLACE INTO key VALUES (?, ?, ?, ?, ?, ?, ?)",
    "invitations": (
        "SELECT digest, host, created_at, created_by, expires_ms, used_at, used_by, address FROM invitation"
        " ORDER BY created_at"
    ),
    "put invitation": "INSERT OR REPLACE INTO invitation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "remove invitation": "DELETE FROM invitation WHERE digest = ?",
    "put audit": (
        "INSERT INTO audit (ms, at, who, role, address, action, object, job, outcome, message)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    "audit": (
        "SELECT at, who, role, address, action, object, job, outcome, message FROM audit"
        " WHERE who = coalesce(?, who) AND outcome = coalesce(?, outcome) AND object IS coalesce(?, object)"
        " ORDER BY n DESC LIMIT ?"
    ),
    "old audit": "DELETE FROM audit WHERE ms < ?",
    "cluster": "SELECT value FROM meta WHERE name = 'cluster'",
    "put cluster": "INSERT OR IGNORE INTO meta VALUES ('cluster', ?)",
    "epoch": "SELECT value FROM meta WHERE name = 'epoch'",
    "set epoch": "UPDATE meta SET value = value + 1 WHERE name = 'epoch'",
}

T = TypeVar("T")


class Store:
    """Jobs, locks and hosts, durable."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._broken: Failed | None = None  # a write of this turn failed
        fresh = not os.path.exists(path)
        try:
            if fresh:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            # autocommit: transactions begin and end where this file says so
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from None
        except Failed:
            self._db.close()
            raise

    def _unusable(self, error: Exception) -> Failed:
        return Failed("environment_error", f"cannot open the job store {self.path}: {error}", "check [paths] state")

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")  # hashes of passwords stand in open jobs
        self._migrate()

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise Failed(
                "version_mismatch",
                f"the job store {self.path} has layout {version}, this release knows {SCHEMA_VERSION}",
                "start the release that wrote it, or move the file away",
            )
        for number, step in enumerate(STEPS[version:], version + 1):
            self._db.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")

    def _rows(self, name: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        return self._guarded(lambda: iter(self._db.execute(SQL[name], values).fetchall()))

    def _write(self, name: str, *values: Any) -> int:
        def run() -> int:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            return self._db.execute(SQL[name], values).rowcount

        return self._guarded(run)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            self.rollback()
            self._broken = self._unwritable(str(error))
            raise self._broken from None

    def _unwritable(self, why: str) -> Failed:
        hint = f"make room on the file system of {self.path}" if "full" in why else f"check {self.path}"
        return Failed("environment_error", f"the job store cannot be written: {why}", hint)

    def commit(self) -> None:
        """Make everything since the last commit durable.

        Raises `Failed` when that cannot be done, or when a write since then failed: one failed write takes the whole
        turn with it, and nothing of it may be told as recorded.
        """
        broken, self._broken = self._broken, None
        if broken:
            self.rollback()
            raise broken
        if self._db.in_transaction:
            try:
                self._guarded(lambda: self._db.execute("COMMIT"))
            finally:
                self._broken = None  # told now; the next turn is another one

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        self.rollback()
        self._db.close()

    def next_epoch(self) -> int:
        """Count this start of the client worker."""
        self._write("set epoch")
        self.commit()
        return int(next(self._rows("epoch"))[0])

    def cluster(self) -> str:
        """The name of this store: given once, and no other has it."""
        self._write("put cluster", str(uuid.uuid4()))
        self.commit()
        return str(next(self._rows("cluster"))[0])

    # ---------------------------------------------------------------------------------------------- jobs

    def _jobs(self, name: str, *values: Any) -> list[Job]:
        return [cast(Job, json.loads(row[0])) for row in self._rows(name, *values)]

    def job(self, job_id: str) -> Job | None:
        return next(iter(self._jobs("job", job_id)), None)

    def job_by_key(self, key: str) -> Job | None:
        return next(iter(self._jobs("job by key", key)), None)

    def jobs_like(self, prefix: str) -> list[Job]:
        """At most five jobs whose id begins so."""
        return self._jobs("jobs by prefix", prefix, prefix + "~")

    def add(self, job: Job) -> None:
        """Record a new job and take its locks."""
        self._write(
            "put job", job["id"], job["key"], job["host"], job["state"], job["slot"], job["object"], job["action"],
            None, None, json.dumps(job),
        )  # fmt: skip
        for lock in job["locks"]:
            self._write("put lock", lock, job["id"])

    def save(self, job: Job, *, journal: str | None, ended_ms: int | None) -> None:
        """Record a job's change; one that has ended gives its locks back in the same transaction.

        `journal`: the host's journal that it is handed to; None keeps what is known.
        """
        self._write("set job", job["state"], journal, ended_ms, json.dumps(job), job["id"])
        if job["state"] in FINAL:
            self._write("free locks", job["id"])

    def journal_of(self, job_id: str) -> str | None:
        """The journal that this job was handed to."""
        return next((row[0] for row in self._rows("journal of job", job_id)), None)

    def last_id(self) -> str | None:
        """The id of the job that was submitted last."""
        return next((row[0] for row in self._rows("last id")), None)

    def count_open(self) -> int:
        return int(next(self._rows("count open"))[0])

    def open_jobs(self, host: str | None = None) -> list[Job]:
        return self._jobs("open") if host is None else self._jobs("open of host", host)

    def handed_jobs(self, host: str) -> list[Job]:
        """The open jobs that a host has been given."""
        return self._jobs("handed of host", host)

    def claimable(self, host: str, slot: str, at_most: int) -> list[Job]:
        """Queued jobs of this host that hold the first place for each of their locks, the oldest first."""
        return self._jobs("claimable", host, slot, at_most) if at_most > 0 else []

    def hosts_behind(self, lock: str) -> list[str]:
        """The hosts of the jobs that wait for a lock."""
        return [row[0] for row in self._rows("hosts behind lock", lock)]

    def holders(self, lock: str) -> list[str]:
        """The jobs that hold or wait for a lock, the holder first."""
        return [row[1] for row in self._rows("lock holders", lock)]

    def list_jobs(self, last: int, *, state: str | None, vm: str | None, host: str | None) -> list[Job]:
        """The newest jobs that fit, the newest last."""
        wanted = {"state": state, "object": vm, "host": host}
        terms = [f"{column} = ?" for column, value in wanted.items() if value]
        values = [value for value in wanted.values() if value]
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        statement = f"SELECT record FROM job {where} ORDER BY id DESC LIMIT ?"
        rows = self._guarded(lambda: self._db.execute(statement, [*values, last]).fetchall())
        return [cast(Job, json.loads(row[0])) for row in reversed(rows)]

    def prune(self, ended_before_ms: int) -> int:
        """Forget jobs that ended before a time (milliseconds since 1970); how many."""
        return self._write("old jobs", ended_before_ms)

    # --------------------------------------------------------------------------------------------- hosts

    def hosts(self) -> list[tuple[str, str, int, dict[str, Any]]]:
        """(name, journal, incarnation, facts) of every host that ever said hello."""
        return [(name, journal, number, json.loads(facts)) for name, journal, number, facts in self._rows("hosts")]

    def put_host(self, name: str, journal: str, incarnation: int, facts: dict[str, Any]) -> None:
        self._write("put host", name, journal, incarnation, json.dumps(facts))

    def remove_host(self, name: str) -> None:
        self._write("remove host", name)

    # ---------------------------------------------------------------------------------------- keys and audit

    def keys(self) -> list[tuple[Any, ...]]:
        """The fields of every `keyring.Known` that ever was, in the order of their making."""
        return list(self._rows("keys"))

    def put_key(self, *fields: Any) -> None:
        self._write("put key", *fields)

    def invitations(self) -> list[tuple[Any, ...]]:
        """The fields of every `keyring.Invited`."""
        return list(self._rows("invitations"))

    def put_invitation(self, *fields: Any) -> None:
        self._write("put invitation", *fields)

    def remove_invitation(self, digest: str) -> None:
        self._write("remove invitation", digest)

    def put_audit(self, *fields: Any) -> None:
        """ms, at, who, role, address, action, object, job, outcome, message."""
        self._write("put audit", *fields)

    def audit(self, last: int, *, who: str | None, outcome: str | None, about: str | None) -> list[tuple[Any, ...]]:
        """The newest entries that fit, the newest first: what was put without its ms."""
        return list(self._rows("audit", who, outcome, about, last))

    def prune_audit(self, before_ms: int) -> None:
        """Forget what was asked before then."""
        self._write("old audit", before_ms)
