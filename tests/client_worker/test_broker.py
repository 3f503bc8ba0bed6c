"""What the client worker decides: messages and times in, what leaves after the commit out. The store is a real one."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from maglica import job, wire
from maglica.client_worker.asking.questions import MOMENT
from maglica.client_worker.fleet import BEATS
from maglica.client_worker.ledger import LONGEST_WAIT
from maglica.errors import Failed, Refused
from maglica.job import CANCELLED, CLAIMED, DONE, FAILED, LOST, QUEUED, RUNNING
from tests.client_worker.office import FREE, IMAGE, Office, Worker, outcome, submission

BEAT = 2.0
PATIENCE = BEATS * BEAT
HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
NOBODY: dict[str, Any] = {"state": None, "vm": None, "host": None}

Open = Callable[..., Office]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens an office with the given hosts and settings."""
    made: list[Office] = []

    def open(hosts: dict[str, float] | None = None, **settings: Any) -> Office:
        made.append(Office(tmp_path, hosts, **settings))
        return made[-1]

    yield open
    for office in made:
        office.close()


@pytest.fixture
def office(opened: Open) -> Office:
    return opened()


@pytest.fixture
def host(office: Office) -> Worker:
    """One host with an image and a VM that is off."""
    found = Worker(office, "host1", {IMAGE: "shut-off", "web1": "shut-off"})
    found.hello()
    return found


def submitted(office: Office, host: Worker, action: str = "vm start", **args: Any) -> str:
    """A job that was recorded; its id."""
    asked = office.submit(action, **(args or {"name": "web1"}))
    office.serve(host)
    office.bells()
    job: str = asked.job["id"]
    return job


def running(office: Office, host: Worker) -> str:
    job = submitted(office, host)
    assert host.claim() == [job]
    host.run(job)
    return job


def state(office: Office, id: str) -> str:
    return str(office.job(id)["state"])


# ------------------------------------------------------------------------------------ the road of a job


def test_the_whole_road(office: Office, host: Worker) -> None:
    asked = office.submit("vm start", name="web1")
    assert asked.answer is None, "nothing is promised before a host is found"
    assert office.store.jobs.count_open() == 0
    (question,) = office.questions("host1")
    assert (question["op"], question["action"]) == ("read", "host survey")
    host.answer(question, host.survey())
    office.turn()
    record = asked.job
    assert (record["state"], record["host"], record["object"]) == (QUEUED, "host1", "web1")
    assert record["args"] == {
        "name": "web1",
        "wait": None,
        "wait_timeout": 300.0,
        "ignore_missing": False,
        "ignore_changed_base": False,
        "discard": False,
    }
    assert record["owner"] == "me@here"
    assert record["steps"] == [{"name": "place", "seconds": 0.0, "note": "host1: the VM is there"}]
    assert office.bells() == ["host1"]

    reply = host.sync().good
    (handed,) = reply["jobs"]
    assert handed == {
        "id": record["id"], "attempt": 1, "action": "vm start", "args": record["args"], "slot": "quick",
        "limit_seconds": 120, "object": "web1",
    }  # fmt: skip
    assert (reply["acked"], reply["cancel"]) == ([], [])
    assert state(office, record["id"]) == CLAIMED

    office.sleep(1)
    progress = {"id": record["id"], "step": "start", "progress": {"done_bytes": 1, "total_bytes": 2}}
    steps = [{"name": "look", "seconds": 0.1, "note": None}]
    reply = host.sync(have=[record["id"]], progress=[{**progress, "steps": steps, "commands": []}]).good
    assert reply["jobs"] == []
    shown = office.job(record["id"])
    assert (shown["state"], shown["step"]) == (RUNNING, "start")
    assert shown["progress"] == {"done_bytes": 1, "total_bytes": 2}
    assert [step["name"] for step in shown["steps"]] == ["place", "look"]

    office.sleep(1)
    commands = [{"argv": ["true"], "exit_status": 0, "seconds": 0.1, "stderr": ""}]
    done = outcome(record["id"], steps=steps, commands=commands, result={"name": "web1", "changed": True})
    assert host.sync(have=[record["id"]], done=[done]).good["acked"] == [{"id": record["id"], "attempt": 1}]
    shown = office.job(record["id"])
    assert (shown["state"], shown["result"]) == (DONE, {"name": "web1", "changed": True})
    assert shown["commands"] == commands
    assert shown["progress"] is None
    assert [step["name"] for step in shown["steps"]] == ["place", "look"]
    assert shown["took_seconds"] == pytest.approx(2.0, abs=0.1)
    assert shown["error"] is None
    assert office.store.jobs.count_open() == 0


def test_times_are_what_they_say(office: Office, host: Worker) -> None:
    """D9: RFC 3339 in UTC, minutes that are minutes, and the time of the last change changes."""
    record = office.job(submitted(office, host))
    pattern = r"2026-01-12T13:46:40\.\d{3}Z"  # the office's clock begins at 1,000,000 s of 2026
    assert re.fullmatch(pattern, record["created_at"])
    assert record["updated_at"] == record["created_at"]
    assert record["claimed_at"] is record["started_at"] is record["ended_at"] is None
    office.sleep(60)
    host.hello()
    host.claim()
    office.sleep(1)
    host.run(record["id"])
    office.sleep(1)
    host.end(record["id"])
    later = office.job(record["id"])
    assert later["created_at"] == record["created_at"]
    times = [later[name] for name in ("created_at", "claimed_at", "started_at", "ended_at")]
    assert times == sorted(set(times))
    assert [time[11:19] for time in times] == ["13:46:40", "13:47:40", "13:47:41", "13:47:42"]
    assert later["updated_at"] == later["ended_at"]
    assert later["rev"] > record["rev"]


def test_ids_sort_by_submission(office: Office, host: Worker) -> None:
    ids = [submitted(office, host) for _ in range(5)]
    office.ms -= 10_000  # the clock is set back
    ids += [submitted(office, host) for _ in range(5)]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch("[0-9a-z]{10}", id) for id in ids)


def test_ids_sort_by_submission_also_when_the_clock_was_set_back_at_a_restart(office: Office, host: Worker) -> None:
    """Locks are given in the order of ids: a younger job with a smaller id would run beside an older one."""
    first = running(office, host)
    office.ms -= 3_600_000
    office.restart()
    host.sync(have=[first])
    second = submitted(office, host, "vm destroy", name="web1")
    assert first < second
    assert host.claim(have=[first]) == [], "the first one still holds the VM"
    host.end(first)
    assert host.claim() == [second]


# -------------------------------------------------------------------------------------------- one key, one job


def test_the_same_key_is_the_same_job(office: Office, host: Worker) -> None:
    one = office.submit("vm start", key="k", name="web1")
    two = office.submit("vm start", key="k", name="web1")
    assert len(office.questions("host1")) == 1, "it is placed once"
    office.rung.clear()
    three = office.submit("vm start", key="k", name="web1")
    office.sleep(5.1)  # the host did not answer: the submission fails, and nothing is recorded
    assert one.error.code == two.error.code == three.error.code == "host_down"
    assert office.store.jobs.count_open() == 0
    host.hello()

    again = [office.submit("vm start", key="k", name="web1") for _ in range(3)]
    office.serve(host)
    (id,) = {asked.job["id"] for asked in again}
    assert office.submit("vm start", key="k", name="web1").job["id"] == id
    office.restart()
    assert office.submit("vm start", key="k", name="web1").job["id"] == id
    host.hello()
    host.claim()
    host.end(id)
    ended = office.submit("vm start", key="k", name="web1").job
    assert (ended["id"], ended["state"]) == (id, DONE)
    assert office.store.jobs.count_open() == 0


def test_different_keys_are_different_jobs(office: Office, host: Worker) -> None:
    assert submitted(office, host) != submitted(office, host)


def test_what_is_not_a_job_is_not_recorded(office: Office, host: Worker) -> None:
    for action, args in (("vm list", {}), ("job list", {}), ("ping", {}), ("host survey", {})):
        asked = office.submit(action, **args)
        assert asked.error.code == "wrong_input"
        assert asked.error.message == f"{action} is not a job"
    asked = office.submit("vm start", name="../web1")
    assert asked.error.message == "vm start: --name: '../web1' is not valid"
    assert office.submit("vm strt", name="web1").error.hint == "did you mean `vm start`?"
    assert office.rung == []


# -------------------------------------------------------------------------------- claims, losses, outcomes


