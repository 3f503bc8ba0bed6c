"""What the client worker decides. Give it messages and the time; take what it wants sent from its `outbox`.

Every request comes in here: `doors.py` knows who may, `questions.py` asks the hosts, `submissions.py` makes jobs.

No sockets, no clock, no threads. It writes to the store, and whoever drives it commits before anything of the outbox
leaves: record, then ring.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

from maglica import cluster, declare, kinds, wire
from maglica.actions.image import ImageInfo, ImageList
from maglica.actions.job import JobShow
from maglica.bus import Route
from maglica.client_worker import answers, concerned, outbox
from maglica.client_worker.answers import Records
from maglica.client_worker.asking import gather
from maglica.client_worker.asking.gather import Gather, Then
from maglica.client_worker.asking.needs import Needs
from maglica.client_worker.asking.questions import Questions, renamed
from maglica.client_worker.door import keyring
from maglica.client_worker.door.audit import Audit
from maglica.client_worker.door.doors import Caller, Doors
from maglica.client_worker.door.keyring import Keyring, Who
from maglica.client_worker.door.limits import Rates
from maglica.client_worker.fleet import STATES, Fleet
from maglica.client_worker.ledger import Ledger
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.placement import images, labels, place
from maglica.client_worker.store import Store
from maglica.client_worker.streams.streams import Streams
from maglica.client_worker.submitting.policing import Policing
from maglica.client_worker.submitting.profiles import Profiles
from maglica.client_worker.submitting.submissions import Submissions
from maglica.client_worker.whole import Whole
from maglica.config import ClientSection, HostSection
from maglica.declare import Action, Where
from maglica.errors import MaglicaError, Refused
from maglica.keys import digest, fingerprint
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")

NEED_WITHIN = 15.0  # seconds that a host has for what another one's job needs
AT_ONCE = 1000  # old jobs that are forgotten in one turn; they take some 20 ms
STRANGERS_KEPT_MS = 7 * 86400 * 1000  # how long it is kept what nobody known has tried


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
        Policing(store, self._ledger, self._audit)
        self.whole = Whole(store, self.outbox, self.keyring, self._ledger, self._audit, self.fleet)
        self.epoch = store.next_epoch()
        self.cluster = store.cluster()
        self.life = secrets.token_hex(8)  # of this process: after a store was put back, two starts have one number
        self._pruned = float("-inf")
        self._records = Records(
            self.fleet, self._ledger, self.weights, self.epoch, self.cluster, folders,
            self.keyring, self.outbox, settings, server,
        )  # fmt: skip
        self.rates = Rates(settings.request_rate)
        self._doors = Doors(self.keyring, self._audit, self.rates)
        self._questions = Questions(
            self.fleet, self.outbox, self.keyring, version, settings.read_timeout, now, lambda: store.jobs.ends
        )
        self.profiles = Profiles()
        self._submissions = Submissions(self._records, self._doors, self._questions, self.profiles, self.whole)
        self._needs = Needs(self._ledger, self._questions, self.outbox, NEED_WITHIN)
        self._streams = Streams(self._doors, self.keyring, self.fleet, self._questions, self.outbox, settings)
        for name in hosts:
            self.fleet.know(name)
        self.fleet.recall(store.hosts.all())
        self._records.bar(now)
        self._ops: dict[str, Callable[[Message, Caller, Now], None]] = {
            "ping": self._ping,
            "read": self._read,
            "submit": self._submissions.submit,
            "submit_group": self._submissions.submit_group,
            "retry": self._submissions.retry,
            "wait": self._wait,
            "stream": self._streams.stream,
            "join": self._join,
            "hello": self._hello,
            "sync": self._sync,
            "answer": self._questions.answer,
            "part": self._questions.part,
            "need": self._needs.need,
            "flow": self._streams.flow,
        }

    def change(self, settings: ClientSection, hosts: dict[str, HostSection]) -> None:
        """Other settings from now on. A host that is no longer listed stays known: `host remove` forgets it."""
        self.settings = self._streams.settings = settings
        self._records = self._submissions.records = self._records._replace(settings=settings)
        self._questions.timeout = settings.read_timeout
        self.weights.clear()
        self.weights.update({name: section.weight for name, section in hosts.items()})
        for name in hosts:
            self.fleet.know(name)

    def status(self, now: Now) -> str:
        """What there is, in a line."""
        states = [self.fleet.state(host, now.mono) for host in self.fleet.hosts.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
        try:
            jobs = str(self._store.jobs.count_open())
        except MaglicaError as error:
            jobs = error.message
        return f"hosts: {counts or 'none'}; open jobs: {jobs}"

    # ------------------------------------------------------------------------------------- the doors

    def request(self, body: bytes, route: Route, now: Now, public: str = "", address: str = "") -> None:
        """Handle one request of the key `public`. Whatever is wrong with it becomes an answer."""
        self.fleet.awake(now.mono)
        who = self.keyring.who(public, address, now.ms)
        try:
            with self.whole():
                message = wire.decode(body)
                self.outbox.asked_in(route, message.get("v", wire.VERSION))
                op = wire.check(message)
                self._doors.enter(op, message, who, now)
                self._ops[op](message, Caller(route, who), now)
        except Exception as error:
            asked = error.details.get("asked") if isinstance(error, MaglicaError) else None
            self.outbox.reply(route, outbox.failure(error) | ({"v": asked} if asked is not None else {}))

    def admits(self, public: str, address: str, now: Now, *, listens: bool = False) -> bool:
        """Whether a key may connect at all; `listens`: to the PUB port."""
        return self._doors.admits(public, address, now, listens=listens)

    def cut(self, public: str, address: str, why: str, now: Now) -> None:
        """A connection was ended because of what its peer did."""
        self._doors.cut(public, address, why, now)

    def breach(self, public: str, address: str, now: Now) -> None:
        """A subscriber sent what no subscriber sends, and all of them were cut off."""
        self._doors.breach(public, address, now)

    def may_hear(self, public: str, topic: bytes, now: Now) -> bool:
        """Whether a key may listen to a topic: a host to its own."""
        return self._doors.may_hear(public, topic, now)

    def undone(self) -> None:
        """What was written since the last commit is lost: forget it here as well. Who waited is told so."""
        self.keyring.reload()
        self._ledger.undone(self._ledger.mark())
        self.fleet.recall(self._store.hosts.all())

    def subscribed(self, topic: bytes) -> None:
        """A host began to listen: what was rung before it did is rung again."""
        name = wire.host_of(topic)
        if name in self.fleet.hosts:
            self.outbox.ring(name)
        self._questions.subscribed(name)
        self._streams.subscribed(name)

    def tick(self, now: Now) -> None:
        """What time alone brings about: beat, give up waiting, forget old jobs."""
        self.fleet.awake(now.mono)
        self._beat(now)
        self._questions.tick(now)
        self._ledger.tick(now)
        self._streams.tick(now)
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
            self.keyring.prune(now.ms - STRANGERS_KEPT_MS)
            keep = int(self.settings.keep_audit * 1000)
            self._store.audit.prune(now.ms - keep, now.ms - min(keep, STRANGERS_KEPT_MS), keyring.STRANGER)
        except MaglicaError as error:
            log.error("old jobs were not forgotten: %s", error.message)

    def next_tick(self, now: Now) -> float:
        """Seconds until `tick` has something to do."""
        deadlines = [*self._questions.deadlines(), *self._ledger.deadlines(), *self._streams.deadlines()]
        return max(0.0, min([now.mono + 1.0, self.fleet.next_beat, *deadlines]) - now.mono)

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
        self._doors.may(caller.who, type(action), now, least=action.least_role())
        action = labels.meant(action, self._store.labels.all()) if action.WHERE != Where.CLIENT_WORKER else action
        if action.WHERE == Where.CLIENT_WORKER:
            self._may_own(action, caller.who, now)
            if action.NAME in labels.ASK_FIRST:
                self._own_after_a_look(action, caller, message.get("key"), now)
            else:
                told = self._once(action, caller.who, message.get("key"), now)
                self.outbox.reply(caller.route, outbox.result(action, told, now))
            return
        timeout = min(float(message.get("timeout") or self.settings.read_timeout), 60.0)

        def finish(value: Callable[[Gather], dict[str, Any]]) -> Then:
            return lambda done, now: self._guarded(
                caller.route, lambda: self.outbox.reply(caller.route, outbox.result(action, value(done), now))
            )

        def located(survey: Gather, now: Now) -> None:
            self._guarded(
                caller.route, lambda: self._read_of_owner(action, survey, caller.who, now, timeout, finish(gather.only))
            )

        host = action.values().get("host")
        if action.WHERE == Where.MANY:
            survey, who = declare.build("host survey", {"room": True}), caller.who
            self._questions.ask_all(survey, now, timeout, finish(self._questions.fleets(who)), who=who)
        elif action.WHERE == Where.NAMED:
            name = self._questions.known_host(str(getattr(action, "name")), caller.who)
            self._doors.may(caller.who, type(action), now, host=name)
            self._questions.ask([name], action, now, timeout, finish(self._questions.only(caller.who)))
        elif action.WHERE == Where.OWNER:
            self._questions.look_up(now, timeout, located, only=str(getattr(action, "name")).partition("@")[2])
        elif host is not None:
            name = self._questions.known_host(host, caller.who)
            self._doors.may(caller.who, type(action), now, host=name)
            asked = type(action)(**{**action.values(), "host": name})
            self._questions.ask([name], asked, now, timeout, finish(self._questions.merged(action, caller.who)))
        else:
            value = self._questions.merged(action, caller.who)
            if isinstance(action, (ImageList, ImageInfo)):
                value = self._of_images(action, value)
            self._questions.ask_all(action, now, timeout, finish(value), who=caller.who)

    def _of_images(self, action: Action, merged: Callable[[Gather], dict[str, Any]]) -> Callable[[Gather], Message]:
        """What hosts told of images, with their labels; of a single one, put together from all of them."""

        def value(done: Gather) -> Message:
            told, known = merged(done), self._store.labels.all()
            told["items"] = [{**item, "labels": labels.of(str(item["name"]), known)} for item in told["items"]]
            return images.one(str(getattr(action, "name")), told) if "name" in action.values() else told

        return value

    def _own_after_a_look(self, action: Action, caller: Caller, key: str | None, now: Now) -> None:
        """What the client worker answers by itself once it knows which VMs and images there are."""

        def looked(done: Gather, now: Now) -> None:
            def reply() -> None:
                self._may_own(action, caller.who, now)  # the key may have been revoked, or a label moved, meanwhile
                value = self._once(action, caller.who, key, now, place.Seen(done.answers, done.missing))
                self.outbox.reply(caller.route, outbox.result(action, value, now))

            self._guarded(caller.route, reply)

        self._questions.look_up(now, self.settings.read_timeout, looked)

    def _may_own(self, action: Action, who: Who, now: Now) -> None:
        """Raise `Refused` unless `who` may ask the client worker for this, about that host or those names."""
        for host in concerned.hosts(action):
            self._doors.may(who, type(action), now, host=host)
        for name in concerned.by_record(action, self._store.labels.all()):
            self._doors.may(who, type(action), now, vm=name)

    def _once(
        self, action: Action, who: Who, key: str | None, now: Now, seen: place.Seen | None = None
    ) -> dict[str, Any]:
        """What the client worker answers by itself; what would be another thing the second time is done once for each
        key, because whoever hears nothing asks again.
        """
        if key is None or action.NAME not in answers.ONCE:
            return self._own(action, who, now, seen)
        key, asked = digest(key), digest(json.dumps([who.public, action.NAME, action.public()]))  # they may be long
        known = self._store.answers.get(key)
        if known is None:
            known = asked, self._own(action, who, now, seen)
            self._store.answers.put(key, *known)
        elif known[0] != asked:
            raise Refused("already_exists", "the key of this request belongs to another one", "choose another key")
        return known[1]

    def _own(self, action: Action, who: Who, now: Now, seen: place.Seen | None = None) -> dict[str, Any]:
        """What the client worker answers by itself. Whatever is not only a look at something is written down."""
        subject = action.subject()
        about = str(getattr(action, subject.name)) if subject else None
        records = self._records._replace(who=who, seen=seen or place.Seen({}, {}))
        if action.ROLE == declare.READER or action.VERB in ("list", "store"):
            return self._doors.noted(
                who, action.NAME, about, now, lambda: answers.function(action)(action, records, now)
            )
        try:
            with self._doors.wording(who):
                value = answers.function(action)(action, records, now)
        except Refused as error:
            self._audit.turned_down(who, action.NAME, about, error, now)
            raise
        item, given = value.get("item") or {}, _given(action)
        self._audit.write(who, action.NAME, item.get("object", about), "done", now, job=item.get("id"), message=given)
        return value

    def _read_of_owner(self, action: Action, survey: Gather, who: Who, now: Now, timeout: float, then: Then) -> None:
        """Where the VM is, is known now: ask there. This question has its own time; another host may have used up the
        first one's.
        """
        seen = place.Seen(survey.answers, survey.missing)
        host, name = self._questions.locate(who, str(getattr(action, "name")), seen, full_name=False, whole_fleet=False)
        self._doors.may(who, type(action), now, vm=name, host=host)
        if action.ROLE != declare.READER:  # more than a look: what is in a guest's files, say
            self._audit.write(who, action.NAME, name, "done", now, message=_given(action))
        self._questions.ask([host], renamed(action, name), now, timeout, then)

    def _guarded(self, route: Route, work: Callable[[], None]) -> None:
        """Do what is left of a request after hosts have answered; its errors go to whoever asked."""
        try:
            with self.whole():
                work()
        except Exception as error:
            self.outbox.reply(route, outbox.failure(error))

    def _wait(self, message: Message, caller: Caller, now: Now) -> None:
        record = self._submissions.find(message["id"], caller.who, now)
        if record["by"] != caller.who.name:
            # Whoever may ask for a job may see what becomes of it.
            self._doors.may(caller.who, JobShow, now)
        ended, timeout = bool(message.get("ended")), float(message["timeout"])
        self._ledger.wait(caller, record, message["rev"], timeout, now, ended=ended)

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
        self.fleet.know(name).joined = True
        self._records.bar(now)
        if ended:
            self.outbox.drop()  # whoever listened with the key before
        self.outbox.reply(caller.route, wire.ok(op="join", host=name))

    def _hello(self, message: Message, caller: Caller, now: Now) -> None:
        name = _host_name(message)
        try:
            self._accept(name, message, caller.route, now)
        except Refused as error:
            self.fleet.refused(name, error.message, error.hint, now.mono)
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
        mine = cluster.Cluster(self.cluster, self.epoch, self._store.jobs.last_id() or "")
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
        self._store.hosts.put(host.name, host.journal, host.incarnation, host.facts)
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


def _given(action: Action) -> str | None:
    """The arguments of an action but its subject, for the audit; secrets masked."""
    others = [name for name, field in action.FIELDS.items() if not field.subject]
    told = {name: value for name, value in action.public().items() if name in others and value is not None}
    return ", ".join(f"{name}={value}" for name, value in told.items()) or None
