"""The jobs: recorded, handed out, followed, ended. The only place where a job's state changes.

No sockets, no clock. Bells and answers go to the outbox, which leaves after the commit.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from maglica import declare, job, policy, wire
from maglica.bus import Route
from maglica.client_worker import waiting
from maglica.client_worker.fleet import Fleet, Host
from maglica.client_worker.keyring import Who
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.store import MOST_LIKE, Store
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, Refused
from maglica.job import Group, Job
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")

Sees = Callable[[Job | Group], bool]  # whether whoever asks may know of it

LONGEST_WAIT = 10.0  # seconds that an answer is held back for a job to change; the asker asks again
GROUP_PAUSE = 0.2  # seconds between two answers about a group to the same asker: it changes a thousand times
NAMED = 5  # jobs that an ambiguous id is said to mean
SHOWN = 50  # running jobs of a group that are told one by one while they run
BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: sorts like the number, no letters that look alike
EPOCH_2026_MS = 1_767_225_600_000


class Waiter(NamedTuple):
    """Somebody who wants to hear when a job or group is another than at `rev` (which a restart may have set back)."""

    route: Route
    job: str
    rev: int
    deadline: float
    ended: bool  # nothing but its end is of interest
    earliest: float = 0.0  # of a group: before then its changes are not told


class Submission(NamedTuple):
    """A request for a job, before it has a place."""

    key: str
    action: Action
    who: Who
    owner: str
    reason: str | None
    dry_run: bool = False
    group: str | None = None
    retry_of: str | None = None


class Member(NamedTuple):
    """One of many things that are asked for at once: an action, or why it cannot be one."""

    name: str
    args: dict[str, Any]  # what it has of its own
    action: Action | None
    error: MaglicaError | None = None
    retry_of: str | None = None


class GroupSubmission(NamedTuple):
    """A request for many jobs, before they have places."""

    key: str
    action: str
    args: dict[str, Any]  # what all of them have
    members: list[Member]
    who: Who
    owner: str
    reason: str | None
    retry_of: str | None = None
    policy: policy.Policy = policy.Policy()
    request: dict[str, Any] | None = None  # {"action", "args"}: what was asked for, where this follows from it
    note: str | None = None
    undo_of: str | None = None


class Ledger:
    """All jobs, over their store."""

    def __init__(self, store: Store, outbox: Outbox, fleet: Fleet) -> None:
        self.store = store
        self._outbox = outbox
        self._fleet = fleet
        self._waiters: dict[str, list[Waiter]] = {}  # by job or group
        # Changes of groups, counted since somebody first asked for them; and those with news for their waiters.
        self._group_rev: dict[str, int] = {}
        self._stirred: set[str] = set()
        self._undo_of: dict[str, str] = {}  # group -> the one whose works it takes back, as far as that was shown
        self.on_end: Callable[[Job, Now], None] = lambda record, now: None  # told of each job of a group that ends
        # Progress since a job's last change of state, by id. It is not worth an fsync: after a restart the hosts tell
        # it again with their next sync.
        self._live: dict[str, Job] = {}
        # Ids sort by submission also when the clock was set back while we were away: locks are given in their order.
        self._last_ms = _ms(store.last_id() or "0")

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
            id=self._new_id(now), rev=1, key=wanted.key, action=action.NAME, args=action.values(), object=about,
            host=host, slot=action.SLOT, locks=locks, limit_seconds=action.limit(), attempt=1, state=job.QUEUED,
            by=wanted.who.name, owner=wanted.owner, reason=wanted.reason, group=wanted.group, retry_of=wanted.retry_of,
            verdict=None, cancel=False, created_at=now.text, claimed_at=None, started_at=None, ended_at=None,
            updated_at=now.text, step=None, progress=None, steps=[placed], commands=[], result=None, error=None,
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
        return _digits(self._last_ms) + secrets.choice(BASE32) + secrets.choice(BASE32)

    def group_id(self, now: Now) -> str:
        """The id of a new group: a `g`, and what a job submitted now would be called."""
        return "g" + self._new_id(now)

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
        self.store.add_group(group, now.ms)
        if wanted.undo_of in self._group_rev:
            self._undo_of[group_id] = wanted.undo_of or ""
        log.info("queued group=%s action=%r jobs=%d owner=%s", group_id, wanted.action, len(members), wanted.owner)
        return group

    def find_any(self, prefix: str, sees: Sees = lambda found: True) -> Job | Group:
        """The job or group whose id begins so; `Refused` when there is none, or more than one that the asker `sees`."""
        exact = self._job(prefix) or self.store.group(prefix)
        found = _meant(
            prefix, [exact] if exact else [*self.store.groups_like(prefix), *self.store.jobs_like(prefix)], sees
        )
        return found if "members" in found else self._newest(found)

    def find(self, prefix: str, sees: Sees = lambda found: True) -> Job:
        """The job whose id begins so; `Refused` when there is none, or more than one that the asker `sees`."""
        exact = self._job(prefix)
        found = _meant(prefix, [exact] if exact else self.store.jobs_like(prefix), sees)
        return self._newest(cast(Job, found))

    def latest(self, last: int, now: Now, **wanted: str | None) -> list[Message]:
        """The newest jobs that fit, the newest last, as a list shows them. `Store.list_jobs` says what is `wanted`."""
        found = [self._newest(record) for record in self.store.list_jobs(last, **wanted)]
        return [_brief(self.shown(record, now)) for record in found]

    def shown(self, record: Job, now: Now) -> Message:
        """A job as people see it, with what it waits for."""
        queued = self._waiting(record, now) if record["state"] == job.QUEUED else waiting.NOTHING
        return {**job.shown(record), **queued._asdict()}

    def told(self, found: Job | Group, now: Now) -> Message:
        """The answer that holds a job or a group."""
        if "members" in found:
            return wire.ok(group=self.group_shown(found, now))
        return wire.ok(job=self.shown(found, now))

    def _waiting(self, record: Job, now: Now) -> waiting.Waiting:
        """Looked up at this moment, never stored: it changes with every job that ends."""
        host = self._fleet.hosts.get(record["host"])
        if host is None or self._fleet.state(host, now.mono) == "down":
            why = "is not known any more" if host is None else f"is down: {self._fleet.why(host, now.mono)}"
            return waiting.for_host(record, self.store.count_ahead(record), why)
        if host.facts.get("trouble"):  # it takes no jobs while it lasts
            return waiting.for_host(record, self.store.count_ahead(record), f"says: {host.facts['trouble']}")
        for lock in record["locks"]:
            holder = self.store.lock_before(lock, record["id"])
            if holder:
                return waiting.for_lock(record, self.store.count_ahead(record), lock, self._job(holder))
        bound = self._bound_reached(record["group"], now) if record["group"] else None
        if bound:
            return waiting.for_group(record, self.store.count_ahead(record), bound)
        working = [id for id in self.store.working(record["host"], record["slot"]) if not self._only_waits(id)]
        return waiting.for_slot(record, self.store.count_ahead(record), working)

    def _only_waits(self, id: str) -> bool:
        """Whether a job waits for its guest: then it has given its slot back."""
        record = self._live.get(id)
        return record is not None and str(record["step"]).partition(":")[0] == "wait"

    def group_shown(self, group: Group, now: Now) -> Message:
        """A group as those see it who wait for it: how many of its jobs are in which state, and those that run."""
        states = self.store.states_of(group["id"])
        refused = sum(member["job"] is None for member in group["members"])
        undo = self._undo(group)
        running = [
            self._newest(record)
            for state in (job.RUNNING, job.CLAIMED)
            for group_id in (group["id"], *self.store.undo_of(group["id"]))
            for record in self.store.some_of(group_id, state, SHOWN)
        ]
        waits = self.store.some_of(group["id"], job.QUEUED, 1)
        return {
            **{key: value for key, value in group.items() if key != "members"},
            "rev": self._group_rev.setdefault(group["id"], now.ms),
            "state": self._group_state(group, states, undo),
            "jobs": len(group["members"]),
            "needed": policy.needed(group["policy"], len(group["members"])),
            "states": {**states, **({"refused": refused} if refused else {})},
            "open": sum(counts.get(state, 0) for counts in (states, undo) for state in job.OPEN),
            "undo": undo or None,
            "took_seconds": self._group_took(group),
            "first_in_line": self.shown(waits[0], now)["waits_for"] if waits else None,
            "running": [_brief(self.shown(record, now)) for record in running[:SHOWN]],
        }

    def _undo(self, group: Group) -> dict[str, int]:
        """How many jobs that take back what a group made are in which state."""
        counts: dict[str, int] = {}
        for undo_id in self.store.undo_of(group["id"]):
            self._undo_of[undo_id] = group["id"]
            for state, count in self.store.states_of(undo_id).items():
                counts[state] = counts.get(state, 0) + count
        return counts

    def _group_state(self, group: Group, states: dict[str, int], undo: dict[str, int]) -> str:
        if any(undo.get(state) for state in job.OPEN):
            return job.RUNNING
        count = len(group["members"])
        undone = (group["decision"] or {}).get("what") == "undo"
        return job.group_state(states, count, policy.needed(group["policy"], count), undone=undone)

    def _group_took(self, group: Group) -> float | None:
        """Seconds from its submission to the end of its last job; None while some are open."""
        if not self._is_over(group["id"]):
            return None
        ends = [end for one in (group["id"], *self.store.undo_of(group["id"])) if (end := self.store.last_end(one))]
        began = datetime.fromisoformat(group["created_at"]).timestamp()
        return round(max(ends) / 1000 - began, 3) if ends else None

    def _is_over(self, group_id: str) -> bool:
        ids = (group_id, *self.store.undo_of(group_id))
        return not any(self.store.states_of(one).get(state) for one in ids for state in job.OPEN)

    def ring(self, hosts: Iterable[str]) -> None:
        """Tell these hosts that there may be something for them."""
        for host in hosts:
            self._outbox.ring(host)

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

    def members(self, group: Group) -> list[Message]:
        """Each member of a group with how it stands or ended."""
        records = {record["id"]: record for record in self.jobs_of(group)}
        found = [self._member(member, records.get(member["job"] or "")) for member in group["members"]]
        undos = [record for undo_id in self.store.undo_of(group["id"]) for record in self.store.jobs_of(undo_id)]
        return policy.taken_back(found, undos, (group["decision"] or {}).get("why", "")) if undos else found

    @staticmethod
    def _member(member: dict[str, Any], record: Job | None) -> Message:
        if record is None:
            error = member["error"]
            return {
                "name": member["name"], "state": "refused" if error else "forgotten", "host": None,
                "changed": False if error else None, "took_seconds": None, "job": member["job"], "step": None,
                "message": error["message"] if error else None, "result": None, "error": error,
            }  # fmt: skip
        # What each waits for is not looked up here: there may be a thousand. `job list --group` tells it.
        shown = job.shown(record)
        first = {name: shown[name] for name in ("state", "host", "changed", "took_seconds")}
        rest = {name: shown[name] for name in ("step", "message", "result", "error")}
        return {"name": record["object"] or member["name"], **first, "job": record["id"], **rest}

    def _job(self, job_id: str) -> Job | None:
        return self._live.get(job_id) or self.store.job(job_id)

    def _newest(self, record: Job) -> Job:
        return self._live.get(record["id"], record)

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
        else:
            self._save(record, now)
            self._outbox.ring(record["host"])
        return record

    def jobs_of(self, group: Group) -> list[Job]:
        """The jobs of a group, as far as they are not forgotten."""
        return [self._newest(record) for record in self.store.jobs_of(group["id"])]

    def cancel_group(self, group: Group, now: Now) -> int:
        """Ask for all jobs of a group to be stopped; how many it concerns."""
        count = 0
        for record in self.jobs_of(group):
            if record["state"] not in job.FINAL and not record["cancel"]:
                self.cancel(record, now)
                count += 1
        return count

    def settle(self, record: Job, verdict: dict[str, Any], now: Now) -> Job:
        """Write down what a person says became of a lost job. `verdict`: `as` is `success`, `failure` or `retry`."""
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

    def wait(
        self, route: Route, found: Job | Group, rev: int, timeout: float, now: Now, *, ended: bool = False
    ) -> None:
        """Answer with a job or group as soon as it is another than at `rev`, or has ended, or after `timeout` seconds.
        With `ended` only the end counts.
        """
        deadline = now.mono + min(timeout, LONGEST_WAIT)
        if "members" in found:
            answer = self.told(found, now)
            waiter = Waiter(route, found["id"], rev, deadline, ended, min(now.mono + GROUP_PAUSE, deadline))
            hears = not answer["group"]["open"] or (answer["group"]["rev"] != rev and not ended)
        else:
            waiter = Waiter(route, found["id"], rev, deadline, ended)
            hears = _hears(waiter, found)
            answer = self.told(found, now) if hears else {}
        if hears:
            self._outbox.reply(route, answer)
        else:
            self._waiters.setdefault(found["id"], []).append(waiter)

    def tick(self, now: Now) -> None:
        """Answer those who have waited long enough, and those whose groups have changed."""
        for waiters in list(self._waiters.values()):
            self._answer([waiter for waiter in waiters if now.mono >= waiter.deadline], now)
        for group_id in sorted(self._stirred):
            over = self._is_over(group_id)
            mine = self._waiters.get(group_id, [])
            self._answer([one for one in mine if over or (now.mono >= one.earliest and not one.ended)], now)
            if over:
                self._group_rev.pop(group_id, None)
                self._undo_of = {undo: of for undo, of in self._undo_of.items() if of != group_id}
        self._stirred &= self._waiters.keys()

    def _answer(self, waiters: list[Waiter], now: Now) -> None:
        """Tell those who wait for one and the same how it stands."""
        if not waiters:
            return
        try:
            answer = self.told(self.find_any(waiters[0].job), now)
        except MaglicaError as error:
            answer = wire.failure(error)
        for waiter in waiters:
            self._leave(waiter)
            self._outbox.reply(waiter.route, answer)

    def deadlines(self) -> list[float]:
        return [
            waiter.earliest if name in self._stirred and not waiter.ended else waiter.deadline
            for name, waiters in self._waiters.items()
            for waiter in waiters
        ]

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
            room = _count(free.get(slot)) - sum(record["slot"] == slot for record in again)
            while room > 0:
                found = self.store.claimable(host.name, slot, room, self._full_groups(now))
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
        return [group_id for group_id, most in self.store.bounded() if self._busy(group_id, now) >= most]

    def _busy(self, group_id: str, now: Now) -> int:
        """How many of a group are at work. Those on a host that is down hold up nobody: they may never end."""
        hosts = self._fleet.hosts
        return sum(
            count
            for name, count in self.store.busy_hosts(group_id).items()
            if name in hosts and self._fleet.state(hosts[name], now.mono) != "down"
        )

    def _bound_reached(self, group_id: str, now: Now) -> int | None:
        """How many of a group may be at work, when so many are; None otherwise."""
        bound = self.store.bound(group_id)
        return bound if bound is not None and self._busy(group_id, now) >= bound else None

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
                self.ring(self.store.hosts_behind(lock))
            if record["group"]:
                self.on_end(record, now)

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
            self._outbox.reply(waiter.route, self.told(record, now))
        for group in (record["group"], self._undo_of.get(record["group"] or "")):
            if group in self._group_rev:  # nobody has asked for the others
                self._group_rev[group] += 1
                self._stirred.add(group)


def unusual(wanted: policy.Policy) -> dict[str, Any]:
    """What a policy says that is not as usual: what is kept with a group. Where VMs went is in their jobs."""
    return {
        name: value
        for name, value in wanted.values().items()
        if value != wanted.FIELDS[name].default and name != "spread"
    }


def _meant(prefix: str, candidates: Sequence[Job | Group], sees: Sees) -> Job | Group:
    """The one that is meant by the beginning of an id. What somebody may not see is neither listed nor makes it
    ambiguous; whether he may see the only one that there is, is for whoever asked.
    """
    own = candidates if len(candidates) < 2 else [one for one in candidates if sees(one)]
    if len(own) == 1 and len(candidates) < MOST_LIKE:
        return own[0]
    if candidates:
        listed = ", ".join(one["id"] for one in own[:NAMED]) or "one of many"
        raise Refused("ambiguous_name", f"job {prefix} may be {listed}", "give more characters")
    raise Refused("unknown_entity", f"there is no job {prefix}", "`maglica job list` shows the latest")


def id_at(ms: int) -> str:
    """What ids of that moment begin with; `ms` since 1970."""
    return _digits(max(0, ms - EPOCH_2026_MS))


def _digits(ms: int) -> str:
    return "".join(BASE32[(ms >> shift) & 31] for shift in range(35, -1, -5))


def _brief(shown: Message) -> Message:
    """A job as one of many: `job show` and `job log` have the rest."""
    return {name: value for name, value in shown.items() if name not in ("steps", "commands")}


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
    placed = [step for step in record["steps"] if step.get("name") == "place"]
    record["steps"] = placed + list(report.get("steps") or [])
    record["commands"] = list(report.get("commands") or [])


def _handed(record: Job) -> dict[str, Any]:
    """What a host needs of a job."""
    names = ("id", "attempt", "action", "args", "slot", "limit_seconds", "object")
    return {name: record[name] for name in names}  # type: ignore[literal-required]
