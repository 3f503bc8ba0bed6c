"""Submissions: what people ask to be done, from the first word to a job on a host. No clock: time is an argument.

Nothing is kept of one that is being placed but who waits for it: until it is recorded, it may be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from maglica import declare, wire
from maglica.actions.job import JobShow
from maglica.bus import Route
from maglica.client_worker import outbox
from maglica.client_worker.answers import Records
from maglica.client_worker.asking import gather
from maglica.client_worker.asking.gather import Gather
from maglica.client_worker.asking.questions import Questions, Seeing
from maglica.client_worker.door.doors import Caller, Doors
from maglica.client_worker.door.keyring import Who
from maglica.client_worker.ledger import GroupSubmission, Member, Submission, own_key
from maglica.client_worker.now import Now
from maglica.client_worker.placement import fleets, images, labels, place
from maglica.client_worker.submitting import again, groups, placing
from maglica.client_worker.submitting.placing import Placed, Placing
from maglica.client_worker.submitting.profiles import Profiles
from maglica.client_worker.whole import Whole
from maglica.declare import Action, Where
from maglica.errors import MaglicaError, Refused
from maglica.job import Group, Job
from maglica.wire import Message

EVERYWHERE = "all"  # in the place of a host's name

# What makes the members of a group when it is known what all hosts have.
Expand = Callable[[GroupSubmission, place.Seen], GroupSubmission]


class Askers(NamedTuple):
    """A submission that is being placed: whose, what he said, and where its answer goes."""

    public: str
    said: Message
    routes: list[Route]


class Submissions:
    """Each key is placed once, however many ask for it; whoever asks for what is known already is told of it."""

    def __init__(self, records: Records, doors: Doors, questions: Questions, profiles: Profiles, whole: Whole) -> None:
        """`records`: of nobody in particular; others take their place when the settings change."""
        self.records = records
        self._doors = doors
        self._questions = questions
        self._profiles = profiles
        self._whole = whole
        self._ledger = records.ledger
        self._store = records.ledger.store
        self._outbox = records.outbox
        self._keyring = records.keyring
        self._placing = Placing(doors, questions, profiles, self._store, records.keyring, records.weights)
        self._askers: dict[str, Askers] = {}  # by key: who waits for a submission to be placed

    def submit(self, message: Message, caller: Caller, now: Now) -> None:
        """Ask for one job, or for what a command about many stands for, or for the plan of it."""
        action = declare.build(message["action"], message["args"])
        if not action.CHANGES:
            raise Refused("wrong_input", f"{action.NAME} is not a job")
        action = labels.meant(action, self._store.labels.all())
        self._doors.may(caller.who, type(action), now)
        if action.WHERE == Where.MANY:
            self._submit_fleet(action, message, caller, now)
            return
        if action.NAME == "image copy" and getattr(action, "dest") == EVERYWHERE:
            self._copy_everywhere(action, message, caller, now)
            return
        wanted = Submission(
            message["key"], action, caller.who, message["owner"], message.get("reason"), bool(message.get("dry_run"))
        )
        known = self._known(wanted.key)
        if known:
            self._see(known, caller.who, now)
            _refuse_other(known, self._profiles.fill(action))
        count = 0 if wanted.dry_run else 1
        self._admit(message, known, count, action, caller, now, lambda seen, now: self._place(wanted, seen, now))

    def _copy_everywhere(self, action: Action, message: Message, caller: Caller, now: Now) -> None:
        """One job for every host that has no such image, as a group. Which these are is known when they have told."""
        values = {name: value for name, value in action.values().items() if name != "dest"}
        wanted = GroupSubmission(
            message["key"], action.NAME, values, [], caller.who, message["owner"], message.get("reason"),
            policy=groups.policy_of(message), request={"action": action.NAME, "args": action.public()},
        )  # fmt: skip

        def expand(wanted: GroupSubmission, seen: place.Seen) -> GroupSubmission:
            name = str(values["as_"] or values["name"])
            hosts = [host for host in images.lacking(name, seen.surveys) if self._keyring.sees(wanted.who, host=host)]
            if not hosts:
                raise Refused("already_exists", f"every host has an image {name}", "`maglica image list` shows them")
            members = [groups.member(action.NAME, values, {"dest": host})._replace(name=host) for host in hosts]
            return wanted._replace(members=members)

        self._accept_group(wanted, expand, message, caller, now)

    def submit_group(self, message: Message, caller: Caller, now: Now) -> None:
        """Ask for many jobs with one action."""
        name, common, who = message["action"], message["args"], caller.who
        action = declare.find(name).action
        if not action.CHANGES or action.WHERE == Where.MANY:
            raise Refused("wrong_input", f"{name} is not a job")
        self._doors.may(who, action, now)
        count = message.get("count")
        if not 0 < (len(message["each"]) if count is None else count) <= wire.MOST_JOBS:
            raise Refused(
                "wrong_input",
                f"a group of {count or len(message['each'])} jobs: expected 1 to {wire.MOST_JOBS}",
                "ask for fewer at once",
            )
        groups.refuse_unwritable(name, common, message["each"])
        self._doors.weigh(caller, count or len(message["each"]), now)
        wanted = GroupSubmission(
            message["key"], name, common, [], who, message["owner"], message.get("reason"),
            policy=groups.policy_of(message), request=groups.request_of(message),
        )  # fmt: skip
        groups.refuse_policy(action, wanted.policy, count or len(message["each"]))
        if count is None:
            members = [groups.member(name, common, own) for own in message["each"]]
            self._accept_group(wanted._replace(members=members), None, message, caller, now)
        else:
            groups.refuse_pattern(action, common, count)
            self._accept_group(wanted, self._numbered(common, count, message, now), message, caller, now)

    def _numbered(self, common: dict[str, Any], count: int, message: Message, now: Now) -> Expand:
        """How a name with a place for a number becomes many names, once it is known which there are."""

        def expand(wanted: GroupSubmission, seen: place.Seen) -> GroupSubmission:
            action = declare.find(wanted.action).action
            distinct, said = action.distinct(), message.get("first") or "1"
            first = int(said) if said.isdigit() else 0
            if said == "next":
                if not common.get("ignore_missing"):
                    self._placing.refuse_partial(seen, [str(common[distinct])], wanted.who)
                first = fleets.next_number(str(common[distinct]), seen, self._placing.rooms(seen).names)
            each = groups.numbered(action, common, range(first, first + count))
            rest = {name: value for name, value in common.items() if name not in each[0]}
            names = [str(own[distinct]) for own in each]
            self._placing.may_number(action, str(common[distinct]), names, wanted.who, now)
            found = [groups.member(wanted.action, rest, own) for own in each]
            return wanted._replace(args=rest, members=found)

        return expand

    def _submit_fleet(self, action: Action, message: Message, caller: Caller, now: Now) -> None:
        """Ask for what a command about a fleet stands for."""
        settings = self.records.settings
        with self._doors.wording(caller.who):
            fleets.refuse_protected(str(getattr(action, "name")), settings.protected_names, self.records.fleet.hosts)
        wanted = GroupSubmission(
            message["key"], action.NAME, {}, [], caller.who, message["owner"], message.get("reason"),
            policy=groups.policy_of(message, getattr(action, "forks", None) or settings.forks),
            request={"action": action.NAME, "args": action.public()},
        )  # fmt: skip

        def expand(wanted: GroupSubmission, seen: place.Seen) -> GroupSubmission:
            if not getattr(action, "ignore_missing", False):
                self._placing.refuse_partial(seen, [fleets.pattern(str(getattr(action, "name")))], caller.who)
            templates = {one["name"]: one for one in self._store.templates.all()}
            # What is made has to have names that nobody has; of what is there, only his own is meant.
            made, names = action.NAME == "fleet create", self._placing.rooms(seen).names
            own = seen if made else place.Seen(self._questions.own(caller.who, seen.surveys), seen.missing)
            found = fleets.batch(action, own, names, templates)
            self._doors.may(caller.who, declare.find(found.action).action, now)
            if made:
                pattern, wants = fleets.pattern(str(getattr(action, "name"))), [one["hostname"] for one in found.each]
                self._placing.may_number(declare.find(found.action).action, pattern, wants, caller.who, now)
            self._doors.weigh(caller, max(1, len(found.each)), now)
            groups.refuse_policy(declare.find(found.action).action, wanted.policy, len(found.each))
            named = [groups.member(found.action, {}, own) for own in found.each]
            return wanted._replace(action=found.action, members=named, note=found.note)

        self._accept_group(wanted, expand, message, caller, now)

    def _accept_group(
        self, wanted: GroupSubmission, expand: Expand | None, message: Message, caller: Caller, now: Now
    ) -> None:
        """`expand`: what gives its members when it is known what the hosts have."""
        known = self._known(wanted.key)
        if known:
            self._see(known, caller.who, now)
            groups.refuse_other(known, wanted)
        action = declare.find(wanted.action).action
        dry_run = bool(message.get("dry_run"))
        self._admit(
            message, known, 0 if dry_run else max(1, len(wanted.members)), action, caller, now,
            lambda seen, now: self._place_group(wanted, expand, dry_run, seen, now),
        )  # fmt: skip

    def retry(self, message: Message, caller: Caller, now: Now) -> None:
        """Ask again for what did not succeed: as a new job, or a new group of new jobs. `lost`: a person says that a
        lost job shall be tried again, and that is recorded together with the new job.
        """
        key, owner, reason, who = message["key"], message["owner"], message.get("reason"), caller.who
        known = self._known(key)
        found = self.find(message["id"], who, now)
        self._doors.may(who, declare.find(found["action"]).action, now)
        if known:
            self._see(known, who, now)
        if known and known["retry_of"] != found["id"]:
            raise again.other_request(known)
        if "members" in found:
            old, only_failed = found, bool(message.get("failed"))
            members = self._to_try_again(old, only_failed) if not known else []
            self._doors.weigh(caller, max(1, len(members)), now)
            group = GroupSubmission(
                key, old["action"], {}, members, who, owner, reason, retry_of=old["id"],
                policy=groups.again(old["policy"]),
            )  # fmt: skip

            def expand(wanted: GroupSubmission, seen: place.Seen) -> GroupSubmission:
                # Somebody else may have asked for the same while the hosts were asked.
                return wanted._replace(members=self._to_try_again(old, only_failed))

            self._accept_group(group, expand, message, caller, now)
            return
        lost = bool(message.get("lost"))
        if not known:
            again.refuse(found, self._store.jobs.tries(found["id"]), lost=lost)
        wanted = Submission(key, again.action(found["action"], found["args"]), who, owner, reason, retry_of=found["id"])
        verdict = {"as": "retry", "reason": reason, "by": who.name, "owner": owner} if lost else None
        self._admit(
            message, known, 1, wanted.action, caller, now,
            lambda seen, now: self._place_again(found["id"], wanted, verdict, seen, now),
        )  # fmt: skip

    def _to_try_again(self, group: Group, only_failed: bool) -> list[Member]:
        """Those of a group that did not succeed and that nobody tries again, as it is at this moment."""
        records = {record["id"]: record for record in self._store.jobs.of_group(group["id"])}
        jobs = frozenset(job_id for job_id in records if again.tried(self._store.jobs.tries(job_id)))
        later = [member for one in self._store.groups.tries(group["id"]) for member in one["members"]]
        refused = frozenset(member["name"] for member in later if member["job"] and self._goes_on(member["job"]))
        return again.members(group, records, again.Tried(jobs, refused), only_failed=only_failed)

    def _goes_on(self, job_id: str) -> bool:
        """Whether a job, or one that tries it again, is open or was done; also when it is forgotten: nobody knows."""
        record = self._store.jobs.get(job_id)
        return record is None or again.tried([record, *self._store.jobs.tries(job_id)]) is not None

    # ---------------------------------------------------------------------------------- once for each key

    def _admit(
        self,
        message: Message,
        known: Job | Group | None,
        count: int,
        action: Action | type[Action],
        caller: Caller,
        now: Now,
        then: Seeing,
    ) -> None:
        """Answer what is known already; otherwise go on, once for each key, with what all hosts have.

        `action`: what it is about says what has to be known of them.
        """
        key, route = message["key"], caller.route
        asked = self._askers.get(key)
        if known:
            self._outbox.reply(route, self._ledger.told(known, now))
        elif asked:
            if (asked.public, asked.said) != (caller.who.public, message):
                raise Refused("already_exists", "the idempotency key belongs to another request", again.OTHER_KEY)
            asked.routes.append(route)
        else:
            self._refuse_full_queue(max(1, count))
            if count:
                self._store.refuse_when_low()
            self._askers[key] = Askers(caller.who.public, message, [route])
            room = action.WHERE in (Where.PLACED, Where.MANY)
            new = isinstance(action, Action) and action.makes_new()
            lives = action.WHOLE_FLEET and not new  # something that others share disks with may come to life
            self._questions.survey(then, room=room, lives=lives)

    def _known(self, key: str) -> Job | Group | None:
        """What was submitted under that key."""
        return self._store.jobs.by_key(key) or self._store.groups.by_key(key)

    def _see(self, found: Job | Group, who: Who, now: Now) -> None:
        """Refuse to tell of it whoever may not see what it is about."""
        self.find(found["id"], who, now)

    def find(self, prefix: str, who: Who, now: Now) -> Job | Group:
        """The job or the group whose id begins so, if it may be seen."""
        records = self.records._replace(who=who)
        return self._doors.noted(who, JobShow.NAME, prefix, now, lambda: records.find_any(prefix))

    def _refuse_full_queue(self, count: int) -> None:
        found, limit = self._store.jobs.count_open(), self.records.settings.queue_limit
        if found + count > limit:
            more = f"{count} more are" if count > 1 else "more are"
            raise Refused(
                "no_capacity",
                f"{found} jobs are open and {more} not accepted: the limit is {limit}",
                "wait for some of them; [client] queue_limit sets the limit",
            )

    def _answer_askers(self, key: str, message: Message) -> None:
        asked = self._askers.pop(key, None)
        for route in asked.routes if asked else []:
            self._outbox.reply(route, message)

    # ------------------------------------------------------------ when all hosts have told what they have

    def _place(self, wanted: Submission, seen: place.Seen, now: Now) -> None:
        try:
            with self._whole():
                answer = self._placed(wanted, seen, now)
        except Exception as error:
            answer = self._not_placed(wanted, error, seen, now)
        if answer:
            self._answer_askers(wanted.key, answer)

    def _placed(self, wanted: Submission, seen: place.Seen, now: Now) -> Message | None:
        """Find a place and record the job; the answer. None: a host is asked for the plan."""
        first = None
        try:
            host, action, why = self._placing.find(wanted.action, seen, wanted.who, now)
        except Refused as error:
            self._placing.copy_image = self.records.settings.copy_image
            first, action, why = self._placing.copied_first(wanted.action, error, seen, wanted.who, now)
            host = str(getattr(first, "dest"))
        if wanted.dry_run and first:
            return _two_steps(wanted, first, host, why, now)
        if wanted.dry_run:
            self._plan(wanted, host, action, why, now)
            return None
        if first:
            copy = wanted._replace(key=own_key(), action=first)
            self._record_copy(copy, host, "for a clone", action.locks(), now)
        record = self._record(wanted, host, action, why, now)
        self._placing.taken(seen, action, host, record["id"])
        return self._ledger.told(record, now)

    def _not_placed(self, wanted: Submission, error: Exception, seen: place.Seen, now: Now) -> Message:
        """The answer to what has come to nothing."""
        if isinstance(error, Refused) and error.code != "denied" and not wanted.dry_run:
            about = str(wanted.action.values()[wanted.action.distinct()])
            self._doors.audit.turned_down(wanted.who, wanted.action.NAME, about, error, now)
        if not isinstance(error, MaglicaError):
            seen.rooms = None  # what it took is looked up anew
        return outbox.failure(error)

    def _place_again(
        self, old: str, wanted: Submission, verdict: dict[str, Any] | None, seen: place.Seen, now: Now
    ) -> None:
        try:
            with self._whole():
                # Somebody else may have asked for the same while the hosts were asked.
                record = self._ledger.find(old)
                again.refuse(record, self._store.jobs.tries(old), lost=verdict is not None)
                answer = self._placed(wanted, seen, now)
                if verdict:
                    self._ledger.settle(record, verdict, now)
        except Exception as error:
            answer = self._not_placed(wanted, error, seen, now)
        if answer:
            self._answer_askers(wanted.key, answer)

    def _place_group(
        self, wanted: GroupSubmission, expand: Expand | None, dry_run: bool, seen: place.Seen, now: Now
    ) -> None:
        """Find a place for each of them; those that have none are refused, each with its reason.

        Nothing is recorded when all are refused: as with a single one, the same key may be tried again.
        """
        try:
            with self._whole():
                if expand:
                    wanted = expand(wanted, seen)
                    self._refuse_full_queue(0 if dry_run else len(wanted.members))
                answer = self._placed_group(wanted, dry_run, seen, now)
        except Exception as error:
            answer = outbox.failure(error)
        self._answer_askers(wanted.key, answer)

    def _placed_group(self, wanted: GroupSubmission, dry_run: bool, seen: place.Seen, now: Now) -> Message:
        self._placing.copy_image = self.records.settings.copy_image
        found, rooms = self._placing.find_all(groups.whole(wanted), seen, now)
        groups.refuse_too_few(wanted, [one.error for one in found])
        if dry_run:
            plan = {"action": wanted.action, "members": [placing.told(one) for one in found], "note": wanted.note}
            return wire.ok(plan=plan)
        answer = self._record_group(wanted, found, now)
        seen.rooms = rooms
        return answer

    def _record_group(self, wanted: GroupSubmission, found: list[Placed], now: Now) -> Message:
        group_id = self._ledger.group_id(now)
        told = []
        self._record_copies(wanted, found, group_id, now)
        for one in found:
            member, error, job_id = one.member, one.error, None
            if one.action is not None:
                submission = Submission(
                    own_key(), one.action, wanted.who, wanted.owner, wanted.reason, group=group_id,
                    retry_of=member.retry_of,
                )  # fmt: skip
                job_id = self._record(submission, one.host, one.action, one.why, now)["id"]
            problem = outbox.failure(error)["error"] if error else None
            told.append({"name": member.name, "args": member.args, "job": job_id, "error": problem})
        return self._ledger.told_group(group_id, wanted, told, now)

    def _record_copies(self, wanted: GroupSubmission, found: list[Placed], group_id: str, now: Now) -> None:
        """The copies of images that some of a group wait for: one for each host, which holds what those lock."""
        waiting: dict[str, list[Placed]] = {}
        for one in found:
            if one.first is not None and one.action is not None:
                waiting.setdefault(one.first.locks()[0], []).append(one)
        for several in waiting.values():
            first = several[0].first
            assert first is not None, "they were chosen by it"
            copy = Submission(own_key(), first, wanted.who, wanted.owner, wanted.reason)
            locks = [lock for one in several if one.action for lock in one.action.locks()]
            self._record_copy(copy, several[0].host, f"for {len(several)} clones", locks, now)

    def _record_copy(self, copy: Submission, host: str, why: str, locks: list[str], now: Now) -> None:
        """`locks`: of the clones that wait for it. One that is at work already is waited for by these, too."""
        under_way = self._placing.under_way(copy.action)
        if under_way:
            self._ledger.wait_behind(under_way, locks, now)
        else:
            self._record(copy, host, copy.action, why, now, after=locks)

    def _record(
        self, wanted: Submission, host: str, action: Action, why: str, now: Now, *, after: Sequence[str] = ()
    ) -> Job:
        record = self._ledger.record(wanted, host, action, why, now, after=after)
        self._doors.audit.write(wanted.who, action.NAME, record["object"], "accepted", now, job=record["id"])
        return record

    def _plan(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> None:
        def answered(done: Gather, now: Now) -> None:
            try:
                plan = {**gather.only(done)["item"], "host": host, "why": why}
                answer = outbox.result(action, {"missing_hosts": [], "plan": plan}, now)
            except Exception as error:
                answer = outbox.failure(error)
            self._answer_askers(wanted.key, answer)

        self._questions.ask([host], action, now, self.records.settings.read_timeout, answered, plan=True)


def _two_steps(wanted: Submission, first: Action, host: str, why: str, now: Now) -> Message:
    """The plan of a clone whose image is not there yet: the host cannot say more before it has it."""
    copied = {name: value for name, value in first.public().items() if value}
    would = {"first": {"copy": copied["name"], "from": copied["from_"], "to": host}, "then": wanted.action.public()}
    plan = {"would": would, "changed": True, "host": host, "why": why}
    return outbox.result(wanted.action, {"missing_hosts": [], "plan": plan}, now)


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
    filled = placing.FILLED.get(action.NAME)
    if filled and asked[filled] is None:
        asked[filled] = had.get(filled)
    if known["action"] != action.NAME or asked != had:
        raise again.other_request(known)
