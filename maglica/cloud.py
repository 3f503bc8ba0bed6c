"""The library.

    cloud = maglica.connect()
    for vm in cloud.vm.list(state="running"):
        print(vm["name"], vm["host"])
    web = cloud.vm.clone(image="el9.original", hostname="web1.example.jp")      # waits, gives the result
    job = cloud.vm.stop.submit(name="web1.example.jp")                          # does not wait, gives a job
    job.wait()
    group = cloud.vm.stop.submit_many(name=["web1", "web2"])                    # one id, one progress, one cancel
    group.wait()

Errors are `maglica.Refused` (nothing was touched) and `maglica.Failed`, both with `code`, `message` and `hint`.
A `Cloud` belongs to one thread; every thread may have its own.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from maglica import config, job, keys, wire
from maglica.bus import Client, Talker
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, Refused, end_of
from maglica.job import Job
from maglica.policy import Policy

# A request that waits for hosts may take this much longer than they.
MARGIN = 5.0
SLICE = 8.0  # seconds that one question for a job's change may be held back: less than `bus.client` waits to ask again
OUTAGE = 60.0  # seconds that a client worker may be away while somebody waits for a job
# What says nothing of the job: nobody answers, its disk is full for a moment, others ask for more than is answered.
PASSING = frozenset({"unreachable", "timeout", "no_capacity"})
PAUSE = 0.5  # seconds until it is asked again

C = TypeVar("C", bound="Connection")


class Items(list[dict[str, Any]]):
    """What several hosts answered. `missing_hosts` lists those that did not: `{"host", "why"}` each."""

    def __init__(self, answer: wire.Message) -> None:
        super().__init__(answer["items"])
        self.missing_hosts: list[dict[str, str]] = answer.get("missing_hosts") or []
        self.observed_at: str = answer.get("observed_at", "")


class Handle(ABC):
    """Something that was submitted: a job, or a group of jobs. It goes on whether or not anybody looks."""

    WHAT = "job"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard = time.monotonic()

    @property
    @abstractmethod
    def id(self) -> str: ...

    @property
    @abstractmethod
    def rev(self) -> int: ...

    @property
    @abstractmethod
    def state(self) -> str: ...

    @property
    @abstractmethod
    def ended(self) -> bool: ...

    @abstractmethod
    def _take(self, answer: wire.Message) -> None:
        """Keep what the client worker told of it."""

    def look(self, patience: float = 0.0, *, ended: bool = False) -> bool:
        """Ask once how it stands; the answer is held back for at most `patience` seconds if nothing changes, or with
        `ended` until it ends.

        Tells whether something has changed. A client worker that does not answer is endured for `OUTAGE` seconds.
        """
        before = self.rev
        try:
            self._take(self._connection.wait(self.id, before, patience, ended=ended))
        except MaglicaError as error:
            if error.code not in PASSING or time.monotonic() - self._heard > OUTAGE:
                hint = f"{self.WHAT} {self.id} goes on; `maglica job attach {self.id}` follows it. {error.hint}"
                error.hint = hint
                raise
            if error.code == "no_capacity":
                time.sleep(PAUSE)  # it was answered at once
            return False
        self._heard = time.monotonic()
        return self.rev != before

    def _until_ended(self, timeout: float | None, *, ended: bool = False) -> Iterator[None]:
        self._heard = time.monotonic()
        until = None if timeout is None else self._heard + timeout
        yield
        while not self.ended:
            left = SLICE if until is None else min(SLICE, until - time.monotonic())
            if left <= 0:
                raise self.overdue(timeout or 0.0)
            if self.look(left, ended=ended):
                yield

    def overdue(self, timeout: float) -> Failed:
        """The error that tells that somebody has waited long enough."""
        return Failed(
            "timeout",
            f"{self.WHAT} {self.id} has not ended after {timeout:g} s; it is {self.state} and goes on",
            f"`maglica job attach {self.id}` follows it, `maglica job cancel {self.id}` stops it",
            job=self.id,
        )

    def cancel(self) -> None:
        """Ask for it to be stopped. What it has made is undone; `wait` tells when."""
        self._connection.call("job cancel", {"id": self.id})


class JobHandle(Handle):
    """One job."""

    def __init__(self, connection: Connection, record: Job) -> None:
        super().__init__(connection)
        self.record = record

    @property
    def id(self) -> str:
        return self.record["id"]

    @property
    def rev(self) -> int:
        return self.record["rev"]

    @property
    def state(self) -> str:
        return self.record["state"]

    @property
    def ended(self) -> bool:
        return self.record["state"] in job.FINAL

    def _take(self, answer: wire.Message) -> None:
        self.record = answer["job"]

    def progress(self) -> dict[str, Any]:
        """How far it is now: `state`, `step`, `done_bytes` and `total_bytes` (None where a step has no bytes)."""
        if not self.ended:
            self._take(self._connection.wait(self.id, -1, 0.0))
        told = self.record["progress"] or {}
        return {
            "state": self.record["state"],
            "step": self.record["step"],
            "done_bytes": told.get("done_bytes"),
            "total_bytes": told.get("total_bytes"),
        }

    def follow(self, timeout: float | None = None) -> Iterator[Job]:
        """The record now, and again after every change, until the job has ended.

        After `timeout` seconds `Failed("timeout")` is raised; the job goes on. A client worker that goes away for a
        short while (a restart, say) is waited for.
        """
        for _ in self._until_ended(timeout):
            yield self.record

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and give the result; raise the job's error when it did not end well."""
        for _ in self._until_ended(timeout, ended=True):
            pass
        return self.result()

    def result(self) -> dict[str, Any]:
        """The result of a job that has ended; its error is raised."""
        if self.record["state"] != job.DONE:
            raise end_of(self.record)
        return self.record["result"] or {}

    def retry(self, *, reason: str | None = None, idempotency_key: str | None = None) -> JobHandle:
        """Ask again for the same: a new job. `Refused` unless this one has failed or was cancelled."""
        found = self._connection.retry(self.id, reason=reason, key=idempotency_key)
        assert isinstance(found, JobHandle)
        return found


