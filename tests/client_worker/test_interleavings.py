"""Submissions, reports, losses, repetitions, cancels, crashes and restarts in any order, thousands of times.

Whatever happens: what was promised is there, nothing is begun twice, jobs on one VM never overlap and keep their
order, and when the weather clears up every job ends as its host saw it end. The order of events is random and seeded.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from maglica import job, wire
from maglica.client_worker.fleet import BEATS
from tests.client_worker.office import Asked, Office, Worker, outcome, submission

VMS = {"host1": ["a1", "b1"], "host2": ["a2", "b2", "c2"]}
ALL = [vm for vms in VMS.values() for vm in vms]
SLOTS = 2
PATIENCE = BEATS * 2.0 + 0.1


class Machine(Worker):
    """A host: a journal that survives crashes, and work that does not."""

    def __init__(self, office: Office, name: str, world: World) -> None:
        super().__init__(office, name, dict.fromkeys(VMS[name], "shut-off"))
        self.world = world
        self.entries: dict[str, dict[str, Any] | None] = {}  # the journal: job -> outcome, None while it has not ended
        self.works: dict[str, str] = {}  # what runs now: job -> VM
        self.cancelled: set[str] = set()
        self.lives = 1
        self.seq = 0

    def message(self) -> dict[str, Any]:
        """What a host worker says of itself: all that it knows, every time."""
        ended = [told for told in self.entries.values() if told]
        self.seq += 1
        return {
            "op": "sync",
            "host": self.name,
            "incarnation": self.incarnation,
            "seq": self.seq,
            "have": sorted(self.entries),
            "done": ended,
            "progress": [{"id": id, "step": "work"} for id in self.works],
            "free": {"quick": SLOTS - len(self.works)},
        }

    def take(self, answer: dict[str, Any] | None) -> None:
        """Do what the answer to a sync says."""
        if answer is None:
            return
        if not answer["ok"]:
            if answer["error"]["details"].get("fenced"):
                self.crash()  # a greeting of an earlier life came after a long silence: it stops, and is started again
            else:
                assert answer["error"]["code"] == "unknown_entity", answer
                self.incarnation = 0
            return
        for receipt in answer["acked"]:
            if self.entries.get(receipt["id"]):
                del self.entries[receipt["id"]]
        for handed in answer["jobs"]:
            if handed["id"] not in self.entries:
                self.entries[handed["id"]] = None
                self.works[handed["id"]] = handed["object"]
                self.world.begins(handed, self)
        self.cancelled |= set(answer["cancel"])

    def work(self, chance: random.Random) -> None:
        """One of the jobs ends."""
        if self.works:
            id = chance.choice(sorted(self.works))
            state = "cancelled" if id in self.cancelled else chance.choice(["done", "done", "failed"])
            self._end(id, state)

    def _end(self, id: str, state: str) -> None:
        error = None if state == "done" else {"kind": "failed", "code": "cancelled", "message": state}
        self.entries[id] = outcome(id, state, error=error)
        self.world.truth[id] = state
        self.works.pop(id, None)

    def crash(self) -> None:
        """The process is killed and comes back: it undoes what it had begun, and says so."""
        self._new_process()
        for id in list(self.works):
            self._end(id, "failed")

    def _new_process(self) -> None:
        self.incarnation, self.seq = 0, 0
        self.lives += 1

    def loses_its_disk(self) -> None:
        """Installed anew: nothing is known of what was."""
        for id in self.entries:
            self.world.truth[id] = "lost"
        self.entries, self.works = {}, {}
        self._new_process()
        self.journal = f"journal {self.lives} of {self.name}"


class World:
    def __init__(self, office: Office, chance: random.Random) -> None:
        self.office, self.chance = office, chance
        self.machines = [Machine(office, name, self) for name in VMS]
        self.truth: dict[str, str] = {}  # how each job ended on its host
        self.begun: Counter[tuple[str, int]] = Counter()
        self.last_begun: dict[str, str] = {}
        self.promised: dict[str, str] = {}  # key -> id
        self.keys: list[tuple[str, dict[str, Any]]] = []
        self.out: list[tuple[str, Asked]] = []
        self.given_up: set[str] = set()  # jobs of hosts that were removed
        self.old: list[dict[str, Any]] = []  # what was sent on connections that were given up, and is still on its way

    # ------------------------------------------------------------------------------------ what must hold

    def begins(self, handed: dict[str, Any], machine: Machine) -> None:
        """A host begins a job: nothing else may run on that VM, and nothing that came later may have run before."""
        id, vm = handed["id"], handed["object"]
        self.begun[id, handed["attempt"]] += 1
        assert self.begun[id, handed["attempt"]] == 1, f"{id} begun twice"
        assert vm in VMS[machine.name], f"{id} on the wrong host"
        beside = [other for m in self.machines for other, about in m.works.items() if about == vm and other != id]
        assert not beside, f"{id} beside {beside} on {vm}"
        assert self.last_begun.get(vm, "") < id, f"{id} after a younger one"
        self.last_begun[vm] = id

    def collect(self) -> None:
        """Take the answers that arrived: what was promised once is promised for ever."""
        for key, asked in self.out:
            answer = asked.answer
            if answer and answer["ok"]:
                id = answer["job"]["id"]
                assert self.promised.setdefault(key, id) == id, "the same key, another job"
        self.out = [(key, asked) for key, asked in self.out if asked.answer is None]

    # --------------------------------------------------------------------------------------- what happens

    def submit(self) -> None:
        if self.keys and self.chance.random() < 0.3:
            key, message = self.chance.choice(self.keys)
        else:
            key, vm = f"key{len(self.keys)}", self.chance.choice(ALL)
            action = self.chance.choice(["vm stop", "vm destroy"])
            message = submission(action, key=key, name=vm)
            self.keys.append((key, message))
        self.out.append((key, self.office.post(message)))

    def survey(self) -> None:
        machine = self.chance.choice(self.machines)
        if self.chance.random() < 0.2:
            self.office.questions(machine.name)  # lost
        else:
            machine.answer_all()

    def sync(self, machine: Machine | None = None, *, weather: float = 1.0) -> None:
        machine = machine or self.chance.choice(self.machines)
        if not machine.incarnation:
            machine.hello(starts=machine.lives, start=f"{machine.name} {machine.lives}")
            self.old.append(machine.greeting)
            return
        if self.chance.random() < 0.15 * weather:
            return  # the request is lost
        message = machine.message()
        if self.chance.random() < 0.1 * weather:
            self.old.append(message)  # it comes later, when a newer one was sent long ago
            return
        asked = self.office.post(message)
        if self.chance.random() < 0.15 * weather:
            self.office.post(message)  # it arrives twice
        if self.chance.random() < 0.05 * weather:
            self.restart()  # before the commit
            return
        self.office.turn()
        if self.chance.random() < 0.15 * weather:
            return  # the answer is lost
        machine.take(asked.answer)

    def arrive(self) -> None:
        """A message of long ago. Nobody waits for its answer."""
        if self.old:
            self.office.post(self.old.pop(self.chance.randrange(len(self.old))))

    def cancel(self) -> None:
        known = [one["id"] for one in self.office.store.jobs.open()]
        if known:
            self.office.post({"op": "read", "action": "job cancel", "args": {"id": self.chance.choice(known)}})

    def restart(self) -> None:
        self.collect()
        self.out.clear()
        self.old.clear()  # its connections ended with it
        if self.chance.random() < 0.5:
            self.office.ms -= self.chance.randrange(100_000)
        self.office.restart(away=self.chance.choice([0.0, 1.0, 20.0]))

    def fall(self) -> None:
        machine = self.chance.choice(self.machines)
        if self.chance.random() < 0.2:
            self.office.sleep(PATIENCE)  # nobody re-installs a host within a beat
            machine.loses_its_disk()
        else:
            machine.crash()

    def remove(self) -> None:
        """A host is taken for gone for good. It goes on with what it has, and comes back."""
        machine = self.chance.choice(self.machines)
        self.office.sleep(PATIENCE)
        for one in self.office.store.jobs.open(machine.name):
            if one["state"] == job.QUEUED:
                self.office.read("job cancel", id=one["id"])
        asked = self.office.read("host remove", name=machine.name)
        if asked.answer and asked.answer["ok"]:
            self.given_up |= set(asked.good["item"]["lost"])

    def step(self) -> None:
        happening = self.chance.choices(
            [
                self.submit,
                self.survey,
                self.sync,
                self.work,
                self.arrive,
                self.cancel,
                self.restart,
                self.fall,
                self.remove,
                self.rest,
            ],
            [20, 30, 60, 30, 5, 4, 2, 3, 3, 10],
        )[0]
        happening()
        self.office.turn()
        self.collect()

    def work(self) -> None:
        self.chance.choice(self.machines).work(self.chance)

    def rest(self) -> None:
        self.office.sleep(self.chance.choice([0.1, 1.0, 3.0]))

    def clear_up(self) -> None:
        """Good weather until everything has ended."""
        for _ in range(200 + 4 * len(self.keys)):
            for machine in self.machines:
                machine.answer_all()
                self.office.turn()
                self.sync(machine, weather=0.0)
                machine.work(self.chance)
            self.office.sleep(0.1)
            self.collect()
            if not self.office.store.jobs.count_open() and not any(machine.entries for machine in self.machines):
                return
        raise AssertionError(f"still open: {self.office.store.jobs.open()}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: thousands of commits, and the disk's own slowness is not what is tried here."""
    if not in_memory():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="maglica-test-", dir=in_memory()) as name:
        yield Path(name)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens(folder: Path, seed: int) -> None:
    office = Office(folder)
    world = World(office, random.Random(seed))
    for machine in world.machines:
        machine.hello()
    for _ in range(1000):
        world.step()
    world.clear_up()

    states = verdict(world)
    assert states["done"] > 5, "the storm left time to work"
    office.close()


