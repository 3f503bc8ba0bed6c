"""The host's journal: which jobs it has begun, what they made, how they ended. The only file here with SQL in it.

Written before anything is done and before anything is told, so that the next start of the host worker knows what to
undo and what to report. No arguments are kept: nothing is ever done again from here, and they may hold secrets.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from typing import Any, NamedTuple

from maglica.errors import Failed

SCHEMA = """
CREATE TABLE IF NOT EXISTS self (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, action TEXT NOT NULL, object TEXT, step TEXT, outcome TEXT
);
CREATE TABLE IF NOT EXISTS undo (
    job TEXT NOT NULL, number INTEGER NOT NULL, what TEXT NOT NULL, args TEXT NOT NULL, PRIMARY KEY (job, number)
);
CREATE TABLE IF NOT EXISTS child (job TEXT NOT NULL, pid INTEGER NOT NULL, born INTEGER NOT NULL);
"""

SQL = {
    "start": "INSERT INTO self VALUES ('starts', '1') ON CONFLICT (name) DO UPDATE SET value = value + 1",
    "starts": "SELECT value FROM self WHERE name = 'starts'",
    "begin": "INSERT INTO job VALUES (?, ?, ?, ?, NULL, NULL)",
    "known": "SELECT attempt FROM job WHERE id = ?",
    "step": "UPDATE job SET step = ? WHERE id = ?",
    "end": "UPDATE job SET outcome = ? WHERE id = ?",
    "forget job": "DELETE FROM job WHERE id = ? AND attempt = ? AND outcome IS NOT NULL",
    "all": "SELECT id, attempt, action, object, step, outcome FROM job ORDER BY id",
    "put undo": "INSERT INTO undo VALUES (?, ?, ?, ?)",
    "undos": "SELECT number, what, args FROM undo WHERE job = ? ORDER BY number DESC",
    "jobs to undo": "SELECT DISTINCT job FROM undo ORDER BY job DESC",
    "forget undo": "DELETE FROM undo WHERE job = ? AND number = ?",
    "forget undos": "DELETE FROM undo WHERE job = ?",
    "put child": "INSERT INTO child VALUES (?, ?, ?)",
    "children": "SELECT pid, born FROM child WHERE job = ?",
    "forget children": "DELETE FROM child WHERE job = ?",
}


class Entry(NamedTuple):
    """One job in the journal; `outcome` is None while it has not ended."""

    id: str
    attempt: int
    action: str
    object: str | None
    step: str | None
    outcome: dict[str, Any] | None


class Undo(NamedTuple):
    """How to take back one thing that a job made: a name from `undo.py` and its arguments."""

    number: int
    what: str
    args: dict[str, Any]


class Journal:
    """Durable; may be used from every thread of the host worker."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            if not os.path.exists(path):
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO self VALUES ('uuid', ?)", [str(uuid.uuid4())])
            self._db.execute(SQL["start"])
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from None
        # How often it was opened: of two processes with this journal, the later one.
        self.starts = int(self._run("starts")[0][0])
        self.uuid = str(self._db.execute("SELECT value FROM self WHERE name = 'uuid'").fetchone()[0])

    def _unusable(self, error: Exception) -> Failed:
        return Failed("environment_error", f"cannot open the journal {self.path}: {error}", "check [paths] state")

    def _run(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(SQL[name], values).fetchall()
            except sqlite3.Error as error:
                hint = "make room on its file system" if "full" in str(error) else f"check {self.path}"
                raise Failed("environment_error", f"the journal cannot be written: {error}", hint) from None

    def begin(self, job: str, attempt: int, action: str, about: str | None) -> bool:
        """Note that a job begins; False when it is known already and must not begin again."""
        if self._run("known", job):
            return False
        self._run("begin", job, attempt, action, about)
        return True

    def step(self, job: str, name: str) -> None:
        self._run("step", name, job)

    def end(self, job: str, outcome: dict[str, Any]) -> None:
        """Note how a job ended, before anybody is told. When it ended well, what it made is no longer to be undone;
        otherwise what could not be undone stays noted, and is tried again at the next start.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                if outcome["state"] == "done":
                    self._db.execute(SQL["forget undos"], [job])
                self._db.execute(SQL["forget children"], [job])
                self._db.execute(SQL["end"], [json.dumps(outcome), job])
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise Failed("environment_error", f"the journal cannot be written: {error}") from None

    def forget(self, job: str, attempt: int) -> None:
        """The client worker has recorded the outcome."""
        self._run("forget job", job, attempt)

    def entries(self) -> list[Entry]:
        return [
            Entry(job, attempt, action, about, step, json.loads(told) if told else None)
            for job, attempt, action, about, step, told in self._run("all")
        ]

    def put_undo(self, job: str, number: int, what: str, args: dict[str, Any]) -> None:
        self._run("put undo", job, number, what, json.dumps(args))

    def undos(self, job: str) -> list[Undo]:
        """What is to be taken back, the last made first."""
        return [Undo(number, what, json.loads(args)) for number, what, args in self._run("undos", job)]

    def jobs_to_undo(self) -> list[str]:
        """The jobs that left something to be taken back, the latest first."""
        return [row[0] for row in self._run("jobs to undo")]

    def forget_undo(self, job: str, number: int) -> None:
        self._run("forget undo", job, number)

    def put_child(self, job: str, pid: int, born: int) -> None:
        self._run("put child", job, pid, born)

    def children(self, job: str) -> list[tuple[int, int]]:
        """(pid, birth) of the processes that a job started."""
        return [(pid, born) for pid, born in self._run("children", job)]

    def close(self) -> None:
        with self._lock:
            self._db.close()
