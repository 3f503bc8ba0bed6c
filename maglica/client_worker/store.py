"""The job store. The only file of the client worker with SQL in it; every statement has a name.

SQLite in WAL mode with `synchronous=FULL`: what was committed survives a power cut. One transaction per turn of the
loop: `write` opens it when needed, `commit` ends it, and only then may anything be told to anybody.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from maglica.ballast import Ballast, free_bytes
from maglica.errors import Failed, Refused
from maglica.job import FINAL, LATER, LATER_OF_GROUPS, Group, Job

log = logging.getLogger("maglica.client_worker")

BALLAST = 16 << 20  # bytes; let go when the disk is full, so that what ends can be written down
FULL = sqlite3.SQLITE_FULL
BUSY_TURNS = 50  # turns of the loop after which secrets are wiped also when it never rests

# After these of SQLite's primary result codes a connection is not to be believed any more. A full disk is none of them.
FATAL = {
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip

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
    # Groups, and lists that read no record but those that they show.
    """
ALTER TABLE job ADD COLUMN owner TEXT;
ALTER TABLE job ADD COLUMN family TEXT;
ALTER TABLE job ADD COLUMN retry_of TEXT;
UPDATE job SET owner = json_extract(record, '$.owner');
CREATE INDEX job_list ON job (id, state, object, host, action, owner, family);
CREATE INDEX job_family ON job (family, state) WHERE family IS NOT NULL;
CREATE INDEX job_retry ON job (retry_of) WHERE retry_of IS NOT NULL;
CREATE TABLE family (id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL, record TEXT NOT NULL)
    WITHOUT ROWID;
""",
    # What is decided about a group without reading its record, and templates.
    """
