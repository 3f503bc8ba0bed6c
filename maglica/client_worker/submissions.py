"""Submissions: what people ask to be done, from the first word to a job on a host. No clock: time is an argument.

Nothing is kept of one that is being placed but who waits for it: until it is recorded, it may be asked for again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from maglica import declare, wire
from maglica.actions.job import JobShow
from maglica.bus import Route
from maglica.client_worker import again, gather, groups, images, outbox, place
from maglica.client_worker.answers import Records
from maglica.client_worker.doors import Caller, Doors
from maglica.client_worker.gather import Gather
from maglica.client_worker.keyring import Who
from maglica.client_worker.ledger import GroupSubmission, Submission
from maglica.client_worker.now import Now
from maglica.client_worker.profiles import Profiles
from maglica.client_worker.questions import Questions, Seeing, renamed
from maglica.declare import Action, Where
from maglica.errors import Refused
from maglica.job import Group, Job
from maglica.wire import Message

EVERYWHERE = "all"  # in the place of a host's name


class Askers(NamedTuple):
    """A submission that is being placed: whose, what he said, and where its answer goes."""

    public: str
    said: Message
    routes: list[Route]


class Submissions:
    """Each key is placed once, however many ask for it; whoever asks for what is known already is told of it."""

    def __init__(self, records: Records, doors: Doors, questions: Questions, profiles: Profiles) -> None:
        """`records`: of nobody in particular; others take their place when the settings change."""
        self.records = records
        self._doors = doors
        self._questions = questions
        self._profiles = profiles
        self._ledger = records.ledger
        self._store = records.ledger.store
        self._keyring = records.keyring
        self._outbox = records.outbox
        self._weights = records.weights
        self._askers: dict[str, Askers] = {}  # by key: who waits for a submission to be placed

    def submit(self, message: Message, caller: Caller, now: Now) -> None:
        """Ask for one job, or for the plan of it."""
        action = declare.build(message["action"], message["args"])
        if not action.CHANGES:
            raise Refused("wrong_input", f"{action.NAME} is not a job")
        self._doors.may(caller.who, type(action), now)
        wanted = Submission(
            message["key"], action, caller.who, message["owner"], message.get("reason"), bool(message.get("dry_run"))
        )
        known = self._known(wanted.key)
        if known:
            self._see(known, caller.who, now)
            _refuse_other(known, self._profiles.fill(action))
        if action.NAME == "image copy" and getattr(action, "dest") == EVERYWHERE and not wanted.dry_run:
            self._copy_everywhere(wanted, known, message, caller, now)
            return
        room, count = action.WHERE == Where.PLACED, 0 if wanted.dry_run else 1
        self._admit(message, known, count, room, caller, now, lambda seen, now: self._place(wanted, seen, now))

    def _copy_everywhere(
        self, wanted: Submission, known: Job | Group | None, message: Message, caller: Caller, now: Now
    ) -> None:
        """One job for every host that has no such image, as a group. Which these are is known when they have told."""

        def seen_all(seen: place.Seen, now: Now) -> None:
            values = {name: value for name, value in wanted.action.values().items() if name != "dest"}
            name = str(wanted.action.values()["as_"] or wanted.action.values()["name"])
            hosts = [host for host in images.lacking(name, seen.surveys) if self._keyring.sees(wanted.who, host=host)]
            members = [groups.member(wanted.action.NAME, values, {"dest": host})._replace(name=host) for host in hosts]
            if not members:
                every = Refused("already_exists", f"every host has an image {name}", "`maglica image list` shows them")
                self._answer_askers(wanted.key, outbox.failure(every))
                return
            group = GroupSubmission(
                wanted.key, wanted.action.NAME, values, members, wanted.who, wanted.owner, wanted.reason
            )
            self._place_group(group, seen, now)

        self._admit(message, known, 1, True, caller, now, seen_all)

    def submit_group(self, message: Message, caller: Caller, now: Now) -> None:
        """Ask for many jobs with one action."""
        name, common, who = message["action"], message["args"], caller.who
        if not declare.find(name).action.CHANGES:
            raise Refused("wrong_input", f"{name} is not a job")
        self._doors.may(who, declare.find(name).action, now)
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

    # ---------------------------------------------------------------------------------- once for each key

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
            self._questions.survey(then, room=room)

    def _known(self, key: str) -> Job | Group | None:
        """What was submitted under that key."""
        return self._store.job_by_key(key) or self._store.group_by_key(key)

    def _see(self, found: Job | Group, who: Who, now: Now) -> None:
        """Refuse to tell of it whoever may not see what it is about."""
        self.find(found["id"], who, now)

    def find(self, prefix: str, who: Who, now: Now) -> Job | Group:
        """The job or the group whose id begins so, if it may be seen."""
        records = self.records._replace(who=who)
        return self._doors.noted(who, JobShow.NAME, prefix, now, lambda: records.find_any(prefix))

    def _refuse_full_queue(self, count: int) -> None:
        found, limit = self._store.count_open(), self.records.settings.queue_limit
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
            reserved = self._reserved(wanted.action, seen.surveys)
            host, action, why = self._find_place(wanted.action, seen, reserved, wanted.who, now)
            if wanted.dry_run:
                self._plan(wanted, host, action, why, now)
                return
            answer = self._ledger.told(self._record(wanted, host, action, why, now), now)
        except Exception as error:
            if isinstance(error, Refused) and error.code != "denied" and not wanted.dry_run:
                about = str(wanted.action.values()[wanted.action.distinct()])
                self._doors.audit.turned_down(wanted.who, wanted.action.NAME, about, error, now)
            answer = outbox.failure(error)
        self._answer_askers(wanted.key, answer)

    def _place_again(
        self, old: str, wanted: Submission, verdict: dict[str, Any] | None, seen: place.Seen, now: Now
    ) -> None:
        try:
            # Somebody else may have asked for the same while the hosts were asked.
            record = self._ledger.find(old)
            again.refuse(record, self._store.retries(old), lost=verdict is not None)
        except Exception as error:
            self._answer_askers(wanted.key, outbox.failure(error))
            return
        self._place(wanted, seen, now)
        if verdict and self._store.job_by_key(wanted.key):
            self._ledger.settle(record, verdict, now)

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
            answer = outbox.failure(error)
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
            return {**told, "error": outbox.failure(error)["error"]}
        if action.WHERE == Where.PLACED and action.NOUN != "image":
            had = reserved.get(host, place.Reserved())
            more = place.needs(_wanted(action), seen.surveys[host])
            reserved[host] = place.Reserved(*(a + b for a, b in zip(had, more, strict=True)))
        return told

    def _record(self, wanted: Submission, host: str, action: Action, why: str, now: Now) -> Job:
        record = self._ledger.record(wanted, host, action, why, now)
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

    # ------------------------------------------------------------------------------------ finding a place

    def _find_place(
        self, action: Action, seen: place.Seen, reserved: dict[str, place.Reserved], who: Who, now: Now
    ) -> tuple[str, Action, str]:
        """The host for it, its full name, and why there; refused when it must not be done there by `who`."""
        if action.NOUN == "image" and action.WHERE == Where.PLACED:
            return self._find_place_of_image(action, seen, reserved, who, now)
        if action.WHERE == Where.PLACED:
            action = self._profiles.fill(action)
            self._may_copy(action, seen, who, now)
            choice = self._choose(action, seen, reserved, who)
            host, why = choice.host, choice.why
        else:
            ignore = bool(getattr(action, "ignore_missing", False))
            name, whole = str(getattr(action, "name")), action.WHOLE_FLEET and not ignore
            host, name = self._questions.locate(who, name, seen, full_name=action.DESTRUCTIVE, whole_fleet=whole)
            if action.WHOLE_FLEET:
                place.refuse_double_life(name, host, seen.vms)
            action, why = renamed(action, name), "the VM is there"
        self._doors.may(who, type(action), now, vm=str(action.values()[action.distinct()]), host=host)
        self._questions.refuse_unable(host, action)
        return host, action, why

    def _find_place_of_image(
        self, action: Action, seen: place.Seen, reserved: dict[str, place.Reserved], who: Who, now: Now
    ) -> tuple[str, Action, str]:
        # Names and checksums are compared with what everybody has; an image goes only where its asker may be.
        for lock in action.locks():
            for holder in self._store.holders(lock):
                raise Refused(
                    "already_exists",
                    f"job {holder} is working on {lock.partition(':')[2]}",
                    f"`maglica job show {holder}` tells what it does",
                )
        weights = {**self._weights, **{name: 0.0 for name in seen.surveys if not self._questions.able(name, action)}}
        weights |= {host: 0.0 for host in seen.surveys if not self._keyring.sees(who, host=host)}
        if action.NAME == "image copy":
            choice, action = images.for_copy(action, seen.surveys, seen.missing, reserved)
        else:
            choice = images.for_import(action, seen.surveys, seen.missing, weights, reserved)
        self._doors.may(who, type(action), now, vm=str(getattr(action, "name")), host=choice.host)
        self._questions.refuse_unable(choice.host, action)
        return choice.host, action, choice.why

    def _may_copy(self, action: Action, seen: place.Seen, who: Who, now: Now) -> None:
        """A clone goes where its asker may be, and is made of what he may see. Images are for everybody; any other VM
        shows what is on its disks to whoever clones it.
        """
        self._doors.may(who, type(action), now, host=getattr(action, "on"))
        image = str(getattr(action, "image"))
        found = [vm for survey in seen.surveys.values() for vm in survey["domains"] if vm["name"] == image]
        if not found or not all(vm.get("image") for vm in found):
            self._doors.may(who, type(action), now, vm=image)

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
        weights = {**self._weights, **{name: 0.0 for name in seen.surveys if not self._questions.able(name, action)}}
        closed = frozenset(host for host in seen.surveys if not self._keyring.sees(who, host=host))
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


def _refuse_other(known: Job | Group, action: Action) -> None:
    """The same key is the same request: another one under it is a mistake of whoever chose the key."""
    if "members" in known:
        values = {name: value for name, value in action.values().items() if name != "dest"}
        if (known["action"], known["args"]) == ("image copy", values) and action.values().get("dest") == EVERYWHERE:
            return
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