def test_a_job_that_never_reached_its_host_is_handed_out_again(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    first = host.sync().good["jobs"]
    again = host.sync(have=[]).good["jobs"]
    assert again == first, "the same attempt"
    assert [one["id"] for one in first] == [id]
    assert state(office, id) == CLAIMED
    assert host.claim(have=[id]) == []
    host.run(id)
    assert state(office, id) == RUNNING


def test_a_job_that_is_handed_out_again_takes_its_slot(office: Office, host: Worker) -> None:
    host.vms |= {"web2": "shut-off"}
    first, second = submitted(office, host), submitted(office, host, name="web2")
    assert host.claim(free={"quick": 1}) == [first]
    assert host.claim(free={"quick": 1}) == [first]
    assert host.claim(free={"quick": 2}) == [first, second]


def test_a_job_that_had_begun_and_is_unknown_to_its_host_is_lost(office: Office, host: Worker) -> None:
    id = running(office, host)
    assert host.claim(have=[]) == [], "nothing is done again by itself"
    record = office.job(id)
    assert record["state"] == LOST
    assert record["error"]["code"] == "lost"
    assert record["error"]["message"] == "host1 no longer knows of this job; it was running"
    assert record["ended_at"]
    assert office.store.jobs.holders("vm:web1") == []


def test_a_claimed_job_is_lost_with_the_journal_that_it_was_handed_to(office: Office, host: Worker) -> None:
    """Whether the old journal had begun it, nobody can tell."""
    id = submitted(office, host)
    host.claim()
    office.sleep(PATIENCE + 0.1)
    host.journal = "another journal"
    host.hello()
    assert host.claim(have=[]) == []
    assert state(office, id) == LOST


def test_a_cancel_does_not_make_a_new_journal_responsible(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    host.claim()
    office.sleep(PATIENCE + 0.1)
    host.journal = "another journal"
    host.hello()
    office.read("job cancel", id=id)
    assert host.sync(have=[]).good["jobs"] == []
    assert state(office, id) == LOST


def test_a_queued_job_survives_a_new_journal(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    office.sleep(PATIENCE + 0.1)
    host.journal = "another journal"
    host.hello()
    assert host.claim() == [id]


def test_the_same_journal_may_come_back_and_knows_its_jobs(office: Office, host: Worker) -> None:
    id = running(office, host)
    host.hello()
    assert host.claim(have=[id]) == []
    assert state(office, id) == RUNNING
    host.end(id, FAILED, error=Failed("lost", "the host worker ended in the middle").to_wire())
    record = office.job(id)
    assert (record["state"], record["error"]["job"]) == (FAILED, id)


def test_an_outcome_that_is_told_twice_is_recorded_once(office: Office, host: Worker) -> None:
    id = running(office, host)
    receipt = {"id": id, "attempt": 1}
    assert host.end(id, result={"number": 1}).good["acked"] == [receipt]
    first = office.job(id)
    office.sleep(1)
    assert host.end(id, result={"number": 2}).good["acked"] == [receipt], "or it would be told for ever"
    assert host.end(id, FAILED).good["acked"] == [receipt]
    assert office.job(id) == first


def test_an_outcome_may_come_before_the_first_report(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    host.claim()
    host.end(id)
    record = office.job(id)
    assert record["state"] == DONE
    assert record["started_at"] == record["ended_at"]


@pytest.mark.parametrize("end", [DONE, FAILED, CANCELLED])
def test_an_outcome_from_another_host_counts_for_nothing(office: Office, host: Worker, end: str) -> None:
    stranger = Worker(office, "host10")
    id = running(office, host)
    stranger.hello()
    before = office.job(id)
    assert stranger.end(id, end).good["acked"] == [{"id": id, "attempt": 1}], "it need not be told again"
    stranger.sync(progress=[{"id": id, "step": "mine"}])
    assert office.job(id) == before
    assert stranger.claim() == []


def test_an_outcome_of_another_attempt_counts_for_nothing(office: Office, host: Worker) -> None:
    id = running(office, host)
    for attempt in (0, 2, None, "1"):
        assert host.sync(have=[id], done=[outcome(id, attempt=attempt)]).good["acked"] == [  # type: ignore[arg-type]
            {"id": id, "attempt": attempt}
        ]
    assert state(office, id) == RUNNING


def test_an_outcome_of_an_unknown_job_is_acknowledged(office: Office, host: Worker) -> None:
    """It was pruned, or the store is a new one: the host shall not tell it for ever."""
    assert host.sync(done=[outcome("nosuchjob0")]).good["acked"] == [{"id": "nosuchjob0", "attempt": 1}]
    host.sync(progress=[{"id": "nosuchjob0", "step": "copy"}])


@pytest.mark.parametrize("told", [QUEUED, CLAIMED, RUNNING, "finished", "", None])
def test_an_outcome_is_an_end(office: Office, host: Worker, told: Any) -> None:
    id = running(office, host)
    host.end(id, told)
    assert state(office, id) == RUNNING


def test_an_outcome_that_the_store_has_no_claim_for_does_not_stop_its_host(office: Office, host: Worker) -> None:
    """A store from a backup: the job counts as queued here, and was carried out there."""
    id = submitted(office, host)
    reply = host.sync(have=[id], done=[outcome(id)]).good
    assert reply["jobs"] == [], "not once more"
    assert reply["acked"] == [{"id": id, "attempt": 1}]
    assert state(office, id) == DONE


@pytest.mark.parametrize("later", ["progress", "done", "both"])
def test_what_is_told_of_a_job_after_its_end_changes_nothing(office: Office, host: Worker, later: str) -> None:
    id = running(office, host)
    host.sync(have=[])
    before = office.job(id)
    assert before["state"] == LOST
    progress = [{"id": id, "step": "copy"}] if later != "done" else []
    host.sync(have=[id], progress=progress, done=[outcome(id)] if later != "progress" else [])
    assert office.job(id) == before


def test_a_host_tells_of_many_jobs_at_once(office: Office, host: Worker) -> None:
    host.vms = {f"vm{n}": "shut-off" for n in range(8)}
    ids = [submitted(office, host, name=f"vm{n}") for n in range(8)]
    assert host.claim() == ids
    reply = host.sync(
        have=ids[2:],
        done=[outcome(id, FAILED if n % 2 else DONE) for n, id in enumerate(ids[:4])],
        progress=[{"id": id, "step": "x"} for id in ids[4:6]],
    ).good
    assert [receipt["id"] for receipt in reply["acked"]] == ids[:4]
    expected = [DONE, FAILED, DONE, FAILED, RUNNING, RUNNING, CLAIMED, CLAIMED]
    assert [state(office, id) for id in ids] == expected


def test_a_report_that_was_overtaken_loses_no_job(office: Office, host: Worker) -> None:
    """Sent before the job was handed out, on a connection that broke, and delivered after it had begun."""
    id = submitted(office, host)
    assert host.claim(seq=2) == [id]
    host.sync(have=[id], progress=[{"id": id, "step": "copy"}], seq=3)
    assert host.sync(have=[], seq=1).error.code == "wrong_state"
    assert state(office, id) == RUNNING
    assert office.store.jobs.holders("vm:web1") == [id]


# ----------------------------------------------------------------------------------------- locks, slots


def test_jobs_on_one_vm_run_in_the_order_of_submission(office: Office, host: Worker) -> None:
    actions = ["vm start", "vm stop", "vm start", "vm destroy"]
    ids = [submitted(office, host, action, name="web1") for action in actions]
    for at, id in enumerate(ids):
        assert host.claim(have=ids[:at]) == [id]
        assert host.claim(have=[id]) == []
        office.rung.clear()
        host.end(id)
        assert office.bells() == (["host1"] if id != ids[-1] else []), "whoever waited for the lock shall hear of it"


def test_jobs_on_different_vms_run_side_by_side_within_the_slots(office: Office, host: Worker) -> None:
    host.vms = {f"vm{n}": "shut-off" for n in range(5)}
    ids = [submitted(office, host, name=f"vm{n}") for n in range(5)]
    assert host.claim(free={"quick": 2}) == ids[:2]
    assert host.claim(have=ids[:2], free={"quick": 0}) == []
    assert host.claim(have=ids[:2], free={}) == []
    assert host.claim(have=ids[:2], free={"quick": 9, "disk": 9}) == ids[2:]


def test_slots_of_one_class_do_not_hold_up_another(office: Office, host: Worker) -> None:
    """D7: a start need not wait for a copy."""
    clones = [submitted(office, host, "vm clone", image=IMAGE, hostname=f"new{n}") for n in range(3)]
    start = submitted(office, host)
    assert host.claim(free={"quick": 1, "disk": 2}) == [start, *clones[:2]]


def test_a_lock_holds_across_hosts_and_its_end_rings_the_other(office: Office) -> None:
    one, two = Worker(office, "host1"), Worker(office, "host2", {"new1": "shut-off"})
    one.hello()
    two.hello()
    two.vms = {}
    asked = office.submit("vm clone", image=IMAGE, hostname="new1")
    office.serve(one, two)
    clone = asked.job["id"]
    one.claim()
    two.vms = {"new1": "shut-off"}  # somebody made one of that name by hand meanwhile
    asked = office.submit("vm start", name="new1@host2")
    office.serve(one, two)
    start = asked.job["id"]
    assert two.claim() == []
    office.bells()
    one.end(clone, FAILED, error=Failed("already_exists", "new1 exists").to_wire())
    assert office.bells() == ["host2"]
    assert two.claim() == [start]


def test_a_bell_is_rung_once_a_turn(office: Office, host: Worker) -> None:
    keys = [office.post(submission("vm start", key=f"k{n}", name="web1")) for n in range(5)]
    office.turn()
    for question in office.questions("host1"):
        host.answer(question, host.survey())
    office.turn()
    assert len({asked.job["id"] for asked in keys}) == 5
    assert office.bells() == ["host1"]


# --------------------------------------------------------------------------------------- surveys together


def test_what_is_submitted_together_is_surveyed_together(office: Office, host: Worker) -> None:
    for key in ("a", "b", "c"):
        office.post(submission("vm start", key=key, name="web1"))
    office.turn()
    (question,) = office.questions("host1")
    assert question["args"] == {"room": False}, "nobody needs more than names and states"


def test_a_clone_among_them_needs_the_whole_survey(office: Office, host: Worker) -> None:
    office.post(submission("vm start", key="a", name="web1"))
    office.post(submission("vm clone", key="b", image=IMAGE, hostname="new1"))
    office.turn()
    (question,) = office.questions("host1")
    assert question["args"] == {"room": True}


def test_nobody_is_answered_from_a_survey_that_began_before_he_asked(office: Office, host: Worker) -> None:
    """He may know what it does not know: a VM that was made since."""
    first = office.submit("vm start", name="web1")
    (old,) = office.questions("host1")
    view = host.survey()
    host.vms["web2"] = "shut-off"
    second, third = (office.submit("vm start", name="web2") for _ in range(2))
    assert office.questions("host1") == [], "they wait for the end of the survey that is out"
    host.answer(old, view)
    office.turn()
    assert first.job["object"] == "web1"
    assert second.answer is None
    office.serve(host)
    assert second.job["object"] == third.job["object"] == "web2"


def test_a_host_that_hangs_holds_up_only_those_who_need_it(office: Office, host: Worker) -> None:
    hung = Worker(office, "host2", {})
    hung.hello()
    office.submit("vm stop", name="web1")
    second = office.submit("vm stop", name="web1")
    assert len(office.questions("host1")) == 1
    office.sleep(MOMENT)
    (question,) = office.questions("host1")
    host.answer(question, host.survey())
    for question in office.questions("host2")[1:]:
        hung.answer(question, hung.survey())
    office.turn()
    assert second.job["state"] == QUEUED


# ---------------------------------------------------------------------------------------------- cancel


def test_a_queued_job_is_cancelled_at_once(office: Office, host: Worker) -> None:
    first, second, third = (submitted(office, host) for _ in range(3))
    waiting = office.wait(second, rev=1)
    item = office.read("job cancel", id=second).good["item"]
    assert (item["state"], item["changed"], item["cancel"]) == (CANCELLED, True, True)
    assert item["error"]["code"] == "cancelled"
    assert waiting.job["state"] == CANCELLED, "whoever waits hears of it"
    assert host.claim() == [first]
    host.end(first)
    assert host.claim() == [third], "its place in the queue is free"


def test_a_claimed_job_is_cancelled_by_its_host(office: Office, host: Worker) -> None:
    id = running(office, host)
    item = office.read("job cancel", id=id).good["item"]
    assert (item["state"], item["changed"], item["cancel"]) == (RUNNING, True, True)
    assert office.bells() == ["host1"]
    for _ in range(2):
        assert host.sync(have=[id]).good["cancel"] == [id], "told until it has ended: an answer may be lost"
    host.end(id, CANCELLED, error=Failed("cancelled", "the job was cancelled").to_wire())
    assert state(office, id) == CANCELLED
    assert host.sync(have=[]).good["cancel"] == []


def test_a_cancel_reaches_a_job_that_never_reached_its_host(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    host.claim()
    office.read("job cancel", id=id)
    reply = host.sync(have=[]).good
    assert [one["id"] for one in reply["jobs"]] == reply["cancel"] == [id]


def test_an_end_that_was_faster_than_the_cancel_stays(office: Office, host: Worker) -> None:
    id = running(office, host)
    office.read("job cancel", id=id)
    host.end(id)
    assert state(office, id) == DONE


@pytest.mark.parametrize("end", [DONE, FAILED, CANCELLED, LOST])
def test_what_has_ended_cannot_be_cancelled(office: Office, host: Worker, end: str) -> None:
    id = running(office, host)
    host.end(id, end)
    before = office.job(id)
    item = office.read("job cancel", id=id).good["item"]
    assert item == {**before, "changed": False, "next": None}
    assert office.job(id) == before


def test_to_cancel_twice_is_to_cancel_once(office: Office, host: Worker) -> None:
    id = running(office, host)
    assert office.read("job cancel", id=id).good["item"]["changed"]
    assert not office.read("job cancel", id=id).good["item"]["changed"]


def test_to_cancel_an_unknown_job(office: Office, host: Worker) -> None:
    assert office.read("job cancel", id="nosuchjob0").error.code == "unknown_entity"


# ------------------------------------------------------------------------------------------------ wait


def test_an_answer_is_held_back_until_the_job_changes(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    now = office.wait(id).job
    held = office.wait(id, rev=now["rev"])
    assert held.answer is None
    assert office.broker.next_tick(office.now) <= 10.0
    office.sleep(3)
    host.hello()
    assert held.answer is None, "nothing has changed"
    host.claim()
    assert held.job["state"] == CLAIMED
    assert held.job["rev"] > now["rev"]
    assert office.wait(id, rev=now["rev"]).job["state"] == CLAIMED, "what has changed since is told at once"


def test_an_answer_is_not_held_back_for_ever(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    now = office.wait(id).job
    short, long = office.wait(id, now["rev"], 2.0), office.wait(id, now["rev"], 1e9)
    office.sleep(1.9)
    assert (short.answer, long.answer) == (None, None)
    office.sleep(0.2)
    assert short.job == now, "unchanged: that says that the job is there, and so is the client worker"
    assert long.answer is None
    office.sleep(LONGEST_WAIT - 2.0)
    assert long.job["rev"] == now["rev"]
    assert long.job["blocked_on"] == {"kind": "host", "host": "host1"}, "it was silent all the time"
    assert office.wait(id, now["rev"], -5.0).job["rev"] == now["rev"]


def test_the_end_is_told_whatever_was_known(office: Office, host: Worker) -> None:
    id = running(office, host)
    held = office.wait(id, rev=office.job(id)["rev"])
    # A restart may have set the revision back: whoever knows another one is answered at once, and never left waiting.
    assert office.wait(id, rev=99).job["state"] == RUNNING
    host.end(id)
    assert held.job["state"] == DONE
    assert office.wait(id, rev=10_000).job["state"] == DONE


def test_many_may_wait_and_each_is_answered_once(office: Office, host: Worker) -> None:
    id = running(office, host)
    rev = office.job(id)["rev"]
    held = [office.wait(id, rev) for _ in range(20)]
    host.run(id)
    host.run(id)
    host.end(id)
    assert {len(asked.answers) for asked in held} == {1}
    assert {asked.job["rev"] for asked in held} == {rev + 1}


def test_who_waits_for_the_end_hears_of_nothing_else(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    ended, changed = office.wait(id, rev=1, ended=True), office.wait(id, rev=1)
    late = office.wait(id, rev=-1, timeout=1.0, ended=True)
    assert host.claim() == [id]
    assert changed.job["state"] == CLAIMED
    host.run(id)
    assert ended.answer is None
    office.sleep(1.0)
    assert late.job["state"] == RUNNING, "its time is up"
    host.end(id)
    assert ended.job["state"] == DONE
    assert office.wait(id, rev=ended.job["rev"], ended=True).job["state"] == DONE


def test_a_job_is_found_by_the_beginning_of_its_id(office: Office, host: Worker) -> None:
    ids = [submitted(office, host) for _ in range(3)]
    assert office.wait(ids[0]).job["id"] == ids[0]
    assert office.wait(ids[0][:8]).job["id"] == ids[0]
    error = office.wait(ids[0][:4]).error
    assert error.code == "ambiguous_name"
    assert all(id in error.message for id in ids)
    assert office.wait("zzzz").error.code == "unknown_entity"
    assert office.wait("").error.code == "ambiguous_name"


# -------------------------------------------------------------------------------------------- live reads


@pytest.fixture
def three(opened: Open) -> tuple[Office, Worker, Worker, Worker]:
    office = opened({"host1": 10.0, "host2": 20.0, "host3": 0.0}, read_timeout="3s")
    hosts = (
        Worker(office, "host1", {IMAGE: "shut-off", "web1": "running"}),
        Worker(office, "host2", {IMAGE: "shut-off", "web2": "shut-off"}),
        Worker(office, "host3", {IMAGE: "shut-off", "db1.example.jp": "running"}),
    )
    for host in hosts:
        host.hello()
    return office, *hosts


Three = tuple[Office, Worker, Worker, Worker]


def test_a_read_asks_all_hosts_at_once_and_is_answered_when_all_have(three: Three) -> None:
    office, *hosts = three
    asked = office.read("vm list")
    for host in hosts:
        assert asked.answer is None
        assert host.answer_all()
        office.turn()
    answer = asked.good
    assert [(item["name"], item["host"]) for item in answer["items"]][-3:] == [
        ("el9.original", "host3"),
        ("web1", "host1"),
        ("web2", "host2"),
    ]
    assert answer["missing_hosts"] == []
    assert answer["kind"] == "vm.list"
    assert answer["observed_at"] == office.now.text
    assert set(answer["answer_seconds"]) == {"host1", "host2", "host3"}
    assert office.store.jobs.latest(9, **NOBODY) == [], "a read leaves no trace"


def test_a_host_that_does_not_answer_in_time_is_named(three: Three) -> None:
    office, one, two, three_ = three
    asked = office.read("vm list")
    one.answer_all()
    two.answer(office.questions("host2")[0], error=Failed("host_down", "libvirt: unreachable (connection refused)"))
    office.turn()
    late = office.questions("host3")
    assert asked.answer is None
    office.sleep(3.0)
    assert asked.good["missing_hosts"] == [
        {"host": "host2", "why": "libvirt: unreachable (connection refused)"},
        {"host": "host3", "why": "no answer in time"},
    ]
    assert [item["name"] for item in asked.good["items"]] == [IMAGE, "web1"]
    assert three_.answer(late[0], {"items": [{"name": "late"}]}).answer is None
    office.turn()
    assert len(asked.answers) == 1, "what comes late is taken and forgotten"


def test_a_host_that_is_down_is_not_waited_for(three: Three) -> None:
    office, one, two, _ = three
    office.sleep(PATIENCE + 0.1)
    one.sync()
    two.sync()
    asked = office.read("vm list")
    assert office.questions("host3") == []
    office.serve(one, two)
    assert asked.good["missing_hosts"] == [{"host": "host3", "why": "last heard 6 s ago"}]


def test_the_asker_says_how_long_it_wants_to_wait(three: Three) -> None:
    office, *_ = three
    short, long = office.read("vm list", timeout=0.5), office.read("vm list", timeout=1e9)
    office.sleep(0.6)
    assert len(short.good["missing_hosts"]) == 3
    assert long.answer is None
    for host in three[1:]:
        office.questions(host.name)
    office.sleep(59.5)
    assert len(long.good["missing_hosts"]) == 3


def test_without_hosts_a_list_is_empty(office: Office) -> None:
    assert office.read("vm list").good["items"] == []
    assert office.read("host list").good["items"] == []


def test_one_host_is_asked_by_its_name(three: Three) -> None:
    office, *hosts = three
    asked = office.read("host info", name="host2")
    assert [message["ask"] for _, message in office.rung] == [q["ask"] for q in office.questions("host2")]
    asked = office.read("host info", name="host2")
    office.serve(*hosts)
    assert asked.good["item"] == {"asked": "host info", "name": "host2", "host": "host2"}
    error = office.read("host info", name="hots2").error
    assert (error.code, error.hint) == ("unknown_entity", "did you mean host2?")


def test_a_host_may_be_named_up_to_a_dot(office: Office) -> None:
    for name in ("a.example.jp", "b.example.jp", "b.example.org"):
        Worker(office, name).hello()
    asked = office.read("host info", name="a")
    Worker(office, "a.example.jp").answer_all()
    office.turn()
    assert asked.good["item"]["host"] == "a.example.jp"
    assert office.read("host info", name="b").error.code == "unknown_entity"


def test_the_owner_of_a_vm_is_looked_for_and_then_asked(three: Three) -> None:
    office, *hosts = three
    asked = office.read("vm info", name="db1")
    office.serve(*hosts)
    assert asked.good["item"] == {"asked": "vm info", "name": "db1.example.jp", "host": "host3"}
    unknown = office.read("vm info", name="db2")
    office.serve(*hosts)
    assert unknown.error.code == "unknown_entity"


def test_the_error_of_the_owner_arrives_as_it_is(three: Three) -> None:
    office, one, two, three_ = three
    asked = office.read("vm info", name="web2")
    for host in (one, two, three_):
        host.answer_all()
    office.turn()
    (question,) = office.questions("host2")
    two.answer(question, error=Refused("unknown_entity", "there is no VM web2 on this host"))
    office.turn()
    assert type(asked.error) is Refused
    assert asked.error.message == "there is no VM web2 on this host"


def test_a_question_is_asked_again_when_a_host_begins_to_listen(three: Three) -> None:
    """The slow joiner: what was published before its subscription is lost."""
    office, *_ = three
    asked = office.read("vm list")
    questions = office.questions("host2")
    office.broker.subscribed(wire.topic("host2"))
    office.turn()
    assert office.questions("host2") == questions
    assert office.bells() == ["host2"]
    for topic in (b"", b"all\0", b"nosuch\0", b"\xff\xfe", b"\0"):
        office.broker.subscribed(topic)
    office.turn()
    assert office.bells() == []
    assert asked.answer is None


def test_a_bell_is_rung_again_when_a_host_begins_to_listen(office: Office, host: Worker) -> None:
    submitted(office, host)
    office.broker.subscribed(b"host1\0")
    office.turn()
    assert office.bells() == ["host1"]


def test_an_answer_nobody_waits_for_is_taken_politely(office: Office, host: Worker) -> None:
    asked = host.answer({"ask": 12345}, {"items": []})
    office.turn()
    assert asked.good == {"ok": True, "op": "answer"}


def test_who_does_not_wait_to_hear_that_his_answer_came_is_not_told(office: Office, host: Worker) -> None:
    asked = office.post({"op": "answer", "host": "host1", "ask": 12345, "ok": True, "value": {}, "ack": False})
    old = office.post({"v": 1, "op": "answer", "host": "host1", "ask": 12345, "ok": True, "value": {}, "ack": False})
    part = {"op": "part", "host": "host1", "ask": 12345, "part": 0, "parts": 2, "data": b"x", "ack": False}
    asked_too = office.post(part)
    office.turn()
    assert asked.answer is None
    assert old.answer is None
    assert asked_too.answer is None
    assert office.broker.outbox._askers == {}, "nothing is kept of it"
    wrong = office.post({"op": "answer", "host": "host1", "ask": "x", "ok": True, "ack": False})
    office.turn()
    assert wrong.error.code == "wrong_input", "what is wrong is told"


def test_what_is_no_read_is_refused(office: Office, host: Worker) -> None:
    for action, args in (("vm start", {"name": "web1"}), ("ping", {}), ("config show", {})):
        assert office.read(action, **args).error.message == f"{action} is not a read"
    assert office.rung == []


# --------------------------------------------------------------------------------------- names are exact


def test_host1_and_host10_hear_what_is_meant_for_them(opened: Open) -> None:
    """D1: the first Maglica gave host1's jobs to host10 as well."""
    office = opened()
    one, ten = Worker(office, "host1", {"web1": "shut-off"}), Worker(office, "host10", {"web10": "shut-off"})
    one.hello()
    ten.hello()
    for name, host in (("web1", one), ("web10", ten)):
        asked = office.submit("vm start", name=name)
        office.serve(one, ten)
        assert [topic for topic, _ in office.rung] == [host.name.encode() + b"\0"]
        assert office.bells() == [host.name]
        (other,) = {one, ten} - {host}
        assert other.claim() == []
        assert host.claim() == [asked.job["id"]]
        other.end(asked.job["id"])
        assert state(office, asked.job["id"]) == CLAIMED
        host.end(asked.job["id"])
        office.bells()


def test_only_who_was_asked_can_answer(opened: Open) -> None:
    office = opened()
    one, ten = Worker(office, "host1"), Worker(office, "host10")
    one.hello()
    ten.hello()
    asked = office.read("host info", name="host1")
    (question,) = office.questions("host1")
    ten.answer(question, {"item": {"name": "impostor"}})
    office.turn()
    assert asked.answer is None
    one.answer(question, {"item": {"name": "host1"}})
    office.turn()
    assert asked.good["item"]["name"] == "host1"


# -------------------------------------------------------------------------------------- poison messages


POISON: list[Any] = [
    b"",
    b"\xc1",
    b'{"type": "vm", "action": "clone", "args": {}}',
    b"\x91" * 200_000,
    b"x" * (wire.MAX_BYTES + 1),
    msgpack.packb({"v": 99, "op": "ping"}),
    {"op": "__class__"},
    {"op": "read", "action": "vm list", "args": {b"x": 1}},
    {"op": "read", "action": "vm list", "args": {"self": 1}},
    {"op": "read", "action": "vm list", "args": {"host": {"a": ["b"]}}},
    {"op": "read", "action": "os system", "args": {}},
    {"op": "read", "action": "vm list", "args": {}, "timeout": float("nan")},
    {"op": "submit", "key": "k", "action": "vm start", "args": {}, "owner": "x"},
    {"op": "submit", "key": "k", "action": "vm start", "args": {"name": None}, "owner": "x"},
    {"op": "wait", "id": "\0", "rev": 0, "timeout": 1},
    {"op": "wait", "id": "x" * 100_000, "rev": 1 << 63, "timeout": 1},
    {"op": "hello", "host": "", "journal": "j", "versions": [1], "features": [], "version": "x"},
    {"op": "hello", "host": "a b\0c", "journal": "j", "versions": [1], "features": [], "version": "x"},
    {"op": "hello", "host": "host9", "journal": "j", "versions": [3, "1", None], "features": [], "version": "x"},
    {"op": "sync", "host": "nosuch", "incarnation": 1, "have": [], "done": [], "progress": [], "free": {}},
    {"op": "sync", "host": "host1", "incarnation": 99, "have": [], "done": [], "progress": [], "free": {}},
]

# From a host that is known and in order, but of another mind.
STRANGE_SYNCS: list[dict[str, Any]] = [
    {"done": [None]},
    {"done": [{}]},
    {"done": [{"id": 5}]},
    {"done": [[]]},
    {"progress": ["x"]},
    {"progress": [{"id": None}]},
    {"free": {"quick": "many"}},
    {"free": {"quick": None}},
    {"free": {"quick": []}},
    {"free": {"quick": float("nan")}},
    {"free": {"quick": 1 << 63}},
]


def poison_name(value: Any) -> str:
    return repr(value)[:50]


@pytest.mark.parametrize("poison", POISON, ids=poison_name)
def test_a_poison_message_is_answered_and_the_loop_goes_on(office: Office, host: Worker, poison: Any) -> None:
    """D6: malformed bytes killed the first Maglica's client worker."""
    id = running(office, host)
    asked = office.ask(poison)
    assert asked.error.code in ("wrong_input", "version_mismatch", "unknown_entity", "locked")
    assert office.read("host list").good["items"][0]["name"] == "host1"
    assert [item["name"] for item in office.read("host list").good["items"]] == ["host1"]
    assert office.store.jobs.count_open() == 1
    host.end(id)
    assert state(office, id) == DONE


@pytest.mark.parametrize("poison", STRANGE_SYNCS, ids=poison_name)
def test_a_strange_report_is_answered_and_the_loop_goes_on(
    office: Office, host: Worker, poison: dict[str, Any]
) -> None:
    id = running(office, host)
    assert host.sync(**{"have": [id], **poison}).answer is not None
    host.end(id)
    assert state(office, id) == DONE


@pytest.mark.parametrize(
    "poison",
    [
        {"error": "text"},
        {"result": "text"},
        {"result": {"x": b"bytes"}},
        {"steps": 5},
        {"steps": [{"name": 5}]},
        {"steps": [{"name": "copy", "seconds": "long"}]},
        {"commands": "x"},
        {"commands": [{"argv": [b"bytes"]}]},
        {"error": {"details": "x", "message": 5, "code": ["failed"]}},
        {"error": {"details": {"x": [b"bytes"]}}},
        {"progress": {"done_bytes": "all"}},
        {"state": ["done"]},
        {"state": {}},
    ],
    ids=poison_name,
)
def test_a_strange_outcome_does_not_take_others_with_it(office: Office, host: Worker, poison: dict[str, Any]) -> None:
    host.vms |= {"web2": "shut-off"}
    id, other = running(office, host), submitted(office, host, name="web2")
    assert host.claim(have=[id]) == [other]
    assert host.sync(have=[id, other], done=[outcome(id, **poison)]).answer is not None
    office.turn()
    host.sync(have=[id, other], done=[outcome(other)])
    assert state(office, other) == DONE
    assert office.job(id)["state"] in job.MAY_FOLLOW
    assert len(office.read("job list").good["items"]) == 2
    assert office.read("job show", id=id).good["item"]["id"] == id


def test_an_error_is_kept_in_the_form_that_all_have(office: Office, host: Worker) -> None:
    id = running(office, host)
    host.end(id, FAILED, error={"code": "no_capacity", "message": 5, "details": {"ok": [1], "bad": [b"bytes"]}, "x": 1})
    found = office.job(id)["error"]
    assert (found["code"], found["message"], found["details"], found["job"]) == ("no_capacity", "5", {"ok": [1]}, id)
    assert "x" not in found


def test_a_step_of_a_host_is_told_once_whatever_it_is_called(office: Office, host: Worker) -> None:
    id = running(office, host)
    for _ in range(5):
        host.sync(have=[id], progress=[{"id": id, "step": "place", "steps": [{"name": "place", "seconds": 1.0}] * 3}])
    steps = office.job(id)["steps"]
    assert [step["name"] for step in steps] == ["place"] * 4
    assert steps[0]["note"], "our own is the first"


def test_what_is_no_progress_is_none(office: Office, host: Worker) -> None:
    id = running(office, host)
    host.sync(have=[id], progress=[{"id": id, "step": "copy", "progress": {"done_bytes": "half", "total_bytes": 4}}])
    assert (office.job(id)["step"], office.job(id)["progress"]) == ("copy", None)
    host.sync(have=[id], progress=[{"id": id, "step": "copy", "progress": {"done_bytes": 2, "total_bytes": 4}}])
    assert office.job(id)["progress"] == {"done_bytes": 2, "total_bytes": 4}


DOMAIN = {"name": IMAGE, "state": "shut-off", "vcpus": 1, "memory_bytes": 0, "macs": [], "disks": []}
EMPTY: dict[str, Any] = {"domains": [], "active": 0, "vcpus": 8, "memory_free_bytes": 0, "pools": []}


@pytest.mark.parametrize(
    "survey",
    [
        {},
        {"domains": None},
        {"domains": [{}], "pools": []},
        {"domains": [None], "pools": [None]},
        {"domains": {"a": 1}, "active": "x"},
        {**EMPTY, "active": "many"},
        {**EMPTY, "pools": [{"free_bytes": "much"}]},
        {**EMPTY, "domains": [{"name": "a", "state": 1}]},
        {**EMPTY, "domains": [{**DOMAIN, "modes": 5}]},
        {**EMPTY, "domains": [{**DOMAIN, "modes": [{"mode": "full"}]}]},
        {**EMPTY, "domains": [{**DOMAIN, "content": ["x"]}]},
        {**EMPTY, "domains": [{**DOMAIN, "fleet": 7}]},
    ],
    ids=poison_name,
)
@pytest.mark.parametrize("then", ["answer", "timeout"])
def test_a_survey_that_makes_no_sense_is_like_none(
    office: Office, host: Worker, survey: dict[str, Any], then: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when it is a tick of the clock that would choke on it."""
    silent = Worker(office, "host2")
    silent.hello()
    clone = {"image": IMAGE, "hostname": "new1"}
    asked = [office.submit("vm clone", key="k", **clone), office.read("vm info", name="web1")]
    for question in office.questions("host1"):
        assert host.answer(question, survey).answer is None
        office.turn()
    if then == "answer":
        office.serve(silent)
    else:
        office.sleep(5.1)
    assert asked[0].error.code == "host_down"
    assert asked[1].error.code in {"host_down", "unknown_entity"}, "who looks a VM up does not ask for room"
    assert "host1 its answer makes no sense" in asked[0].error.message
    assert office.store.jobs.count_open() == 0
    office.rung.clear()
    host.hello()
    silent.hello()
    again = office.submit("vm clone", key="k", **clone)
    office.serve(host, silent)
    assert again.job["state"] == QUEUED, "the key is not burnt"


@pytest.mark.parametrize(
    "value",
    [{"items": None}, {"items": [1]}, {"items": "x"}, {"items": {"a": 1}}, {"items": [{}]}, {"items": [{"name": 5}]}],
    ids=poison_name,
)
def test_a_list_that_makes_no_sense_spoils_nobody_elses(office: Office, host: Worker, value: dict[str, Any]) -> None:
    other = Worker(office, "host2")
    other.hello()
    asked = office.read("vm list")
    host.answer(office.questions("host1")[0], value)
    office.serve(other)
    assert {item["host"] for item in asked.good["items"]} == {"host2"}
    assert asked.good["missing_hosts"] == [{"host": "host1", "why": "its answer makes no sense"}]


def test_what_is_unexpected_goes_into_the_log(office: Office, host: Worker, caplog: pytest.LogCaptureFixture) -> None:
    asked = office.read("host info", name="host1")
    with caplog.at_level(logging.ERROR):
        host.answer(office.questions("host1")[0], {"item": {"vms": [1]}})
        office.turn()
    assert asked.error.message == "unexpected error in the client worker"
    assert "Traceback" in caplog.text


def test_a_result_is_not_a_request_whatever_it_holds(office: Office, host: Worker) -> None:
    """D8: the first Maglica took a result with a `host` key for a new request."""
    id = running(office, host)
    trap = {"op": "submit", "host": "host1", "action": "vm remove", "args": {"name": "web1"}, "key": "x", "id": "y"}
    host.end(id, result=trap)
    assert office.job(id)["result"] == trap
    asked = office.read("vm list")
    host.answer(office.questions("host1")[0], {**trap, "items": []})
    office.turn()
    assert asked.good["items"] == []
    assert len(office.store.jobs.latest(9, **NOBODY)) == 1


# -------------------------------------------------------------------------------------------- restarts


def test_a_restart_keeps_jobs_locks_and_hosts(office: Office, host: Worker) -> None:
    first, second = running(office, host), submitted(office, host)
    epoch = office.broker.epoch
    rev = office.job(first)["rev"]
    office.restart(away=30)
    assert office.broker.epoch == epoch + 1
    assert office.job(first)["rev"] == rev
    assert host.sync(have=[first]).good["jobs"] == [], "no hello needed: it goes on where it was"
    assert office.store.jobs.holders("vm:web1") == [first, second]
    host.end(first)
    assert host.claim() == [second]


def test_a_restart_forgets_what_was_not_committed_and_nothing_of_it_was_told(office: Office, host: Worker) -> None:
    asked = office.submit("vm start", key="k", name="web1")
    host.answer(office.questions("host1")[0], host.survey())
    assert asked.answer is None, "recorded, and not yet committed: not told"
    office.restart()
    assert office.store.jobs.count_open() == 0
    again = office.submit("vm start", key="k", name="web1")
    office.serve(host)
    assert again.job["state"] == QUEUED


def test_after_a_restart_a_host_gets_its_time_before_it_counts_as_down(office: Office, host: Worker) -> None:
    office.restart(away=60)
    asked = office.read("vm list")
    office.serve(host)
    assert asked.good["missing_hosts"] == []
    (item,) = office.read("host list").good["items"]
    assert (item["state"], item["incarnation"]) == ("unknown", 1)
    office.sleep(PATIENCE + 0.1)
    (item,) = office.read("host list").good["items"]
    assert (item["state"], item["why"]) == ("down", "has not reported since the client worker started")


def test_after_a_restart_a_second_worker_does_not_take_the_name(office: Office, host: Worker) -> None:
    id = running(office, host)
    office.restart()
    other = Worker(office, "host1", journal="another journal")
    assert other.hello().error.code == "already_exists"
    assert host.sync(have=[id]).good["ok"]
    assert state(office, id) == RUNNING


def test_with_a_new_store_a_host_has_to_say_hello_again(opened: Open, tmp_path: Path) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.incarnation = 7
    error = host.sync().error
    assert (error.code, error.hint) == ("unknown_entity", "it has to say hello first")
    host.hello()
    assert host.sync().good["ok"]


# -------------------------------------------------------------------------------------------- placement


def place(office: Office, *hosts: Worker, hostname: str = "new1", **more: Any) -> Any:
    asked = office.submit("vm clone", image=IMAGE, hostname=hostname, **more)
    office.serve(*hosts)
    return asked


def test_a_clone_goes_to_the_host_that_fits_best(three: Three) -> None:
    office, one, two, three_ = three
    record = place(office, one, two, three_).job
    assert record["host"] == "host2", "10 for one VM of weight 10, 0 for none; weight 0 takes none"
    assert record["object"] == "new1"
    assert record["steps"][0]["note"] == "host2: least load for its weight (0) of 2 that fit"
    assert office.bells() == ["host2"]
    assert place(office, one, two, three_, hostname="new2", on="host3").job["host"] == "host3"


def test_many_clones_at_once_do_not_all_go_to_the_same_host(three: Three) -> None:
    """D17: what was given away and is not used yet counts."""
    office, *hosts = three
    found = [place(office, *hosts, hostname=f"new{n}").job["host"] for n in range(6)]
    assert found == ["host2", "host2", "host1", "host2", "host2", "host1"]


def test_clones_reserve_memory_until_the_host_counts_it_itself(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1")  # 32 GiB free
    host.hello()
    made = place(office, host, memory="20G").job
    error = place(office, host, hostname="new2", memory="20G").error
    assert error.code == "no_capacity"
    assert error.details == {"host1": "needs 20480 MiB of memory, 12224 MiB are free"}
    host.claim()
    host.vms["new1"] = "running"  # defined: now the survey itself counts it
    assert place(office, host, hostname="new2", memory="20G").job
    host.end(made["id"])


def test_a_name_that_is_being_made_is_taken(office: Office, host: Worker) -> None:
    first = place(office, host).job
    error = place(office, host).error
    assert (error.code, error.message) == ("already_exists", f"job {first['id']} is working on new1")
    host.claim()
    host.end(first["id"], FAILED, error=Failed("environment_error", "x").to_wire())
    assert place(office, host).job


def test_two_that_want_the_same_name_at_the_same_moment(office: Office, host: Worker) -> None:
    one = office.submit("vm clone", image=IMAGE, hostname="new1")
    two = office.submit("vm clone", image=IMAGE, hostname="new1")
    office.serve(host)
    assert one.job["state"] == QUEUED
    assert two.error.code == "already_exists"


def test_a_host_that_does_not_answer_may_have_the_name(three: Three) -> None:
    """D19: a part of the view is not the whole."""
    office, one, two, _ = three
    asked = office.submit("vm clone", image=IMAGE, hostname="new1")
    office.serve(one, two)
    assert asked.answer is None
    office.sleep(5.1)
    assert asked.error.code == "host_down"
    assert asked.error.details == {"missing_hosts": {"host3": "no answer in time"}}
    assert office.store.jobs.count_open() == 0
    one.hello()
    two.hello()
    asked = office.submit("vm clone", image=IMAGE, hostname="new1", ignore_missing=True)
    office.serve(one, two)
    office.sleep(5.1)
    assert asked.job["host"] == "host2"


@pytest.mark.parametrize("action", ["vm start", "vm restart"])
def test_nothing_is_brought_to_life_on_a_part_of_the_view(three: Three, action: str) -> None:
    office, one, two, _ = three
    for ignore, code in ((False, "host_down"), (True, None)):
        one.hello()
        two.hello()
        asked = office.submit(action, name="web1", ignore_missing=ignore)
        office.serve(one, two)
        office.sleep(5.1)
        if code:
            assert asked.error.code == code
        else:
            assert asked.job["host"] == "host1"


@pytest.mark.parametrize("action", ["vm stop", "vm destroy", "vm remove"])
def test_what_brings_nothing_to_life_needs_its_own_host_only(three: Three, action: str) -> None:
    office, one, two, _ = three
    asked = office.submit(action, name="web1")
    office.serve(one, two)
    office.sleep(5.1)
    assert asked.job["host"] == "host1"


@pytest.mark.parametrize("ignore", [False, True])
def test_a_vm_does_not_live_on_two_hosts(three: Three, ignore: bool) -> None:
    office, one, two, three_ = three
    two.vms["web1"] = "shut-off"
    asked = office.submit("vm start", name="web1@host2", ignore_missing=ignore)
    office.serve(one, two, three_)
    assert (asked.error.code, asked.error.message) == (
        "wrong_state",
        "web1 is running on host1; a VM must not run on two hosts",
    )
    one.vms["web1"] = "shut-off"
    asked = office.submit("vm start", name="web1@host2", ignore_missing=ignore)
    office.serve(one, two, three_)
    assert asked.job["host"] == "host2"


@pytest.mark.parametrize("action", ["vm start", "vm resume", "vm restore", "vm restart", "vm pmwakeup"])
def test_what_a_vm_of_another_host_has_for_itself_is_asked_before_one_comes_to_life(opened: Open, action: str) -> None:
    office = opened()
    one, two = Worker(office, "host1", {"web1": "running"}), Worker(office, "host2", {"db1": "running"})
    old = Worker(office, "host3")
    one.hello(features=["lives"])
    two.hello(features=["lives"])
    old.hello()
    mine: dict[str, list[str]] = {"macs": ["52:54:00:00:00:01"], "alone": [], "along": []}
    one.holds, two.holds = {"web1": mine}, {"db1": mine}
    asked = office.submit(action, name="web1")
    office.turn()
    told = {name: office.questions(name) for name in ("host1", "host2", "host3")}
    assert [question["args"] for questions in told.values() for question in questions] == [
        {"room": False, "lives": True}, {"room": False, "lives": True}, {"room": False},
    ]  # fmt: skip
    for worker in (one, two, old):
        worker.answer(told[worker.name][0], worker.survey())
    office.turn()
    assert (asked.error.code, "db1 is running on host2, and has the MAC address" in asked.error.message) == (
        "wrong_state", True,
    )  # fmt: skip
    two.vms["db1"] = "shut-off"
    asked = office.submit(action, name="web1")
    office.serve(one, two, old)
    assert asked.job["host"] == "host1"


@pytest.mark.parametrize(("action", "hosts"), [("vm stop", 2), ("vm start", 1)])
def test_it_is_not_asked_for_in_vain(opened: Open, action: str, hosts: int) -> None:
    """By what brings nothing to life, nor where there is one host, which knows it best."""
    office = opened()
    for number in range(hosts):
        Worker(office, f"host{number + 1}", {"web1": "running"} if number == 0 else {}).hello(features=["lives"])
    office.submit(action, name="web1")
    office.turn()
    assert [question["args"] for question in office.questions("host1")] == [{"room": False}]


@pytest.mark.parametrize("lives", [None, [], {"macs": []}, {"macs": [1], "alone": [], "along": []}])
def test_a_host_that_tells_nonsense_of_what_vms_have_is_named(opened: Open, lives: Any) -> None:
    office = opened()
    host, other = Worker(office, "host1", {"web1": "shut-off"}), Worker(office, "host2", {})
    for one in (host, other):
        one.hello(features=["lives"])
    host.holds = {"web1": lives}
    asked = office.submit("vm start", name="web1")
    office.serve(host, other)
    assert asked.error.code == "host_down"
    assert "its answer makes no sense" in asked.error.message


def test_a_shortened_name_becomes_the_full_one(three: Three) -> None:
    office, *hosts = three
    asked = office.submit("vm stop", name="db1")
    office.serve(*hosts)
    assert asked.job["args"]["name"] == "db1.example.jp"
    assert (asked.job["host"], asked.job["locks"]) == ("host3", ["vm:db1.example.jp"])
    for action in ("vm destroy", "vm remove"):
        asked = office.submit(action, name="db1")
        office.serve(*hosts)
        assert asked.error.hint == "this verb wants the full name: db1.example.jp"


def test_the_queue_has_an_end(opened: Open) -> None:
    office = opened(queue_limit=2)
    host = Worker(office, "host1", {"web1": "shut-off"})
    host.hello()
    first = submitted(office, host)
    submitted(office, host)
    asked = office.submit("vm start", name="web1")
    assert asked.error.code == "no_capacity"
    assert asked.error.retryable
    assert office.rung == []
    host.claim()
    host.end(first)
    assert submitted(office, host)


# --------------------------------------------------------------------------------------------- dry runs


def test_a_dry_run_tells_the_plan_and_records_nothing(office: Office, host: Worker) -> None:
    asked = office.submit("vm clone", key="k", dry_run=True, image=IMAGE, hostname="new1")
    host.answer_all()
    office.turn()
    assert asked.answer is None
    (question,) = office.questions("host1")
    assert (question["op"], question["action"]) == ("plan", "vm clone")
    host.answer(question, {"item": {"would": {"copy": "vda"}, "changed": True}})
    office.turn()
    assert asked.good["plan"] == {
        "would": {"copy": "vda"},
        "changed": True,
        "host": "host1",
        "why": "the only host that fits",
    }
    assert asked.good["kind"] == "vm.clone"
    assert office.store.jobs.latest(9, **NOBODY) == []
    assert office.bells() == []
    assert host.claim() == []
    real = office.submit("vm clone", key="k", image=IMAGE, hostname="new1")
    office.serve(host)
    assert real.job["state"] == QUEUED, "the key is still good"


def test_a_dry_run_is_refused_as_the_real_one_would_be(office: Office, host: Worker) -> None:
    asked = office.submit("vm clone", dry_run=True, image=IMAGE, hostname="web1")
    office.serve(host)
    assert asked.error.code == "already_exists"
    asked = office.submit("vm start", dry_run=True, name="web1")
    host.answer_all()
    office.turn()
    host.answer(office.questions("host1")[0], error=Refused("wrong_state", "web1 is crashed"))
    office.turn()
    assert asked.error.message == "web1 is crashed"
    asked = office.submit("vm start", dry_run=True, name="web1")
    host.answer_all()
    office.turn()
    office.rung.clear()
    office.sleep(5.1)
    assert asked.error.code == "host_down"


# ---------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("end", [DONE, FAILED, CANCELLED, LOST, "cancelled before it began"])
def test_secrets_are_shown_to_nobody_and_wiped_at_the_end(
    office: Office, host: Worker, end: str, tmp_path: Path
) -> None:
    asked = office.submit("vm clone", key="k", image=IMAGE, hostname="new1", root_password_hash=HASH)
    office.serve(host)
    id = asked.job["id"]
    held = office.wait(id, asked.job["rev"])

    def seen() -> str:
        answers = [
            asked.answer,
            held.answer,
            office.job(id),
            office.read("job list").good,
            office.read("job log", id=id),
        ]
        return str([*answers, office.submit("vm clone", key="k", image=IMAGE, hostname="new1").answer])

    assert asked.job["args"]["root_password_hash"] == "***"
    assert HASH not in seen()
    kept = office.store.jobs.get(id)
    assert kept is not None
    assert kept["args"]["root_password_hash"] == HASH
    if end == "cancelled before it began":
        office.read("job cancel", id=id)
    else:
        (handed,) = host.sync().good["jobs"]
        assert handed["args"]["root_password_hash"] == HASH, "its host needs it"
        host.run(id)
        assert HASH not in seen()
        if end == LOST:
            host.sync(have=[])
        else:
            host.end(id, end)
    assert held.answer is not None
    assert HASH not in seen()
    kept = office.store.jobs.get(id)
    assert kept is not None
    assert kept["args"]["root_password_hash"] == "***"


def test_the_bytes_of_a_secret_do_not_stay_in_the_file(office: Office, host: Worker, tmp_path: Path) -> None:
    asked = office.submit("vm clone", image=IMAGE, hostname="new1", root_password_hash=HASH)
    office.serve(host)
    host.claim()
    host.end(asked.job["id"])
    office.close()
    for path in tmp_path.glob("jobs.db*"):
        assert HASH.encode() not in path.read_bytes(), path.name


def test_a_job_of_an_action_that_this_release_does_not_know_is_shown(office: Office, host: Worker) -> None:
    id = running(office, host)
    record = office.store.jobs.get(id)
    assert record is not None
    record["action"], record["args"] = "vm polish-brass", {"paste": "red"}
    office.store.jobs.save(record, journal=None, ended_ms=None)
    shown = office.job(id)
    assert (shown["action"], shown["args"]) == ("vm polish-brass", {"paste": "***"})
    host.end(id)
    assert [(one["action"], one["state"]) for one in office.read("job list").good["items"]] == [
        ("vm polish-brass", DONE)
    ]


# ------------------------------------------------------------------------------------------ hosts, jobs


def test_hello(office: Office) -> None:
    host = Worker(office, "host1")
    reply = host.hello().good
    assert reply == {
        "ok": True, "op": "hello", "incarnation": 1, "epoch": office.broker.epoch, "beat": 2.0,
        "features": list(wire.FEATURES), "protocol": wire.VERSION, "cluster": office.broker.cluster, "last_job": "",
        "life": office.broker.life,
    }  # fmt: skip
    assert host.hello().good["incarnation"] == 2
    (item,) = office.read("host list").good["items"]
    assert item["name"] == "host1"
    assert (item["state"], item["libvirt"], item["vms_running"], item["weight"]) == ("up", "ok", 0, 10.0)


def test_hello_of_another_version_is_refused_in_words(office: Office) -> None:
    error = Worker(office, "host1").hello(versions=[7]).error
    assert error.code == "version_mismatch"
    assert error.message == (
        "host host1 (maglica 0.1.0) speaks protocol 7, this client worker (maglica 0.1.0) protocol 1 and 2"
    )
    assert office.read("host list").good["items"] == []
    assert Worker(office, "host1").hello(versions=[7, 1]).good["protocol"] == 1
    assert Worker(office, "host1").hello(versions=[1, 2, 3]).good["protocol"] == 2


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "a\0b", "host1\0", "-x", "x" * 200, "ü", "a\nb"])
def test_hello_with_a_name_that_is_none_is_refused(office: Office, name: str) -> None:
    """D2. A zero byte would even break the topics apart."""
    error = Worker(office, name).hello().error
    assert error.code == "wrong_input"
    assert office.read("host list").good["items"] == []


def test_an_older_incarnation_is_fenced(office: Office, host: Worker) -> None:
    id = running(office, host)
    newer = Worker(office, "host1")
    newer.hello()
    error = host.end(id).error
    assert (error.code, error.details) == ("locked", {"fenced": True, "known": 2})
    assert state(office, id) == RUNNING, "its word does not count"


def test_the_list_of_hosts(opened: Open) -> None:
    office = opened({"host1": 2.5, "host2": 10.0})
    host = Worker(office, "host3")
    host.hello(facts={"libvirt": "ok", "vms_running": 3, "secret": "x"})
    office.sleep(1)
    items = office.read("host list").good["items"]
    assert [(item["name"], item["state"], item["weight"]) for item in items] == [
        ("host1", "unknown", 2.5),
        ("host2", "unknown", 10.0),
        ("host3", "up", 10.0),
    ]
    assert items[0]["heard_seconds"] is None
    assert items[2]["heard_seconds"] == 1.0
    assert items[2]["vms_running"] == 3
    assert "secret" not in items[2]
    assert {len(item) for item in items} == {len(items[0])}, "keys never vanish"


def test_a_host_can_be_forgotten_when_it_is_gone(opened: Open) -> None:
    office = opened({"host2": 10.0})
    host = Worker(office, "host1", {"web1": "shut-off"})
    host.hello()
    id = submitted_with_missing(office, host)
    assert office.read("host remove", name="host1").error.code == "wrong_state"
    office.sleep(PATIENCE + 0.1)
    error = office.read("host remove", name="host1").error
    assert error.message == f"host host1 has queued jobs: {id}"
    office.read("job cancel", id=id)
    item = office.read("host remove", name="host1").good["item"]
    assert item == {"name": "host1", "changed": True, "lost": [], "note": None}
    assert office.read("host remove", name="host1").error.code == "unknown_entity"
    assert "settings" in office.read("host remove", name="host2").good["item"]["note"]
    office.restart()
    assert [item["name"] for item in office.read("host list").good["items"]] == ["host2"]
    assert host.sync().error.code == "unknown_entity"


@pytest.mark.parametrize("begun", [False, True], ids=["claimed", "running"])
def test_what_a_host_that_is_gone_for_good_had_begun_is_lost_and_can_be_settled(
    office: Office, host: Worker, begun: bool
) -> None:
    id = submitted(office, host)
    assert host.claim() == [id]
    if begun:
        host.run(id)
    assert office.read("host list").good["items"][0]["why"] == "reports regularly"
    office.sleep(PATIENCE + 0.1)
    way = "`maglica host remove host1` makes its jobs lost, and `maglica job recover` takes your verdict on them"
    assert (
        office.read("host list")
        .good["items"][0]["why"]
        .endswith(f"; 1 job was given to it: if it is gone for good, {way}")
    )
    cancelled = office.read("job cancel", id=id).good["item"]
    assert cancelled["next"].startswith("it waits for host host1, which is down")
    assert cancelled["next"].endswith(way)
    assert office.read("job explain", id=id).good["item"]["next"].endswith(way)
    item = office.read("host remove", name="host1").good["item"]
    assert item["lost"] == [id]
    assert item["note"] == f"lost with it: {id}; `maglica job recover` takes your verdict on each"
    record = office.job(id)
    assert (record["state"], record["blocked_on"]) == (LOST, None)
    stood = RUNNING if begun else CLAIMED
    assert record["message"] == f"host1 was removed by anybody while this job was {stood} there"
    assert office.read("lock list").good["items"] == []
    settled = office.read("job settle", id=id, as_="failure", reason="it burnt", owner="me@here").good["item"]
    assert settled["state"] == FAILED


@pytest.mark.parametrize("verdict", [None, "success", "failure"])
def test_a_host_that_comes_back_stops_what_was_given_up_before_it_begins_anything(
    office: Office, host: Worker, verdict: str | None
) -> None:
    id = running(office, host)
    office.sleep(PATIENCE + 0.1)
    office.read("host remove", name="host1")
    if verdict:
        office.read("job settle", id=id, as_=verdict, reason="I looked", owner="me@here")
    before = office.job(id)
    assert host.sync(have=[id]).error.code == "unknown_entity"
    late = host.incarnation
    host.hello()
    assert host.incarnation > late, "what is on its way from before is not heard"
    other = submitted(office, host)
    answer = host.sync(have=[id], progress=[{"id": id, "step": "copy"}]).good
    assert (answer["cancel"], answer["jobs"]) == ([id], []), "the VM is being worked on"
    assert f"stops job {id} first" in office.job(other)["waits_for"]
    assert host.sync(have=[id], done=[outcome(id, CANCELLED)], free={}).good["acked"] == [{"id": id, "attempt": 1}]
    assert host.claim() == [other]
    assert office.job(id) == before, "nothing that it says changes that"


def test_what_took_back_the_works_of_a_group_on_a_removed_host_goes_with_it(three: Three) -> None:
    """The loss of one of its jobs decides that a group takes back what it made, some of it on the same host."""
    office, one, two, _ = three
    each = [
        {"hostname": "new1", "on": "host1"},
        {"hostname": "new2", "on": "host1"},
        {"hostname": "new3", "on": "host2"},
    ]
    asked = office.ask(
        {
            "op": "submit_group", "key": "g", "action": "vm clone", "args": {"image": IMAGE}, "each": each,
            "owner": "me@here", "policy": {"on_failure": "all-or-nothing"},
        }
    )  # fmt: skip
    for _ in range(3):
        office.serve(*three[1:])
    group = asked.good["group"]["id"]
    first, second = one.claim()
    one.end(first)
    (third,) = two.claim()
    two.end(third)
    for _ in range(3):
        office.sleep(PATIENCE / 3 + 0.1)
        two.sync()
    assert office.read("host remove", name="host1").good["item"]["lost"] == [second]
    (undo,) = office.store.jobs.open()
    assert (undo["action"], undo["host"]) == ("vm remove", "host2")
    two.claim()
    two.end(undo["id"])
    assert office.read("job show", id=group).good["item"]["open"] == 0


def test_a_host_that_was_removed_is_removed_for_who_asks_again(opened: Open) -> None:
    office = opened({})
    Worker(office, "host1").hello()
    office.sleep(PATIENCE + 0.1)
    wanted = {"op": "read", "action": "host remove", "args": {"name": "host1"}, "key": "k"}
    first, second = office.ask(wanted), office.ask(wanted)
    assert first.good["item"] == second.good["item"]
    assert office.ask({**wanted, "key": "l"}).error.code == "unknown_entity"


def submitted_with_missing(office: Office, host: Worker) -> str:
    asked = office.submit("vm stop", name="web1")
    office.serve(host)
    office.sleep(5.1)
    host.hello()
    id: str = asked.job["id"]
    return id


def test_lists_of_jobs(office: Office, host: Worker) -> None:
    host.vms |= {"web2": "shut-off"}
    ids = [submitted(office, host, name=f"web{n % 2 + 1}") for n in range(4)]
    host.claim()

    def listed(**args: Any) -> list[str]:
        return [item["id"] for item in office.read("job list", **args).good["items"]]

    assert listed() == ids
    assert listed(last=2) == ids[2:]
    assert listed(vm="web2") == [ids[1], ids[3]]
    assert listed(state="claimed") == ids[:2]
    assert listed(host="host2") == []
    assert office.read("log tail", last=1).good["items"][0]["id"] == ids[3]
    assert office.read("log status", id=ids[0]).good["item"]["id"] == ids[0]


def test_old_jobs_are_forgotten(opened: Open) -> None:
    office = opened(keep_jobs="2h")
    host = Worker(office, "host1", {"web1": "shut-off"})
    host.hello()
    ended, still = submitted(office, host), submitted(office, host)
    host.claim()
    host.end(ended)
    for hours, left in ((1, [ended, still]), (2.1, [still])):
        office.mono += hours * 3600
        office.ms += int(hours * 3600_000)
        office.turn()
        assert [one["id"] for one in office.store.jobs.latest(9, **NOBODY)] == left


def test_ping(office: Office) -> None:
    assert office.ask({"op": "ping"}).good == {
        "ok": True,
        "version": "0.1.0",
        "protocol": wire.VERSION,
        "features": list(wire.FEATURES),
        "epoch": office.broker.epoch,
    }


def test_the_loop_sleeps_until_there_is_something_to_do(office: Office, host: Worker) -> None:
    office.turn()
    assert office.broker.next_tick(office.now) == 1.0
    office.read("vm list", timeout=0.25)
    assert office.broker.next_tick(office.now) == pytest.approx(0.25)
    office.mono += 60
    assert office.broker.next_tick(office.now) == 0.0


# -------------------------------------------------------------------------------------------- liveness


def seen(office: Office, name: str = "host1") -> tuple[str, str]:
    """A host's state and the reason for it."""
    return next((one["state"], one["why"]) for one in office.read("host list").good["items"] if one["name"] == name)


def living(office: Office, host: Worker, seconds: float, *, hears: bool = True) -> None:
    """A host worker that reports with every beat, and tells the last beat that it heard."""
    heard = office.beats.get(host.name, 0)
    until = office.mono + seconds
    while office.mono < until:
        office.sleep(BEAT)
        heard = office.beats[host.name] if hears else heard
        host.sync(life=office.broker.life, heard=heard)


def test_beats_are_numbered_and_reach_every_host(opened: Open) -> None:
    office = opened({"host2": 10.0})
    Worker(office, "host1").hello()
    office.sleep(10 * BEAT)
    assert office.beats == {"host1": 11, "host2": 11}, "one at the start, and one after every beat"


def test_a_host_that_calls_but_does_not_hear_is_seen_within_a_few_beats(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.hello(features=["reads", "beats"])
    living(office, host, 20.0)
    assert seen(office) == ("up", "reports regularly")
    living(office, host, 4 * BEAT, hears=False)
    state, why = seen(office)
    assert state == "degraded"
    assert why == "can call but does not hear: no beat of the client worker for 8 s"
    assert office.read("vm list", timeout=0.1).answer is None, "it is asked all the same"
    living(office, host, BEAT)
    assert seen(office) == ("up", "reports regularly")


def test_a_host_of_the_release_before_is_not_thought_deaf(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.hello(features=["reads"])
    for _ in range(10):
        office.sleep(BEAT)
        host.sync()
    assert seen(office) == ("up", "reports regularly")


def test_a_host_that_was_away_is_not_thought_deaf_when_it_comes_back(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.hello(features=["reads", "beats"])
    living(office, host, 10.0)
    heard = office.beats["host1"]
    office.sleep(100)
    assert seen(office)[0] == "down"
    host.sync(life=office.broker.life, heard=heard)
    assert seen(office) == ("up", "reports regularly")


@pytest.mark.parametrize("told", [{"heard": 99}, {"heard": -1}, {"heard": 0}, {"heard": None}])
def test_numbers_from_nowhere_do_not_count(opened: Open, told: dict[str, int]) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.hello(features=["reads", "beats"])
    for _ in range(5):
        office.sleep(BEAT)
        host.sync(life=office.broker.life, **told)
    assert seen(office)[0] == "degraded"


@pytest.mark.parametrize(
    "facts",
    [
        {"libvirt": "libvirt: unreachable"},
        {"libvirt": "ok", "trouble": "the journal cannot be written: database or disk is full"},
    ],
)
def test_what_is_wrong_on_a_host_makes_it_degraded_until_it_is_mended(opened: Open, facts: dict[str, str]) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.hello(facts=facts)
    assert seen(office) == ("degraded", facts.get("trouble") or facts["libvirt"])
    host.sync(facts={"libvirt": "ok", "trouble": None})
    assert seen(office) == ("up", "reports regularly")


def test_several_things_that_are_wrong_are_all_told(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1")
    host.hello(facts={"libvirt": "libvirt: gone", "trouble": "disk full"})
    assert seen(office) == ("degraded", "libvirt: gone; disk full")


def test_a_client_worker_that_was_stopped_for_a_while_calls_nobody_down(office: Office, host: Worker) -> None:
    """As SIGSTOP, a suspended machine or a starved one: it could not hear, so that silence means nothing."""
    office.mono += 1000
    office.ms += 1000_000
    assert seen(office)[0] == "up"
    assert office.submit("vm start", name="web1").answer is None, "it is asked"
    office.sleep(PATIENCE + 0.1)
    assert seen(office) == ("down", "last heard 1006 s ago")


def test_clocks_that_differ_are_told_and_change_nothing(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1", {"web1": "shut-off"})
    host.hello(clock=office.ms / 1000 + 3.0)
    (item,) = office.read("host list").good["items"]
    assert (item["clock_skew_seconds"], item["state"]) == (3.0, "up")
    host.sync(clock=office.ms / 1000 - 86400)
    (item,) = office.read("host list").good["items"]
    assert (item["clock_skew_seconds"], item["state"]) == (-86400.0, "degraded")
    assert item["why"] == "its clock is 86400 s behind the client worker's"
    id = running(office, host)
    host.sync(have=[id], clock=office.ms / 1000 + 86400)
    host.end(id)
    assert state(office, id) == DONE, "no decision looks at a clock"
    host.sync(clock=office.ms / 1000)
    assert seen(office) == ("up", "reports regularly")


@pytest.mark.parametrize("days", [-1, 1])
def test_a_jump_of_our_own_clock_changes_nothing(office: Office, host: Worker, days: int) -> None:
    first = running(office, host)
    waiting = office.wait(first, rev=office.job(first)["rev"], timeout=5.0)
    second = submitted(office, host, "vm destroy", name="web1")
    office.ms += days * 86_400_000
    office.turn()
    assert seen(office)[0] == "up"
    assert waiting.answer is None
    assert host.claim(have=[first]) == [], "the second one still waits for the lock"
    third = submitted(office, host, "vm start", name="web1")
    assert first < second < third
    office.sleep(2.0)
    host.end(first)
    assert waiting.job["state"] == DONE
    assert host.claim() == [second]


def test_what_is_lost_of_the_free_slots_is_none(office: Office, host: Worker) -> None:
    """A host that says nothing of a class takes nothing of it."""
    submitted(office, host)
    assert host.claim(free={}) == []
    assert host.claim(free={"quick": -3}) == []
    assert host.claim(free={"unknown class": 5}) == []
    assert len(host.claim(free=FREE)) == 1


# ------------------------------------------------------------------------------- versions, and what a host can do


def test_who_asks_in_the_version_before_is_answered_in_it(opened: Open) -> None:
    office = opened()
    for version in wire.VERSIONS:
        office.post({"op": "ping", "v": version})
        (reply,) = office.broker.outbox.take()
        assert reply.message["v"] == version


def test_an_answer_that_was_held_back_has_the_version_of_its_question(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    old = office.post({"op": "wait", "id": id, "rev": office.job(id)["rev"], "timeout": 5.0, "v": 1})
    office.turn()
    assert office.answers.get(old.route) is None
    host.claim()
    host.sync(done=[outcome(id)])
    assert office.versions[old.route] == 1


@pytest.mark.parametrize("version", [0, 3, 99])
def test_a_version_that_nobody_speaks_is_refused_in_itself(opened: Open, version: int) -> None:
    office = opened()
    asked = office.ask({"op": "ping", "v": version})
    assert asked.error.code == "version_mismatch"
    assert "install the same release" in asked.error.hint
    assert office.versions[asked.route] == version


def test_a_host_of_the_version_before_works(opened: Open) -> None:
    """The release before: one version, no beats, no cluster, no word of what it can do, and questions it can read."""
    office = opened()
    host = Worker(office, "host1", {"web1": "shut-off"})
    reply = host.hello(v=1, versions=[1]).good
    assert reply["protocol"] == 1
    asked = office.submit("vm start", name="web1")
    assert set(office.rung_versions) == {1}
    office.serve(host)
    id = asked.job["id"]
    (handed,) = host.sync(v=1).good["jobs"]
    assert handed["id"] == id
    host.sync(v=1, have=[id], done=[outcome(id)])
    assert state(office, id) == DONE
    office.restart()
    assert host.sync(v=1).good["ok"], "it need not say hello again"


def test_what_is_published_has_the_version_of_its_reader(opened: Open) -> None:
    office = opened({"host3": 1.0})
    Worker(office, "host1").hello(versions=[1])
    Worker(office, "host2").hello(versions=[1, 2])
    office.rung_versions.clear()
    office.read("vm list", timeout=1.0)
    assert office.rung_versions == [1, 2, 1], "of host3 nothing is known yet"


CAN = ["host survey", "host ping", "vm list", "vm start"]


def test_a_job_that_a_host_is_too_old_for_is_refused_at_once(opened: Open) -> None:
    office = opened()
    host = Worker(office, "host1", {"web1": "shut-off"})
    host.hello(actions=CAN, version="0.0.9")
    asked = office.submit("vm destroy", name="web1")
    office.serve(host)
    assert asked.error.code == "version_mismatch"
    assert asked.error.message == "host host1 runs maglica 0.0.9, which does not know vm destroy"
    assert asked.error.hint == "install maglica 0.1.0 there, and start its host worker again"
    assert office.store.jobs.count_open() == 0
    assert submitted(office, host)


def test_a_clone_goes_to_a_host_that_can_make_it(opened: Open) -> None:
    office = opened({"host1": 1000.0})
    old, new = Worker(office, "host1"), Worker(office, "host2")
    old.hello(actions=CAN, version="0.0.9")
    new.hello()
    asked = office.submit("vm clone", image=IMAGE, hostname="web9.example.jp")
    office.serve(old, new)
    assert asked.job["host"] == "host2"
    asked = office.submit("vm clone", image=IMAGE, hostname="web8.example.jp", on="host1")
    office.serve(old, new)
    assert asked.error.code == "version_mismatch"


def test_a_question_that_a_host_is_too_old_for_names_it(opened: Open) -> None:
    office = opened()
    old, new = Worker(office, "host1"), Worker(office, "host2")
    old.hello(actions=CAN, version="0.0.9")
    new.hello()
    asked = office.read("image list")
    assert office.questions("host1") == []
    office.serve(new)
    (missing,) = asked.good["missing_hosts"]
    assert missing == {"host": "host1", "why": "host host1 runs maglica 0.0.9, which does not know image list"}
    assert office.read("host info", name="host1").error.code == "version_mismatch"


# -------------------------------------------------------------------------------------------- one cluster


def known(office: Office, **more: Any) -> dict[str, Any]:
    return {"cluster": office.broker.cluster, "epoch": office.broker.epoch, "last_job": "", **more}


def test_a_store_has_a_name_of_its_own_that_stays(opened: Open, tmp_path: Path) -> None:
    office = opened()
    name, epoch = office.broker.cluster, office.broker.epoch
    office.restart()
    assert (office.broker.cluster, office.broker.epoch) == (name, epoch + 1)


def test_a_host_of_another_cluster_is_refused(opened: Open) -> None:
    office = opened()
    error = Worker(office, "host1").hello(**known(office, cluster="another")).error
    assert error.code == "wrong_cluster"
    assert error.message == (
        f"host1 belongs to cluster another, and this client worker keeps cluster {office.broker.cluster}"
    )
    assert "maglica_host_worker --accept" in error.hint
    assert Worker(office, "host1").hello(**known(office)).good["ok"]


def test_a_store_that_went_back_is_refused(office: Office, host: Worker) -> None:
    assert Worker(office, "host2").hello(**known(office, epoch=office.broker.epoch + 1)).error.code == "store_went_back"
    id = submitted(office, host)
    later = host.hello(**known(office, last_job=id + "z")).error
    assert later.code == "store_went_back"
    assert later.message.endswith(f"its newest job is {id}, and host1 was handed {id}z")
    assert "for the second time" in later.hint
    assert host.hello(**known(office, last_job=id)).good["ok"]


def test_a_refused_host_is_shown_with_the_reason(office: Office, host: Worker) -> None:
    office.sleep(PATIENCE + 1)
    host.hello(**known(office, epoch=99))
    state, why = seen(office)
    assert state == "down"
    assert why.startswith("was refused: the store of the client worker went back in time")
    office.sleep(PATIENCE + 1)
    assert seen(office)[1].startswith("last heard ")


def test_after_a_restart_hosts_say_hello_before_anything_else(office: Office, host: Worker) -> None:
    id = submitted(office, host)
    host.claim(life=office.broker.life)
    before, life = office.broker.epoch, office.broker.life
    office.restart()
    error = host.sync(life=life).error
    assert (error.code, error.hint) == ("unknown_entity", "say hello first")
    assert state(office, id) == CLAIMED, "a store from a backup must not be told what it would make lost jobs of"
    host.hello(**known(office, epoch=before, last_job=id))
    assert [one["id"] for one in host.sync(life=office.broker.life).good["jobs"]] == [id]


def test_the_newest_job_is_never_forgotten(office: Office, host: Worker) -> None:
    """Hosts were handed it: a store without it would look like one from a backup."""
    ids = [submitted(office, host, "vm start", name="web1") for _ in range(2)]
    for id in ids:
        host.claim()
        host.end(id)
    office.mono += 40 * 86400
    office.ms += 40 * 86400_000
    office.turn()
    assert [one["id"] for one in office.store.jobs.latest(9, **NOBODY)] == ids[1:]
    assert host.hello(**known(office, last_job=ids[1])).good["ok"]


def test_strangers_cannot_fill_the_memory_with_names(opened: Open) -> None:
    office = opened()
    for number in range(1000):
        Worker(office, f"host{number}").hello(versions=[9])
    assert len(office.broker.fleet.refusals) < 300
