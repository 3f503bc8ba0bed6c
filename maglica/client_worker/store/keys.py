"""The keys and invitations."""

from __future__ import annotations

from typing import Any

from maglica.client_worker.store.database import Database

SQL = {
    "keys": "SELECT public, name, role, created_at, created_by, expires_ms, revoked_at FROM key ORDER BY created_at",
    "put key": "INSERT OR REPLACE INTO key VALUES (?, ?, ?, ?, ?, ?, ?)",
    "invitations": (
        "SELECT digest, host, created_at, created_by, expires_ms, used_at, used_by, address FROM invitation"
        " ORDER BY created_at"
    ),
    "put invitation": "INSERT OR REPLACE INTO invitation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "remove invitation": "DELETE FROM invitation WHERE digest = ?",
}


class Keys:
    """Who may come, or could."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[tuple[Any, ...]]:
        """The fields of every `keyring.Known` that ever was, in the order of their making."""
        return list(self._db.rows(SQL["keys"]))

    def put(self, *fields: Any) -> None:
        self._db.write(SQL["put key"], *fields)

    def invitations(self) -> list[tuple[Any, ...]]:
        """The fields of every `keyring.Invited`."""
        return list(self._db.rows(SQL["invitations"]))

    def put_invitation(self, *fields: Any) -> None:
        self._db.write(SQL["put invitation"], *fields)

    def remove_invitation(self, digest: str) -> None:
        self._db.write(SQL["remove invitation"], digest)
