"""What the client worker decides. Give it messages and the time; take what it wants sent from its `outbox`.

No sockets, no clock, no threads. It writes to the store, and whoever drives it commits before anything of the outbox
leaves: record, then ring.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar

from maglica import cluster, declare, kinds, wire
from maglica.actions.job import JobShow
from maglica.bus import Route
from maglica.client_worker import again, answers, gather, groups, keyring, place
from maglica.client_worker.answers import Records
from maglica.client_worker.audit import Audit
from maglica.client_worker.fleet import STATES, Fleet
from maglica.client_worker.gather import Gather, Then
from maglica.client_worker.keyring import Keyring, Who
from maglica.client_worker.ledger import GroupSubmission, Ledger, Submission
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.store import Store
from maglica.config import ClientSection, HostSection
from maglica.declare import Action, Where
from maglica.errors import Failed, MaglicaError, Refused, from_wire
from maglica.job import Group, Job
from maglica.keys import fingerprint
from maglica.wire import Message

# What is done with what all hosts were seen to have.
Seeing = Callable[[place.Seen, Now], None]

log = logging.getLogger("maglica.client_worker")

T = TypeVar("T")

AT_ONCE = 1000  # old jobs that are forgotten in one turn; they take some 20 ms
MOMENT = 0.05  # seconds that a submission waits for the survey before its own to end
STRANGERS_KEPT_MS = 7 * 86400 * 1000  # how long it is kept what nobody known has tried
IMAGE = ".original"  # a VM that is called so is an image


class Caller(NamedTuple):
    """Whoever asks: where the answer goes, and whose key it is."""

    route: Route
    who: Who


class Askers(NamedTuple):
    """A submission that is being placed: whose, what he said, and where its answer goes."""

    public: str
    said: Message
    routes: list[Route]


class Broker:
    """Requests in, answers and bells out. Without a `ring` of keys the bus is open: everybody may everything.

    `server`: the client worker's own public key, for those who are invited.
    """

    def __init__(
        self,
        store: Store,
        settings: ClientSection,
        hosts: dict[str, HostSection],
        version: str,
        now: Now,
        ring: Keyring | None = None,
        server: str = "",
        folders: tuple[str, ...] = (),
    ) -> None:
        """`folders`: where secrets are kept, for a look at who may read them."""
        self._store = store
        self.keyring = ring or Keyring(store, {}, is_open=True)
        self._audit = Audit(store)
        self.settings = settings
        self.version = version
        self.fleet = Fleet(settings.beat, now.mono)
        self.weights = {name: section.weight for name, section in hosts.items()}
        self.outbox = Outbox()
        self._ledger = Ledger(store, self.outbox, self.fleet)
        self.epoch = store.next_epoch()
        self.cluster = store.cluster()
        self.life = secrets.token_hex(8)  # of this process: after a store was put back, two starts have one number
        self._gathers: dict[int, Gather] = {}
        self._askers: dict[str, Askers] = {}  # by key: who waits for a submission to be placed
        self._unplaced: list[tuple[bool, Seeing]] = []  # they wait for the next survey; whether it is about room too
        self._next_survey = now.mono  # when that may be asked
        self._pruned = float("-inf")
        self._records = Records(
            self.fleet, self._ledger, self.weights, self.epoch, self.cluster, folders,
            self.keyring, self.outbox, settings, server,
        )  # fmt: skip
        for name in hosts:
            self.fleet.know(name)
        for name, journal, incarnation, facts in store.hosts():
            host = self.fleet.know(name)
            host.journal, host.incarnation, host.facts = journal, incarnation, facts
        self._records.bar(now)
        self._ops: dict[str, Callable[[Message, Caller, Now], None]] = {
            "ping": self._ping,
            "read": self._read,
            "submit": self._submit,
            "submit_group": self._submit_group,
            "retry": self._retry,
            "wait": self._wait,
            "join": self._join,
            "hello": self._hello,
            "sync": self._sync,
            "answer": self._answer,
            "part": self._part,
        }

    def change(self, settings: ClientSection, hosts: dict[str, HostSection]) -> None:
        """Other settings from now on. A host that is no longer listed stays known: `host remove` forgets it."""
        self.settings = settings
        self._records = self._records._replace(settings=settings)
        self.weights.clear()
        self.weights.update({name: section.weight for name, section in hosts.items()})
        for name in hosts:
            self.fleet.know(name)

    def status(self, now: Now) -> str:
        """What there is, in a line."""
        states = [self.fleet.state(host, now.mono) for host in self.fleet.hosts.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
        try:
            jobs = str(self._store.count_open())
        except MaglicaError as error:
            jobs = error.message
        return f"hosts: {counts or 'none'}; open jobs: {jobs}"

    # ------------------------------------------------------------------------------------- the doors

    def request(self, body: bytes, route: Route, now: Now, public: str = "", address: str = "") -> None:
        """Handle one request of the key `public`. Whatever is wrong with it becomes an answer."""
        self.fleet.awake(now.mono)
        who = self.keyring.who(public, address, now.ms)
        try:
            message = wire.decode(body)
            self.outbox.asked_in(route, message.get("v", wire.VERSION))
            op = wire.check(message)
            self._door(op, message, who, now)
            self._ops[op](message, Caller(route, who), now)
        except Exception as error:
            asked = error.details.get("asked") if isinstance(error, MaglicaError) else None
            self.outbox.reply(route, _failure(error) | ({"v": asked} if asked is not None else {}))

    def _door(self, op: str, message: Message, who: Who, now: Now) -> None:
        """Hosts speak for themselves, people ask, strangers join; on an open bus everybody does everything."""
        if self.keyring.is_open:
            return
        if op == "join" or (op == "ping" and who.role != keyring.STRANGER):
            return
        if who.role == keyring.STRANGER:
            why = f"the key {who.name} ({fingerprint(who.public)}) is not known here, or is no longer good"
            self._deny(who, op, why, "people get one by `maglica key new`, hosts by `maglica host invite`", now)
        if op in wire.OF_HOSTS:
            if who.role != keyring.HOST or who.name != message["host"]:
                why = f"the key of {who} cannot speak for host {message['host']}"
                self._deny(who, op, why, "every host has a key of its own: `maglica host invite`", now)
        elif op not in wire.OF_PEOPLE or who.role == keyring.HOST:
            self._deny(who, op, f"the key of {who} is for a host worker only", "`maglica key new` is for people", now)

    def _deny(self, who: Who, what: str, message: str, hint: str, now: Now) -> NoReturn:
        self._audit.denied(who, what, None, message, now)
        raise Refused("denied", message, hint)

    def _may(self, who: Who, action: type[Action], now: Now, *, vm: str | None = None, host: str | None = None) -> None:
        """Ask the keyring, and write down when it says no.

        What the key is good for is looked up once more: hosts were asked meanwhile, and it may have been revoked.
        """
        who = self.keyring.who(who.public, who.address, now.ms)
        self._noted(who, action.NAME, vm or host, now, lambda: self.keyring.may(who, action, vm=vm, host=host))

    def _noted(self, who: Who, what: str, about: str | None, now: Now, work: Callable[[], T]) -> T:
        """Do some work; when it is denied to whoever asks for it, write that down."""
        try:
            return work()
        except Refused as error:
            if error.code == "denied":
                self._audit.denied(who, what, about, error.message, now)
            raise

    def admits(self, public: str, address: str, now: Now) -> bool:
        """Whether a key may connect at all."""
        good = self.keyring.admits(public, now.ms)
        if not good:
            who = self.keyring.who(public, address, now.ms)
            known = who.name != fingerprint(public)
            try:
                why = "the key is no longer good" if known else "unknown key"
                self._audit.denied(who, "connect", None, why, now)
            except MaglicaError as error:
                log.error("%s", error.message)  # it stays outside all the same
        return good

    def may_hear(self, public: str, topic: bytes, now: Now) -> bool:
        """Whether a key may listen to a topic: a host to its own."""
        return self.keyring.may_hear(public, wire.host_of(topic), now.ms)

    def undone(self) -> None:
        """What was written since the last commit is lost: forget it here as well."""
        self.keyring.reload()

    def subscribed(self, topic: bytes) -> None:
        """A host began to listen: what was rung before it did is rung again."""
        name = wire.host_of(topic)
        if name in self.fleet.hosts:
            self.outbox.ring(name)
        for question in self._gathers.values():
            if name in question.waiting:
                self.outbox.publish(name, self._question(question))

    def tick(self, now: Now) -> None:
        """What time alone brings about: beat, give up waiting, forget old jobs."""
        self.fleet.awake(now.mono)
        self._beat(now)
        for question in list(self._gathers.values()):
            if now.mono >= question.deadline:
                for name in list(question.waiting):
                    question.give_up(name, "no answer in time")
            self._settle(question, now)
        self._survey_together(now)
        self._ledger.tick(now)
        if now.mono - self._pruned > 3600:
            self._pruned = now.mono
            self._prune(now)

    def _beat(self, now: Now) -> None:
        """Tell every host the next number; they tell the last one that they heard."""
        number = self.fleet.strike(now.mono)
        if number is not None:
            for name in self.fleet.hosts:
                self.outbox.publish(name, {"op": "beat", "life": self.life, "number": number})

    def _prune(self, now: Now) -> None:
        try:
            if self._store.prune(now.ms - int(self.settings.keep_jobs * 1000), AT_ONCE) == AT_ONCE:
                self._pruned = float("-inf")  # there may be more: in the next turn, so that nobody waits for all of it
            keep = int(self.settings.keep_audit * 1000)
            self._store.prune_audit(now.ms - keep, now.ms - min(keep, STRANGERS_KEPT_MS), keyring.STRANGER)
        except MaglicaError as error:
            log.error("old jobs were not forgotten: %s", error.message)

    def next_tick(self, now: Now) -> float:
        """Seconds until `tick` has something to do."""
        deadlines = [question.deadline for question in self._gathers.values()]
        if self._unplaced:
            deadlines.append(self._next_survey)
        return max(0.0, min([now.mono + 1.0, self.fleet.next_beat, *deadlines, *self._ledger.deadlines()]) - now.mono)

    # ------------------------------------------------------------------------------------ people's side

    def _ping(self, message: Message, caller: Caller, now: Now) -> None:
        self.outbox.reply(
            caller.route,
            wire.ok(version=self.version, protocol=wire.VERSION, features=list(wire.FEATURES), epoch=self.epoch),
        )

    def _read(self, message: Message, caller: Caller, now: Now) -> None:
        action = declare.build(message["action"], message["args"])
        if action.CHANGES or action.WHERE == Where.TERMINAL:
            raise Refused("wrong_input", f"{action.NAME} is not a read")
        self._may(caller.who, type(action), now)
        if action.WHERE == Where.CLIENT_WORKER:
            self.outbox.reply(caller.route, self._result(action, self._own(action, caller.who, now), now))
            return
        timeout = min(float(message.get("timeout") or self.settings.read_timeout), 60.0)

        def finish(value: Callable[[Gather], dict[str, Any]]) -> Then:
            return lambda done, now: self._guarded(
                caller.route, lambda: self.outbox.reply(caller.route, self._result(action, value(done), now))
            )

        def located(survey: Gather, now: Now) -> None:
            self._guarded(
                caller.route, lambda: self._read_of_owner(action, survey, caller.who, now, timeout, finish(gather.only))
            )

        host = action.values().get("host")
        if action.WHERE == Where.NAMED:
            name = self._known_host(str(getattr(action, "name")), caller.who)
            self._may(caller.who, type(action), now, host=name)
            self._ask([name], action, now, timeout, finish(self._only(caller.who)))
        elif action.WHERE == Where.OWNER:
            self._look_up(now, timeout, located, only=str(getattr(action, "name")).partition("@")[2])
        elif host is not None:
            name = self._known_host(host, caller.who)
            self._may(caller.who, type(action), now, host=name)
            asked = type(action)(**{**action.values(), "host": name})
            self._ask([name], asked, now, timeout, finish(self._merged(action, caller.who)))
        else:
            self._ask_all(action, now, timeout, finish(self._merged(action, caller.who)), who=caller.who)

    def _own(self, action: Action, who: Who, now: Now) -> dict[str, Any]:
        """What the client worker answers by itself. Whatever is not only a look at something is written down."""
        subject = action.subject()
        about = str(getattr(action, subject.name)) if subject else None
        if action.NOUN == "host" and about is not None:
            self._may(who, type(action), now, host=about)
        records = self._records._replace(who=who)
        if action.ROLE == declare.READER or action.VERB in ("list", "store"):
            return self._noted(who, action.NAME, about, now, lambda: answers.function(action)(action, records, now))
        try:
            value = answers.function(action)(action, records, now)
        except Refused as error:
            self._audit.turned_down(who, action.NAME, about, error, now)
            raise
        others = [name for name, field in action.FIELDS.items() if not field.subject]
        told = {name: value for name, value in action.public().items() if name in others and value is not None}
        given = ", ".join(f"{name}={value}" for name, value in told.items()) or None
        item = value.get("item") or {}
        self._audit.write(who, action.NAME, item.get("object", about), "done", now, job=item.get("id"), message=given)
        return value

    def _merged(self, action: Action, who: Who) -> Callable[[Gather], dict[str, Any]]:
        """The answers of all hosts, as far as the asker may see them."""

        def merge(done: Gather) -> dict[str, Any]:
            value = gather.merge(done)
            # Images are for everybody. Among all that is shut off there are VMs, which are not.
            vms = action.NOUN == "vm" or bool(action.values().get("all"))
            value["items"] = [
                item
                for item in value["items"]
                if (not vms or self._sees_vm(who, item, action.NOUN)) and self.keyring.sees(who, host=item["host"])
            ]
            return value

        return merge

    def _sees_vm(self, who: Who, item: dict[str, Any], noun: str) -> bool:
        name = str(item.get("name"))
        return (noun == "image" and name.endswith(IMAGE)) or self.keyring.sees(who, vm=name)

    def _only(self, who: Who) -> Callable[[Gather], dict[str, Any]]:
        """What one host told of itself, as far as the asker may see it."""

        def only(done: Gather) -> dict[str, Any]:
            value = gather.only(done)
            if isinstance(value["item"].get("vms"), list):
                value["item"]["vms"] = [vm for vm in value["item"]["vms"] if self._sees_vm(who, vm, "vm")]
            return value

        return only

    def _read_of_owner(self, action: Action, survey: Gather, who: Who, now: Now, timeout: float, then: Then) -> None:
        """Where the VM is, is known now: ask there. This question has its own time; another host may have used up the
        first one's.
        """
        seen = place.Seen(survey.answers, survey.missing)
        host, name = self._locate(who, str(getattr(action, "name")), seen, full_name=False, whole_fleet=False)
        self._may(who, type(action), now, vm=name, host=host)
        self._ask([host], self._renamed(action, name), now, timeout, then)

    def _locate(self, who: Who, name: str, seen: place.Seen, *, full_name: bool, whole_fleet: bool) -> tuple[str, str]:
        """(host, full name) of the VM that a name means to whoever asks: what is not for him neither makes it
        ambiguous nor is suggested. Only its full name, or NAME@HOST, finds something that will be denied.
        """
        if self.keyring.sees_all(who):
            return place.locate(
                name, seen.surveys, seen.missing, full_name=full_name, whole_fleet=whole_fleet, vms=seen.vms
            )
        own = {
            host: {**survey, "domains": [vm for vm in survey["domains"] if self._sees_vm(who, vm, "vm")]}
            for host, survey in seen.surveys.items()
            if self.keyring.sees(who, host=host)
        }
        missing = {host: why for host, why in seen.missing.items() if whole_fleet or self.keyring.sees(who, host=host)}
        try:
            return place.locate(name, own, missing, full_name=full_name, whole_fleet=whole_fleet)
        except Refused as error:
            if error.code != "unknown_entity":
                raise
            try:
                return place.locate(name, seen.surveys, {}, full_name=True, whole_fleet=False, vms=seen.vms)
            except Refused:
                raise error from None

    @staticmethod
    def _renamed(action: Action, name: str) -> Action:
        return type(action)(**{**action.values(), "name": name})

    def _result(self, action: Action, value: dict[str, Any], now: Now) -> Message:
        return wire.ok(kind=action.NAME.replace(" ", "."), observed_at=now.text, **value)

    def _guarded(self, route: Route, work: Callable[[], None]) -> None:
        """Do what is left of a request after hosts have answered; its errors go to whoever asked."""
        try:
            work()
        except Exception as error:
            self.outbox.reply(route, _failure(error))

    def _known_host(self, name: str, who: Who) -> str:
        if name not in self.fleet.hosts:
            seen = [known for known in self.fleet.hosts if self.keyring.sees(who, host=known)]
            candidates = [known for known in seen if known.startswith(name + ".")]
            if len(candidates) == 1:
                return candidates[0]
            close = declare.nearest(name, seen)
            hint = f"did you mean {close}?" if close else "`maglica host list` shows them"
            raise Refused("unknown_entity", f"there is no host {name}", hint)
        return name

    def _submit(self, message: Message, caller: Caller, now: Now) -> None:
        action = declare.build(message["action"], message["args"])
        if not action.CHANGES:
            raise Refused("wrong_input", f"{action.NAME} is not a job")
        self._may(caller.who, type(action), now)
        wanted = Submission(
            message["key"], action, caller.who, message["owner"], message.get("reason"), bool(message.get("dry_run"))
        )
        known = self._known(wanted.key)
        if known:
            self._see(known, caller.who, now)
            _refuse_other(known, action)
        room, count = action.WHERE == Where.PLACED, 0 if wanted.dry_run else 1
        self._admit(message, known, count, room, caller, now, lambda seen, now: self._place(wanted, seen, now))

    def _admit(
        self,
        message: Message,
        known: Job | Group | None,
        count: int,
        room: bool,
        caller: Caller,
        now: Now,
        then: Seeing,
    ) -> None:
        """Answer what is known already; otherwise go on, once for each key, with what all hosts have.

        `room`: whether it has to be known as well how much room they have.
        """
        key, route = message["key"], caller.route
        asked = self._askers.get(key)
        if known:
            self.outbox.reply(route, self._ledger.told(known, now))
        elif asked:
            if (asked.public, asked.said) != (caller.who.public, message):
                raise Refused("already_exists", "the idempotency key belongs to another request", again.OTHER_KEY)
            asked.routes.append(route)
        else:
            self._refuse_full_queue(max(1, count))
            if count:
                self._store.refuse_when_low()
            self._askers[key] = Askers(caller.who.public, message, [route])
            self._unplaced.append((room, then))

    def _see(self, found: Job | Group, who: Who, now: Now) -> None:
        """Refuse to tell of it whoever may not see what it is about."""
        self._find(found["id"], who, now)

    def _find(self, prefix: str, who: Who, now: Now) -> Job | Group:
        """The job or the group whose id begins so, if it may be seen."""
        records = self._records._replace(who=who)
        return self._noted(who, JobShow.NAME, prefix, now, lambda: records.find_any(prefix))

    def _known(self, key: str) -> Job | Group | None:
        """What was submitted under that key."""
        return self._store.job_by_key(key) or self._store.group_by_key(key)

    def _refuse_full_queue(self, count: int) -> None:
        found, limit = self._store.count_open(), self.settings.queue_limit
        if found + count > limit:
            more = f"{count} more are" if count > 1 else "more are"
            raise Refused(
                "no_capacity",
                f"{found} jobs are open and {more} not accepted: the limit is {limit}",
                "wait for some of them; [client] queue_limit sets the limit",
            )

    def _place(self, wanted: Submission, seen: place.Seen, now: Now) -> None:
        try:
            reserved = self._reserved(wanted.action, seen.surveys)
            host, action, why = self._find_place(wanted.action, seen, reserved, wanted.who, now)
            if wanted.dry_run:
                self._plan(wanted, host, action, why, now)
                return
            answer = self._ledger.told(self._record(wanted, host, action, why, now), now)
        except Exception as error:
            if isinstance(error, Refused) and error.code != "denied" and not wanted.dry_run:
                about = str(wanted.action.values()[wanted.action.distinct()])
                self._audit.turned_down(wanted.who, wanted.action.NAME, about, error, now)
            answer = _failure(error)
        self._answer_askers(wanted.key, answer)

    def _refuse_unable(self, host: str, action: Action) -> None:
        """A host says which actions its release knows: better to hear now that it is too old than in the middle."""
        if not self._able(host, action):
            raise self._too_old(host, action)

    def _able(self, host: str, action: Action) -> bool:
        known = self.fleet.hosts.get(host)
        return known is None or known.actions is None or action.NAME in known.actions

    def _too_old(self, host: str, action: Action) -> Refused:
        return Refused(
            "version_mismatch",
            f"host {host} runs maglica {self.fleet.hosts[host].version}, which does not know {action.NAME}",
            f"install maglica {self.version} there, and start its host worker again",
        )

    def _record(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> Job:
        record = self._ledger.record(wanted, host, action, why, now)
        self._audit.write(wanted.who, action.NAME, record["object"], "accepted", now, job=record["id"])
        return record

    def _submit_group(self, message: Message, caller: Caller, now: Now) -> None:
        name, common, who = message["action"], message["args"], caller.who
        if not declare.find(name).action.CHANGES:
            raise Refused("wrong_input", f"{name} is not a job")
        self._may(who, declare.find(name).action, now)
        if not 0 < len(message["each"]) <= wire.MOST_JOBS:
            raise Refused(
                "wrong_input",
                f"a group of {len(message['each'])} jobs: expected 1 to {wire.MOST_JOBS}",
                "ask for fewer at once",
            )
        members = [groups.member(name, common, own) for own in message["each"]]
        wanted = GroupSubmission(message["key"], name, common, members, who, message["owner"], message.get("reason"))
        known = self._known(wanted.key)
        if known:
            self._see(known, who, now)
            groups.refuse_other(known, wanted)
        self._accept_group(wanted, known, message, caller, now)

    def _accept_group(
        self, wanted: GroupSubmission, known: Job | Group | None, message: Message, caller: Caller, now: Now
    ) -> None:
        room = declare.find(wanted.action).action.WHERE == Where.PLACED
        self._admit(
            message, known, len(wanted.members), room, caller, now,
            lambda seen, now: self._place_group(wanted, seen, now),
        )  # fmt: skip

    def _place_group(self, wanted: GroupSubmission, seen: place.Seen, now: Now) -> None:
        """Find a place for each of them; those that have none are refused, each with its reason.

        Nothing is recorded when all are refused: as with a single one, the same key may be tried again.
        """
        try:
            group_id = self._ledger.group_id(now)
            sample = next((member.action for member in wanted.members if member.action), None)
            reserved = self._reserved(sample, seen.surveys) if sample else {}
            told = [
                self._place_member(wanted, number, group_id, seen, reserved, now)
                for number in range(len(wanted.members))
            ]
            answer = self._ledger.told_group(group_id, wanted, told, now)
        except Exception as error:
            answer = _failure(error)
        self._answer_askers(wanted.key, answer)

    def _place_member(
        self,
        wanted: GroupSubmission,
        number: int,
        group_id: str,
        seen: place.Seen,
        reserved: dict[str, place.Reserved],
        now: Now,
    ) -> dict[str, Any]:
        member = wanted.members[number]
        told = {"name": member.name, "args": member.args, "job": None, "error": None}
        try:
            if member.action is None:
                raise member.error or Refused("wrong_input", f"{wanted.action}: there is nothing to do")
            host, action, why = self._find_place(member.action, seen, reserved, wanted.who, now)
            one = Submission(
                f"{group_id}/{number}", action, wanted.who, wanted.owner, wanted.reason, group=group_id,
                retry_of=member.retry_of,
            )  # fmt: skip
            told["job"] = self._record(one, host, action, why, now)["id"]
        except Exception as error:
            if not isinstance(error, MaglicaError):
                log.error("unexpected error in a request", exc_info=error)
                error = Failed("internal_error", "unexpected error in the client worker", "its log has the details")
            return {**told, "error": error.to_wire()}
        if action.WHERE == Where.PLACED:
            had = reserved.get(host, place.Reserved())
            more = place.needs(_wanted(action), seen.surveys[host])
            reserved[host] = place.Reserved(*(a + b for a, b in zip(had, more, strict=True)))
        return told

    def _retry(self, message: Message, caller: Caller, now: Now) -> None:
        """Ask again for what did not succeed: as a new job, or a new group of new jobs. `lost`: a person says that a
        lost job shall be tried again, and that is recorded together with the new job.
        """
        key, owner, reason, who = message["key"], message["owner"], message.get("reason"), caller.who
        known = self._known(key)
        found = self._find(message["id"], who, now)
        self._may(who, declare.find(found["action"]).action, now)
        if known:
            self._see(known, who, now)
        if known and known["retry_of"] != found["id"]:
            raise again.other_request(known)
        if "members" in found:
            records = {record["id"]: record for record in self._store.jobs_of(found["id"])}
            tried = {job_id for job_id in records if again.tried(self._store.retries(job_id))}
            members = again.members(found, records, tried, only_failed=bool(message.get("failed"))) if not known else []
            group = GroupSubmission(key, found["action"], {}, members, who, owner, reason, retry_of=found["id"])
            self._accept_group(group, known, message, caller, now)
            return
        lost = bool(message.get("lost"))
        if not known:
            again.refuse(found, self._store.retries(found["id"]), lost=lost)
        wanted = Submission(key, again.action(found["action"], found["args"]), who, owner, reason, retry_of=found["id"])
        verdict = {"as": "retry", "reason": reason, "by": who.name, "owner": owner} if lost else None
        room = wanted.action.WHERE == Where.PLACED
        self._admit(
            message, known, 1, room, caller, now,
            lambda seen, now: self._place_again(found["id"], wanted, verdict, seen, now),
        )  # fmt: skip

    def _place_again(
        self, old: str, wanted: Submission, verdict: dict[str, Any] | None, seen: place.Seen, now: Now
    ) -> None:
        try:
            # Somebody else may have asked for the same while the hosts were asked.
            record = self._ledger.find(old)
            again.refuse(record, self._store.retries(old), lost=verdict is not None)
        except Exception as error:
            self._answer_askers(wanted.key, _failure(error))
            return
        self._place(wanted, seen, now)
        if verdict and self._store.job_by_key(wanted.key):
            self._ledger.settle(record, verdict, now)

    def _find_place(
        self, action: Action, seen: place.Seen, reserved: dict[str, place.Reserved], who: Who, now: Now
    ) -> tuple[str, Action, str]:
        """The host for it, its full name, and why there; refused when it must not be done there by `who`."""
        if action.WHERE == Where.PLACED:
            self._may_copy(action, seen, who, now)
            choice = self._choose(action, seen, reserved, who)
            host, why = choice.host, choice.why
        else:
            ignore = bool(getattr(action, "ignore_missing", False))
            name, whole = str(getattr(action, "name")), action.WHOLE_FLEET and not ignore
            host, name = self._locate(who, name, seen, full_name=action.DESTRUCTIVE, whole_fleet=whole)
            if action.WHOLE_FLEET:
                place.refuse_double_life(name, host, seen.vms)
            action, why = self._renamed(action, name), "the VM is there"
        self._may(who, type(action), now, vm=str(action.values()[action.distinct()]), host=host)
        self._refuse_unable(host, action)
        return host, action, why

    def _may_copy(self, action: Action, seen: place.Seen, who: Who, now: Now) -> None:
        """A clone goes where its asker may be, and is made of what he may see. Images are for everybody; any other VM
        shows what is on its disks to whoever clones it.
        """
        self._may(who, type(action), now, host=getattr(action, "on"))
        image = str(getattr(action, "image"))
        found = [vm for survey in seen.surveys.values() for vm in survey["domains"] if vm["name"] == image]
        if not found or not all(vm.get("image") for vm in found):
            self._may(who, type(action), now, vm=image)

    def _choose(self, action: Action, seen: place.Seen, reserved: dict[str, place.Reserved], who: Who) -> place.Choice:
        want = _wanted(action)
        for lock in action.locks():
            for holder in self._store.holders(lock):
                raise Refused(
                    "already_exists",
                    f"job {holder} is working on {want.hostname}",
                    f"`maglica job show {holder}` tells what it does",
                )
        ignore = bool(getattr(action, "ignore_missing", False))
        weights = {**self.weights, **{name: 0.0 for name in seen.surveys if not self._able(name, action)}}
        closed = frozenset(host for host in seen.surveys if not self.keyring.sees(who, host=host))
        return place.choose(want, seen.surveys, seen.missing, weights, reserved, ignore, closed=closed)

    def _reserved(self, action: Action, surveys: dict[str, place.Survey]) -> dict[str, place.Reserved]:
        """What open clones will take on each host and have not taken yet; only asked when something is to be placed."""
        sums: dict[str, place.Reserved] = {}
        if action.WHERE != Where.PLACED:
            return sums
        for record in self._store.open_of_action("vm clone"):
            survey = surveys.get(record["host"])
            if survey is None or any(domain["name"] == record["object"] for domain in survey["domains"]):
                continue
            had = sums.get(record["host"], place.Reserved())
            more = place.needs(_wanted(declare.build(record["action"], record["args"])), survey)
            sums[record["host"]] = place.Reserved(*(a + b for a, b in zip(had, more, strict=True)))
        return sums

    def _plan(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> None:
        def answered(done: Gather, now: Now) -> None:
            try:
                plan = {**gather.only(done)["item"], "host": host, "why": why}
                answer = self._result(action, {"missing_hosts": [], "plan": plan}, now)
            except Exception as error:
                answer = _failure(error)
            self._answer_askers(wanted.key, answer)

        self._ask([host], action, now, self.settings.read_timeout, answered, plan=True)

    def _answer_askers(self, key: str, message: Message) -> None:
        asked = self._askers.pop(key, None)
        for route in asked.routes if asked else []:
            self.outbox.reply(route, message)

    def _wait(self, message: Message, caller: Caller, now: Now) -> None:
        record = self._find(message["id"], caller.who, now)
        if record["by"] != caller.who.name:
            # Whoever may ask for a job may see what becomes of it.
            self._may(caller.who, JobShow, now)
        ended, timeout = bool(message.get("ended")), float(message["timeout"])
        self._ledger.wait(caller.route, record["id"], message["rev"], timeout, now, ended=ended)

    # ---------------------------------------------------------------------------------------- hosts' side

    def _join(self, message: Message, caller: Caller, now: Now) -> None:
        """A host that was invited brings its key."""
        name = _host_name(message)
        if self.keyring.is_open:
            hint = "start the host worker with --client=ADDRESS and [client] security = none"
            raise Refused("wrong_input", "this client worker's bus is open: nobody is invited here", hint)
        try:
            ended = self.keyring.join(name, message["secret"], caller.who, now)
        except Refused as error:
            self._audit.denied(caller.who, "join", name, error.message, now)
            raise
        self._audit.write(self.keyring.who(caller.who.public, caller.who.address, now.ms), "join", name, "done", now)
        log.info("joined host=%s key=%s address=%s", name, fingerprint(caller.who.public), caller.who.address)
        self.fleet.know(name)
        self._records.bar(now)
        if ended:
            self.outbox.drop()  # whoever listened with the key before
        self.outbox.reply(caller.route, wire.ok(op="join", host=name))

    def _hello(self, message: Message, caller: Caller, now: Now) -> None:
        name = _host_name(message)
        try:
            self._accept(name, message, caller.route, now)
        except Refused as error:
            self.fleet.refused(name, error.message, now.mono)
            log.warning("hello refused host=%s: %s", name, error.message)
            raise

    def _accept(self, name: str, message: Message, route: Route, now: Now) -> None:
        protocol = wire.agree(message["versions"])
        if protocol is None:
            raise Refused(
                "version_mismatch",
                f"host {name} (maglica {message['version']}) speaks {wire.spoken(message['versions'])}, this client"
                f" worker (maglica {self.version}) {wire.spoken(wire.VERSIONS)}",
                "install the same release on both, or one and the next",
            )
        mine = cluster.Cluster(self.cluster, self.epoch, self._store.last_id() or "")
        wrong = cluster.refusal(name, cluster.heard(message), mine)
        if wrong:
            raise wrong
        start = message.get("starts") or 0, message.get("start") or ""
        host = self.fleet.hello(name, message["journal"], now.mono, start)
        host.version, host.features = message["version"], [str(word) for word in message["features"]]
        actions = message.get("actions")
        host.actions = None if actions is None else frozenset(map(str, actions))
        self.outbox.host_speaks(name, protocol)
        host.facts = message.get("facts") or host.facts
        host.skew = _skew(message, now)
        self._store.put_host(host.name, host.journal, host.incarnation, host.facts)
        log.info("hello host=%s incarnation=%d version=%s", host.name, host.incarnation, host.version)
        self.outbox.reply(
            route,
            wire.ok(
                op="hello", incarnation=host.incarnation, beat=self.settings.beat, protocol=protocol,
                features=list(wire.FEATURES), life=self.life, **mine.told(),
            ),
        )  # fmt: skip

    def _sync(self, message: Message, caller: Caller, now: Now) -> None:
        if message.get("life") not in (None, self.life):
            # It knew another start of this client worker. Before it is told what to do, it shall see whom it speaks to.
            raise Refused("unknown_entity", "the client worker was started again", "say hello first")
        host = self.fleet.heard(message["host"], message["incarnation"], now.mono, message.get("seq"))
        if message.get("facts"):
            host.facts = message["facts"]
        host.skew = _skew(message, now)
        self.outbox.host_speaks(host.name, message.get("v", wire.VERSION))
        self.fleet.hears(host, message.get("heard") or 0, now.mono)
        # The answer says to which report it belongs: to a later one it would no longer be true.
        self.outbox.reply(caller.route, {**self._ledger.sync(host, message, now), "seq": message.get("seq")})

    # ------------------------------------------------------------------------------- questions to hosts

    def _survey_together(self, now: Now) -> None:
        """Ask all hosts what they have, once for everybody who came since that was asked last.

        Always after they came: an older answer might not know what the asker knows. Those who come while a survey is
        out wait for its end, but no longer than a moment: a host may hang.
        """
        if not self._unplaced or now.mono < self._next_survey:
            return
        together, self._unplaced = self._unplaced, []
        self._next_survey = now.mono + MOMENT

        def surveyed(done: Gather, now: Now) -> None:
            self._next_survey = now.mono
            seen = place.Seen(done.answers, done.missing)
            for _, then in together:
                then(seen, now)

        room = any(room for room, _ in together)
        self._ask_all(declare.build("host survey", {"room": room}), now, self.settings.read_timeout, surveyed)

    def _look_up(self, now: Now, timeout: float, then: Then, *, only: str = "") -> None:
        """Ask all hosts, or `only` one of them, which domains they have."""
        survey = declare.build("host survey", {"room": False})
        if only in self.fleet.hosts:
            self._ask([only], survey, now, timeout, then)
        else:
            self._ask_all(survey, now, timeout, then)

    def _ask_all(self, action: Action, now: Now, timeout: float, then: Then, *, who: Who | None = None) -> None:
        """Put a question to every host, or to those that `who` may see; who is down counts as missing at once."""
        asked, silent = self.fleet.answering(now.mono), self.fleet.silent(now.mono)
        if who:
            asked = [host for host in asked if self.keyring.sees(who, host=host)]
            silent = {host: why for host, why in silent.items() if self.keyring.sees(who, host=host)}
        self._ask(asked, action, now, timeout, then, silent=silent)

    def _ask(
        self,
        hosts: list[str],
        action: Action,
        now: Now,
        timeout: float,
        then: Then,
        *,
        silent: dict[str, str] | None = None,
        plan: bool = False,
    ) -> None:
        """Put a question to hosts, who have `timeout` seconds; `then` gets what came of it, and the time it is then."""
        deadline = now.mono + timeout
        question = Gather(secrets.randbits(48), action, hosts, silent or {}, now.mono, deadline, then, plan=plan)
        self._gathers[question.number] = question
        told = self._question(question)
        for host in hosts:
            if self._able(host, action):
                self.outbox.publish(host, told)
            else:
                question.error(host, self._too_old(host, action))
        self._settle(question, now)

    @staticmethod
    def _question(question: Gather) -> Message:
        action = question.action
        return {
            "op": "plan" if question.plan else "read",
            "ask": question.number,
            "action": action.NAME,
            "args": action.values(),
        }

    def _answer(self, message: Message, caller: Caller, now: Now) -> None:
        question = self._gathers.get(message["ask"])
        if question is not None:
            self._take_answer(question, message, now)
        # After the answer to whoever asked: he waits, the host does not.
        self.outbox.reply(caller.route, wire.ok(op="answer"))

    def _part(self, message: Message, caller: Caller, now: Now) -> None:
        """A piece of an answer that is longer than a request may be."""
        question = self._gathers.get(message["ask"])
        if question is not None:
            host = message["host"]
            whole = question.part(host, message["part"], message["parts"], message["data"])
            if whole is not None:
                answer = wire.decode(whole, wire.MAX_PARTS * wire.PART_BYTES)
                wire.check({**answer, "op": "answer", "ask": 0, "host": host})
                self._take_answer(question, {**answer, "host": host}, now)
        self.outbox.reply(caller.route, wire.ok(op="answer"))

    def _take_answer(self, question: Gather, message: Message, now: Now) -> None:
        value = message.get("value") or {}
        if message["ok"] and not gather.makes_sense(question.action, value):
            # One host that is broken, or hostile, must not spoil what the others told.
            log.error("the answer of host=%s to %s makes no sense", message["host"], question.action.NAME)
            question.error(message["host"], Failed("internal_error", "its answer makes no sense", "look at its log"))
        elif message["ok"]:
            question.answer(message["host"], value, now.mono)
        else:
            question.error(message["host"], from_wire(message.get("error") or {}))
        self._settle(question, now)

    def _settle(self, question: Gather, now: Now) -> None:
        if question.complete and question.number in self._gathers:
            del self._gathers[question.number]
            question.then(question, now)


def _failure(error: Exception) -> Message:
    """What is told of an error. The one catch-all of this process: an unexpected one goes into the log."""
    if isinstance(error, MaglicaError):
        return wire.failure(error)
    log.error("unexpected error in a request", exc_info=error)
    return wire.failure(Failed("internal_error", "unexpected error in the client worker", "its log has the details"))


def _host_name(message: Message) -> str:
    try:
        return str(kinds.HOST.check(message["host"]))
    except ValueError as error:
        hint = f"expected {kinds.HOST.expected}: set [host_worker] name"
        raise Refused("wrong_input", f"{message['op']}: host: {error}", hint) from None


def _skew(message: Message, now: Now) -> float | None:
    """Seconds that a host's clock is ahead of ours, with the way of its message; None when it did not tell."""
    clock = message.get("clock")
    return None if clock is None else float(clock) - now.ms / 1000


def _refuse_other(known: Job | Group, action: Action) -> None:
    """The same key is the same request: another one under it is a mistake of whoever chose the key."""
    if "members" in known:
        raise again.other_request(known)
    asked = declare.mask(action.FIELDS, action.values())
    had = declare.mask(action.FIELDS, known["args"])
    subject = action.subject()
    if subject is not None:
        # It was recorded with the full name that it was found to mean.
        asked[subject.name] = had.get(subject.name)
    if known["action"] != action.NAME or asked != had:
        raise again.other_request(known)


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
