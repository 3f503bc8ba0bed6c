"""Real daemons under attack: somebody who restarts them, people who submit, and an audit of what came of it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from maglica import job
from maglica.client_worker.store import Store
from maglica.errors import MaglicaError
from maglica.host_worker.journal import Journal
from maglica.nouns import Cloud
from tests.daemons import RUNNING, Daemon, House
from tests.faults import effects
from tests.faults.effects import VmMark
from tests.forward import Forward
from tests.waiting import until

LONG = bool(os.environ.get("MAGLICA_TEST_LONG"))  # `make faults`: everything, many times

# What a submission may meet while daemons die: it is given again with the same key.
PASSING = {"unreachable", "timeout", "host_down", "unknown_entity"}

SLOTS = 8  # quick jobs side by side on one host: as many may be in the middle when it dies

# `host1` and `host10` on purpose: a SUB filter is a prefix.
VMS = {"host1": ["a1", "b1", "c1"], "host10": ["a10", "b10", "c10"]}


class Stage(House):
    """A house whose daemons are those of `daemon.py`."""

    def __init__(self, folder: Path) -> None:
        self._plan = folder / "plan.json"
        self.effects = folder / "effects"
        self.effects.mkdir()
        self.plan()
        super().__init__(folder)
        self.accepted: dict[str, str] = {}  # key -> job, as it was answered
        self.asked: dict[str, VmMark] = {}
        self.cancelled: set[str] = set()
        self.passing = set(PASSING)
        self.last: dict[str, dict[str, Any]] = {}  # all jobs, when everything had ended
        self._supervisors: list[threading.Thread] = []
        self._closing = threading.Event()
        self.restarts: Counter[str] = Counter()
        self._began: Counter[str] = Counter()  # where the log of each daemon's last life begins

    def plan(
        self,
        crash: dict[str, list[int]] | None = None,
        defects: Iterable[str] = (),
        weather: dict[str, Any] | None = None,
    ) -> None:
        """What is to go wrong, for every daemon that is started from now on."""
        plan = {"folder": str(self._plan.parent), "crash": crash or {}, "defects": list(defects), "weather": weather}
        self._plan.write_text(json.dumps(plan))

    def daemon(self, program: str, *options: str, log: str) -> Daemon:
        start = [sys.executable, "-P", str(Path(__file__).with_name("daemon.py"))]
        return Daemon([*start, str(self._plan), log, program, *options], self.folder / f"{log}.log")

    def behind(self, name: str, own: Iterable[str]) -> tuple[Forward, Forward]:
        """A host whose two legs, PUB and REP, each go through a wire."""
        legs = self.add(Forward(self.pub_port)), self.add(Forward(self.rep_port))
        text = self.config.read_text()
        ports = text.replace(f"pub_port = {self.pub_port}", f"pub_port = {legs[0].port}")
        self.config.write_text(ports.replace(f"rep_port = {self.rep_port}", f"rep_port = {legs[1].port}"))
        self.start_host(name, dict.fromkeys(own, RUNNING), wait=False)
        self.config.write_text(text)
        return legs

    def state_of(self, name: str) -> str:
        """A host's state, as people see it; empty while nobody can tell."""
        try:
            with self.connect() as cloud:
                return next((str(host["state"]) for host in cloud.host.list() if host["name"] == name), "")
        except MaglicaError:
            return ""

    def open(self, vms: dict[str, list[str]] = VMS) -> None:
        """Start everything; only then things go wrong, and whatever dies is started again."""
        self.start()
        for name, own in vms.items():
            self.start_host(name, dict.fromkeys(own, RUNNING))
        (self.folder / "hits" / "armed").touch()
        for name, daemon in {"client_worker": self.client_worker, **self.hosts}.items():
            thread = threading.Thread(target=self._supervise, args=(name, daemon), daemon=True)
            thread.start()
            self._supervisors.append(thread)

    def _supervise(self, name: str, daemon: Daemon) -> None:
        while not self._closing.wait(0.01):
            if not daemon.alive:
                self.restarts[name] += 1
                self._began[name] = len(daemon.log)
                daemon.start()

    def close(self) -> None:
        self._closing.set()
        for thread in self._supervisors:
            thread.join(10)
        super().close()

    @contextmanager
    def storm(self) -> Iterator[None]:
        """While this lasts, the weather is as bad as planned."""
        (self.folder / "storm").touch()
        yield
        (self.folder / "storm").unlink()

    # ------------------------------------------------------------------------------------------ people

    def submit(self, count: int, *, people: int = 4, vms: dict[str, list[str]] = VMS, **args: Any) -> None:
        """Hand in so many jobs, by several people side by side; every seventh is told to fail."""
        places = [f"{vm}@{host}" for host, own in vms.items() for vm in own]
        numbers = range(len(self.asked), len(self.asked) + count)
        keys = [f"key-{number}" for number in numbers]
        for key, number in zip(keys, numbers, strict=True):
            self.asked[key] = VmMark(name=places[number % len(places)], fail=number % 7 == 6, **args)
        with ThreadPoolExecutor(people) as crowd:
            for done in [crowd.submit(self._hand_in, keys[who::people]) for who in range(people)]:
                done.result()

    def _hand_in(self, keys: list[str]) -> None:
        with self.connect() as cloud:
            for key in keys:
                until(partial(self._accepted, cloud, key), 60, f"{key} is accepted")

    def _accepted(self, cloud: Cloud, key: str) -> bool:
        try:
            self.accepted[key] = cloud.submit(self.asked[key], key=key).id
        except MaglicaError as error:
            if error.code not in self.passing:
                raise
            return False
        return True

    def records(self) -> dict[str, dict[str, Any]]:
        """All jobs that the client worker knows, by id; empty while it does not answer."""
        try:
            with self.connect() as cloud:
                return {record["id"]: record for record in cloud.call("job list", {"last": 10_000})["items"]}
        except MaglicaError as error:
            if error.code not in PASSING:
                raise
            return {}

    def cancel(self, id: str) -> None:
        """Ask for a job to be cancelled, until the client worker has heard it."""
        until(partial(self._cancelled, id), 20, f"the cancelling of {id} is heard")
        self.cancelled.add(id)

    def _cancelled(self, id: str) -> bool:
        try:
            with self.connect() as cloud:
                cloud.call("job cancel", {"id": id})
        except MaglicaError as error:
            if error.code not in PASSING:
                raise
            return False
        return True

    def settled(self) -> bool:
        records = self.records()
        return set(self.accepted.values()) <= set(records) and all(
            record["state"] in job.FINAL for record in records.values()
        )

    # ------------------------------------------------------------------------------------------- audit

    def audit(self, timeout: float = 30.0) -> list[str]:
        """Let everything end, stop the daemons in good order, and compare the store, the journals and the world.

        Gives what is wrong, in words: an empty list is what every test wants.
        """
        found: list[str] = []
        try:
            until(self.settled, timeout, "every job has ended", pause=0.05)
            # Nobody dies any more: also not in the middle of what is asked from here on.
            (self.folder / "hits" / "armed").unlink(missing_ok=True)
            until(self.settled, timeout, "the client worker answers", pause=0.05)
            # One that died right after its last outcome was recorded has yet to hear that it was.
            until(self._at_home, timeout, "every host worker that was started again is accepted", pause=0.05)
            # An answer that was lost in the storm is waited for, for up to 8 s, before its question is asked again. One
            # that is stopped before would tell its outcomes at its next start, which is right, and no empty journal.
            over = time.monotonic() + 0.5  # what was held back longest has come
            until(lambda: self._in_touch(over), timeout, "every host worker has reported since", pause=0.05)
        except AssertionError as error:
            found.append(str(error))
        records = self.last = self.records()
        self._closing.set()
        for thread in self._supervisors:
            thread.join(10)
        for name, daemon in {**self.hosts, "client_worker": self.client_worker}.items():
            status = daemon.stop() if daemon.alive else "was dead"
            if status != 0:
                found.append(f"{name} ended with {status}")
        return [*found, *self._in_store(records), *self._in_journals(), *self._in_world(records)]

    def _at_home(self) -> bool:
        return all("accepted" in daemon.log[self._began[name] :] for name, daemon in self.hosts.items())

    def _in_touch(self, since: float) -> bool:
        """Whether each has reported after that moment, and has been answered in calm weather."""
        try:
            with self.connect() as cloud:
                heard = {host["name"]: host["heard_seconds"] for host in cloud.host.list()}
        except MaglicaError as error:
            if error.code not in PASSING:
                raise
            return False
        ago = time.monotonic() - since
        alive = [name for name, daemon in self.hosts.items() if daemon.alive]
        return all(heard.get(name) is not None and heard[name] < ago for name in alive)

    def _in_store(self, records: dict[str, dict[str, Any]]) -> Iterator[str]:
        for key, id in self.accepted.items():
            if id not in records:
                yield f"lost: {id} was promised and is not recorded"
            elif records[id]["key"] != key:
                yield f"{id} belongs to {records[id]['key']}, promised to {key}"
        keys = Counter(record["key"] for record in records.values())
        yield from (f"{key} is {count} jobs" for key, count in keys.items() if count > 1)
        yield from (f"nobody submitted {key}" for key in keys if key not in self.asked)
        yield from (f"{id} is {record['state']}" for id, record in records.items() if record["state"] not in job.FINAL)
        store = Store(f"{self.folder}/state/jobs.db")
        try:
            yield from (f"open in the store: {record['id']}" for record in store.jobs.open())
            for name in {lock for record in records.values() for lock in record["locks"]}:
                yield from (f"lock {name} is left by {holder}" for holder in store.jobs.holders(name))
        finally:
            store.close()

    def _in_journals(self) -> Iterator[str]:
        for name in self.hosts:
            journal = Journal(f"{self.folder}/state/host-{name}/journal.db")
            try:
                yield from (f"{name}'s journal still has {entry.id}" for entry in journal.entries())
                yield from (f"{name}'s journal has undos of {left}" for left in journal.jobs_to_undo())
            finally:
                journal.close()

    def _in_world(self, records: dict[str, dict[str, Any]]) -> Iterator[str]:
        """Done: every part made once and there. Anything else: whatever was made is gone again."""
        world = effects.seen(self.effects)
        yield from world.wrong
        yield from (f"{vm} is still claimed" for vm in world.busy)
        yield from (f"{id} began {count} times" for id, count in world.begun.items() if count > 1)
        yield from (f"{id} made {part} {n} times" for (id, part), n in world.made.items() if n > 1)
        yield from (f"{id} acted and is not recorded" for id in world.begun if id not in records)
        for vm, order in world.order.items():
            if order != sorted(order):
                yield f"on {vm} the order was {order}"
        for id, record in records.items():
            wish, files = self.asked.get(record["key"]), world.files.get(id, set())
            if record["state"] == job.DONE:
                if files != {str(part) for part in effects.PARTS} or not world.begun[id]:
                    yield f"{id} is done, but made {sorted(files)}"
                if wish and wish.fail:
                    yield f"{id} is done, but was told to fail"
            elif files:
                yield f"{id} is {record['state']}, but {sorted(files)} are there"
        # Only who was in the middle when a host worker died may have failed without having been told to.
        unasked = [r for r in records.values() if r["state"] != job.DONE and not self._told_to_end(r)]
        for record in unasked:
            if record["state"] != job.FAILED or record["error"]["code"] != "lost":
                yield f"{record['id']} is {record['state']}: {record['error']}"
        deaths = len([line for line in self.crashes() if " hw." in line])
        if len(unasked) > SLOTS * deaths:
            yield f"{len(unasked)} jobs were interrupted by {deaths} deaths of host workers"

    def _told_to_end(self, record: dict[str, Any]) -> bool:
        if record["state"] == job.CANCELLED and record["id"] in self.cancelled:
            return True
        wish = self.asked.get(record["key"])
        return wish is not None and wish.fail

    def crashes(self) -> list[str]:
        """`WHO POINT` for each time that a daemon killed itself."""
        path = self.folder / "hits" / "crashes"
        return path.read_text().splitlines() if path.exists() else []
