"""The templates."""

from __future__ import annotations

import json
from typing import Any

from maglica.client_worker.store.database import Database

SQL = {
    "put template": "INSERT OR REPLACE INTO template VALUES (?, ?)",
    "template": "SELECT record FROM template WHERE name = ?",
    "templates": "SELECT record FROM template ORDER BY name",
    "remove template": "DELETE FROM template WHERE name = ?",
}


class Templates:
    """Every template, by its name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, name: str, record: dict[str, Any]) -> None:
        self._db.write(SQL["put template"], name, json.dumps(record))

    def get(self, name: str) -> dict[str, Any] | None:
        return next((json.loads(row[0]) for row in self._db.rows(SQL["template"], name)), None)

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(row[0]) for row in self._db.rows(SQL["templates"])]

    def remove(self, name: str) -> bool:
        return self._db.write(SQL["remove template"], name) > 0
