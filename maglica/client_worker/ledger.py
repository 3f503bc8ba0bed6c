"""The jobs: recorded, handed out, followed, ended. The only place where a job's state changes.

No sockets, no clock. Bells and answers go to the outbox, which leaves after the commit.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any, NamedTuple

from maglica import declare, job, wire
from maglica.bus import Route
from maglica.client_worker.fleet import Host
from maglica.client_worker.keyring import Who
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.store import Store
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, Refused
from maglica.job import Job
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")

LONGEST_WAIT = 10.0  # seconds that an answer is held back for a job to change; the asker asks again
BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: sorts like the number, no letters that look alike
EPOCH_2026_MS = 1_767_225_600_000


class Waiter(NamedTuple):
    """Somebody who wants to hear when a job is another than at `rev` (which a restart may have set back)."""

    route: Route
    job: str
    rev: int
    deadline: float
    ended: bool  # nothing but its end is of interest


class Submission(NamedTuple):
    """A request for a job, before it has a place."""

    key: str
    action: Action
    who: Who
    owner: str
    reason: str | None
    dry_run: bool


class Ledger:
    """All jobs, over their store."""

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self.store = store
        self._outbox = outbox
        self._waiters: dict[str, list[Waiter]] = {}  # by job
        # Progress since a job's last change of state, by id. It is not worth an fsync: after a restart the hosts tell
        # it again with their next sync.
        self._live: dict[str, Job] = {}
        # Ids sort by submission also when the clock was set back while we were away: locks are given in their order.
        self._last_ms = _ms(store.last_id() or "0")

    # --------------------------------------------------------------------------------------- people's side

    def record(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> Job:
        """Write down a new job for a host, and ring there."""
        locks = action.locks()
        subject = action.subject()
        about = locks[0].partition(":")[2] if locks else str(getattr(action, subject.name)) if subject else None
        placed = {"name": "place", "seconds": 0.0, "note": f"{host}: {why}"}
        record = Job(
            id=self._new_id(now), rev=1, key=wanted.key, action=action.NAME, args=action.values(), object=about,
            host=host, slot=action.SLOT, locks=locks, limit_seconds=action.LIMIT, attempt=1, state=job.QUEUED,
            by=wanted.who.name, owner=wanted.owner, reason=wanted.reason, cancel=False, created_at=now.text,
            claimed_at=None, started_at=None, ended_at=None, updated_at=now.text, step=None, progress=None,
            steps=[placed], commands=[], result=None, error=None,
        )  # fmt: skip
        self.store.add(record)
        log.info(
            "queued job=%s action=%r vm=%s host=%s by=%s owner=%s",
            record["id"],
            action.NAME,
            about,
            host,
            wanted.who.name,
            wanted.owner,
        )
        self._outbox.ring(host)
        return record

    def _new_id(self, now: Now) -> str:
        """Ten characters that sort by time: eight of milliseconds since 2026, two of chance."""
        self._last_ms = max(now.ms - EPOCH_2026_MS, self._last_ms + 1)
        digits = [BASE32[(self._last_ms >> shift) & 31] for shift in range(35, -1, -5)]
        return "".join(digits) + secrets.choice(BASE32) + secrets.choice(BASE32)

    def find(self, prefix: str) -> Job:
        """The job whose id begins so; `Refused` when there is none, or more than one."""
        found = self._job(prefix)
        candidates = [found] if found else self.store.jobs_like(prefix)
        if len(candidates) > 1:
            listed = ", ".join(record["id"] for record in candidates)
            raise Refused("ambiguous_name", f"job {prefix} may be {listed}", "give more characters")
        if not candidates:
            raise Refused("unknown_entity", f"there is no job {prefix}", "`maglica job list` shows the latest")
        return self._newest(candidates[0])

    def latest(self, last: int, *, state: str | None, vm: str | None, host: str | None) -> list[Job]:
        """The newest jobs that fit, the newest last."""
        return [self._newest(record) for record in self.store.list_jobs(last, state=state, vm=vm, host=host)]

    def _job(self, job_id: str) -> Job | None:
        return self._live.get(job_id) or self.store.job(job_id)

    def _newest(self, record: Job) -> Job:
        return self._live.get(record["id"], record)

    def cancel(self, record: Job, now: Now) -> Job:
        """Ask for a job to be stopped: at once when it waits, otherwise by its host."""
        if record["state"] in job.FINAL:
            return record
        record["cancel"] = True
        if record["state"] == job.QUEUED:
            record["error"] = Failed("cancelled", f"{record['action']} was cancelled before it began").to_wire()
            self._move(record, job.CANCELLED, now)
        else:
            self._save(record, now)
            self._outbox.ring(record["host"])
        return record

    def wait(self, route: Route, prefix: str, rev: int, timeout: float, now: Now, *, ended: bool = False) -> None:
        """Answer with a job as soon as it is another than at `rev`, or has ended, or after `timeout` seconds. With
        `ended` only the end counts.
        """
        record = self.find(prefix)
        waiter = Waiter(route, record["id"], rev, now.mono + min(timeout, LONGEST_WAIT), ended)
        if _hears(waiter, record):
            self._outbox.reply(route, told(record))
        else:
            self._waiters.setdefault(record["id"], []).append(waiter)

    def tick(self, now: Now) -> None:
        """Answer those who have waited long enough."""
        late = [waiter for waiters in self._waiters.values() for waiter in waiters if now.mono >= waiter.deadline]
        for waiter in late:
            self._leave(waiter)
            try:
                self._outbox.reply(waiter.route, told(self.find(waiter.job)))
            except MaglicaError as error:
                self._outbox.reply(waiter.route, wire.failure(error))

    def deadlines(self) -> list[float]:
        return [waiter.deadline for waiters in self._waiters.values() for waiter in waiters]

    def _leave(self, waiter: Waiter) -> None:
        self._waiters[waiter.job].remove(waiter)
        if not self._waiters[waiter.job]:
            del self._waiters[waiter.job]

    # -------------------------------------------------------------------------------------------- hosts' side

    def sync(self, host: Host, message: Message, now: Now) -> Message:
        """A host says what it has, what ended and how far the rest is; it hears what was recorded, what is to be done
        and what is to be stopped.
        """
        for report in [*message["done"], *message["progress"]]:
            _refuse_malformed(report)
        recorded = [self._outcome(host.name, done, now) for done in message["done"]]
        for progress in message["progress"]:
            self._progress(host.name, progress, now)
        mine = {record["id"]: self._newest(record) for record in self.store.handed_jobs(host.name)}
        have = {str(known) for known in message["have"]}
        self._reconcile(mine, host.journal, have, now)
        again = [record for record in mine.values() if record["state"] == job.CLAIMED and record["id"] not in have]
        fresh = self._claim(host, message["free"], again, now)
        stop = [record["id"] for record in mine.values() if record["cancel"] and record["state"] not in job.FINAL]
        jobs = [_handed(record) for record in [*again, *fresh]]
        return wire.ok(op="sync", acked=recorded, jobs=jobs, cancel=stop)

    def _claim(self, host: Host, free: dict[str, Any], again: list[Job], now: Now) -> list[Job]:
        fresh = []
        for slot in declare.SLOTS:
            taken = sum(record["slot"] == slot for record in again)
            for record in self.store.claimable(host.name, slot, _count(free.get(slot)) - taken):
                self._move(record, job.CLAIMED, now, host.journal)
                fresh.append(record)
        return fresh

    def _reconcile(self, mine: dict[str, Job], journal: str, have: set[str], now: Now) -> None:
        """Compare what is recorded with what the host has.

        A claimed job that it does not have never reached it and is handed out again, as the same attempt: it writes
        its journal before it begins. With another journal, or when it had begun, nobody knows: the job is lost.
        """
        for record in mine.values():
            if record["id"] in have:
                continue
            if record["state"] == job.CLAIMED and self.store.journal_of(record["id"]) == journal:
                continue
            record["error"] = Failed(
                "lost",
                f"{record['host']} no longer knows of this job; it was {record['state']}",
                "look at the VM, then decide: nothing is done again by itself",
                job=record["id"],
            ).to_wire()
            self._move(record, job.LOST, now)

    def _outcome(self, host: str, done: dict[str, Any], now: Now) -> dict[str, Any]:
        """Record how a job ended. Told twice, it is recorded once; either way it is acknowledged."""
        receipt = {"id": done["id"], "attempt": done.get("attempt")}
        record = self._job(done["id"])
        if record is None or record["host"] != host or record["attempt"] != done.get("attempt"):
            return receipt
        if record["state"] in job.FINAL or done.get("state") not in job.FINAL:
            return receipt
        if record["state"] == job.QUEUED:
            # Our store is older than the host's journal (a backup): it was handed out, and must not be once more.
            self._move(record, job.CLAIMED, now)
        _take_progress(record, done)
        record["result"], record["error"] = done.get("result"), done.get("error")
        if record["error"]:
            record["error"]["job"] = record["id"]
        record["started_at"] = record["started_at"] or now.text
        self._move(record, done["state"], now)
        return receipt

    def _progress(self, host: str, progress: dict[str, Any], now: Now) -> None:
        record = self._job(progress["id"])
        if record is None or record["host"] != host or record["state"] in job.FINAL:
            return
        _take_progress(record, progress)
        if record["state"] == job.CLAIMED:
            self._move(record, job.RUNNING, now)
        elif record["state"] == job.RUNNING:
            self._live[record["id"]] = record
            self._changed(record, now)

    # ------------------------------------------------------------------------------------------------ states

    def _move(self, record: Job, state: str, now: Now, journal: str | None = None) -> None:
        """The one place where a job's state changes. `journal`: the one that it is handed to."""
        if not job.may_become(record["state"], state):
            raise Refused("wrong_state", f"job {record['id']} is {record['state']} and cannot become {state}")
        record["state"] = state
        stamp = {job.CLAIMED: "claimed_at", job.RUNNING: "started_at"}.get(state, "ended_at")
        record[stamp] = now.text  # type: ignore[literal-required]
        if state in job.FINAL:
            # Secrets are needed no more, and the record outlives both daemons.
            masked = job.masked(record)
            if masked != record["args"]:
                self.store.wipe_soon()
            record["args"] = masked
            record["progress"] = None
            log.info("ended job=%s vm=%s host=%s state=%s", record["id"], record["object"], record["host"], state)
        self._save(record, now, journal)
        if state in job.FINAL:
            # Locks became free: whoever may run now shall hear of it.
            for lock in record["locks"]:
                for name in self.store.hosts_behind(lock):
                    self._outbox.ring(name)

    def _save(self, record: Job, now: Now, journal: str | None = None) -> None:
        self._live.pop(record["id"], None)
        self._changed(record, now)
        self.store.save(record, journal=journal, ended_ms=now.ms if record["state"] in job.FINAL else None)

    def _changed(self, record: Job, now: Now) -> None:
        """Tell those who wait for it."""
        record["rev"] += 1
        record["updated_at"] = now.text
        for waiter in [one for one in self._waiters.get(record["id"], []) if _hears(one, record)]:
            self._leave(waiter)
            self._outbox.reply(waiter.route, told(record))


