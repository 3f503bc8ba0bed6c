"""What a command asked for in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from maglica.cli import answer as answers
from maglica.cli.answer import Value
from maglica.cli.progress import took
from maglica.errors import MaglicaError, end_of

if TYPE_CHECKING:
    from maglica.cloud import GroupHandle, JobHandle


class Outcome:
    """A job or a group of jobs: how it was submitted, how it goes, how it ended."""

    def __init__(self, name: str, handle: JobHandle | GroupHandle | None = None) -> None:
        self.name = name
        self.handle = handle
        self.error: MaglicaError | None = None

    @property
    def job(self) -> JobHandle | None:
        return None if self.handle is None or self.handle.WHAT != "job" else cast("JobHandle", self.handle)

    @property
    def group(self) -> GroupHandle | None:
        return None if self.handle is None or self.handle.WHAT != "group" else cast("GroupHandle", self.handle)

    @property
    def open(self) -> bool:
        return self.handle is not None and self.error is None and not self.handle.ended

    def close(self) -> None:
        """It has ended: take its error, if it has one."""
        if self.handle is not None and self.error is None and self.handle.ended:
            try:
                self.handle.result()
            except MaglicaError as error:
                error.job = error.job or self.handle.id
                self.error = error

    def rows(self) -> list[Value]:
        """A row for each job."""
        if self.group and (self.group.ended or not self.error):
            name = self.group.id if self.group.recorded else None
            return [{**member, "group": name} for member in self.group.members()]
        return [_row(self)]

    def failures(self) -> list[tuple[str, MaglicaError]]:
        """The error of each job that has one, with the name of what it is about."""
        if self.group and (self.group.ended or not self.error):
            bad = [row for row in self.rows() if row["error"] or row["state"] in ("lost", "forgotten")]
            return [(row["name"], end_of(row)) for row in bad]
        return [(self.name, self.error)] if self.error else []


def _row(outcome: Outcome) -> Value:
    record: Any = outcome.job.record if outcome.job else {}
    group = outcome.group if outcome.group and outcome.group.recorded else None  # it goes on, and was waited for
    result = record.get("result")
    return {
        "name": record.get("object") or outcome.name,
        "state": record.get("state") or (group.record["state"] if group else "refused"),
        "host": record.get("host"),
        "job": record.get("id"),
        "changed": record["changed"] if record else None if group else False,
        "took_seconds": took(record),
        "message": outcome.error.message if outcome.error else "",
        "result": result,
        "error": answers.problem(outcome.error) if outcome.error else None,
        "group": group.id if group else record.get("group"),
    }
