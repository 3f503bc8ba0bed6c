"""A request that fails in its middle leaves nothing of what it had begun, and takes nobody else with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from maglica import wire
from maglica.client_worker.door.keyring import ANYBODY
from maglica.client_worker.now import Now
from maglica.client_worker.placement.place import Seen
from maglica.client_worker.store import Store
from maglica.errors import Failed
from maglica.job import CLAIMED, DONE, QUEUED, RUNNING
from tests.client_worker.office import Asked, LockedOffice, Office, Worker, outcome
from tests.client_worker.test_store import ids, record

VMS = dict.fromkeys(["web1", "web2", "web3"], "running")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path)
    yield found
    found.close()


@pytest.fixture
def host(office: Office) -> Worker:
    found = Worker(office, "host1", dict(VMS))
    found.hello()
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(str(tmp_path / "store.db"))
    yield found
    found.close()


@contextmanager
def failing(piece: AbstractContextManager[object]) -> Iterator[None]:
    """Whatever is done in it, it fails in the end."""
    try:
        with piece:
            yield
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def fall(store: Store, *numbers: int) -> None:
    """Record these, and fail."""
    with failing(store.all_or_nothing()):
        for number in numbers:
            store.jobs.add(record(number))


# ------------------------------------------------------------------------------------------------ the store


@pytest.mark.parametrize("first", [False, True], ids=["after others", "first of its turn"])
def test_what_fails_in_its_middle_is_not_written(store: Store, first: bool) -> None:
    if not first:
        store.jobs.add(record(1))
    fall(store, 2, 3)
    store.jobs.add(record(4))
    store.commit()
    assert ids(store.jobs.open())[not first :] == ["job0004"]


@pytest.mark.parametrize("first", [False, True], ids=["after others", "first of its turn"])
def test_one_in_the_other(store: Store, first: bool) -> None:
    if not first:
        store.jobs.add(record(1))
    with store.all_or_nothing():
        fall(store, 2)
        with store.all_or_nothing():
            store.jobs.add(record(3))
        fall(store, 4)
        store.jobs.add(record(5))
    with failing(store.all_or_nothing()), store.all_or_nothing():
        store.jobs.add(record(6))
    store.commit()
    assert ids(store.jobs.open())[not first :] == ["job0003", "job0005"]


def test_nothing_is_asked_of_the_file_before_something_is_written(store: Store) -> None:
    with store.all_or_nothing() as piece:
        assert store.jobs.open() == []
        assert (store.connection.in_transaction, piece.mark) == (False, "")


def test_a_write_that_the_disk_refuses_takes_the_turn_as_before(store: Store) -> None:
    store.jobs.add(record(1))
    with pytest.raises(Failed), store.all_or_nothing(), store.all_or_nothing():
        store.jobs.add(record(2, key="key1"))
    with store.all_or_nothing():
        store.jobs.add(record(3))
    with pytest.raises(Failed):
        store.commit()
    store.commit()
    assert store.jobs.open() == []


# ------------------------------------------------------------------------------------------------ requests


def group(office: Office, host: Worker, *each: object) -> Asked:
    message = {
        "op": "submit_group",
        "key": "g",
        "action": "vm stop",
        "args": {},
        "each": list(each),
        "owner": "me@here",
    }
    asked = office.ask(message)
    office.serve(host)
    return asked


@pytest.mark.parametrize("value", [b"bytes", [{"deep": b"bytes"}], float("nan")], ids=repr)
def test_what_cannot_be_kept_is_refused_at_the_door(office: Office, host: Worker, value: object) -> None:
    asked = group(office, host, {"name": "web1"}, {"name": "web2", "unknown": value}, {"name": "web3"})
    assert (asked.error.code, asked.error.message) == (
        "wrong_input", "vm stop: a value of name, unknown cannot be kept",
    )  # fmt: skip
    assert office.store.jobs.count_open() == 0
    assert group(office, host, {"name": "web1"}).good["group"]["jobs"] == 1, "its key is free"


def test_a_report_that_fails_in_its_middle_is_recorded_not_at_all(office: Office, host: Worker) -> None:
    """What cannot be written down of the second job ends the request after the first one's end was recorded."""
    made = group(office, host, *({"name": name} for name in VMS)).good["group"]["members"]
    first, second, third = (member["job"] for member in made)
    assert host.claim() == [first, second, third]
    for job in (first, second, third):
        host.sync(have=[first, second, third], progress=[{"id": job, "step": "copy"}], free={})
    waits = office.wait(first, office.job(first)["rev"])
    office.bells()
    poison = outcome(second, result={"x": b"bytes"})
    asked = host.sync(have=[first, second, third], done=[outcome(first), poison], free={})
    assert not asked.answer or not asked.answer["ok"]
    assert [office.job(job)["state"] for job in (first, second)] == [RUNNING, RUNNING]
    assert (waits.answer, office.bells()) == (None, [])
    assert office.store.jobs.holders("vm:web1") == [first]
    host.sync(have=[first, second, third], done=[outcome(first)], free={})
    assert office.job(first)["state"] == DONE
    assert waits.job["state"] == DONE, "who waited was not forgotten"