def verdict(world: World) -> Counter[str]:
    """When all has ended: what must be true of every job. Gives how often each state occurs."""
    records = {one["id"]: one for one in everything(world.office)}
    assert set(world.promised.values()) <= set(records), "what was promised is there"
    assert len({one["key"] for one in records.values()}) == len(records)
    begun = {id for id, _ in world.begun}
    for id, record in records.items():
        assert record["state"] in job.FINAL
        if id not in begun:
            # never begun: cancelled in the queue, or handed to a journal that is gone
            assert record["state"] in (job.CANCELLED, job.LOST)
        elif id in world.given_up:
            assert record["state"] == job.LOST, "its host ended it in some way, and that changed nothing"
        elif record["state"] != world.truth[id]:
            # A host that lost its disk may have lost the news of a good end with it.
            assert (record["state"], world.truth[id]) in [(job.LOST, "lost"), ("done", "lost"), ("failed", "lost"),
                                                          ("cancelled", "lost")]  # fmt: skip
        wire.encode(wire.ok(job=record))
    assert not [lock for vm in ALL for lock in world.office.store.jobs.holders(f"vm:{vm}")]
    return Counter(one["state"] for one in records.values())


def everything(office: Office) -> list[job.Job]:
    return office.store.jobs.latest(10_000, state=None, vm=None, host=None)


