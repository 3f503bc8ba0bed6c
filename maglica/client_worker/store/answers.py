"""What the client worker did by itself, by the key of the request: one that is repeated is not done again."""

from __future__ import annotations

import json
from typing import Any

from maglica.client_worker.store.database import Database

KEPT = 100  # the newest; a request is repeated within a minute

SQL = {
    "put answer": "INSERT INTO answer (key, asked, value) VALUES (?, ?, ?)",
    "answer": "SELECT asked, value FROM answer WHERE key = ?",
    "old answers": "DELETE FROM answer WHERE n <= (SELECT max(n) FROM answer) - ?",
}


class Answers:
    """The answers to the last requests that must not be carried out twice."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, key: str, asked: str, value: dict[str, Any]) -> None:
        """`asked`: the whole request, by whom, or what stands for it."""
        self._db.write(SQL["put answer"], key, asked, json.dumps(value))
        self._db.write(SQL["old answers"], KEPT)

    def get(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """(what was asked, what was answered)."""
        return next(((asked, json.loads(value)) for asked, value in self._db.rows(SQL["answer"], key)), None)
