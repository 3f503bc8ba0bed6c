"""The jobs, and who holds or waits for which lock."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any, cast

from maglica.client_worker.store.database import Database
from maglica.job import DONE, FINAL, LATER, Job

MOST_LIKE = 50  # jobs or groups that are looked at for what the beginning of an id may mean

MOST_ENDED = 5000  # of one action that are known to have ended lately: more than do while hosts are asked

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
    "count ahead": "SELECT count(*) FROM job WHERE host = ? AND state = 'queued' AND slot = ? AND id < ?",
    "working": (
        f"SELECT id FROM job WHERE host = ? AND state IN ('claimed', 'running') AND slot = ? AND {OPEN} ORDER BY id"
    ),
    "retries": "SELECT record FROM job WHERE retry_of = ? ORDER BY id",
    # One that tries it again may have been tried again itself.
    "tries": (
        "WITH RECURSIVE again (id) AS (SELECT id FROM job WHERE retry_of = ?"
        " UNION SELECT job.id FROM again CROSS JOIN job ON job.retry_of = again.id)"
        " SELECT record FROM job WHERE id IN again ORDER BY id"
    ),
    "jobs of family": "SELECT record FROM job WHERE family = ? ORDER BY id",
    "some of family": "SELECT record FROM job WHERE family = ? AND state = ? ORDER BY id LIMIT ?",
    "put lock": "INSERT INTO lock VALUES (?, ?)",
    "free locks": "DELETE FROM lock WHERE job = ?",
    "free lock": "DELETE FROM lock WHERE name = ? AND job = ?",
    "lock holders": "SELECT name, job FROM lock WHERE name = ? ORDER BY job",
    "lock before": "SELECT name, job FROM lock WHERE name = ? AND job < ? ORDER BY job LIMIT 1",
    "locks": (
        f"SELECT lock.name, lock.job FROM job CROSS JOIN lock WHERE lock.job = job.id AND job.{OPEN}"
        " ORDER BY lock.name, lock.job"
    ),
    # The newest one stays: hosts compare it with what they were handed, and ids go on from it.
    "old jobs": (
        "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended_ms < ? AND state <> 'lost'"
        " AND id < (SELECT max(id) FROM job) ORDER BY ended_ms LIMIT ?)"
    ),
}


class Jobs:
    """Every job that is not forgotten, and the locks of those that are open."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.ends = 0  # jobs that have ended since this start, counted: what came later is known without a clock
        self._ended: dict[str, deque[tuple[int, str]]] = {}  # by action: the last ones of these, with their numbers

    def _found(self, statement: str, *values: Any) -> list[Job]:
        return [_job(row[0]) for row in self._db.rows(statement, *values)]

    def get(self, job_id: str) -> Job | None:
        return next(iter(self._found(SQL["job"], job_id)), None)

    def by_key(self, key: str) -> Job | None:
        return next(iter(self._found(SQL["job by key"], key)), None)

    def like(self, prefix: str) -> list[Job]:
        """The first jobs whose id begins so."""
        return self._found(SQL["jobs by prefix"], prefix, prefix + "~", MOST_LIKE)

    def add(self, job: Job) -> None:
        """Record a new job and take its locks."""
        self._db.write(
            SQL["put job"], job["id"], job["key"], job["host"], job["state"], job["slot"], job["object"], job["action"],
            job["owner"], job["group"], job["retry_of"], None, None, json.dumps(job),
        )  # fmt: skip
        self.take(job["locks"], job["id"])

    def save(self, job: Job, *, journal: str | None, ended_ms: int | None) -> None:
        """Record a job's change; one that has ended gives its locks back in the same transaction.

        `journal`: the host's journal that it is handed to; None keeps what is known.
        """
        self._db.write(SQL["set job"], job["state"], journal, ended_ms, json.dumps(job), job["id"])
        if job["state"] in FINAL:
            self._db.write(SQL["free locks"], job["id"])
            if _may_have_made(job):
                self.ends += 1
                self._ended.setdefault(job["action"], deque(maxlen=MOST_ENDED)).append((self.ends, job["id"]))

    def take(self, locks: Iterable[str], job_id: str) -> None:
        """A job holds these locks, or waits for them in its place in their lines."""
        for lock in locks:
            self._db.write(SQL["put lock"], lock, job_id)

    def free(self, lock: str, job_id: str) -> None:
        """A job that goes on gives one of its locks back."""
        self._db.write(SQL["free lock"], lock, job_id)

    def journal_of(self, job_id: str) -> str | None:
        """The journal that this job was handed to."""
        return next((row[0] for row in self._db.rows(SQL["journal of job"], job_id)), None)

    def last_id(self) -> str | None:
        """The id of the job that was submitted last."""
        return next((row[0] for row in self._db.rows(SQL["last id"])), None)

    def count_open(self) -> int:
        return int(next(self._db.rows(SQL["count open"]))[0])

    def open(self, host: str | None = None) -> list[Job]:
        return self._found(SQL["open"]) if host is None else self._found(SQL["open of host"], host)

    def handed(self, host: str) -> list[Job]:
        """The open jobs that a host has been given."""
        return self._found(SQL["handed of host"], host)

    def open_of_action(self, action: str) -> list[Job]:
        return self._found(SQL["open of action"], action)

    def ended_since(self, action: str, ends: int) -> list[Job]:
        """The jobs of an action that have ended since so many had, in this start of the client worker, and may have
        made something: also a clone is there whose guest was waited for in vain.
        """
        later = takewhile(lambda one: one[0] > ends, reversed(self._ended.get(action, ())))
        found = [self.get(job_id) for _, job_id in later]
        return [one for one in found if one and one["state"] in FINAL]  # the end of another one was taken back

    def claimable(self, host: str, slot: str, at_most: int, without: Iterable[str] = ()) -> list[Job]:
        """Queued jobs of this host that hold the first place for each of their locks, the oldest first; `without` those
        of these groups.
        """
        return self._found(SQL["claimable"], host, slot, json.dumps(list(without)), at_most) if at_most > 0 else []

    def hosts_behind(self, lock: str) -> list[str]:
        """The hosts of the jobs that wait for a lock."""
        return [row[0] for row in self._db.rows(SQL["hosts behind lock"], lock)]

    def count_ahead(self, job: Job) -> int:
        """How many queued jobs of the same host and class were submitted before this one."""
        return int(next(self._db.rows(SQL["count ahead"], job["host"], job["slot"], job["id"]))[0])

    def working(self, host: str, slot: str) -> list[str]:
        """The jobs that have a slot of that class on that host."""
        return [row[0] for row in self._db.rows(SQL["working"], host, slot)]

    def retries(self, job_id: str) -> list[Job]:
        """The jobs that try this one again."""
        return self._found(SQL["retries"], job_id)

    def tries(self, job_id: str) -> list[Job]:
        """The jobs that try this one again, and those that try them again, and so on."""
        return self._found(SQL["tries"], job_id)

    def holders(self, lock: str) -> list[str]:
        """The jobs that hold or wait for a lock, the holder first."""
        return [row[1] for row in self._db.rows(SQL["lock holders"], lock)]

    def lock_before(self, lock: str, job_id: str) -> str | None:
        """The job that holds a lock which this later one wants; None when it is its own turn."""
        return next((row[1] for row in self._db.rows(SQL["lock before"], lock, job_id)), None)

    def locks(self) -> Iterator[tuple[str, str]]:
        """(lock, job) of all open jobs: by lock, its holder first and then those who wait, in their order."""
        return ((name, found) for name, found in self._db.rows(SQL["locks"]))

    def latest(
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
        return self._found(statement, *(value for _, values in kept for value in values), last)

    def of_group(self, group_id: str) -> list[Job]:
        return self._found(SQL["jobs of family"], group_id)

    def some_of_group(self, group_id: str, state: str, at_most: int) -> list[Job]:
        """The first jobs of a group that are in that state."""
        return self._found(SQL["some of family"], group_id, state, at_most)

    def prune(self, ended_before_ms: int, at_most: int) -> int:
        """Forget jobs that ended before a time (milliseconds since 1970), the oldest first; how many.

        A lost one is kept until somebody has decided what became of it.
        """
        return self._db.write(SQL["old jobs"], ended_before_ms, at_most)


def _job(text: str) -> Job:
    """A record as it was written, with what records of older releases lack."""
    found = json.loads(text)
    return cast(Job, {**found, **dict.fromkeys(LATER - found.keys())})


def _may_have_made(job: Job) -> bool:
    """Whether there may be something that this job, which has ended, made: a host began it, and did not refuse it."""
    return job["state"] == DONE or (job["claimed_at"] is not None and (job["error"] or {}).get("kind") != "refused")


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
