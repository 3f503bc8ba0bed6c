"""The library.

    cloud = maglica.connect()
    for vm in cloud.vm.list(state="running"):
        print(vm["name"], vm["host"])
    web = cloud.vm.clone(image="el9.original", hostname="web1.example.jp")      # waits, gives the result
    job = cloud.vm.stop.submit(name="web1.example.jp")                          # does not wait, gives a job
    job.wait()

Errors are `maglica.Refused` (nothing was touched) and `maglica.Failed`, both with `code`, `message` and `hint`.
A `Cloud` belongs to one thread; every thread may have its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any, TypeVar

from maglica import config, job, keys, wire
from maglica.bus import Client
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, from_wire
from maglica.job import Job

# A request that waits for hosts may take this much longer than they.
MARGIN = 5.0
SLICE = 10.0  # seconds that one question for a job's change may be held back
OUTAGE = 60.0  # seconds that a client worker may be away while somebody waits for a job

C = TypeVar("C", bound="Connection")


class Items(list[dict[str, Any]]):
    """What several hosts answered. `missing_hosts` lists those that did not: `{"host", "why"}` each."""

    def __init__(self, answer: wire.Message) -> None:
        super().__init__(answer["items"])
        self.missing_hosts: list[dict[str, str]] = answer.get("missing_hosts") or []
        self.observed_at: str = answer.get("observed_at", "")


class JobHandle:
    """A job that was submitted. It goes on whether or not anybody looks."""

    def __init__(self, connection: Connection, record: Job) -> None:
        self._connection = connection
        self.record = record
        self._heard = time.monotonic()

    @property
    def id(self) -> str:
        return self.record["id"]

    @property
    def ended(self) -> bool:
        return self.record["state"] in job.FINAL

    def progress(self) -> dict[str, Any]:
        """How far it is now: `state`, `step`, `done_bytes` and `total_bytes` (None where a step has no bytes)."""
        if not self.ended:
            self.record = self._connection.wait(self.id, -1, 0.0)
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
        return self._heard_of(timeout, ended=False)

    def _heard_of(self, timeout: float | None, *, ended: bool) -> Iterator[Job]:
        self._heard = time.monotonic()
        until = None if timeout is None else self._heard + timeout
        yield self.record
        while not self.ended:
            left = SLICE if until is None else min(SLICE, until - time.monotonic())
            if left <= 0:
                raise self.overdue(timeout or 0.0)
            if self.look(left, ended=ended):
                yield self.record

    def look(self, patience: float = 0.0, *, ended: bool = False) -> bool:
        """Ask once how the job stands; the answer is held back for at most `patience` seconds if nothing changes, or
        with `ended` until it ends.

        Tells whether something has changed. A client worker that does not answer is endured for `OUTAGE` seconds.
        """
        try:
            record = self._connection.wait(self.id, self.record["rev"], patience, ended=ended)
        except MaglicaError as error:
            if error.code not in {"unreachable", "timeout"} or time.monotonic() - self._heard > OUTAGE:
                error.hint = f"job {self.id} goes on; `maglica job attach {self.id}` follows it. {error.hint}"
                raise
            return False
        self._heard = time.monotonic()
        changed = record["rev"] != self.record["rev"]
        self.record = record
        return changed

    def overdue(self, timeout: float) -> Failed:
        """The error that tells that somebody has waited long enough."""
        return Failed(
            "timeout",
            f"job {self.id} has not ended after {timeout:g} s; it is {self.record['state']} and goes on",
            f"`maglica job attach {self.id}` follows it, `maglica job cancel {self.id}` stops it",
            job=self.id,
        )

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and give the result; raise the job's error when it did not end well."""
        for _ in self._heard_of(timeout, ended=True):
            pass
        return self.result()

    def result(self) -> dict[str, Any]:
        """The result of a job that has ended; its error is raised."""
        if self.record["state"] != job.DONE:
            raise from_wire(self.record["error"] or {"message": f"job {self.id} ended as {self.record['state']}"})
        return self.record["result"] or {}

    def cancel(self) -> None:
        """Ask for it to be stopped. What it has made is undone; `wait` tells when."""
        self._connection.call("job cancel", {"id": self.id})


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
            address, _, port = keys.reach(self.settings, key)
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
        return self._ask({"op": "read", "action": name, "args": args, "timeout": patience}, patience + MARGIN)

    def read(self, action: Action, timeout: float | None = None) -> wire.Message:
        """Answer a read."""
        return self.call(action.NAME, action.values(), timeout)

    def submit(self, action: Action, *, reason: str | None = None, key: str | None = None) -> JobHandle:
        """Hand in a job. When this returns it is recorded and will be carried out, whatever dies now.

        The same `key` is the same job, also hours later.
        """
        return JobHandle(self, self._submit(action, reason, key, False)["job"])

    def plan(self, action: Action) -> dict[str, Any]:
        """What a job would do, and where; nothing is touched or recorded."""
        plan: dict[str, Any] = self._submit(action, None, None, True)["plan"]
        return plan

    def _submit(self, action: Action, reason: str | None, key: str | None, dry_run: bool) -> wire.Message:
        message = {
            "op": "submit", "key": key or os.urandom(16).hex(), "action": action.NAME, "args": action.values(),
            "owner": owner(), "reason": reason, "dry_run": dry_run,
        }  # fmt: skip
        return self._ask(message, 2 * self.settings.client.read_timeout + MARGIN)

    def wait(self, job_id: str, rev: int, timeout: float, *, ended: bool = False) -> Job:
        """The job's record as soon as it is newer than `rev`, with `ended` when it has ended, or after `timeout`
        seconds.
        """
        message = {"op": "wait", "id": job_id, "rev": rev, "timeout": timeout, "ended": ended}
        record: Job = self._ask(message, timeout + MARGIN)["job"]
        return record

    def attach(self, job_id: str) -> JobHandle:
        """The job whose id begins so."""
        return JobHandle(self, self.wait(job_id, -1, 0.0))

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


def owner() -> str:
    """Who is asking: user@machine. Informative only: what it claims grants nothing."""
    import getpass  # reads need no owner, and every start of the command line would pay for it

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return f"{os.environ.get('SUDO_USER', user)}@{os.uname().nodename}"
