"""The audit."""

from __future__ import annotations

from typing import Any

from maglica.client_worker.store.database import Database

SQL = {
    "put audit": (
        "INSERT INTO audit (ms, at, who, role, address, action, object, job, outcome, message)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    "audit": (
        "SELECT at, who, role, address, action, object, job, outcome, message FROM audit"
        " WHERE who = coalesce(?, who) AND role = coalesce(?, role) AND outcome = coalesce(?, outcome)"
        " AND object IS coalesce(?, object)"
        " ORDER BY n DESC LIMIT ?"
    ),
    "old audit": "DELETE FROM audit WHERE ms < ? OR (ms < ? AND role = ? AND outcome = 'denied')",
}


class AuditLog:
    """What was asked for by whom, and allowed or not."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, *fields: Any) -> None:
        """ms, at, who, role, address, action, object, job, outcome, message."""
        self._db.write(SQL["put audit"], *fields)

    def latest(
        self, last: int, *, who: str | None, role: str | None, outcome: str | None, about: str | None
    ) -> list[tuple[Any, ...]]:
        """The newest entries that fit, the newest first: what was put without its ms."""
        return list(self._db.rows(SQL["audit"], who, role, outcome, about, last))

    def prune(self, before_ms: int, denied_before_ms: int, role: str) -> None:
        """Forget what was asked before then, and what was denied to that role before another time."""
        self._db.write(SQL["old audit"], before_ms, denied_before_ms, role)
