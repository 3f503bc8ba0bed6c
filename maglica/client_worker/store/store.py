"""The job store as a whole."""

from __future__ import annotations

import uuid

from maglica.client_worker.store.answers import Answers
from maglica.client_worker.store.audit import AuditLog
from maglica.client_worker.store.database import Database
from maglica.client_worker.store.groups import Groups
from maglica.client_worker.store.hosts import Hosts
from maglica.client_worker.store.jobs import Jobs
from maglica.client_worker.store.keys import Keys
from maglica.client_worker.store.labels import Labels
from maglica.client_worker.store.templates import Templates

SQL = {
    "epoch": "SELECT value FROM meta WHERE name = 'epoch'",
    "set epoch": "UPDATE meta SET value = value + 1 WHERE name = 'epoch'",
    "cluster": "SELECT value FROM meta WHERE name = 'cluster'",
    "put cluster": "INSERT OR IGNORE INTO meta VALUES ('cluster', ?)",
}


class Store(Database):
    """What the client worker has to remember, durable.

    `reserve`: bytes that its disk has to keep free for the jobs that are open; below, no more are taken. `fatal`: the
    connection cannot be trusted any more; the client worker has to end, and to open it anew.
    """

    def __init__(self, path: str, reserve: int = 0) -> None:
        """Raises `Failed` when the place is not usable, or what is there is not to be trusted."""
        super().__init__(path, reserve)
        self.jobs = Jobs(self)
        self.groups = Groups(self)
        self.templates = Templates(self)
        self.hosts = Hosts(self)
        self.keys = Keys(self)
        self.audit = AuditLog(self)
        self.labels = Labels(self)
        self.answers = Answers(self)

    def next_epoch(self) -> int:
        """Count this start of the client worker."""
        self.write(SQL["set epoch"])
        self.commit()
        return int(next(self.rows(SQL["epoch"]))[0])

    def cluster(self) -> str:
        """The name of this store: given once, and no other has it."""
        self.write(SQL["put cluster"], str(uuid.uuid4()))
        self.commit()
        return str(next(self.rows(SQL["cluster"]))[0])

    def prune(self, ended_before_ms: int, at_most: int = 1 << 40) -> int:
        """Forget jobs that ended before a time (milliseconds since 1970), and groups none of whose jobs is known any
        more; how many jobs. A lost one is kept until somebody has decided what became of it.
        """
        count = self.jobs.prune(ended_before_ms, at_most)
        self.groups.prune(ended_before_ms)
        return count