class GroupHandle(Handle):
    """Many jobs that were submitted at once.

    `record`: `states` counts its jobs by state, `running` has those at work. `refused` lists the members that were
    turned down when it was submitted, each with its `error`.
    """

    WHAT = "group"

    def __init__(self, connection: Connection, record: dict[str, Any]) -> None:
        super().__init__(connection)
        self._members: list[dict[str, Any]] | None = record.get("members")
        self.record = record

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def rev(self) -> int:
        return int(self.record["rev"])

    @property
    def state(self) -> str:
        return str(self.record["state"])

    @property
    def recorded(self) -> bool:
        """Whether there is such a group: none was made when all of its members were refused."""
        return self.record["id"] is not None

    @property
    def ended(self) -> bool:
        return not self.record["open"]

    def _take(self, answer: wire.Message) -> None:
        self._members = None
        self.record = answer["group"]

    def members(self) -> list[dict[str, Any]]:
        """Each of them as it is now: `name`, `job`, `state`, `host`, `changed`, `result`, `error`, …"""
        until = time.monotonic() + OUTAGE
        while self._members is None:
            try:
                self._members = self._connection.call("job show", {"id": self.id})["item"]["members"]
            except MaglicaError as error:  # it may be just being started again
                if error.code not in PASSING or time.monotonic() > until:
                    raise
                time.sleep(PAUSE)
        return self._members

    def follow(self, timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """The record now, and again after changes, until all of its jobs have ended. As `JobHandle.follow`."""
        for _ in self._until_ended(timeout):
            yield self.record

    def wait(self, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait until all have ended and give the members.

        Raises `Failed("partial")` when some did not end well, and the first one's error when none did; `members()`
        has them all in either case.
        """
        for _ in self._until_ended(timeout, ended=True):
            pass
        return self.result()

    def result(self) -> list[dict[str, Any]]:
        """The members of a group that has ended; raises as `wait` does."""
        members = self.members()
        bad = [member for member in members if member["state"] != job.DONE or member["error"]]
        if not bad or self.state == job.DONE:
            return members
        bad.sort(key=lambda member: (member["error"] or {}).get("code") == "cancelled")  # the cause, not what it led to
        first = end_of(bad[0])
        if len(bad) == len(members):
            raise first
        names = [member["name"] for member in bad]
        raise Failed(
            "partial",
            f"{len(bad)} of {len(members)} did not succeed, {names[0]} among them: {first.message}",
            f"`maglica job explain {self.id}` tells more, `maglica job retry {self.id} --failed` tries them again",
            details={"failed": names},
            job=self.id,
        )

    def retry(self, *, reason: str | None = None, idempotency_key: str | None = None) -> GroupHandle:
        """Ask again for those that did not succeed: a new group."""
        found = self._connection.retry(self.id, failed=True, reason=reason, key=idempotency_key)
        assert isinstance(found, GroupHandle)
        return found


class Connection:
    """Questions and jobs, as actions. What the command line uses."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self._opened: Client | None = None
        self._protocol = wire.VERSION

    @property
    def _client(self) -> Client:
        """Opened when it is first needed: without a key nothing can be asked, but everything can be looked up."""
        if self._opened is None:
            client = self.settings.client
            key = None if client.security == "none" else keys.own(client.key, config.usual_keys(self.settings))
            address, _, port = config.reach(self.settings, key)
            self._opened = Client(address, port, key)
        return self._opened

    @property
    def address(self) -> str:
        """Where the client worker is."""
        return self._client.address

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _ask(self, message: wire.Message, timeout: float) -> wire.Message:
        """Ask, in an older version when the client worker speaks no newer one."""
        try:
            return self._client.ask({"v": self._protocol, **message}, timeout)
        except MaglicaError as error:
            agreed = wire.agree(error.details.get("supported"))
            if error.code != "version_mismatch" or agreed is None or agreed == self._protocol:
                raise
            self._protocol = agreed
            return self._client.ask({"v": self._protocol, **message}, timeout)

    def hello(self) -> wire.Message:
        """What the client worker says of itself: `version`, `protocol`, `features`, `epoch`."""
        return self._ask({"op": "ping"}, MARGIN)

    def call(self, name: str, args: dict[str, Any], timeout: float | None = None) -> wire.Message:
        """Answer a read, given by name and checked arguments. `timeout`: seconds that hosts may take."""
        patience = timeout or self.settings.client.read_timeout
        message = {"op": "read", "action": name, "args": args, "timeout": patience, "key": os.urandom(16).hex()}
        return self._ask(message, patience + MARGIN)

    def read(self, action: Action, timeout: float | None = None) -> wire.Message:
        """Answer a read."""
        usual = self.settings.client.read_timeout + action.patience()
        return self.call(action.NAME, action.values(), timeout or usual)

    def make(self, action: type[Action], values: dict[str, Any]) -> Action:
        """The action with these values; what they do not say is taken from the template that they name."""
        name = values.get("template")
        if name is None or action.NAME != "vm clone":
            return action(**values)
        from maglica import template  # few need it

        said = self.call("template show", {"name": name})["item"]
        given = {key: value for key, value in values.items() if key != "template"}
        return action(**template.render(said, given))

    def submit(self, action: Action, *, reason: str | None = None, key: str | None = None) -> JobHandle:
        """Hand in a job. When this returns it is recorded and will be carried out, whatever dies now.

        The same `key` is the same job, also hours later.
        """
        found = self.hand_in(action, reason=reason, key=key)
        assert isinstance(found, JobHandle), "an action that is many jobs is handed in by `hand_in`"
        return found

    def hand_in(
        self, action: Action, *, reason: str | None = None, key: str | None = None, policy: Policy | None = None
    ) -> JobHandle | GroupHandle:
        """The same, also for an action that becomes a group of jobs: an image copied to all hosts, or what is done to a
        fleet. `policy` is that group's.
        """
        return self._handle(self._submit(action, reason, key, False, policy))

    def plan(self, action: Action, *, policy: Policy | None = None) -> dict[str, Any]:
        """What a job would do, and where; nothing is touched or recorded. Of what becomes a group: its `action`, its
        `members` with the host of each and why there, and a `note`.
        """
        plan: dict[str, Any] = self._submit(action, None, None, True, policy)["plan"]
        return plan

    def submit_group(
        self,
        actions: Sequence[Action],
        *,
        reason: str | None = None,
        key: str | None = None,
        policy: Policy | None = None,
    ) -> GroupHandle:
        """Hand in many jobs at once: one request, one id, one progress, one cancel. All do the same to different
        objects. `policy`: how many side by side, and what one that fails means for the rest; by default nothing.

        The same `key` is the same group, also hours later.
        """
        names = {action.NAME for action in actions}
        if len(names) != 1:
            told = ", ".join(sorted(names)) or "none"
            raise Refused("wrong_input", f"a group does one thing to many objects, not {told}", "make a group of each")
        if len(actions) > wire.MOST_JOBS:
            raise Refused(
                "wrong_input", f"{len(actions)} jobs at once, more than {wire.MOST_JOBS}", "ask for fewer at once"
            )
        values = [action.values() for action in actions]
        common = {name: value for name, value in values[0].items() if all(one[name] == value for one in values)}
        each = [{name: value for name, value in one.items() if name not in common} for one in values]
        message = {
            "op": "submit_group", "key": key or os.urandom(16).hex(), "action": names.pop(), "args": common,
            "each": each, "owner": owner(), "reason": reason, **_told(policy),
        }  # fmt: skip
        return GroupHandle(self, self._ask_group(message)["group"])

    def submit_numbered(
        self,
        sample: Action,
        patterns: Mapping[str, str],
        count: int,
        *,
        first: str = "1",
        reason: str | None = None,
        key: str | None = None,
        policy: Policy | None = None,
    ) -> GroupHandle:
        """Hand in `count` jobs that differ in a number in what they make: `ci-{n}`, `ci-{n:03}`.

        `sample`: one of them, whatever its number; `patterns`: its arguments that have one, by name. `first`: the
        first number, or `next`: after the highest that is.
        """
        message = self._numbered(sample, patterns, count, first, policy)
        message |= {"key": key or os.urandom(16).hex(), "reason": reason}
        return GroupHandle(self, self._ask_group(message)["group"])

    def plan_numbered(
        self,
        sample: Action,
        patterns: Mapping[str, str],
        count: int,
        *,
        first: str = "1",
        policy: Policy | None = None,
    ) -> dict[str, Any]:
        """Where each of them would go, and why: `action`, `members`, `note`."""
        message = {**self._numbered(sample, patterns, count, first, policy), "dry_run": True}
        plan: dict[str, Any] = self._ask_group(message)["plan"]
        return plan

    def _numbered(
        self, sample: Action, patterns: Mapping[str, str], count: int, first: str, policy: Policy | None
    ) -> wire.Message:
        args = {**sample.values(), **patterns}
        return {
            "op": "submit_group", "key": os.urandom(16).hex(), "action": sample.NAME, "args": args, "each": [],
            "owner": owner(), "count": count, "first": first, **_told(policy),
        }  # fmt: skip

    def _ask_group(self, message: wire.Message) -> wire.Message:
        try:
            return self._ask(message, self._patience())
        except Refused as error:
            if error.message.startswith("unknown request"):
                hint = "ask for one object at a time, or install this release there"
                raise Refused("version_mismatch", "the client worker is older and knows no groups", hint) from None
            raise

    def retry(
        self,
        job_id: str,
        *,
        failed: bool = False,
        lost: bool = False,
        reason: str | None = None,
        key: str | None = None,
    ) -> JobHandle | GroupHandle:
        """Ask again for a job that failed or was cancelled, or for those of a group.

        `failed`: of a group, although others are done. `lost`: of a lost job, after somebody has looked.
        """
        message = {
            "op": "retry", "key": key or os.urandom(16).hex(), "id": job_id, "owner": owner(), "reason": reason,
            "failed": failed, "lost": lost,
        }  # fmt: skip
        return self._handle(self._ask(message, self._patience()))

    def recover(self, job_id: str, verdict: str, reason: str) -> JobHandle:
        """Say what became of a lost job: `success`, `failure`, or `retry` (which gives the new job)."""
        if verdict == "retry":
            found = self.retry(job_id, lost=True, reason=reason)
            assert isinstance(found, JobHandle)
            return found
        args = {"id": job_id, "as_": verdict, "reason": reason, "owner": owner()}
        return JobHandle(self, self.call("job settle", args)["item"])

    def _patience(self) -> float:
        return 2 * self.settings.client.read_timeout + MARGIN

    def _handle(self, answer: wire.Message) -> JobHandle | GroupHandle:
        return GroupHandle(self, answer["group"]) if "group" in answer else JobHandle(self, answer["job"])

    def _submit(
        self, action: Action, reason: str | None, key: str | None, dry_run: bool, policy: Policy | None = None
    ) -> wire.Message:
        message = {
            "op": "submit", "key": key or os.urandom(16).hex(), "action": action.NAME, "args": action.values(),
            "owner": owner(), "reason": reason, "dry_run": dry_run, **_told(policy),
        }  # fmt: skip
        return self._ask(message, self._patience())

    def wait(self, job_id: str, rev: int, timeout: float, *, ended: bool = False) -> wire.Message:
        """The `job` or `group` of that id as soon as it is newer than `rev`, with `ended` when it has ended, or after
        `timeout` seconds.
        """
        message = {"op": "wait", "id": job_id, "rev": rev, "timeout": timeout, "ended": ended}
        return self._ask(message, timeout + MARGIN)

    def attach(self, job_id: str) -> JobHandle | GroupHandle:
        """The job or group whose id begins so."""
        return self._handle(self.wait(job_id, -1, 0.0))

    def talker(self) -> Talker:
        """A socket of its own for streams: consoles, displays. Whoever asks for it closes it.

        Raises what is wrong with the client worker or the key, and `Refused` when that is too old for streams.
        """
        told = self.hello()
        if "streams" not in (told.get("features") or ()):
            raise Refused(
                "version_mismatch",
                f"the client worker at {self.address} (maglica {told['version']}) carries no consoles",
                "install this release there",
            )
        return Talker(self._client.address, self._client.port, self._client.key)

    def ping(self) -> Items:
        """The round trip to the client worker and to each host: `name`, `role`, `round_trip_seconds`, `version`."""
        began = time.perf_counter()
        hello = self.hello()
        first = {
            "name": self.address,
            "role": "client worker",
            "round_trip_seconds": time.perf_counter() - began,
            "version": hello["version"],
        }
        answer = self.call("host ping", {})
        took = answer["answer_seconds"]
        hosts = [{**item, "role": "host", "round_trip_seconds": took.get(item["host"])} for item in answer["items"]]
        answer["items"] = [first, *hosts]
        return Items(answer)


def _told(policy: Policy | None) -> dict[str, Any]:
    """A policy as it travels; the usual one does not, so that a client worker of an older release understands."""
    usual = Policy().values()
    said = {name: value for name, value in (policy or Policy()).values().items() if value != usual[name]}
    return {"policy": said} if said else {}


def owner() -> str:
    """Who is asking: user@machine. Informative only: what it claims grants nothing."""
    import getpass  # reads need no owner, and every start of the command line would pay for it

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return f"{os.environ.get('SUDO_USER', user)}@{os.uname().nodename}"