def test_nobody_is_told_of_what_was_taken_back_and_everybody_waits_on(office: Office, host: Worker) -> None:
    made = group(office, host, {"name": "web1"}).good["group"]["members"][0]["job"]
    waits = office.wait(made, office.job(made)["rev"])
    office.bells()
    with failing(office.broker.whole()):
        office.broker.request(*cancelled(made), office.now)
        assert office.broker.outbox, "the one who waits, the one who asked, and a bell"
    office.turn()
    assert (waits.answer, office.bells(), office.job(made)["state"]) == (None, [], QUEUED)
    office.read("job cancel", id=made)
    assert waits.job["state"] == "cancelled"


def test_a_turn_that_is_lost_leaves_no_progress_of_it_in_memory(office: Office, host: Worker) -> None:
    """The store says that the job was handed out; that it has begun is lost, until its host says so again."""
    job = group(office, host, {"name": "web1"}).good["group"]["members"][0]["job"]
    assert host.claim() == [job]
    report = {"op": "sync", "host": "host1", "incarnation": host.incarnation, "have": [job], "done": [], "free": {}}
    for step in ("copy", "boot"):
        office.post({**report, "progress": [{"id": job, "step": step}]})
    office.store.rollback()
    office.broker.undone()
    office.turn()
    assert office.job(job)["state"] == CLAIMED
    host.run(job)
    assert office.job(job)["state"] == RUNNING
    assert office.store.jobs.handed("host1")[0]["state"] == RUNNING


def cancelled(id: str) -> tuple[bytes, tuple[bytes, ...]]:
    return wire.encode({"op": "read", "action": "job cancel", "args": {"id": id}, "timeout": None}), (b"peer", b"")


def test_one_who_does_not_survive_a_survey_takes_nobody_with_him(
    office: Office, host: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def surprise(seen: Seen, now: Now) -> None:
        raise ZeroDivisionError("no survivor")

    asked = office.post({"op": "submit", "key": "k", "action": "vm stop", "args": {"name": "web1"}, "owner": "me@here"})
    office.broker._questions.survey(surprise, room=False)
    later = office.post({"op": "submit", "key": "l", "action": "vm stop", "args": {"name": "web2"}, "owner": "me@here"})
    with caplog.at_level(logging.ERROR):
        office.turn()
        office.serve(host)
    assert (asked.job["state"], later.job["state"]) == (QUEUED, QUEUED)
    assert "no survivor" in caplog.text


def test_what_was_denied_stays_in_the_audit_whatever_becomes_of_the_request(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path)
    worker = office.host("host1", dict(VMS))
    reader = office.person("eve", "reader")
    with failing(office.broker.whole()):
        with office.of(reader):
            assert office.post({"op": "read", "action": "key list", "args": {}, "timeout": None}).answer is None
        office.store.templates.put("t", {"name": "t", "parameters": {}})
        for vm, stays in (("web1", True), ("web2", False)):  # what was typed to a guest was, and is in no store
            office.broker._audit.write(ANYBODY, "vm console", vm, "done", office.now, stays=stays)
    office.turn()
    assert [line["who"] for line in office.audit(outcome="denied")] == ["eve"]
    assert office.store.templates.all() == []
    assert [line["object"] for line in office.audit(outcome="done") if line["action"] == "vm console"] == ["web1"]
    asked = office.submit("vm stop", key="n", name="nope")
    office.serve(worker)
    assert asked.error.code == "unknown_entity"
    assert [line["action"] for line in office.audit(outcome="refused")] == ["vm stop"]
    office.close()


def test_a_key_that_was_let_in_by_what_was_taken_back_is_not_known(tmp_path: Path) -> None:
    office = LockedOffice(tmp_path)
    with failing(office.broker.whole()):
        office.broker.keyring.add("bob", "reader", "bob".ljust(40, "1"), None, "admin", office.now)
    assert [known.name for known in office.broker.keyring.people()] == ["admin"]
    office.close()


@pytest.mark.parametrize("late", [False, True], ids=["request", "commit"])
def test_a_host_whose_removal_could_not_be_recorded_is_there(office: Office, late: bool) -> None:
    host = Worker(office, "host1", {"web1": "running"})
    host.hello()
    stop = office.submit("vm stop", name="web1")
    office.serve(host)
    office.bells()
    host.claim()
    office.sleep(20.0)
    wanted = {"op": "read", "action": "host remove", "args": {"name": "host1"}, "key": "k"}
    if late:  # the disk is full when the turn is committed
        office.post(wanted)
        office.broker.outbox.take()
        office.store.rollback()
        office.broker.undone()
    else:
        with failing(office.broker.whole()):
            office.post(wanted)
    assert [item["name"] for item in office.read("host list").good["items"]] == ["host1"]
    assert office.job(stop.job["id"])["state"] in ("claimed", "running")
    office.ask({"op": "read", "action": "host remove", "args": {"name": "host1"}, "key": "l"}).good  # noqa: B018
    assert office.job(stop.job["id"])["state"] == "lost"
