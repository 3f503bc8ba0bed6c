"""What is written down of a job, and when."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from maglica.host_worker.journal.database import Database
from maglica.host_worker.journal.rows import Entry, Undo, entry, undo

# Undos that may be made when their job has ended, and others have changed its VM since: of files and volumes that bear
# the job's id, and are nobody else's. They are kept only as far as they lie above all others: what was to be undone
# before them never will be, and may rest on them.
LATER = frozenset(
    {"remove_part", "remove_in_guest", "remove_volumes", "settle_removed", "settle_removed_volumes", "settle_replaced"}
)


class Journal(Database):
    """The jobs that this host has begun and whose ends are not recorded by the client worker yet.

    Durable; may be used from every thread of the host worker. What `trouble` and `fatal` mean stands at `Database`.
    """

    def begin(self, job: str, attempt: int, action: str, about: str | None) -> bool:
        """Note that a job begins; False when it is known already and must not begin again.

        Not synced: it looks first, and says `will` before it changes anything. What a power cut forgets has done
        nothing, and is handed out again.
        """
        if self.rows("job", job):
            return False
        self.write(lambda: self.put("job", job, attempt, action, about, None, None, None), synced=False)
        return True

    def will(self, job: str) -> None:
        """From here on the job changes things: that it has begun survives a power cut as well."""
        self._change(job, lambda row: row)

    def step(self, job: str, name: str, sign: dict[str, Any] | None = None) -> None:
        """Note the step that a job is in, and what will show, if it is the last one, that all of it was done."""
        self._change(job, lambda row: (*row[:4], name, json.dumps(sign) if sign else None, row[6]))

    def waits(self, job: str, name: str) -> None:
        """Note what a job does beside its last step, whose sign stays."""
        self._change(job, lambda row: (*row[:4], name, *row[5:]))

    def end(self, job: str, outcome: dict[str, Any]) -> None:
        """Note how a job ended, before anybody is told. When it ended well, what it made is no longer to be undone;
        otherwise only what may be undone `LATER` as well stays noted, and is tried again.
        """

        def forget() -> None:
            if outcome["state"] == "done":
                self.execute("forget undos", job)
            else:
                self.execute("forget all but later", job, job, json.dumps(sorted(LATER)))

        self._change(job, lambda row: (*row[:5], None, json.dumps(outcome)), forget)

    def _change(
        self, job: str, change: Callable[[tuple[Any, ...]], tuple[Any, ...]], more: Callable[[], None] = lambda: None
    ) -> None:
        def work() -> None:
            for row in self.read("job", job):
                self.put("job", *change(row))
            more()

        self.write(work)

    def forget(self, jobs: list[tuple[str, int]]) -> None:
        """The client worker has recorded the outcomes of these jobs and attempts. Not synced: what a power cut brings
        back is told, and acknowledged, once more.
        """

        def work() -> None:
            for job, attempt in jobs:
                self.execute("forget job", job, attempt)

        if jobs:
            self.write(work, synced=False)

    def entries(self) -> list[Entry]:
        return [entry(row) for row in self.rows("all")]

    def put_undo(self, job: str, number: int, what: str, args: dict[str, Any]) -> None:
        self.write(lambda: self.put("undo", job, number, what, json.dumps(args)))

    def undos(self, job: str) -> list[Undo]:
        """What is to be taken back, the last made first."""
        return [undo(row) for row in self.rows("undos", job)]

    def jobs_to_undo(self) -> list[str]:
        """The jobs that left something to be taken back, the latest first."""
        return list(dict.fromkeys(row[0] for row in self.rows("all undos")))

    def keep(self, job: str) -> None:
        """What the job made is no longer to be undone, whatever becomes of the job."""
        self.write(lambda: self.execute("forget undos", job))

    def commit(self, job: str, but: Sequence[str]) -> None:
        """The same, but for undos of these names: what they settle is settled in any case."""
        self.write(lambda: self.execute("forget other undos", job, json.dumps(list(but))))

    def forget_undo(self, job: str, number: int) -> None:
        self.write(lambda: self.execute("forget undo", job, number))

    def let_go(self, job: str) -> None:
        """Nothing more is tried of what a job made but what may be undone `LATER`."""
        if any(undo.what not in LATER for undo in self.undos(job)):
            self.write(lambda: self.execute("forget all but later", job, job, json.dumps(sorted(LATER))))

    def take_over(self, jobs: list[tuple[Any, ...]], undos: list[tuple[Any, ...]]) -> None:
        """Write down what could be read of a damaged journal."""

        def work() -> None:
            for row in jobs:
                self.put("job", *row)
            for row in undos:
                self.put("undo", *row)

        self.write(work)
