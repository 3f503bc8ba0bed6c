"""What the journal holds: its tables, and their rows as values."""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple

LAYOUT = "2"

# No rowids: they would make a second tree for each key, which no check compares with the rows.
SCHEMA = """
CREATE TABLE self (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE job (
    id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, action TEXT NOT NULL, object TEXT, step TEXT, sign TEXT,
    outcome TEXT, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE undo (
    job TEXT NOT NULL, number INTEGER NOT NULL, what TEXT NOT NULL, args TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""

SQL = {
    "put self": "INSERT OR REPLACE INTO self VALUES (?, ?, ?)",
    "self": "SELECT * FROM self ORDER BY name",
    "put job": "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "job": "SELECT * FROM job WHERE id = ?",
    "forget job": "DELETE FROM job WHERE id = ? AND attempt = ? AND outcome IS NOT NULL",
    "all": "SELECT * FROM job ORDER BY id",
    "put undo": "INSERT OR REPLACE INTO undo VALUES (?, ?, ?, ?, ?)",
    "undos": "SELECT * FROM undo WHERE job = ? ORDER BY number DESC",
    "all undos": "SELECT * FROM undo ORDER BY job DESC, number DESC",
    "forget undo": "DELETE FROM undo WHERE job = ? AND number = ?",
    "forget undos": "DELETE FROM undo WHERE job = ?",
    "forget all but later": "DELETE FROM undo WHERE job = ? AND number <= (SELECT max(number) FROM undo"
    " WHERE job = ? AND what NOT IN (SELECT value FROM json_each(?)))",
    "forget other undos": "DELETE FROM undo WHERE job = ? AND what NOT IN (SELECT value FROM json_each(?))",
    "layout 1": "SELECT name, value FROM self",
    "jobs of layout 1": "SELECT id, attempt, action, object, step, NULL, outcome FROM job",
    "undos of layout 1": "SELECT job, number, what, args FROM undo",
}


class Entry(NamedTuple):
    """One job in the journal; `outcome` is None while it has not ended. `sign`: what shows that its whole effect is
    there, see `work.Sign`.
    """

    id: str
    attempt: int
    action: str
    object: str | None
    step: str | None
    outcome: dict[str, Any] | None
    sign: dict[str, Any] | None = None


class Undo(NamedTuple):
    """How to take back one thing that a job made: a name from `undo.py` and its arguments."""

    number: int
    what: str
    args: dict[str, Any]


class Damaged(Exception):
    """The journal holds something that was never written."""


def entry(row: tuple[Any, ...]) -> Entry:
    """A row of `job`, without its CRC."""
    job, attempt, action, about, step, sign, told = row
    return Entry(
        job, attempt, action, about, step, json.loads(told) if told else None, json.loads(sign) if sign else None
    )


def undo(row: tuple[Any, ...]) -> Undo:
    """A row of `undo`, without its CRC."""
    _, number, what, args = row
    return Undo(number, what, json.loads(args))


def crc(table: str, values: Any) -> int:
    """CRC-32 of a row: it finds every change of one bit."""
    return zlib.crc32(json.dumps([table, *values]).encode())