ALTER TABLE family ADD COLUMN policy TEXT;
ALTER TABLE family ADD COLUMN most INTEGER;
ALTER TABLE family ADD COLUMN decision TEXT;
ALTER TABLE family ADD COLUMN undo_of TEXT;
CREATE INDEX family_most ON family (most) WHERE most IS NOT NULL;
CREATE INDEX family_undo ON family (undo_of) WHERE undo_of IS NOT NULL;
CREATE TABLE template (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
""",
    # What labels of images mean: the highest number of a label is what it means now, the others what it meant before.
    """
CREATE TABLE label (
    label TEXT NOT NULL, number INTEGER NOT NULL, image TEXT NOT NULL, at TEXT NOT NULL, by TEXT NOT NULL,
    PRIMARY KEY (label, number)
) WITHOUT ROWID;
""",
]
SCHEMA_VERSION = len(STEPS)

OPEN = "state IN ('queued', 'claimed', 'running')"

# What is needed of a job without reading its record stands in columns. `family` is its group: GROUP is a word of SQL.
COLUMNS = "id, key, host, state, slot, object, action, owner, family, retry_of, journal, ended_ms, record"

SQL = {
    "job": "SELECT record FROM job WHERE id = ?",
    "job by key": "SELECT record FROM job WHERE key = ?",
    "jobs by prefix": "SELECT record FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
    "put job": f"INSERT INTO job ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "set job": "UPDATE job SET state = ?, journal = coalesce(?, journal), ended_ms = ?, record = ? WHERE id = ?",
    "last id": "SELECT max(id) FROM job",
    "count open": f"SELECT count(*) FROM job WHERE {OPEN}",
    "open of host": f"SELECT record FROM job WHERE host = ? AND {OPEN} ORDER BY id",
    "handed of host": (
        f"SELECT record FROM job WHERE host = ? AND state IN ('claimed', 'running') AND {OPEN} ORDER BY id"
    ),
    "open": f"SELECT record FROM job WHERE {OPEN} ORDER BY id",
    "open of action": f"SELECT record FROM job WHERE action = ? AND {OPEN} ORDER BY id",
    "journal of job": "SELECT journal FROM job WHERE id = ?",
    "hosts behind lock": (
        "SELECT DISTINCT job.host FROM lock JOIN job ON job.id = lock.job WHERE lock.name = ? AND job.state = 'queued'"
    ),
    # All locks of a job are taken at once and in order of submission: it waits while any earlier open job holds one.
    "claimable": (
        "SELECT record FROM job WHERE host = ? AND state = 'queued' AND slot = ? AND NOT EXISTS ("
        " SELECT 1 FROM lock AS mine JOIN lock AS other ON other.name = mine.name"
        " WHERE mine.job = job.id AND other.job < mine.job)"
        " AND (family IS NULL OR family NOT IN (SELECT value FROM json_each(?)))"
        " ORDER BY id LIMIT ?"
    ),
    "bound of family": "SELECT most FROM family WHERE id = ?",
    "bounded families": (
        "SELECT id, most FROM family WHERE most IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM job WHERE job.family = family.id AND job.state = 'queued')"
    ),
    "busy hosts of family": (
        "SELECT host, count(*) FROM job WHERE family = ? AND state IN ('claimed', 'running') GROUP BY host"
    ),
    "policy of family": "SELECT policy, decision FROM family WHERE id = ?",
    "decide family": "UPDATE family SET decision = ? WHERE id = ?",
    "undo of family": "SELECT id FROM family WHERE undo_of = ? ORDER BY id",
    "last end of family": "SELECT max(ended_ms) FROM job WHERE family = ?",
    "next of family": "SELECT host FROM job WHERE family = ? AND state = 'queued' ORDER BY id LIMIT ?",
    "ended of action": "SELECT record FROM job WHERE action = ? AND state = 'done' AND ended_ms >= ?",
    "put template": "INSERT OR REPLACE INTO template VALUES (?, ?)",
    "template": "SELECT record FROM template WHERE name = ?",
    "templates": "SELECT record FROM template ORDER BY name",
    "remove template": "DELETE FROM template WHERE name = ?",
    "count ahead": "SELECT count(*) FROM job WHERE host = ? AND state = 'queued' AND slot = ? AND id < ?",
    "working": (
        f"SELECT id FROM job WHERE host = ? AND state IN ('claimed', 'running') AND slot = ? AND {OPEN} ORDER BY id"
    ),
    "retries": "SELECT record FROM job WHERE retry_of = ? ORDER BY id",
    "put lock": "INSERT INTO lock VALUES (?, ?)",
    "free locks": "DELETE FROM lock WHERE job = ?",
    "lock holders": "SELECT name, job FROM lock WHERE name = ? ORDER BY job",
    "lock before": "SELECT name, job FROM lock WHERE name = ? AND job < ? ORDER BY job LIMIT 1",
    "locks": (
        f"SELECT lock.name, lock.job FROM job CROSS JOIN lock WHERE lock.job = job.id AND job.{OPEN}"
        " ORDER BY lock.name, lock.job"
    ),
    "hosts": "SELECT name, journal, incarnation, facts FROM host ORDER BY name",
    "put host": (
        "INSERT INTO host VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET journal = excluded.journal, incarnation = excluded.incarnation, facts = excluded.facts"
    ),
    "remove host": "DELETE FROM host WHERE name = ?",
    # The newest one stays: hosts compare it with what they were handed, and ids go on from it.
    "old jobs": (
        "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended_ms < ? AND state <> 'lost'"
        " AND id < (SELECT max(id) FROM job) ORDER BY ended_ms LIMIT ?)"
    ),
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
    "old audit": "DELETE FROM audit WHERE ms < ? OR (ms < ? AND role = ? AND outcome = 'denied')",
    "labels": "SELECT label, image, max(number) FROM label GROUP BY label",
    "label": "SELECT image, at, by, number FROM label WHERE label = ? ORDER BY number DESC LIMIT 2",
    "put label": ("INSERT INTO label SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ? FROM label WHERE label = ?"),
    "drop label": "DELETE FROM label WHERE label = ? AND number = ?",
    "forget label": "DELETE FROM label WHERE label = ?",
    "quick check": "PRAGMA quick_check(1)",
    "cluster": "SELECT value FROM meta WHERE name = 'cluster'",
    "put cluster": "INSERT OR IGNORE INTO meta VALUES ('cluster', ?)",
    "old families": (
        "DELETE FROM family WHERE created_ms < ? AND NOT EXISTS (SELECT 1 FROM job WHERE job.family = family.id)"
    ),
    "put family": (
        "INSERT INTO family (id, key, created_ms, record, policy, most, undo_of) VALUES (?, ?, ?, ?, ?, ?, ?)"
    ),
    "family": "SELECT record, decision FROM family WHERE id = ?",
    "family by key": "SELECT record, decision FROM family WHERE key = ?",
    "families by prefix": "SELECT record, decision FROM family WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
    "states of family": "SELECT state, count(*) FROM job WHERE family = ? GROUP BY state",
    "jobs of family": "SELECT record FROM job WHERE family = ? ORDER BY id",
    "about of family": "SELECT object, host FROM job WHERE family = ?",
    "some of family": "SELECT record FROM job WHERE family = ? AND state = ? ORDER BY id LIMIT ?",
    "epoch": "SELECT value FROM meta WHERE name = 'epoch'",
    "set epoch": "UPDATE meta SET value = value + 1 WHERE name = 'epoch'",
}

MOST_LIKE = 50  # jobs or groups that are looked at for what the beginning of an id may mean

T = TypeVar("T")

LARGEST_CHECKED = 64 << 20  # bytes; the loop stands still meanwhile


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class Store:
    """Jobs, locks and hosts, durable.

    `reserve`: bytes that its disk has to keep free for the jobs that are open; below, no more are taken. `fatal`: the
    connection cannot be trusted any more; the client worker has to end, and to open it anew.
    """

    def __init__(self, path: str, reserve: int = 0) -> None:
        self.path = path
        self.fatal: Failed | None = None
        self._reserve = reserve
        self._folder = os.path.dirname(os.path.abspath(path))
        self._ballast = Ballast(path + ".ballast", BALLAST)
        self._full = False  # the disk was full, and the ballast has not been taken back yet
        self._wipe = 0  # turns since something secret became old; 0: nothing did
        self._broken: Failed | None = None  # a write of this turn failed
        fresh = not os.path.exists(path)
        try:
            if fresh:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            # autocommit: transactions begin and end where this file says so
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        if free_bytes(self._folder) < BALLAST // 4:
            self._full = self._ballast.release()
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged(str(error)) from None
            raise self._unusable(error) from None
        except Failed:
            self._db.close()
            raise

    def _unusable(self, error: Exception) -> Failed:
        hint = f"make room on the file system of {self.path}" if _code(error) == FULL else "check [paths] state"
        return Failed("environment_error", f"cannot open the job store {self.path}: {error}", hint)

    def _damaged(self, why: str) -> Failed:
        return Failed(
            "environment_error",
            f"cannot open the job store {self.path}: it is damaged: {why}",
            "put a backup of it in its place: the hosts then tell what has ended since. Without one, move it and its"
            " -wal away to begin anew: jobs that run go on to their ends on their hosts, but are recorded nowhere, and"
            " hosts and people have to be let in again",
        )

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA secure_delete = ON")  # hashes of passwords stand in open jobs
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(" ".join(verdict.split()))
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
            self._broken = self._unwritable(error)
            if _code(error) in FATAL:
                self.fatal = self._broken
            elif _code(error) == FULL:
                self._noticed_full()
            self.rollback()
            raise self._broken from None

    def _unwritable(self, error: sqlite3.Error) -> Failed:
        if _code(error) == FULL:
            hint = f"make room on the file system of {self.path}"
            return Failed("no_capacity", f"the job store cannot be written: {error}", hint)
        return Failed("environment_error", f"the job store cannot be written: {error}", f"check {self.path}")

    # ------------------------------------------------------------------------------------- room, and secrets

    def _noticed_full(self) -> None:
        """This turn is lost, the next one has the ballast's room: hosts and people ask again."""
        if self._ballast.release():
            log.error("the disk of the job store is full; what was kept for that is used up now: make room")
        self._full = True

    def keep_room(self) -> None:
        """Take the ballast (back) when there is room for it; for quiet moments."""
        if self._ballast.fill(self._reserve) and self._full:
            self._full = False
            log.info("there is room again for the job store")

    def refuse_when_low(self) -> None:
        """Raise `Refused` when the disk has too little room for one more job: what is left is for those that run."""
        free = free_bytes(self._folder)
        if free < self._reserve or self._full:
            raise Refused(
                "no_capacity",
                f"the job store's disk is full but for {free >> 20} MiB; no more jobs are accepted",
                f"make room on the client worker's file system of {self._folder}; [client] store_reserve"
                f" ({self._reserve >> 20}M) sets what stays free",
            )

    def wipe_soon(self) -> None:
        """Something secret was overwritten; what it was stands in SQLite's write-ahead log until that is emptied."""
        self._wipe = self._wipe or 1

    def settle(self, idle: bool) -> None:
        """Empty the write-ahead log where that was asked for; `idle`: nobody waits for this turn of the loop."""
        if not self._wipe or self._db.in_transaction:
            return
        self._wipe += 1
        if idle or self._wipe > BUSY_TURNS:
            busy, *_ = self._guarded(lambda: self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
            self._wipe = 1 if busy else 0  # busy: somebody reads it just now

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
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.fatal = self.fatal or self._unwritable(error)

    def close(self) -> None:
        self.rollback()
        self._db.close()

    def next_epoch(self) -> int:
        """Count this start of the client worker."""
        self._write("set epoch")
        self.commit()
        return int(next(self._rows("epoch"))[0])

    def verdict(self) -> str | None:
        """`ok`, or what SQLite finds wrong in the file; None when it is too large to be examined beside the work."""
        if os.path.getsize(self.path) > LARGEST_CHECKED:
            return None
        return str(next(self._rows("quick check"))[0])

    def cluster(self) -> str:
        """The name of this store: given once, and no other has it."""
        self._write("put cluster", str(uuid.uuid4()))
        self.commit()
        return str(next(self._rows("cluster"))[0])

    # ---------------------------------------------------------------------------------------------- jobs

    def _jobs(self, name: str, *values: Any) -> list[Job]:
        return [_job(row[0]) for row in self._rows(name, *values)]

    def job(self, job_id: str) -> Job | None:
        return next(iter(self._jobs("job", job_id)), None)

    def job_by_key(self, key: str) -> Job | None:
        return next(iter(self._jobs("job by key", key)), None)

    def jobs_like(self, prefix: str) -> list[Job]:
        """The first jobs whose id begins so."""
        return self._jobs("jobs by prefix", prefix, prefix + "~", MOST_LIKE)

    def add(self, job: Job) -> None:
        """Record a new job and take its locks."""
        self._write(
            "put job", job["id"], job["key"], job["host"], job["state"], job["slot"], job["object"], job["action"],
            job["owner"], job["group"], job["retry_of"], None, None, json.dumps(job),
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

    def open_of_action(self, action: str) -> list[Job]:
        return self._jobs("open of action", action)

    def done_since(self, action: str, ms: int) -> list[Job]:
        """The jobs of an action that have succeeded since then (milliseconds since 1970)."""
        return self._jobs("ended of action", action, ms)

    def claimable(self, host: str, slot: str, at_most: int, without: Iterable[str] = ()) -> list[Job]:
        """Queued jobs of this host that hold the first place for each of their locks, the oldest first; `without` those
        of these groups.
        """
        return self._jobs("claimable", host, slot, json.dumps(list(without)), at_most) if at_most > 0 else []

    def hosts_behind(self, lock: str) -> list[str]:
        """The hosts of the jobs that wait for a lock."""
        return [row[0] for row in self._rows("hosts behind lock", lock)]

    def count_ahead(self, job: Job) -> int:
        """How many queued jobs of the same host and class were submitted before this one."""
        return int(next(self._rows("count ahead", job["host"], job["slot"], job["id"]))[0])

    def working(self, host: str, slot: str) -> list[str]:
        """The jobs that have a slot of that class on that host."""
        return [row[0] for row in self._rows("working", host, slot)]

    def retries(self, job_id: str) -> list[Job]:
        """The jobs that try this one again."""
        return self._jobs("retries", job_id)

    def holders(self, lock: str) -> list[str]:
        """The jobs that hold or wait for a lock, the holder first."""
        return [row[1] for row in self._rows("lock holders", lock)]

    def lock_before(self, lock: str, job_id: str) -> str | None:
        """The job that holds a lock which this later one wants; None when it is its own turn."""
        return next((row[1] for row in self._rows("lock before", lock, job_id)), None)

    def locks(self) -> Iterator[tuple[str, str]]:
        """(lock, job) of all open jobs: by lock, its holder first and then those who wait, in their order."""
        return ((name, found) for name, found in self._rows("locks"))

    def list_jobs(
        self,
        last: int,
        *,
        state: str | None = None,
        vm: str | None = None,
        host: str | None = None,
        owner: str | None = None,
        action: str | None = None,
        group: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Job]:
        """The newest jobs that fit, the newest last.

        `state` may be `open` or `ended`. `vm` and `host` may be shortened to a part before a dot, `owner` to the part
        before the @. `since`, `until`: ids, which sort by time.
        """
        wanted: list[tuple[str, list[Any]]] = [
            _of_state(state),
            _beginning("object", vm, "."),
            _beginning("host", host, "."),
            _beginning("owner", owner, "@"),
            ("action = ?", [action]),
            ("family = ?", [group]),
            ("id >= ?", [since]),
            ("id < ?", [until]),
        ]
        kept = [(term, values) for term, values in wanted if None not in values]
        where = " AND ".join(["1", *(term for term, _ in kept)])
        # What fits is found in an index that is small however big the records are; they are read afterwards.
        newest = f"SELECT id FROM job WHERE {where} ORDER BY id DESC LIMIT ?"
        statement = f"SELECT record FROM job WHERE id IN ({newest}) ORDER BY id"
        values = [value for _, found in kept for value in found]
        return [_job(row[0]) for row in self._guarded(lambda: self._db.execute(statement, [*values, last]).fetchall())]

    def prune(self, ended_before_ms: int, at_most: int = 1 << 40) -> int:
        """Forget jobs that ended before a time (milliseconds since 1970), and groups none of whose jobs is known any
        more; how many jobs. A lost one is kept until somebody has decided what became of it.
        """
        count = self._write("old jobs", ended_before_ms, at_most)
        self._write("old families", ended_before_ms)
        return count

    # -------------------------------------------------------------------------------------------- groups

    def _groups(self, name: str, *values: Any) -> list[Group]:
        return [
            cast(Group, {**_later(json.loads(record)), "decision": decision and json.loads(decision)})
            for record, decision in self._rows(name, *values)
        ]

    def add_group(self, group: Group, created_ms: int) -> None:
        # The usual policy needs no decisions: those of a thousand jobs then cost nothing.
        policy = {**group["policy"], "count": len(group["members"])} if group["policy"] else None
        self._write(
            "put family", group["id"], group["key"], created_ms, json.dumps(group), policy and json.dumps(policy),
            group["policy"].get("max_parallel"), group["undo_of"],
        )  # fmt: skip

    def policy_of(self, group_id: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """(policy with the `count` of members, what was decided) of a group; (None, None) where it is the usual one."""
        found = next(self._rows("policy of family", group_id), (None, None))
        policy, decision = (text and json.loads(text) for text in found)
        return policy, decision

    def decide(self, group_id: str, decision: dict[str, Any]) -> None:
        """Write down what is done about a group in which too many have failed."""
        self._write("decide family", json.dumps(decision), group_id)

    def bound(self, group_id: str) -> int | None:
        """How many of a group may be at work at once; None: as many as there is room for."""
        return next((row[0] for row in self._rows("bound of family", group_id)), None)

    def bounded(self) -> list[tuple[str, int]]:
        """The groups of which jobs are queued and only so many may be at work at once."""
        return [(name, int(most)) for name, most in self._rows("bounded families")]

    def busy_hosts(self, group_id: str) -> dict[str, int]:
        """How many jobs of a group each host has at work."""
        return {host: int(count) for host, count in self._rows("busy hosts of family", group_id)}

    def undo_of(self, group_id: str) -> list[str]:
        """The groups that take back what this one made."""
        return [row[0] for row in self._rows("undo of family", group_id)]

    def last_end(self, group_id: str) -> int | None:
        """When the last job of a group ended (milliseconds since 1970), of those that have."""
        found: int | None = next(self._rows("last end of family", group_id))[0]
        return found

    def next_hosts(self, group_id: str, at_most: int) -> list[str]:
        """The hosts of the first queued jobs of a group."""
        return sorted({row[0] for row in self._rows("next of family", group_id, at_most)})

    def group(self, group_id: str) -> Group | None:
        return next(iter(self._groups("family", group_id)), None)

    def group_by_key(self, key: str) -> Group | None:
        return next(iter(self._groups("family by key", key)), None)

    def groups_like(self, prefix: str) -> list[Group]:
        """The first groups whose id begins so."""
        return self._groups("families by prefix", prefix, prefix + "~", MOST_LIKE)

    def states_of(self, group_id: str) -> dict[str, int]:
        """How many jobs of a group are in which state."""
        return {state: int(count) for state, count in self._rows("states of family", group_id)}

    def jobs_of(self, group_id: str) -> list[Job]:
        return self._jobs("jobs of family", group_id)

    def about(self, group_id: str) -> list[tuple[str | None, str]]:
        """What each job of a group is about, and on which host it is."""
        return [(vm, host) for vm, host in self._rows("about of family", group_id)]

    def some_of(self, group_id: str, state: str, at_most: int) -> list[Job]:
        """The first jobs of a group that are in that state."""
        return self._jobs("some of family", group_id, state, at_most)

    # ---------------------------------------------------------------------------------------- templates

    def put_template(self, name: str, record: dict[str, Any]) -> None:
        self._write("put template", name, json.dumps(record))

    def template(self, name: str) -> dict[str, Any] | None:
        return next((json.loads(row[0]) for row in self._rows("template", name)), None)

    def templates(self) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in self._rows("templates")]

    def remove_template(self, name: str) -> bool:
        return self._write("remove template", name) > 0

    # --------------------------------------------------------------------------------------------- hosts

    def hosts(self) -> list[tuple[str, str, int, dict[str, Any]]]:
        """(name, journal, incarnation, facts) of every host that ever said hello."""
        return [(name, journal, number, json.loads(facts)) for name, journal, number, facts in self._rows("hosts")]

    def put_host(self, name: str, journal: str, incarnation: int, facts: dict[str, Any]) -> None:
        self._write("put host", name, journal, incarnation, json.dumps(facts))

    def remove_host(self, name: str) -> None:
        self._write("remove host", name)

    # ---------------------------------------------------------------------------------------- keys and audit

    def known_keys(self) -> list[tuple[Any, ...]]:
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

    def labels(self) -> dict[str, str]:
        """What each label of images means now."""
        return {label: image for label, image, _ in self._rows("labels")}

    def put_label(self, label: str, image: str, at: str, by: str) -> None:
        """A label means another image from now on; what it meant before is kept."""
        self._write("put label", label, image, at, by, label)

    def previous(self, label: str) -> str | None:
        """What a label meant before; None when it never meant anything else."""
        rows = list(self._rows("label", label))
        return str(rows[1][0]) if len(rows) > 1 else None

    def roll_back(self, label: str) -> None:
        """A label means again what it meant before."""
        self._write("drop label", label, next(iter(self._rows("label", label)))[3])

    def forget_label(self, label: str) -> None:
        """There is no such label any more, and never was."""
        self._write("forget label", label)

    def prune_audit(self, before_ms: int, denied_before_ms: int, role: str) -> None:
        """Forget what was asked before then, and what was denied to that role before another time."""
        self._write("old audit", before_ms, denied_before_ms, role)


def _job(text: str) -> Job:
    """A record as it was written, with what records of older releases lack."""
    found = json.loads(text)
    return cast(Job, {**found, **dict.fromkeys(LATER - found.keys())})


def _later(group: dict[str, Any]) -> dict[str, Any]:
    """The record of a group with what those of older releases lack."""
    return {**group, **{name: value for name, value in LATER_OF_GROUPS.items() if name not in group}}


def _of_state(state: str | None) -> tuple[str, list[Any]]:
    if state in ("open", "ended"):
        marks = ", ".join("?" * len(FINAL))
        return f"state {'NOT ' if state == 'open' else ''}IN ({marks})", sorted(FINAL)
    return "state = ?", [state]


def _beginning(column: str, value: str | None, end: str) -> tuple[str, list[Any]]:
    """The condition that a column is this value, or begins with it and `end`."""
    if value is None:
        return "", [None]
    return f"({column} = ? OR ({column} > ? AND {column} < ?))", [value, value + end, value + chr(ord(end) + 1)]
