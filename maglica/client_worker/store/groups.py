"""The groups, and what is to be known of their jobs together."""

from __future__ import annotations

import json
from typing import Any, cast

from maglica.client_worker.store.database import Database
from maglica.client_worker.store.jobs import MOST_LIKE
from maglica.job import LATER_OF_GROUPS, Group

SQL = {
    "family": "SELECT record, decision FROM family WHERE id = ?",
    "family by key": "SELECT record, decision FROM family WHERE key = ?",
    "families by prefix": "SELECT record, decision FROM family WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
    "put family": (
        "INSERT INTO family (id, key, created_ms, record, policy, most, undo_of, retry_of)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
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
    # One that tries it again may have been tried again itself.
    "tries of family": (
        "WITH RECURSIVE again (id) AS (SELECT id FROM family WHERE retry_of = ?"
        " UNION SELECT family.id FROM again CROSS JOIN family ON family.retry_of = again.id)"
        " SELECT record, decision FROM family WHERE id IN again ORDER BY id"
    ),
    "last end of family": "SELECT max(ended_ms) FROM job WHERE family = ?",
    "next of family": "SELECT host FROM job WHERE family = ? AND state = 'queued' ORDER BY id LIMIT ?",
    "states of family": "SELECT state, count(*) FROM job WHERE family = ? GROUP BY state",
    "about of family": "SELECT id, object, host FROM job WHERE family = ?",
    "old families": (
        "DELETE FROM family WHERE created_ms < ? AND NOT EXISTS (SELECT 1 FROM job WHERE job.family = family.id)"
    ),
}


class Groups:
    """Every group of which a job is known."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def _found(self, statement: str, *values: Any) -> list[Group]:
        return [
            cast(Group, {**_later(json.loads(record)), "decision": decision and json.loads(decision)})
            for record, decision in self._db.rows(statement, *values)
        ]

    def get(self, group_id: str) -> Group | None:
        return next(iter(self._found(SQL["family"], group_id)), None)

    def by_key(self, key: str) -> Group | None:
        return next(iter(self._found(SQL["family by key"], key)), None)

    def like(self, prefix: str) -> list[Group]:
        """The first groups whose id begins so."""
        return self._found(SQL["families by prefix"], prefix, prefix + "~", MOST_LIKE)

    def add(self, group: Group, created_ms: int) -> None:
        # The usual policy needs no decisions: those of a thousand jobs then cost nothing.
        policy = {**group["policy"], "count": len(group["members"])} if group["policy"] else None
        self._db.write(
            SQL["put family"], group["id"], group["key"], created_ms, json.dumps(group), policy and json.dumps(policy),
            group["policy"].get("max_parallel"), group["undo_of"], group["retry_of"],
        )  # fmt: skip

    def policy_of(self, group_id: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """(policy with the `count` of members, what was decided) of a group; (None, None) where it is the usual one."""
        found = next(self._db.rows(SQL["policy of family"], group_id), (None, None))
        policy, decision = (text and json.loads(text) for text in found)
        return policy, decision

    def decide(self, group_id: str, decision: dict[str, Any]) -> None:
        """Write down what is done about a group in which too many have failed."""
        self._db.write(SQL["decide family"], json.dumps(decision), group_id)

    def bound(self, group_id: str) -> int | None:
        """How many of a group may be at work at once; None: as many as there is room for."""
        return next((row[0] for row in self._db.rows(SQL["bound of family"], group_id)), None)

    def bounded(self) -> list[tuple[str, int]]:
        """The groups of which jobs are queued and only so many may be at work at once."""
        return [(name, int(most)) for name, most in self._db.rows(SQL["bounded families"])]

    def busy_hosts(self, group_id: str) -> dict[str, int]:
        """How many jobs of a group each host has at work."""
        return {host: int(count) for host, count in self._db.rows(SQL["busy hosts of family"], group_id)}

    def undo_of(self, group_id: str) -> list[str]:
        """The groups that take back what this one made."""
        return [row[0] for row in self._db.rows(SQL["undo of family"], group_id)]

    def tries(self, group_id: str) -> list[Group]:
        """The groups that try this one again, and those that try them again, and so on."""
        return self._found(SQL["tries of family"], group_id)

    def last_end(self, group_id: str) -> int | None:
        """When the last job of a group ended (milliseconds since 1970), of those that have."""
        found: int | None = next(self._db.rows(SQL["last end of family"], group_id))[0]
        return found

    def next_hosts(self, group_id: str, at_most: int) -> list[str]:
        """The hosts of the first queued jobs of a group."""
        return sorted({row[0] for row in self._db.rows(SQL["next of family"], group_id, at_most)})

    def states_of(self, group_id: str) -> dict[str, int]:
        """How many jobs of a group are in which state."""
        return {state: int(count) for state, count in self._db.rows(SQL["states of family"], group_id)}

    def about(self, group_id: str) -> dict[str, tuple[str | None, str]]:
        """What each job of a group is about, as far as it is not forgotten, and on which host it is."""
        return {job: (vm, host) for job, vm, host in self._db.rows(SQL["about of family"], group_id)}

    def prune(self, created_before_ms: int) -> None:
        """Forget those made before a time (milliseconds since 1970) none of whose jobs is known any more."""
        self._db.write(SQL["old families"], created_before_ms)


def _later(group: dict[str, Any]) -> dict[str, Any]:
    """The record of a group with what those of older releases lack."""
    return {**group, **{name: value for name, value in LATER_OF_GROUPS.items() if name not in group}}