def _hears(waiter: Waiter, record: Job) -> bool:
    """Whether the record as it is now is what somebody waits for."""
    return record["state"] in job.FINAL or (record["rev"] != waiter.rev and not waiter.ended)


def _ms(job_id: str) -> int:
    """The milliseconds in an id."""
    ms = 0
    for digit in job_id[:8]:
        ms = ms * 32 + BASE32.index(digit)
    return ms


def _count(value: Any) -> int:
    """A number that a host told; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def told(record: Job) -> Message:
    """The answer that holds a job."""
    return wire.ok(job=job.shown(record))


# What a host may tell of a job, and of which type: it is kept for years and shown to people.
REPORTED = {"state": str, "step": str, "progress": dict, "steps": list, "commands": list, "result": dict, "error": dict}


def _refuse_malformed(report: Any) -> None:
    """A report of a job holds what it must, before anything of its message is recorded."""
    if not isinstance(report, dict) or not isinstance(report.get("id"), str):
        raise Refused("wrong_input", "sync: a report of a job has no id")
    for name, kind in REPORTED.items():
        if report.get(name) is not None and not isinstance(report[name], kind):
            found = type(report[name]).__name__
            raise Refused("wrong_input", f"sync: {name} of job {report['id']} is a {found}, expected {kind.__name__}")
    for name, must in (("steps", "name"), ("commands", "argv")):
        if not all(isinstance(entry, dict) and must in entry for entry in report.get(name) or []):
            raise Refused("wrong_input", f"sync: {name} of job {report['id']} has an entry without {must}")


def _take_progress(record: Job, report: dict[str, Any]) -> None:
    record["step"] = report.get("step") or record["step"]
    record["progress"] = report.get("progress")
    placed = [step for step in record["steps"] if step["name"] == "place"]
    record["steps"] = placed + list(report.get("steps") or [])
    record["commands"] = list(report.get("commands") or [])


def _handed(record: Job) -> dict[str, Any]:
    """What a host needs of a job."""
    names = ("id", "attempt", "action", "args", "slot", "limit_seconds", "object")
    return {name: record[name] for name in names}  # type: ignore[literal-required]
