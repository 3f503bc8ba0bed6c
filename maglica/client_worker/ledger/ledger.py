"""The jobs: recorded, handed out, followed, ended. The only place where a job's state changes.

No sockets, no clock. Bells and answers go to the outbox, which leaves after the commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maglica import declare, job, policy, wire
from maglica.client_worker.door.doors import Caller
from maglica.client_worker.fleet import Fleet, Host
from maglica.client_worker.ledger import reports
from maglica.client_worker.ledger.book import Book
from maglica.client_worker.ledger.ids import Ids
from maglica.client_worker.ledger.submission import GroupSubmission, Submission, unusual
from maglica.client_worker.ledger.waiters import GROUP_PAUSE, LONGEST_WAIT, Waiter
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox, failure
from maglica.client_worker.store import Store
from maglica.declare import Action
from maglica.errors import Failed, Refused
from maglica.job import Group, Job
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")

COPY = "image copy"
NAME = "vm:"  # of these locks a copy has none of its own, only those of the clones that wait for it


class Ledger(Book):
    """The book, and the hand that writes it."""

    def __init__(self, store: Store, outbox: Outbox, fleet: Fleet) -> None:
        super().__init__(store, fleet)
        self._outbox = outbox
        self._ids = Ids(store.jobs.last_id())
        self.on_end: Callable[[Job, Now], None] = lambda record, now: None  # told of each job of a group that ends

    # --------------------------------------------------------------------------------------- people's side

    def record(
        self, wanted: Submission, host: str, action: Action, why: str, now: Now, *, after: Sequence[str] = ()
    ) -> Job:
        """Write down a new job for a host, and ring there. `after`: locks of jobs that it has to wait for as well."""
        locks = [*action.locks(), *after]
        subject = action.subject()
        about = locks[0].partition(":")[2] if locks else str(getattr(action, subject.name)) if subject else None
        placed = {"name": "place", "seconds": 0.0, "note": f"{host}: {why}"}
        record = Job(
            id=self._ids.new(now), rev=1, key=wanted.key, action=action.NAME, args=action.values(), object=about,
            host=host, slot=action.SLOT, locks=locks, limit_seconds=action.limit(), attempt=1, state=job.QUEUED,
            by=wanted.who.name, owner=wanted.owner, reason=wanted.reason, group=wanted.group, retry_of=wanted.retry_of,
            verdict=None, cancel=False, created_at=now.text, claimed_at=None, started_at=None, ended_at=None,
            updated_at=now.text, step=None, progress=None, steps=[placed], commands=[], result=None, error=None,
        )  # fmt: skip
        self._jobs.add(record)
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

    def group_id(self, now: Now) -> str:
        """The id of a new group: a `g`, and what a job submitted now would be called."""
        return "g" + self._ids.new(now)

    def record_group(self, group_id: str, wanted: GroupSubmission, members: list[dict[str, Any]], now: Now) -> Group:
        """Write down a group whose jobs were written down in this same transaction."""
        fields = declare.find(wanted.action).action.FIELDS
        shown = [{**member, "args": declare.mask(fields, member["args"])} for member in members]
        group = Group(
            id=group_id, key=wanted.key, action=wanted.action, args=declare.mask(fields, wanted.args),
            by=wanted.who.name, owner=wanted.owner, reason=wanted.reason, retry_of=wanted.retry_of,
            created_at=now.text, members=shown, request=wanted.request, policy=unusual(wanted.policy),
            note=wanted.note, decision=None, undo_of=wanted.undo_of,
        )  # fmt: skip
        self._groups.add(group, now.ms)
        self._waiters.undoes(group_id, wanted.undo_of)
        log.info("queued group=%s action=%r jobs=%d owner=%s", group_id, wanted.action, len(members), wanted.owner)
        return group

    def told_group(self, group_id: str, wanted: GroupSubmission, members: list[dict[str, Any]], now: Now) -> Message:
        """Write the group down, unless all of its members were refused; the answer that tells how each fared."""
        if any(member["job"] for member in members):
            group = self.record_group(group_id, wanted, members, now)
            return wire.ok(group={**self.group_shown(group, now), "members": self.members(group)})
        told = [self._member(member, None) for member in members]
        return wire.ok(group={
            "id": None, "action": wanted.action, "rev": 0, "state": job.FAILED if told else job.DONE,
            "jobs": len(told), "open": 0, "states": {"refused": len(told)} if told else {}, "first_in_line": None,
            "running": [], "members": told, "request": wanted.request, "note": wanted.note, "undo": None,
            "needed": policy.needed(unusual(wanted.policy), len(told)), "took_seconds": None, "decision": None,
        })  # fmt: skip

    def cancel(self, record: Job, now: Now, *, because: str = "") -> Job:
        """Ask for a job to be stopped: at once when it waits, otherwise by its host. `because`: where that was not
        asked for by a person.
        """
        if record["state"] in job.FINAL:
            return record
        record["cancel"] = True
        if record["state"] == job.QUEUED:
            why = f" because of {because}" if because else ""
            record["error"] = Failed("cancelled", f"{record['action']} was cancelled before it began{why}").to_wire()
            self._move(record, job.CANCELLED, now)
            self._leave_copies(record, now)
        else:
            self._save(record, now)
            self._outbox.ring(record["host"])
        return record

    def _leave_copies(self, record: Job, now: Now) -> None:
        """Take the names of a job that was stopped before it began from the copy of an image that it waited for. What
        nobody waits for any more is not begun; one that has begun goes on, and keeps no name.
        """
        for lock in [one for one in record["locks"] if one.startswith(NAME)]:
            holder = self._jobs.lock_before(lock, record["id"])
            copy = self._job(holder) if holder else None
            if copy is None or copy["action"] != COPY:
                continue
            copy["locks"] = [one for one in copy["locks"] if one != lock]
            self._jobs.free(lock, copy["id"])
            self._save(copy, now)
            self.ring(self._jobs.hosts_behind(lock))
            if copy["state"] == job.QUEUED and not any(one.startswith(NAME) for one in copy["locks"]):
                self.cancel(copy, now, because="the clones that it was for: they were cancelled")

    def wait_behind(self, job_id: str, locks: list[str], now: Now) -> None:
        """An open job holds these locks from now on, so that those who are submitted next wait for it."""
        record = self.find(job_id)
        record["locks"] = [*record["locks"], *locks]
        self._jobs.take(locks, job_id)
        self._save(record, now)

    def cancel_group(self, group: Group, now: Now) -> int:
        """Ask for all jobs of a group to be stopped; how many it concerns."""
        count = 0
        for record in self.jobs_of(group):
            if record["state"] not in job.FINAL and not record["cancel"]:
                self.cancel(record, now)
                count += 1
        return count

    def knows(self, host: str) -> bool:
        """Whether there is such a host: nobody will ever do what is recorded for another one."""
        return host in self._fleet.hosts

    def give_up(self, host: str, by: str, now: Now) -> list[str]:
        """A host is gone for good: the jobs that it was given are lost, because nobody will ever tell of them. A person
        may settle them then; what the host says, should it come back, changes them no more. Gives their ids.
        """
        given = [record["id"] for record in self._jobs.handed(host)]
        for job_id in given:
            record = self.find(job_id)  # as it is now: what was decided about its group may have changed it
            self._lose(record, f"{host} was removed by {by} while this job was {record['state']} there", now)
        # What was decided may have been to take back what was made there.
        for record in self._jobs.open(host):
            self.cancel(record, now, because=f"{host}, which was removed")
        return given

    def settle(self, record: Job, verdict: dict[str, Any], now: Now) -> Job:
        """Write down what a person says became of a lost job. `verdict`: `as` is `success`, `failure` or `retry`. The
        same once more is done already: whoever hears no answer asks again.
        """
        if record["verdict"] and {**record["verdict"], **verdict} == record["verdict"]:
            return record
        if record["state"] != job.LOST:
            raise Refused(
                "wrong_state",
                f"job {record['id']} is {record['state']}, not lost: its record needs no verdict",
                f"`maglica job explain {record['id']}` tells what became of it",
            )
        record["verdict"] = {**verdict, "at": now.text, "was": record["error"]}
        said = f"{verdict['owner']} looked and said: {verdict['as']} ({verdict['reason']})"
        log.info("verdict job=%s as=%s owner=%s", record["id"], verdict["as"], verdict["owner"])
        if verdict["as"] == "success":
            record["error"], record["result"] = None, {"name": record["object"], "changed": None, "note": said}
            self._move(record, job.DONE, now)
        else:
            was = (record["error"] or {}).get("message", "lost")
            record["error"] = Failed("lost", f"{was}; {said}", job=record["id"]).to_wire()
            self._move(record, job.FAILED, now)
        return record

    def ring(self, hosts: Iterable[str]) -> None:
        """Tell these hosts that there may be something for them."""
        for host in hosts:
            self._outbox.ring(host)

    def wait(
        self, caller: Caller, found: Job | Group, rev: int, timeout: float, now: Now, *, ended: bool = False
    ) -> None:
        """Answer with a job or group as soon as it is another than at `rev`, or has ended, or after `timeout` seconds.
        With `ended` only the end counts.
        """
        deadline = now.mono + min(timeout, LONGEST_WAIT)
        if "members" in found:
            answer = self.told(found, now)
            earliest = min(now.mono + GROUP_PAUSE, deadline)
            waiter = Waiter(caller.route, found["id"], rev, deadline, ended, caller.peer, earliest)
            hears = not answer["group"]["open"] or (answer["group"]["rev"] != rev and not ended)
        else:
            waiter = Waiter(caller.route, found["id"], rev, deadline, ended, caller.peer)
            hears = waiter.hears(found)
            answer = self.told(found, now) if hears else {}
        if hears:
            self._outbox.reply(caller.route, answer)
        else:
            self._waiters.add(waiter)

    def tick(self, now: Now) -> None:
        """Answer those who have waited long enough, and those whose groups have changed."""
        for waiters in self._waiters.due(now, self._is_over):
            self._answer(waiters, now)

    def _answer(self, waiters: list[Waiter], now: Now) -> None:
        """Tell those who wait for one and the same how it stands."""
        if not waiters:
            return
        try:
            answer = self.told(self.find_any(waiters[0].job), now)
        except Exception as error:
            answer = failure(error)
        for waiter in waiters:
            self._outbox.reply(waiter.route, answer)

    def deadlines(self) -> list[float]:
        return self._waiters.deadlines()

    # -------------------------------------------------------------------------------------------- hosts' side

    def sync(self, host: Host, message: Message, now: Now) -> Message:
        """A host says what it has, what ended and how far the rest is; it hears what was recorded, what is to be done
        and what is to be stopped.
        """
        for report in [*message["done"], *message["progress"]]:
            reports.refuse_malformed(report)
        recorded = [self._outcome(host.name, done, now) for done in message["done"]]
        for progress in message["progress"]:
            self._progress(host.name, progress, now)
        mine = {record["id"]: self._newest(record) for record in self._jobs.handed(host.name)}
        have = {str(known) for known in message["have"]}
        self._reconcile(mine, host.journal, have, now)
        host.unwanted = self._unwanted(host.name, have - mine.keys() - {receipt["id"] for receipt in recorded})
        again = [record for record in mine.values() if record["state"] == job.CLAIMED and record["id"] not in have]
        # What it goes on with has no lock here any more: until that has ended, nothing may begin beside it.
        fresh = [] if host.unwanted else self._claim(host, message["free"], again, now)
        stop = [record["id"] for record in mine.values() if record["cancel"] and record["state"] not in job.FINAL]
        jobs = [reports.handed(record) for record in [*again, *fresh]]
        return wire.ok(op="sync", acked=recorded, jobs=jobs, cancel=[*stop, *host.unwanted])

    def _unwanted(self, host: str, others: Iterable[str]) -> list[str]:
        """Which of these jobs, that a host has, were given up as lost while it was away."""
        known = [record for job_id in sorted(others) if (record := self._jobs.get(job_id))]
        return [one["id"] for one in known if one["host"] == host and (one["state"] == job.LOST or one["verdict"])]

    def _claim(self, host: Host, free: dict[str, Any], again: list[Job], now: Now) -> list[Job]:
        fresh = []
        for slot in declare.SLOTS:
            room = reports.count(free.get(slot)) - sum(record["slot"] == slot for record in again)
            while room > 0:
                found = self._jobs.claimable(host.name, slot, room, self._full_groups(now))
                given = [record for record in found if self._give(record, host, now)]
                fresh += given
                room -= len(given)
                if len(given) == len(found):
                    break  # otherwise a bounded group is full now, and what stands behind it is looked at
        return fresh

    def _give(self, record: Job, host: Host, now: Now) -> bool:
        """Hand a job out, unless as many of its group are at work as may be."""
        if record["group"] and self._bound_reached(record["group"], now):
            return False
        self._move(record, job.CLAIMED, now, host.journal)
        return True

    def _full_groups(self, now: Now) -> list[str]:
        return [group_id for group_id, most in self._groups.bounded() if self._busy(group_id, now) >= most]

    def _reconcile(self, mine: dict[str, Job], journal: str, have: set[str], now: Now) -> None:
        """Compare what is recorded with what the host has.

        A claimed job that it does not have never reached it and is handed out again, as the same attempt: it writes
        its journal before it begins. With another journal, or when it had begun, nobody knows: the job is lost.
        """
        for record in mine.values():
            if record["id"] in have:
                continue
            if record["state"] == job.CLAIMED and self._jobs.journal_of(record["id"]) == journal:
                continue
            self._lose(record, f"{record['host']} no longer knows of this job; it was {record['state']}", now)

    def _lose(self, record: Job, why: str, now: Now) -> None:
        hint = "look at the VM, then decide: nothing is done again by itself"
        record["error"] = Failed("lost", why, hint, job=record["id"]).to_wire()
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
        reports.take_progress(record, done)
        record["result"], record["error"] = done.get("result"), reports.error_of(done, record["id"])
        record["started_at"] = record["started_at"] or now.text
        self._move(record, done["state"], now)
        return receipt

    def _progress(self, host: str, progress: dict[str, Any], now: Now) -> None:
        record = self._job(progress["id"])
        if record is None or record["host"] != host or record["state"] in job.FINAL:
            return
        reports.take_progress(record, progress)
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
        if record["verdict"] is None:  # a verdict comes later than the end that it is about
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
                self.ring(self._jobs.hosts_behind(lock))
            if record["group"]:
                self.on_end(record, now)

    def _save(self, record: Job, now: Now, journal: str | None = None) -> None:
        self._live.pop(record["id"], None)
        self._changed(record, now)
        self._jobs.save(record, journal=journal, ended_ms=now.ms if record["state"] in job.FINAL else None)

    def _changed(self, record: Job, now: Now) -> None:
        """Tell those who wait for it."""
        record["rev"] += 1
        record["updated_at"] = now.text
        waiters = self._waiters.changed(record)
        answer = self.told(record, now) if waiters else {}
        for waiter in waiters:
            self._outbox.reply(waiter.route, answer)
