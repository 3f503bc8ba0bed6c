"""What the client worker decides. Give it messages and the time; take what it wants sent from its `outbox`.

No sockets, no clock, no threads. It writes to the store, and whoever drives it commits before anything of the outbox
leaves: record, then ring.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from maglica import declare, job, wire
from maglica.bus import Route
from maglica.client_worker import answers, gather, place
from maglica.client_worker.answers import shown
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.gather import Gather
from maglica.client_worker.now import Now
from maglica.client_worker.store import Store
from maglica.config import ClientSection, HostSection
from maglica.declare import Action, Where
from maglica.errors import Failed, MaglicaError, Refused, from_wire
from maglica.job import Job
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")

LONGEST_WAIT = 10.0  # seconds that an answer is held back for a job to change; the asker asks again
BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: sorts like the number, no letters that look alike
EPOCH_2026_MS = 1_767_225_600_000


class Reply(NamedTuple):
    route: Route
    message: Message


class Ring(NamedTuple):
    topic: bytes
    message: Message


class Waiter(NamedTuple):
    route: Route
    job: str
    rev: int
    deadline: float


class Submission(NamedTuple):
    """A request for a job whose place is still being looked for."""

    key: str
    action: Action
    owner: str
    reason: str | None
    dry_run: bool


class Broker:
    """Requests in, answers and bells out."""

    def __init__(
        self, store: Store, settings: ClientSection, hosts: dict[str, HostSection], version: str, now: Now
    ) -> None:
        self.store = store
        self.settings = settings
        self.version = version
        self.fleet = Fleet(settings.beat, now.mono)
        self.weights = {name: section.weight for name, section in hosts.items()}
        self.outbox: list[Reply | Ring] = []
        self.epoch = store.next_epoch()
        self._gathers: dict[int, Gather] = {}
        self._askers: dict[str, list[Route]] = {}  # by key: who waits for a submission to be placed
        self._waiters: list[Waiter] = []
        self._last_ms = 0
        self._pruned = float("-inf")
        for name in hosts:
            self.fleet.know(name)
        for name, journal, incarnation, facts in store.hosts():
            host = self.fleet.know(name)
            host.journal, host.incarnation, host.facts = journal, incarnation, facts
        self._ops: dict[str, Callable[[Message, Route, Now], None]] = {
            "ping": self._ping,
            "read": self._read,
            "submit": self._submit,
            "wait": self._wait,
            "hello": self._hello,
            "sync": self._sync,
            "answer": self._answer,
        }

    # ------------------------------------------------------------------------------------- the doors

    def request(self, body: bytes, route: Route, now: Now) -> None:
        """Handle one request. Whatever is wrong with it becomes an answer."""
        try:
            message = wire.decode(body)
            self._ops[wire.check(message)](message, route, now)
        except MaglicaError as error:
            self._reply(route, wire.failure(error))
        except Exception:  # the one catch-all of this process
            log.exception("unexpected error in a request")
            unexpected = Failed("internal_error", "unexpected error in the client worker", "its log has the details")
            self._reply(route, wire.failure(unexpected))

    def subscribed(self, topic: bytes) -> None:
        """A host began to listen: what was rung before it did is rung again."""
        name = topic.rstrip(b"\0").decode(errors="replace")
        if name in self.fleet.hosts:
            self._ring(name)
        for question in self._gathers.values():
            if name in question.waiting:
                self.outbox.append(Ring(wire.topic(name), self._question(question)))

    def tick(self, now: Now) -> None:
        """What time alone brings about: give up waiting, ring again, forget old jobs."""
        for question in list(self._gathers.values()):
            for name in list(question.waiting):
                if now.mono >= question.deadline:
                    question.give_up(name, "no answer in time")
            self._settle(question)
        late = [waiter for waiter in self._waiters if now.mono >= waiter.deadline]
        self._waiters = [waiter for waiter in self._waiters if now.mono < waiter.deadline]
        for waiter in late:
            self._tell(waiter.route, self._job(waiter.job))
        if now.mono - self._pruned > 3600:
            self._pruned = now.mono
            self.store.prune(now.ms - int(self.settings.keep_jobs * 1000))

    def next_tick(self, now: Now) -> float:
        """Seconds until `tick` has something to do."""
        deadlines = [question.deadline for question in self._gathers.values()]
        deadlines += [waiter.deadline for waiter in self._waiters]
        return max(0.0, min([now.mono + 1.0, *deadlines]) - now.mono)

    def _reply(self, route: Route, message: Message) -> None:
        self.outbox.append(Reply(route, message))

    # ------------------------------------------------------------------------------------ people's side

    def _ping(self, message: Message, route: Route, now: Now) -> None:
        self._reply(
            route, wire.ok(version=self.version, protocol=wire.VERSION, features=list(wire.FEATURES), epoch=self.epoch)
        )

    def _read(self, message: Message, route: Route, now: Now) -> None:
        action = declare.build(message["action"], message["args"])
        if action.CHANGES or action.WHERE == Where.TERMINAL:
            raise Refused("wrong_input", f"{action.NAME} is not a read")
        if action.WHERE == Where.CLIENT_WORKER:
            self._reply(route, self._result(action, answers.function(action)(action, self, now), now))
            return
        timeout = min(float(message.get("timeout") or self.settings.read_timeout), 60.0)

        def finish(value: Callable[[Gather], dict[str, Any]]) -> Callable[[Gather], None]:
            return lambda done: self._guarded(route, lambda: self._reply(route, self._result(action, value(done), now)))

        if action.WHERE == Where.NAMED:
            host = self._known_host(str(getattr(action, "name")))
            self._ask([host], action, now, now.mono + timeout, finish(gather.only))
        elif action.WHERE == Where.OWNER:
            deadline = now.mono + timeout

            def located(survey: Gather) -> None:
                self._guarded(route, lambda: self._read_of_owner(action, survey, now, deadline, finish(gather.only)))

            self._survey(now, deadline, located)
        else:
            self._ask_all(action, now, now.mono + timeout, finish(gather.merge))

    def _read_of_owner(
        self, action: Action, survey: Gather, now: Now, deadline: float, then: Callable[[Gather], None]
    ) -> None:
        host, name = place.locate(
            str(getattr(action, "name")), survey.answers, survey.missing, full_name=False, whole_fleet=False
        )
        self._ask([host], self._renamed(action, name), now, deadline, then)

    @staticmethod
    def _renamed(action: Action, name: str) -> Action:
        return type(action)(**{**action.values(), "name": name})

    def _result(self, action: Action, value: dict[str, Any], now: Now) -> Message:
        return wire.ok(kind=action.NAME.replace(" ", "."), observed_at=now.text, **value)

    def _guarded(self, route: Route, work: Callable[[], None]) -> None:
        """Do what is left of a request after hosts have answered; its errors go to whoever asked."""
        try:
            work()
        except MaglicaError as error:
            self._reply(route, wire.failure(error))

    def _known_host(self, name: str) -> str:
        if name not in self.fleet.hosts:
            candidates = [known for known in self.fleet.hosts if known.startswith(name + ".")]
            if len(candidates) == 1:
                return candidates[0]
            close = declare.nearest(name, self.fleet.hosts)
            hint = f"did you mean {close}?" if close else "`maglica host list` shows them"
            raise Refused("unknown_entity", f"there is no host {name}", hint)
        return name

    def _submit(self, message: Message, route: Route, now: Now) -> None:
        known = self.store.job_by_key(message["key"])
        if known:
            self._tell(route, known)
            return
        action = declare.build(message["action"], message["args"])
        if not action.CHANGES:
            raise Refused("wrong_input", f"{action.NAME} is not a job")
        if message["key"] in self._askers:
            self._askers[message["key"]].append(route)
            return
        self._refuse_full_queue()
        wanted = Submission(
            message["key"], action, message["owner"], message.get("reason"), bool(message.get("dry_run"))
        )
        self._askers[wanted.key] = [route]
        self._survey(now, now.mono + self.settings.read_timeout, lambda done: self._place(wanted, done, now))

    def _refuse_full_queue(self) -> None:
        if self.store.count_open() >= self.settings.queue_limit:
            raise Refused(
                "no_capacity",
                f"{self.settings.queue_limit} jobs are open, more are not accepted",
                "wait for some of them; [client] queue_limit sets the limit",
            )

    def _place(self, wanted: Submission, survey: Gather, now: Now) -> None:
        try:
            host, action, why = self._find_place(wanted, survey)
            if wanted.dry_run:
                self._plan(wanted, host, action, why, now)
                return
            answer = self._told(self._record(wanted, host, action, why, now))
        except MaglicaError as error:
            answer = wire.failure(error)
        self._answer_askers(wanted.key, answer)

    def _find_place(self, wanted: Submission, survey: Gather) -> tuple[str, Action, str]:
        action = wanted.action
        if action.WHERE == Where.PLACED:
            choice = self._choose(action, survey)
            return choice.host, action, choice.why
        ignore = bool(getattr(action, "ignore_missing", False))
        host, name = place.locate(
            str(getattr(action, "name")),
            survey.answers,
            survey.missing,
            full_name=action.DESTRUCTIVE,
            whole_fleet=action.WHOLE_FLEET and not ignore,
        )
        return host, self._renamed(action, name), "the VM is there"

    def _choose(self, action: Action, survey: Gather) -> place.Choice:
        want = _wanted(action)
        for lock in action.locks():
            for holder in self.store.holders(lock):
                raise Refused(
                    "already_exists",
                    f"job {holder} is working on {want.hostname}",
                    f"`maglica job show {holder}` tells what it does",
                )
        ignore = bool(getattr(action, "ignore_missing", False))
        reserved = self._reserved(survey.answers)
        return place.choose(want, survey.answers, survey.missing, self.weights, reserved, ignore)

    def _reserved(self, surveys: dict[str, place.Survey]) -> dict[str, place.Reserved]:
        """What open clones will take on each host and have not taken yet."""
        sums: dict[str, place.Reserved] = {}
        for record in self.store.open_jobs():
            survey = surveys.get(record["host"])
            if record["action"] != "vm clone" or survey is None:
                continue
            if any(domain["name"] == record["object"] for domain in survey["domains"]):
                continue
            had = sums.get(record["host"], place.Reserved())
            more = place.needs(_wanted(declare.build(record["action"], record["args"])), survey)
            sums[record["host"]] = place.Reserved(*(a + b for a, b in zip(had, more, strict=True)))
        return sums

    def _plan(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> None:
        def answered(done: Gather) -> None:
            try:
                plan = {**gather.only(done)["item"], "host": host, "why": why}
                answer = self._result(action, {"missing_hosts": [], "plan": plan}, now)
            except MaglicaError as error:
                answer = wire.failure(error)
            self._answer_askers(wanted.key, answer)

        self._ask([host], action, now, now.mono + self.settings.read_timeout, answered, plan=True)

    def _record(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> Job:
        locks = action.locks()
        subject = action.subject()
        about = locks[0].partition(":")[2] if locks else str(getattr(action, subject.name)) if subject else None
        record = Job(
            id=self._new_id(now), rev=1, key=wanted.key, action=action.NAME, args=action.values(), object=about, host=host,
            slot=action.SLOT, locks=locks, limit_seconds=action.LIMIT, attempt=1, state=job.QUEUED, owner=wanted.owner,
            reason=wanted.reason, cancel=False, created_at=now.text, claimed_at=None, started_at=None, ended_at=None,
            updated_at=now.text, step=None, progress=None, steps=[{"name": "place", "seconds": 0.0, "note": f"{host}: {why}"}],
            commands=[], result=None, error=None,
        )  # fmt: skip
        self.store.add(record)
        log.info("queued job=%s action=%r vm=%s host=%s owner=%s", record["id"], action.NAME, about, host, wanted.owner)
        self._ring(host)
        return record

    def _new_id(self, now: Now) -> str:
        """Ten characters that sort by time: eight of milliseconds since 2026, two of chance."""
        self._last_ms = max(now.ms - EPOCH_2026_MS, self._last_ms + 1)
        digits = [BASE32[(self._last_ms >> shift) & 31] for shift in range(35, -1, -5)]
        return "".join(digits) + secrets.choice(BASE32) + secrets.choice(BASE32)

    def _answer_askers(self, key: str, message: Message) -> None:
        for route in self._askers.pop(key, []):
            self._reply(route, message)

    def _wait(self, message: Message, route: Route, now: Now) -> None:
        record = self.find_job(message["id"])
        if record["rev"] > message["rev"] or record["state"] in job.FINAL:
            self._tell(route, record)
            return
        deadline = now.mono + min(float(message["timeout"]), LONGEST_WAIT)
        self._waiters.append(Waiter(route, record["id"], message["rev"], deadline))

    def find_job(self, prefix: str) -> Job:
        """The job whose id begins so; `Refused` when there is none, or more than one."""
        found = self.store.job(prefix)
        candidates = [found] if found else self.store.jobs_like(prefix)
        if len(candidates) > 1:
            listed = ", ".join(record["id"] for record in candidates)
            raise Refused("ambiguous_name", f"job {prefix} may be {listed}", "give more characters")
        if not candidates:
            raise Refused("unknown_entity", f"there is no job {prefix}", "`maglica job list` shows the latest")
        return candidates[0]

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
            self._ring(record["host"])
        return record

    # ----------------------------------------------------------------------------------------- jobs

    def _job(self, job_id: str) -> Job:
        record = self.store.job(job_id)
        if record is None:
            raise Refused("unknown_entity", f"there is no job {job_id}")
        return record

    def _told(self, record: Job) -> Message:
        return wire.ok(job=shown(record))

    def _tell(self, route: Route, record: Job) -> None:
        self._reply(route, self._told(record))

    def _move(self, record: Job, state: str, now: Now) -> None:
        """The one place where a job's state changes."""
        if not job.may_become(record["state"], state):
            raise Refused("wrong_state", f"job {record['id']} is {record['state']} and cannot become {state}")
        record["state"] = state
        stamp = {job.CLAIMED: "claimed_at", job.RUNNING: "started_at"}.get(state, "ended_at")
        record[stamp] = now.text  # type: ignore[literal-required]
        if state in job.FINAL:
            fields = declare.find(record["action"]).action.FIELDS
            record["args"] = declare.mask(fields, record["args"])
            record["progress"] = None
            log.info("ended job=%s vm=%s host=%s state=%s", record["id"], record["object"], record["host"], state)
        self._save(record, now)
        if state in job.FINAL:
            self._ring_waiting_hosts(record)

    def _save(self, record: Job, now: Now) -> None:
        record["rev"] += 1
        record["updated_at"] = now.text
        host = self.fleet.hosts.get(record["host"])
        journal = host.journal if host and record["state"] != job.QUEUED else None
        self.store.save(record, journal=journal, ended_ms=now.ms if record["state"] in job.FINAL else None)
        ready = [waiter for waiter in self._waiters if waiter.job == record["id"] and record["rev"] > waiter.rev]
        self._waiters = [waiter for waiter in self._waiters if waiter not in ready]
        for waiter in ready:
            self._tell(waiter.route, record)

    def _ring_waiting_hosts(self, ended: Job) -> None:
        """A lock became free: whoever may run now shall hear of it."""
        if ended["locks"]:
            for name in self.store.hosts_with_queue():
                self._ring(name)

    def _ring(self, host: str) -> None:
        ring = Ring(wire.topic(host), {"op": "bell", "host": host})
        if ring not in self.outbox:
            self.outbox.append(ring)

    # ---------------------------------------------------------------------------------------- hosts' side

    def _hello(self, message: Message, route: Route, now: Now) -> None:
        if wire.VERSION not in message["versions"]:
            raise Refused(
                "version_mismatch",
                f"host {message['host']} speaks protocol {message['versions']}, this client worker {wire.VERSION}",
                "install the same release on both",
            )
        host = self.fleet.hello(message["host"], message["journal"], now.mono)
        host.version, host.features = message["version"], [str(word) for word in message["features"]]
        host.facts = message.get("facts") or host.facts
        self.store.put_host(host.name, host.journal, host.incarnation, host.facts)
        log.info("hello host=%s incarnation=%d version=%s", host.name, host.incarnation, host.version)
        self._reply(route, wire.ok(op="hello", incarnation=host.incarnation, epoch=self.epoch, beat=self.settings.beat))

    def _sync(self, message: Message, route: Route, now: Now) -> None:
        host = self.fleet.heard(message["host"], message["incarnation"], now.mono)
        if message.get("facts"):
            host.facts = message["facts"]
        recorded = [self._outcome(host.name, done, now) for done in message["done"]]
        for progress in message["progress"]:
            self._progress(host.name, progress, now)
        mine = {record["id"]: record for record in self.store.open_jobs(host.name)}
        self._reconcile(mine, host.journal, {str(known) for known in message["have"]}, now)
        free = {slot: int(message["free"].get(slot, 0)) for slot in declare.SLOTS}
        again = [r for r in mine.values() if r["state"] == job.CLAIMED and r["id"] not in message["have"]]
        for record in again:
            free[record["slot"]] -= 1
        fresh = [record for slot in declare.SLOTS for record in self.store.claimable(host.name, slot, free[slot])]
        for record in fresh:
            self._move(record, job.CLAIMED, now)
        stop = [record["id"] for record in mine.values() if record["cancel"] and record["state"] not in job.FINAL]
        jobs = [_handed(record) for record in [*again, *fresh]]
        self._reply(route, wire.ok(op="sync", acked=recorded, jobs=jobs, cancel=stop, epoch=self.epoch))

    def _reconcile(self, mine: dict[str, Job], journal: str, have: set[str], now: Now) -> None:
        """Compare what is recorded with what the host has.

        A claimed job that it does not have never reached it and is handed out again, as the same attempt: it writes
        its journal before it begins. With another journal, or when it had begun, nobody knows: the job is lost.
        """
        for record in mine.values():
            if record["state"] == job.QUEUED or record["id"] in have:
                continue
            if record["state"] == job.CLAIMED and self.store.journal_of(record["id"]) == journal:
                continue
            record["error"] = Failed(
                "lost",
                f"{record['host']} no longer knows of this job; it was {record['state']}",
                "look at the VM, then decide: nothing is done again by itself",
            ).to_wire()
            self._move(record, job.LOST, now)

    def _outcome(self, host: str, done: Any, now: Now) -> dict[str, Any]:
        """Record how a job ended. Told twice, it is recorded once; either way it is acknowledged."""
        if not isinstance(done, dict) or not isinstance(done.get("id"), str):
            raise Refused("wrong_input", "sync: an outcome has no id")
        receipt = {"id": done["id"], "attempt": done.get("attempt")}
        record = self.store.job(done["id"])
        if record is None or record["host"] != host or record["attempt"] != done.get("attempt"):
            return receipt
        if record["state"] in job.FINAL or done.get("state") not in job.FINAL:
            return receipt
        self._take_progress(record, done)
        record["result"], record["error"] = done.get("result"), done.get("error")
        if record["error"]:
            record["error"]["job"] = record["id"]
        if record["state"] == job.CLAIMED:
            record["started_at"] = record["started_at"] or now.text
        self._move(record, done["state"], now)
        return receipt

    def _progress(self, host: str, progress: Any, now: Now) -> None:
        if not isinstance(progress, dict) or not isinstance(progress.get("id"), str):
            raise Refused("wrong_input", "sync: progress has no id")
        record = self.store.job(progress["id"])
        if record is None or record["host"] != host or record["state"] in job.FINAL:
            return
        self._take_progress(record, progress)
        if record["state"] == job.CLAIMED:
            self._move(record, job.RUNNING, now)
        elif record["state"] == job.RUNNING:
            self._save(record, now)

    @staticmethod
    def _take_progress(record: Job, told: dict[str, Any]) -> None:
        record["step"] = told.get("step") or record["step"]
        record["progress"] = told.get("progress")
        placed = [step for step in record["steps"] if step["name"] == "place"]
        record["steps"] = placed + list(told.get("steps") or [])
        record["commands"] = list(told.get("commands") or [])

    # ------------------------------------------------------------------------------- questions to hosts

    def _survey(self, now: Now, deadline: float, then: Callable[[Gather], None]) -> None:
        self._ask_all(declare.build("host survey", {}), now, deadline, then)

    def _ask_all(self, action: Action, now: Now, deadline: float, then: Callable[[Gather], None]) -> None:
        """Put a question to every host; those that are down count as missing at once."""
        self._ask(self.fleet.answering(now.mono), action, now, deadline, then, silent=self.fleet.silent(now.mono))

    def _ask(
        self,
        hosts: list[str],
        action: Action,
        now: Now,
        deadline: float,
        then: Callable[[Gather], None],
        *,
        silent: dict[str, str] | None = None,
        plan: bool = False,
    ) -> None:
        question = Gather(secrets.randbits(48), action, hosts, silent or {}, now.mono, deadline, then, plan=plan)
        self._gathers[question.number] = question
        for host in hosts:
            self.outbox.append(Ring(wire.topic(host), self._question(question)))
        self._settle(question)

    @staticmethod
    def _question(question: Gather) -> Message:
        action = question.action
        return {
            "op": "plan" if question.plan else "read",
            "ask": question.number,
            "action": action.NAME,
            "args": action.values(),
        }

    def _answer(self, message: Message, route: Route, now: Now) -> None:
        self._reply(route, wire.ok(op="answer"))
        question = self._gathers.get(message["ask"])
        if question is None:
            return
        if message["ok"]:
            question.answer(message["host"], message.get("value") or {}, now.mono)
        else:
            question.error(message["host"], from_wire(message.get("error") or {}))
        self._settle(question)

    def _settle(self, question: Gather) -> None:
        if question.complete and question.number in self._gathers:
            del self._gathers[question.number]
            question.then(question)


def _handed(record: Job) -> dict[str, Any]:
    """What a host needs of a job."""
    names = ("id", "attempt", "action", "args", "slot", "limit_seconds", "object")
    return {name: record[name] for name in names}  # type: ignore[literal-required]


def _wanted(action: Action) -> place.Wanted:
    values = action.values()
    return place.Wanted(
        image=values["image"],
        hostname=values["hostname"],
        on=values["on"],
        vcpus=values["vcpus"],
        memory_bytes=values["memory"],
        linked=values["mode"] == "linked",
        macs=tuple(values["mac"] or ()),
    )
