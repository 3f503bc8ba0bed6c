"""What labels of images mean."""

from __future__ import annotations

from maglica.client_worker.store.database import Database

SQL = {
    "labels": "SELECT label, image, max(number) FROM label GROUP BY label",
    "label": "SELECT image, at, by, number FROM label WHERE label = ? ORDER BY number DESC LIMIT 2",
    "put label": ("INSERT INTO label SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ? FROM label WHERE label = ?"),
    "drop label": "DELETE FROM label WHERE label = ? AND number = ?",
    "forget label": "DELETE FROM label WHERE label = ?",
}


class Labels:
    """What each label means, and meant before."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> dict[str, str]:
        """What each label of images means now."""
        return {label: image for label, image, _ in self._db.rows(SQL["labels"])}

    def put(self, label: str, image: str, at: str, by: str) -> None:
        """A label means another image from now on; what it meant before is kept."""
        self._db.write(SQL["put label"], label, image, at, by, label)

    def previous(self, label: str) -> str | None:
        """What a label meant before; None when it never meant anything else."""
        rows = list(self._db.rows(SQL["label"], label))
        return str(rows[1][0]) if len(rows) > 1 else None

    def roll_back(self, label: str) -> None:
        """A label means again what it meant before."""
        self._db.write(SQL["drop label"], label, next(iter(self._db.rows(SQL["label"], label)))[3])

    def forget(self, label: str) -> None:
        """There is no such label any more, and never was."""
        self._db.write(SQL["forget label"], label)
