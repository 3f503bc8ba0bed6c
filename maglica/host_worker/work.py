"""One job at work: its steps, its progress, its undo, and whether it shall stop."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from maglica.errors import Failed, MaglicaError
from maglica.host_worker import commands
from maglica.host_worker.commands import Ended
from maglica.host_worker.journal import Journal

log = logging.getLogger("maglica.host_worker")

TAKING_BACK = "taking back"
LOCKED = "Is another process using the image"  # what QEMU's programs say of a disk that is open elsewhere


class Planned(Exception):
    """A dry run has come to the point where it would begin to change things."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.plan = plan


class Work:
    """What a job function holds in its hands. Everything it makes is noted in the journal first."""

    def __init__(
        self,
        job: str,
        limit: float,
        journal: Journal | None,
        changed: Callable[[], None],
        *,
        dry_run: bool = False,
        give_slot_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self._deadline = time.monotonic() + limit
        self._journal = journal
        self._changed = changed
        self._dry_run = dry_run
        self._give_slot_back = give_slot_back
        self._cancel = threading.Event()
        self._beyond_cancel = False
        self._undos = 0
        self._told = threading.Lock()
        self._step: str | None = None
        self._progress: dict[str, int] | None = None
        self._steps: list[dict[str, Any]] = []
        self._commands: list[dict[str, Any]] = []

    # ------------------------------------------------------------------------- what a job function calls

    def will(self, plan: dict[str, Any]) -> None:
        """Everything was looked at and is in order; from here on things are changed. A dry run ends here."""
        if self._dry_run:
            raise Planned(plan)
        self.check()
        if self._journal:
            self._journal.will(self.job)

    @contextmanager
    def step(
        self, name: str, note: str | None = None, *, sign: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """One step of the job, timed; a job that shall stop does not begin it. Gives its record, for a `note`.

        `sign`, for the last one: what will show that the whole job is done, should nobody be left to note its end.
        """
        self.check()
        with self._shown(name, note) as record:
            if self._journal:
                self._journal.step(self.job, name, sign)
            self._changed()
            yield record

    @contextmanager
    def _shown(self, name: str, note: str | None) -> Iterator[dict[str, Any]]:
        record: dict[str, Any] = {"name": name, "seconds": None, "note": note}
        began = time.monotonic()
        with self._told:
            self._step, self._progress = name, None
        try:
            yield record
        finally:
            with self._told:
                record["seconds"] = round(time.monotonic() - began, 3)
                self._steps.append(record)
                self._progress = None
            self._changed()

    def seconds(self) -> dict[str, float]:
        """The time that each step took so far."""
        with self._told:
            return {step["name"]: step["seconds"] for step in self._steps}

    def substep(self, name: str) -> None:
        """A name for what the running step does just now."""
        with self._told:
            self._step = f"{(self._step or '').partition(': ')[0]}: {name}"
        self._changed()

    def progress(self, done: int, total: int) -> None:
        """How many of how many bytes of this step are done."""
        with self._told:
            self._progress = {"done_bytes": done, "total_bytes": total}
        self._changed()

    def check(self) -> None:
        """Raise `Failed` when the job was cancelled or has used up its time."""
        if self.cancelled():
            raise Failed("cancelled", "the job was cancelled")
        if time.monotonic() > self._deadline:
            raise Failed("timeout", "the job took longer than it may")

    def cancelled(self) -> bool:
        return self._cancel.is_set() and not self._beyond_cancel

    def point_of_no_return(self) -> None:
        """From here on finishing is safer than stopping: a cancel comes too late."""
        self.check()
        self._beyond_cancel = True

    def step_aside(self, *, keep: bool) -> None:
        """From here on the job only waits: its slot is for others, and a cancel is obeyed at once, again.

        `keep`: what was made stays; nothing of it is undone, be the job cancelled, interrupted, or in vain.
        """
        if keep and self._journal:
            self._journal.keep(self.job)
        self._beyond_cancel = False
        self._give_slot_back()

    def commit(self, *but: str) -> None:
        """From here on what was made stays, whatever becomes of the job: its undos are forgotten, `but` those of these
        names. To be said before anything is destroyed that an undo would need.
        """
        if self._journal:
            self._journal.commit(self.job, but)

    @property
    def left(self) -> float:
        """Seconds until the job has used up its time."""
        return max(0.0, self._deadline - time.monotonic())

    def undo(self, what: str, **args: Any) -> None:
        """Note how to take back what is made next: the name of a function in `undo.py` and its arguments."""
        if self._journal:
            self._undos += 1
            self._journal.put_undo(self.job, self._undos, what, args)

    def run(
        self,
        argv: Sequence[str],
        *,
        on_output: Callable[[str], None] = lambda text: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Ended:
        """Run a command as part of this job: recorded, stopped with it or when `stop` says so, and found again after a
        crash.
        """
        began = time.monotonic()
        record: dict[str, Any] = {"argv": list(argv), "exit_status": None, "seconds": None, "stderr": ""}
        try:
            ended = commands.run(
                argv,
                timeout=self.left,
                mark=self.mark,
                cancelled=lambda: self.cancelled() or stop(),
                on_start=lambda pid: log.info("job=%s runs %s as process %d", self.job, argv[0], pid),
                on_output=on_output,
            )
            record = ended.record()
        except MaglicaError as error:
            record |= {"seconds": round(time.monotonic() - began, 3), "stderr": error.message}
            raise
        finally:
            with self._told:
                self._commands.append(record)
        return ended

    @property
    def mark(self) -> str:
        """What every process that works for this job carries in its environment."""
        return self._journal.mark if self._journal else ""

    # ------------------------------------------------------------------------------ what the runner calls

    def cancel(self) -> None:
        self._cancel.set()

    @contextmanager
    def taking_back(self) -> Iterator[Callable[[str], None]]:
        """The last step of a job that failed, while something of it cannot be taken back yet. No cancel ends it: it is
        what a cancel would do. Its slot is for others. Gives what tells why it takes so long.
        """
        self._give_slot_back()
        with self._shown(TAKING_BACK, None) as record:

            def tell(why: str) -> None:
                # Who follows the job gets a line for each change: that the seconds went by is none.
                if _without_numbers(why) != _without_numbers(record["note"] or ""):
                    record["note"] = why
                    self.substep(why)

            yield tell

    def report(self) -> dict[str, Any]:
        """How far it is: what the client worker records."""
        with self._told:
            return {
                "id": self.job,
                "step": self._step,
                "progress": dict(self._progress) if self._progress else None,
                "steps": list(self._steps),
                "commands": list(self._commands),
            }


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "", text)


def must(ended: Ended, what: str) -> Ended:
    """The command that ended, when it ended well; otherwise `Failed` with its own last words."""
    if ended.exit_status == 0:
        return ended
    words = ended.stderr or ended.stdout or "it said nothing"
    full, used = "No space left on device" in words, LOCKED in words
    raise Failed(
        "no_capacity" if full else "locked" if used else "environment_error",
        f"{what}: {ended.argv[0]} ended with status {ended.exit_status}: {words.splitlines()[-1]}",
        "make room in the pool, or choose another host with --on" if full else "the job's log has the whole command",
    )


def outcome(work: Work, attempt: int, result: dict[str, Any] | None, error: MaglicaError | None) -> dict[str, Any]:
    """What is told of a job that has ended."""
    state = "done" if error is None else "cancelled" if error.code == "cancelled" else "failed"
    told = {**work.report(), "attempt": attempt, "state": state, "result": result}
    return {**told, "error": error.to_wire() if error else None}
