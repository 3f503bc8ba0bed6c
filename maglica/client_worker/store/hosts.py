"""The hosts."""

from __future__ import annotations

import json
from typing import Any

from maglica.client_worker.store.database import Database

SQL = {
    "hosts": "SELECT name, journal, incarnation, facts FROM host ORDER BY name",
    "put host": (
        "INSERT INTO host VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
        " SET journal = excluded.journal, incarnation = excluded.incarnation, facts = excluded.facts"
    ),
    "remove host": "DELETE FROM host WHERE name = ?",
}


class Hosts:
    """Every host that ever said hello and was not removed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[tuple[str, str, int, dict[str, Any]]]:
        """(name, journal, incarnation, facts) of every host that ever said hello."""
        return [
            (name, journal, number, json.loads(facts)) for name, journal, number, facts in self._db.rows(SQL["hosts"])
        ]

    def put(self, name: str, journal: str, incarnation: int, facts: dict[str, Any]) -> None:
        self._db.write(SQL["put host"], name, journal, incarnation, json.dumps(facts))

    def remove(self, name: str) -> None:
        self._db.write(SQL["remove host"], name)