# ------------------------------------------------------------------------- the same, with events that are chosen
# Hypothesis chooses what happens and what is lost, looks after every event, and shrinks what it finds to the few
# events that matter. The same ones every time, unless MAGLICA_TEST_LONG asks for new ones, and many.

LONG = bool(os.environ.get("MAGLICA_TEST_LONG"))
CHOSEN = settings(
    max_examples=2000 if LONG else 100,
    stateful_step_count=80 if LONG else 40,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Ledgers:
    """What is true of the store after every event, whatever happened."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def look(self, office: Office) -> None:
        now = {one["id"]: one["state"] for one in everything(office)}
        for id, state in self._before.items():
            assert id in now, f"{id} is gone"
            assert now[id] in reachable(state), f"{id} went from {state} to {now[id]}"
        self._before = now
        for vm in ALL:
            for id in office.store.jobs.holders(f"vm:{vm}"):
                assert now[id] not in job.FINAL, f"{id} is {now[id]} and holds {vm}"


@cache
def reachable(state: str) -> frozenset[str]:
    """The states that may follow, after any number of steps that the table allows, and the state itself."""
    found = {state}
    while True:
        more = {new for new in job.MAY_FOLLOW for old in found if job.may_become(old, new)} - found
        if not more:
            return frozenset(found)
        found |= more


def test_what_has_ended_stays_as_it_is() -> None:
    assert all(reachable(state) == {state} for state in job.FINAL - {job.LOST})
    assert reachable(job.LOST) == {job.LOST, job.DONE, job.FAILED}, "a person may have looked"
    assert reachable(job.QUEUED) == set(job.MAY_FOLLOW)


class Storm(RuleBasedStateMachine):
    """One event after the other, chosen by Hypothesis; so is what is lost on the way."""

    @initialize(chance=st.randoms(use_true_random=False))
    def begins(self, chance: random.Random) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="maglica-test-", dir=in_memory())
        self.world = World(Office(Path(self.folder.name)), chance)
        self.ledgers = Ledgers()
        for machine in self.world.machines:
            machine.hello()

    @rule(
        what=st.sampled_from(
            ["submit", "survey", "sync", "work", "arrive", "cancel", "restart", "fall", "remove", "rest"]
        )
    )
    def happens(self, what: str) -> None:
        getattr(self.world, what)()
        self.world.office.turn()
        self.world.collect()
        self.ledgers.look(self.world.office)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.clear_up()
            verdict(self.world)
        finally:
            self.world.office.close()
            self.folder.cleanup()


Storm.TestCase.settings = CHOSEN
TestStorm = pytest.mark.slow(Storm.TestCase)


def in_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# What a host may claim that tells nothing but nonsense: any state, any attempt, about any job, its own or another's.
CLAIMS = st.fixed_dictionaries(
    {"number": st.integers(0, 5), "attempt": st.sampled_from([1, 1, 1, 0, 2, None, "1"])},
    optional={
        "state": st.sampled_from([*job.MAY_FOLLOW, "", "gone", None, 7]),
        "step": st.sampled_from(["copy", "", None, 5]),
        "steps": st.sampled_from([[], None, [{"name": "x"}], "x"]),
        "commands": st.sampled_from([[], None, [{}], 5]),
        "progress": st.sampled_from([None, {}, {"done_bytes": 1, "total_bytes": 2}, "x"]),
        "result": st.sampled_from([None, {}, {"name": "a1"}, "x"]),
        "error": st.sampled_from([None, {}, {"code": "x"}, "x", 5]),
    },
)
REPORTS = st.fixed_dictionaries(
    {
        "host": st.sampled_from(list(VMS)),
        "have": st.lists(st.integers(0, 5), max_size=4),
        "done": st.lists(CLAIMS, max_size=3),
        "progress": st.lists(CLAIMS, max_size=3),
        "free": st.sampled_from([{}, {"quick": 1}, {"quick": 8}, {"quick": -1}, {"quick": "8"}, {"slow": 3}]),
        "cancel": st.none() | st.integers(0, 5),
        "new_journal": st.booleans(),
    }
)


@pytest.mark.slow
@CHOSEN
@given(st.lists(REPORTS, max_size=12))
def test_a_host_that_tells_nonsense_breaks_no_rule(reports: list[dict[str, Any]]) -> None:
    """Its own jobs may be recorded wrongly; states still follow the table, and no lock is left behind."""
    with tempfile.TemporaryDirectory(prefix="maglica-test-", dir=in_memory()) as folder:
        office = Office(Path(folder))
        hosts = {name: Worker(office, name, dict.fromkeys(own, "shut-off")) for name, own in VMS.items()}
        for host in hosts.values():
            host.hello()
        for number, vm in enumerate(["a1", "a1", "b1", "a2", "a2", "b2"]):
            office.submit("vm destroy", key=f"key{number}", name=vm)
            office.serve(*hosts.values())
        ids = [one["id"] for one in everything(office)]
        ledgers = Ledgers()
        for report in reports:
            host = hosts[report["host"]]
            if report["new_journal"]:
                office.sleep(PATIENCE)
                host.journal += "+"
                host.hello()
            told = {what: [{**one, "id": ids[one["number"]]} for one in report[what]] for what in ("done", "progress")}
            asked = host.sync(have=[ids[number] for number in report["have"]], free=report["free"], **told)
            assert asked.answer, "a host is always answered"
            assert asked.answer["ok"] or asked.error.code != "internal_error", asked.error
            if report["cancel"] is not None:
                office.read("job cancel", id=ids[report["cancel"]])
            ledgers.look(office)
        own = {one["id"]: one["host"] for one in everything(office)}
        assert [own[id] for id in ids] == ["host1"] * 3 + ["host2"] * 3, "no host changed what is another's"
        for record in everything(office):
            wire.encode(wire.ok(job=job.shown(record)))
        office.close()
