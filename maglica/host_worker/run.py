"""Running jobs and answering reads, in threads; and putting the house in order after a crash.

Threads put what is to be told into the journal or a queue and wake the loop, which alone talks to the bus.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from maglica import declare, wire
from maglica.config import HostWorkerSection
from maglica.declare import SLOTS, Action
from maglica.errors import Failed, MaglicaError, Refused, clipped
from maglica.host_worker import commands, jobs, signs, telling, undo
from maglica.host_worker.disk import dependants
from maglica.host_worker.domain import look, remembering
from maglica.host_worker.guest import conversation
from maglica.host_worker.host import Host
from maglica.host_worker.journal import Entry, Journal, set_aside
from maglica.host_worker.unexpected import unexpected
from maglica.host_worker.work import TAKING_BACK, Planned, Work, outcome

log = logging.getLogger("maglica.host_worker")

READERS = 8  # reads side by side
MOST_READS = 256  # reads that may wait; more means that libvirt hangs
AT_ONCE = frozenset({"host ping"})  # reads that ask nothing of libvirt: answered in the loop, also when that hangs
STALE = 15.0  # seconds after which what libvirt said last is no longer told
RETRY = 5.0  # seconds between two tries to undo what a job or a crash left, while libvirt is away


class Runner:
    """The work of one host."""

    def __init__(
        self, host: Host, journal: Journal, wake: Callable[[], None], *, retry: float = RETRY,
        patience: float = undo.PATIENCE,
    ) -> None:  # fmt: skip
        self.host = host
        self._retry, self._patience = retry, patience
        self.journal = journal
        self._wake = wake
        self._works: dict[str, Work] = {}
        self._changed: set[str] = set()
        self._slots: dict[str, str] = {}
        self._lock = threading.Lock()
        self._answers: queue.SimpleQueue[wire.Message] = queue.SimpleQueue()
        self._reads = ThreadPoolExecutor(READERS, "read")
        self._waiting_reads = 0
        self._news = False  # something that should be told at once
        self._kept: dict[str, wire.Message] = {}  # outcomes as they are told, of the jobs that are not acknowledged yet
        self._last_told = 0.0  # when progress was told last
        self._leaving = threading.Event()  # what may be left to the next start is left
        self._stopping = threading.Event()
        self._interrupted: dict[str, Entry] = {}  # jobs that the last host worker left in their middle
        self._recovering = self._untidy = False  # whether a thread is at that, whether it has to look again
        self._said: str | None = None  # what was said last of the journal's trouble
        self.accepting = True
        self.facts: dict[str, Any] = {}
        self._facts_at = time.monotonic()

    def change(self, settings: HostWorkerSection) -> None:
        """Other settings from now on; jobs that run keep theirs."""
        self.host = self.host._replace(settings=settings)

    # ------------------------------------------------------------------------------------------- jobs

    def begin(self, handed: dict[str, Any]) -> None:
        """Take a job that was handed out; one that is known already is not begun again."""
        with self._lock:
            if handed["id"] in self._works or not self.accepting:
                return
            work = Work(
                handed["id"],
                float(handed["limit_seconds"]),
                self.journal,
                lambda: self._tell(handed["id"]),
                give_slot_back=lambda: self._free_slot(handed["id"]),
            )
            self._works[handed["id"]] = work
            self._slots[handed["id"]] = handed["slot"]
        threading.Thread(target=self._run, args=(handed, work), name=f"job-{handed['id']}", daemon=True).start()

    def _run(self, handed: dict[str, Any], work: Work) -> None:
        job_id, attempt = handed["id"], handed["attempt"]
        told: dict[str, Any] | None = None
        try:
            if not self.journal.begin(job_id, attempt, handed["action"], handed.get("object")):
                return
            log.info("begin job=%s action=%r vm=%s", job_id, handed["action"], handed.get("object"))
            told = self._outcome(handed, work)
            if told is None:
                log.warning("job=%s is not taken back yet; the next start of the host worker goes on", job_id)
                return
            self._end(job_id, told, handed.get("object"))
            if told["state"] == "done":
                remembering.after(declare.build(handed["action"], handed["args"]), self.host)
        except MaglicaError as error:
            # The journal itself failed: nothing was begun, and the client worker hands the job out again when there are
            # slots. Not at once: a full disk would make the two of them spin.
            log.error("job=%s %s", job_id, error.message)
        except Exception as error:
            unexpected(error, f"job={job_id}", self.host.name)
        finally:
            with self._lock:
                self._works.pop(job_id, None)
                self._slots.pop(job_id, None)
                self._changed.discard(job_id)
                self._news |= told is not None
            self._wake()
            if told and told["error"] and "left_behind" in told["error"]["details"]:
                self._recover_in_background()

    def _outcome(self, handed: dict[str, Any], work: Work) -> dict[str, Any] | None:
        """How the job ended; None while that has to be left to the next start of the host worker. Always something that
        can be written down and told: a job without an end has its locks for ever.
        """
        what, result, failed = f"job={handed['id']}", None, None
        try:
            action = declare.build(handed["action"], handed["args"])
            result = jobs.function(action)(action, self.host, work)
            telling.check(result)
        except MaglicaError as error:
            failed = error
        except Exception as error:  # what nobody foresaw: `unexpected` says it for jobs, reads, streams and duties
            failed = unexpected(error, what, self.host.name)
        if failed:
            result = None
            if not self._taken_back(failed, work):
                return None
        return telling.outcome(outcome(work, handed["attempt"], result, failed), what, self.host.name)

    def _taken_back(self, error: MaglicaError, work: Work) -> bool:
        """Undo what a job made; what could not be undone is added to its error. False: the host worker is told to stop.

        As long as it may succeed it is tried again, and the job does not end: its VM's lock is free when that is told,
        and what is undone after it would undo what others have done since.
        """
        left, patience = self._undone(work.job), undo.Patience(self._patience)
        if not left:
            return True
        with suppress(MaglicaError):  # the next start would tell the step that it was in
            self.journal.waits(work.job, telling.words(f"{TAKING_BACK}, after: {error.message[:300]}"))
        with work.taking_back() as tell:
            while left and not patience.ends(left):
                tell(next((one for one in left if one.passes), left[0]).words)
                if self._leaving.wait(self._retry):
                    return False
                left = self._undone(work.job)
        with_left(error, left)
        return True

    def _undone(self, job_id: str) -> list[undo.Left]:
        """What is left of what a job made, after a try to undo it."""
        try:
            return undo.take_back(job_id, self.journal, self.host.hypervisor)
        except MaglicaError as error:  # of the journal, which ends the host worker when it is more than a full disk
            return [undo.Left(error.message, passes=True)]

    def _end(self, job_id: str, told: dict[str, Any], about: str | None) -> None:
        """Write down how a job ended. A full disk must not lose that: it is tried until there is room."""
        while True:
            try:
                self.journal.end(job_id, told)
                break
            except MaglicaError as error:
                log.error("job=%s %s; trying again", job_id, error.message)
                if self._stopping.wait(1.0):
                    return
        said = f" error={told['error']['message']!r}" if told["error"] else ""
        log.info("end job=%s vm=%s state=%s%s", job_id, about, told["state"], said)

    def _free_slot(self, job_id: str) -> None:
        """A job that only waits takes no slot: say so at once, another one may begin."""
        with self._lock:
            if self._slots.pop(job_id, None):
                self._news = True
        self._wake()

    def _tell(self, job_id: str) -> None:
        with self._lock:
            self._changed.add(job_id)
        self._wake()

    def cancel(self, job_id: str) -> None:
        with self._lock:
            work = self._works.get(job_id)
        if work:
            work.cancel()

    # ------------------------------------------------------------------------------------------ reads

    def read(self, message: wire.Message) -> None:
        """Answer a question in its own time. `op` is `read`, or `plan` for what a job would do."""
        if message.get("action") in AT_ONCE:
            self._answer(message)
            return
        with self._lock:  # so that nothing is begun once it has stopped
            if self._stopping.is_set():
                why = Failed("host_down", "the host worker is being stopped", "ask again when it is back")
            elif self._waiting_reads >= MOST_READS:
                why = Failed("host_down", "libvirt: does not answer", "too many questions wait for it")
            else:
                self._waiting_reads += 1
                self._reads.submit(self._read, message)
                return
        self._answers.put({"ask": message["ask"], "ok": False, "error": why.to_wire()})

    def _read(self, message: wire.Message) -> None:
        self._answer(message)
        with self._lock:
            self._waiting_reads -= 1
        self._wake()

    def _answer(self, message: wire.Message) -> None:
        what = f"action='{message.get('action')}'"
        try:
            action = declare.build(message["action"], message["args"])
            value = self._plan(action) if message["op"] == "plan" else jobs.function(action)(action, self.host)
            answer: wire.Message = {"ok": True, "value": value}
        except MaglicaError as error:
            answer = {"ok": False, "error": error.to_wire()}
        except Exception as error:
            answer = {"ok": False, "error": unexpected(error, what, self.host.name).to_wire()}
        self._answers.put({"ask": message["ask"], **telling.answer(answer, what, self.host.name)})

    def _plan(self, action: Action) -> dict[str, Any]:
        work = Work("dry-run", action.limit(), None, lambda: None, dry_run=True)
        try:
            result = jobs.function(action)(action, self.host, work)
        except Planned as planned:
            return {"item": {"would": planned.plan, "changed": True}}
        return {"item": {"would": None, **result}}

    def answers(self) -> list[wire.Message]:
        """The answers that are ready."""
        found = []
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    # ---------------------------------------------------------------------------- what the loop tells

    def count(self) -> int:
        """How many jobs run."""
        return len(self._works)

    def urgent(self, now: float, progress_every: float) -> bool:
        """Whether something should be told before the next beat: an outcome at once, progress not too often."""
        with self._lock:
            if self._news:
                self._news = False
                return True
            if self._changed and now - self._last_told >= progress_every:
                self._last_told = now
                return True
        return False

    def state(self) -> dict[str, Any]:
        """What the next sync says: jobs here, outcomes not yet acknowledged, progress, free slots.

        Raises `Failed` when the journal can no longer be trusted: it is looked at, and set aside, at the next start.
        """
        if self.journal.fatal:
            raise self.journal.fatal
        entries = self.journal.entries()
        with self._lock:
            running = dict(self._works)
            reports = [telling.report(running[job_id].report()) for job_id in self._changed if job_id in running]
            changed = wire.fitting(reports)
            self._changed = {report["id"] for report in reports[len(changed) :]}
            taken = list(self._slots.values())
        over = [entry for entry in entries if entry.outcome is not None and entry.id not in running]
        # Each is looked at once: it is told with every report until it is acknowledged.
        self._kept = {one.id: self._kept.get(one.id) or telling.kept(one, self.host.name) for one in over}
        ended = list(self._kept.values())
        done = wire.fitting(ended)
        if len(done) < len(ended):
            self._news = True  # the rest goes out as soon as these are acknowledged
        have = sorted({*running, *(entry.id for entry in entries)})
        return {"have": have, "done": done, "progress": changed, "free": self._free(taken)}

    def _free(self, taken: list[str]) -> dict[str, int]:
        if not self.accepting or not self._journal_writes():
            return dict.fromkeys(SLOTS, 0)
        settings = self.host.settings
        sizes = {slot: int(settings.values()[f"slots_{slot}"]) for slot in SLOTS}
        return {slot: max(0, size - taken.count(slot)) for slot, size in sizes.items()}

    def _journal_writes(self) -> bool:
        """Whether jobs can be noted; said once when that changes."""
        before, now = self.journal.trouble, self.journal.recovered()
        if self.journal.trouble != self._said:
            self._said = self.journal.trouble
            log.log(
                logging.INFO if now else logging.ERROR, "%s", self._said or f"jobs can begin again, after: {before}"
            )
        return now

    def acknowledged(self, receipts: list[dict[str, Any]]) -> None:
        try:
            self.journal.forget([(receipt["id"], receipt["attempt"]) for receipt in receipts])
        except MaglicaError as error:  # they are told, and acknowledged, once more
            log.error("%s", error.message)

    def refresh_facts(self) -> None:
        """Look at the host again; in a thread that may wait for libvirt."""
        try:
            facts = look.facts(self.host.hypervisor, self.host.settings.memory_reserve, self.host.acceleration)
        except Exception as error:  # without its thread, libvirt would be called silent for ever
            facts = {**self.facts, "libvirt": unexpected(error, "facts", self.host.name).message}
        self.facts, self._facts_at = facts, time.monotonic()

    def current_facts(self) -> dict[str, Any]:
        """What the host tells of itself. Figures that libvirt has not confirmed for a while are not told as true."""
        age = time.monotonic() - self._facts_at
        if not self.facts and age < STALE:
            return self._notices()  # the first look is still under way
        if age < STALE:
            return {**self.facts, **self._notices()}
        silent = f"libvirt: has not answered for {age:.0f} s"
        return {"libvirt": silent, "acceleration": self.host.acceleration, **self._notices()}

    def _notices(self) -> dict[str, Any]:
        """`trouble`: why no job can begin here. `notice`: what somebody has to look at, until the file is gone."""
        damaged = ", ".join(set_aside(self.journal.path))
        notice = (
            f"the journal was damaged and set aside as {damaged}: look at the VMs of the jobs that are lost, then"
            f" move it out of {os.path.dirname(self.journal.path)}"
        )
        return {"trouble": self.journal.trouble, "notice": notice if damaged else None}

    def watch(self, every: float) -> None:
        """Refresh the facts for as long as this runs, and tell at once when libvirt came or went."""

        def loop() -> None:
            while not self._stopping.is_set():
                before = self.facts.get("libvirt")
                self.refresh_facts()
                self.journal.settle()
                if self.host.warm:
                    self.host.warm.tidy(self.host.settings)
                if self.facts.get("libvirt") != before:
                    self._news = True
                    self._wake()
                self._stopping.wait(every)

        threading.Thread(target=loop, name="facts", daemon=True).start()

    # ------------------------------------------------------------------------------- after a crash, and at the end

    def recover(self) -> None:
        """Put in order what the last host worker left in the middle: end its children, undo, and note the outcome.

        In a thread of its own: libvirt may be away for a while, and what it made cannot be undone without it.
        """
        for pid in commands.end_orphans(self.journal.mark):
            log.warning("ended process %d, which outlived its host worker", pid)
        for folder in conversation.sweep(self.journal.mark):
            log.info("removed %s, which outlived its host worker", folder)
        self._interrupted = {entry.id: entry for entry in self.journal.entries() if entry.outcome is None}
        if self._interrupted or self._left_behind():
            self._recover_in_background()
        threading.Thread(target=self._release_forgotten, name="bases", daemon=True).start()

    def _release_forgotten(self) -> None:
        try:
            dependants.release_forgotten(self.host.hypervisor)
        except MaglicaError as error:
            log.warning("files that nothing rests on may be read-only until the next start: %s", error.message)

    def _recover_in_background(self) -> None:
        """By one thread, which knows of which jobs it has to ask for the sign."""
        with self._lock:
            self._untidy = True
            if self._recovering:
                return
            self._recovering = True
        threading.Thread(target=self._recover, name="recover", daemon=True).start()

    def _left_behind(self) -> list[str]:
        """Jobs that ended, or were interrupted, and left something to be taken back."""
        found = self.journal.jobs_to_undo()
        with self._lock:  # after the question: a job that began meanwhile is among them
            return [job_id for job_id in found if job_id not in self._works]

    def _recover(self) -> None:
        """Undo until nothing is left to be undone, and note how interrupted jobs ended."""
        patience: dict[str, undo.Patience] = {}
        while not self._leaving.is_set():
            self._untidy = False
            try:
                if self._tidied(patience) and self._is_over():
                    return
            except MaglicaError as error:
                log.error("what was left behind: %s; trying again", error.message)
            except Exception as error:  # otherwise the interrupted jobs would never end
                unexpected(error, "what was left behind", self.host.name)
            self._leaving.wait(self._retry)

    def _is_over(self) -> bool:
        """Whether nobody has left anything behind meanwhile; then the thread ends, and the next one needs another."""
        with self._lock:
            self._recovering = self._untidy
            return not self._untidy

    def _tidied(self, patience: dict[str, undo.Patience]) -> bool:
        """One try."""
        for job_id in sorted({*self._interrupted, *self._left_behind()}, reverse=True):
            if self._leaving.is_set():
                return False  # a job that is left to the next start is among them
            entry = self._interrupted.get(job_id)
            try:
                told = self._concluded(job_id, entry, patience.setdefault(job_id, undo.Patience(self._patience)))
            except MaglicaError as error:  # of the journal, or of libvirt, when it is asked for the sign
                log.error("job=%s what was left behind: %s; trying again", job_id, error.message)
                continue
            if entry and told:
                self._end(job_id, told, entry.object)
                del self._interrupted[job_id]
                self._news = True
                self._wake()
        return not self._interrupted and not self._left_behind()

    def _concluded(self, job_id: str, entry: Entry | None, patience: undo.Patience) -> dict[str, Any] | None:
        """How an interrupted job ended, once nothing is left of it, or too much for too long; None: not yet.

        Without an entry it is a job that has ended: what may be undone `LATER` is tried for ever.
        """
        whole = entry is not None and self._is_whole(entry)
        had = bool(self.journal.undos(job_id))
        left = undo.take_back(job_id, self.journal, self.host.hypervisor)
        if left and not patience.ends(left):
            return None
        if entry is None:
            self.journal.let_go(job_id)
            return None
        # What has no way back was brought to its end instead.
        whole = whole or (not left and self._is_whole(entry))
        return completed(entry, left) if whole else interrupted(entry, self._seen, undone=had, left=left)

    def _is_whole(self, entry: Entry) -> bool:
        """Whether the whole effect of an interrupted job can be seen. From then on nothing of it is undone, whatever
        comes: only what is harmless is left to be done, and the next start need not see it again.
        """
        if not entry.sign or not signs.seen(entry.sign, self.host.hypervisor):
            return False
        seen = signs.sign("was_seen", entry.sign.get("result", {}))
        self.journal.step(entry.id, str(entry.step), seen)
        self.journal.commit(entry.id, sorted(undo.HARMLESS))
        self._interrupted[entry.id] = entry._replace(sign=seen)
        return True

    def _seen(self, name: str | None) -> str:
        """What can be seen now of the VM that an interrupted job was about."""
        try:
            return f"{name} is {self.host.hypervisor.state(name)}" if name else ""
        except Refused:
            return f"{name} does not exist on this host"

    def stop(self, grace: float) -> None:
        """Take no more jobs, let the running ones end, and cancel those that have not ended after `grace` seconds."""
        self.accepting = False
        self._leaving.set()
        deadline = time.monotonic() + grace
        while self._works and time.monotonic() < deadline:
            time.sleep(0.1)
        with self._lock:
            late = list(self._works.values())
        for work in late:
            work.cancel()
        deadline = time.monotonic() + commands.KILL_AFTER + 5.0
        while self._works and time.monotonic() < deadline:
            time.sleep(0.1)
        with self._lock:
            self._stopping.set()
        if self.host.serving:
            self.host.serving.close()
        if self.host.warm:
            self.host.warm.close()
        self._reads.shutdown(wait=False, cancel_futures=True)


def with_left(error: MaglicaError, left: Sequence[undo.Left]) -> None:
    """Add to an error what could not be undone, if anything."""
    if left:
        words = [one.words for one in left]
        error.details = {**error.details, "left_behind": words}
        error.hint = clipped(f"{error.hint}; could not undo: {'; '.join(words)}".lstrip("; "))


def interrupted(
    entry: Entry, seen: Callable[[str | None], str], *, undone: bool, left: Sequence[undo.Left] = ()
) -> dict[str, Any]:
    """The outcome of a job whose host worker ended in its middle. `undone`: it had made something, now gone but for
    what is `left`.
    """
    try:
        now = seen(entry.object)
    except MaglicaError as unknown:
        now = unknown.message
    back = "what the job had made was undone" if undone else "there was nothing to be undone"
    error = Failed(
        "lost",
        f"the host worker ended in the middle of step {entry.step or 'none'};"
        f" {'not all that the job had made could be undone' if left else back}. Now {now}",
        "nothing is done again by itself: look, then ask again if it is still wanted",
    )
    with_left(error, left)
    return {**_outcome_of(entry, "interrupted"), "state": "failed", "error": error.to_wire()}


def completed(entry: Entry, left: Sequence[undo.Left]) -> dict[str, Any]:
    """The outcome of a job whose host worker ended after its last effect, and before that was noted. `left`: what it
    needed no more, and could not be deleted.
    """
    note = "the host worker ended in this step; its next start saw that all was done"
    note += f"; it could not tidy: {'; '.join(one.words for one in left)}" if left else ""
    return {**_outcome_of(entry, note), "state": "done", "result": (entry.sign or {}).get("result")}


def _outcome_of(entry: Entry, note: str) -> dict[str, Any]:
    return {
        "id": entry.id,
        "attempt": entry.attempt,
        "step": entry.step,
        "progress": None,
        "steps": [{"name": entry.step, "seconds": None, "note": note}] if entry.step else [],
        "commands": [],
        "result": None,
        "error": None,
    }
