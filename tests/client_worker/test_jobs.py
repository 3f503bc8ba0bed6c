"""Groups, new tries, verdicts, what jobs wait for, and what is told of all that."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import job, wire
from maglica.client_worker.store import SCHEMA_VERSION, STEPS, Store, jobs
from maglica.errors import Failed
from maglica.job import CANCELLED, CLAIMED, DONE, FAILED, LOST, PARTIAL, QUEUED, RUNNING
from tests.client_worker.office import IMAGE, Asked, Message, Office, Worker, outcome

HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
VMS = [f"web{number}" for number in range(1, 7)]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path, queue_limit=20)
    yield found
    found.close()


@pytest.fixture
def host(office: Office) -> Worker:
    found = Worker(office, "host1", {IMAGE: "shut-off", **dict.fromkeys(VMS, "running")})
    found.hello()
    return found


def group(office: Office, host: Worker, names: list[str], key: str = "monday", **common: Any) -> Asked:
    each = [{"name": name} for name in names]
    asked = office.ask(
        {
            "op": "submit_group",
            "key": key,
            "action": "vm stop",
            "args": {"timeout": 5.0, **common},
            "each": each,
            "owner": "me@here",
            "reason": "moving house",
        }
    )
    office.serve(host)
    return asked


def one(office: Office, host: Worker, name: str = "web1", action: str = "vm stop", **args: Any) -> str:
    asked = office.submit(action, name=name, **args)
    office.serve(host)
    return str(asked.job["id"])


def retry(office: Office, host: Worker, id: str, key: str = "again", **more: Any) -> Asked:
    asked = office.ask({"op": "retry", "key": key, "id": id, "owner": "me@here", "reason": None, **more})
    office.serve(host)
    return asked


def shown(office: Office, id: str) -> Message:
    found: Message = office.read("job show", id=id).good["item"]
    return found


def explained(office: Office, id: str) -> Message:
    found: Message = office.read("job explain", id=id).good["item"]
    return found


def fail(host: Worker, id: str, **more: Any) -> None:
    error = Failed("environment_error", "it did not obey", "use --force").to_wire()
    host.sync(have=[id], done=[outcome(id, FAILED, error=error, **more)], free={})


def lose(host: Worker, id: str) -> None:
    host.run(id)
    host.sync(have=[], free={})


# ------------------------------------------------------------------------------------------------ groups


def test_a_group_is_one_request_one_survey_one_id(office: Office, host: Worker) -> None:
    each = [{"name": name} for name in VMS[:3]]
    message = {"op": "submit_group", "key": "k", "action": "vm stop", "args": {}, "each": each, "owner": "me@here"}
    asked = office.ask(message)
    assert [question["action"] for question in office.questions("host1")] == ["host survey"]
    assert office.store.jobs.count_open() == 0
    again = office.ask(message)
    office.sleep(0.1)
    assert office.questions("host1") == [], "the second asker waits for the same survey"
    assert (asked.answer, again.answer) == (None, None)


def test_its_members_are_jobs_like_any_other(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:3]).good["group"]
    assert told["id"].startswith("g")
    assert (told["state"], told["jobs"], told["open"], told["states"]) == (QUEUED, 3, 3, {QUEUED: 3})
    ids = [member["job"] for member in told["members"]]
    assert host.claim() == ids
    record = shown(office, ids[0])
    assert (record["group"], record["reason"], record["owner"]) == (told["id"], "moving house", "me@here")
    assert record["args"] == {"name": "web1", "timeout": 5.0, "force": False}
    assert [item["id"] for item in office.read("job list", group=told["id"]).good["items"]] == ids


def test_a_member_that_is_refused_does_not_hold_up_the_others(office: Office, host: Worker) -> None:
    told = group(office, host, ["web1", "nope", "web2"]).good["group"]
    assert [(member["name"], member["state"]) for member in told["members"]] == [
        ("web1", QUEUED), ("nope", "refused"), ("web2", QUEUED),
    ]  # fmt: skip
    assert told["members"][1]["error"]["code"] == "unknown_entity"
    assert told["states"] == {QUEUED: 2, "refused": 1}
    for id in host.claim():
        host.end(id)
    assert shown(office, told["id"])["state"] == PARTIAL


def test_what_is_no_action_is_refused_alone_too(office: Office, host: Worker) -> None:
    each: list[Any] = [{"name": "web1"}, {"name": "no name"}, {"name": "web2", "nonsense": 1}]
    asked = office.ask(
        {"op": "submit_group", "key": "k", "action": "vm stop", "args": {}, "each": each, "owner": "me@here"}
    )
    office.serve(host)
    assert [member["state"] for member in asked.good["group"]["members"]] == [QUEUED, "refused", "refused"]
    each = ["web1"]
    asked = office.ask(
        {"op": "submit_group", "key": "l", "action": "vm stop", "args": {}, "each": each, "owner": "me@here"}
    )
    assert asked.error.code == "wrong_input"


def test_nothing_is_recorded_when_all_are_refused(office: Office, host: Worker) -> None:
    told = group(office, host, ["nope1", "nope2"]).good["group"]
    assert (told["id"], told["states"], told["open"]) == (None, {"refused": 2}, 0)
    host.vms |= {"nope1": "running", "nope2": "running"}
    assert group(office, host, ["nope1", "nope2"]).good["group"]["states"] == {QUEUED: 2}, "the same key may try again"


def test_the_same_key_is_the_same_group_also_after_a_restart(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:2]).good["group"]
    office.restart(away=3600 * 5)
    again = group(office, host, VMS[:2])
    assert again.good["group"]["id"] == told["id"]
    assert office.store.jobs.count_open() == 2
    for names in (VMS[:3], ["web1", "web3"]):
        assert group(office, host, names).error.code == "already_exists"
    assert office.submit("vm stop", key="monday", name="web1").error.code == "already_exists"
    single = office.submit("vm stop", key="single", name="web1")
    office.serve(host)
    assert group(office, host, VMS[:2], key="single").error.job == single.job["id"]


@pytest.mark.parametrize("count", [0, wire.MOST_JOBS + 1])
def test_a_group_has_bounds(office: Office, host: Worker, count: int) -> None:
    error = group(office, host, ["x"] * count).error
    assert error.message == f"a group of {count} jobs: expected 1 to {wire.MOST_JOBS}"


def test_a_group_that_does_not_fit_into_the_queue_is_refused_as_a_whole(office: Office, host: Worker) -> None:
    group(office, host, VMS * 3, key="a")
    error = group(office, host, VMS, key="b").error
    assert (error.code, error.message) == (
        "no_capacity", "18 jobs are open and 6 more are not accepted: the limit is 20",
    )  # fmt: skip
    assert office.store.jobs.count_open() == 18


def test_clones_of_a_group_do_not_all_go_to_the_same_host(tmp_path: Path) -> None:
    office = Office(tmp_path)
    hosts = [Worker(office, f"host{number}", {IMAGE: "shut-off"}) for number in range(3)]
    for host in hosts:
        host.hello()
    each = [{"hostname": f"ci-{number}"} for number in range(6)]
    asked = office.ask(
        {
            "op": "submit_group",
            "key": "k",
            "action": "vm clone",
            "args": {"image": IMAGE, "root_password_hash": HASH},
            "each": each,
            "owner": "me@here",
        }
    )
    office.serve(*hosts)
    told = asked.good["group"]
    assert sorted(member["host"] for member in told["members"]) == sorted(["host0", "host1", "host2"] * 2)
    stored = office.store.groups.get(told["id"])
    assert HASH not in str(stored)
    assert HASH not in str(shown(office, told["id"]))
    office.close()


def test_a_group_is_waited_for_and_its_changes_are_not_a_flood(office: Office, host: Worker) -> None:
    told = group(office, host, VMS).good["group"]
    known = office.wait(told["id"]).good["group"]
    waiting, end = (
        office.wait(told["id"], known["rev"]),
        office.ask({"op": "wait", "id": told["id"], "rev": -1, "timeout": 10.0, "ended": True}),
    )
    ids = host.claim()
    office.turn()
    assert waiting.answer is None, "many changes come at once: they are told together"
    office.sleep(0.3)
    assert waiting.good["group"]["states"] == {CLAIMED: 6}
    assert end.answer is None
    for id in ids[:-1]:
        host.end(id)
    office.sleep(0.3)
    assert end.answer is None
    host.end(ids[-1])
    office.turn()
    assert (end.good["group"]["state"], end.good["group"]["open"]) == (DONE, 0)
    assert office.wait(told["id"], end.good["group"]["rev"]).answer is not None, "what has ended is told at once"


def test_a_wait_for_a_group_ends_in_time(office: Office, host: Worker) -> None:
    told = group(office, host, VMS).good["group"]
    rev = office.wait(told["id"]).good["group"]["rev"]
    asked = office.wait(told["id"], rev, 1.0)
    office.sleep(0.9)
    assert asked.answer is None
    office.sleep(0.2)
    assert asked.good["group"]["rev"] == rev


def test_a_group_tells_its_running_jobs_with_their_progress(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:2]).good["group"]
    ids = host.claim()
    host.sync(have=ids, progress=[{"id": ids[0], "step": "shut down", "steps": [], "commands": []}], free={})
    running = office.wait(told["id"]).good["group"]["running"]
    assert [(record["id"], record["step"]) for record in running] == [(ids[0], "shut down"), (ids[1], None)]
    assert "commands" not in running[0]


def test_a_group_is_cancelled_as_one(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:3]).good["group"]
    (first,) = host.claim(free={"quick": 1})
    item = office.read("job cancel", id=told["id"]).good["item"]
    assert (item["changed"], item["cancelled"], item["states"]) == (True, 3, {CANCELLED: 2, CLAIMED: 1})
    assert host.sync(have=[first], free={}).good["cancel"] == [first]
    host.end(first, CANCELLED)
    assert shown(office, told["id"])["state"] == CANCELLED
    assert office.read("job cancel", id=told["id"]).good["item"]["changed"] is False
    assert office.read("lock list").good["items"] == []


def test_a_group_and_a_job_are_told_apart_by_the_beginnings_of_their_ids(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:2]).good["group"]
    assert shown(office, told["id"][:9])["id"] == told["id"]
    assert office.wait(told["id"][:9]).good["group"]["id"] == told["id"]
    member = told["members"][0]["job"]
    assert shown(office, member)["id"] == member
    assert office.read("job show", id="gzzz").error.code == "unknown_entity"
    assert office.read("job list", group=member).error.message == f"{member} is a job, not a group"


@pytest.mark.parametrize(
    ("states", "count", "expected"),
    [
        ({QUEUED: 3}, 3, QUEUED), ({QUEUED: 2}, 3, QUEUED), ({QUEUED: 2, DONE: 1}, 3, RUNNING),
        ({CLAIMED: 1}, 1, RUNNING), ({DONE: 3}, 3, DONE), ({DONE: 2}, 3, PARTIAL), ({DONE: 1, LOST: 1}, 2, PARTIAL),
        ({FAILED: 2}, 2, FAILED),
        ({CANCELLED: 2}, 2, CANCELLED), ({LOST: 1}, 1, LOST), ({CANCELLED: 1, FAILED: 1}, 2, FAILED),
        ({CANCELLED: 1}, 2, FAILED), ({}, 2, FAILED),
    ],
)  # fmt: skip
def test_the_state_of_a_group_follows_from_its_jobs(states: dict[str, int], count: int, expected: str) -> None:
    assert job.group_state(states, count) == expected


# ---------------------------------------------------------------------------------------------- once more


def test_a_failed_job_is_tried_again_as_a_new_one(office: Office, host: Worker) -> None:
    first = one(office, host, timeout=7.0)
    host.claim()
    fail(host, first)
    told = retry(office, host, first).job
    assert (told["retry_of"], told["args"]["timeout"], told["attempt"], told["state"]) == (first, 7.0, 1, QUEUED)
    assert shown(office, first)["state"] == FAILED, "its record stays as it is"
    assert retry(office, host, first).job["id"] == told["id"], "the same key is the same job"
    error = retry(office, host, first, key="other").error
    assert (error.code, error.job) == ("already_exists", told["id"])
    host.claim()
    fail(host, told["id"])
    assert retry(office, host, first, key="third").job["retry_of"] == first
    related = explained(office, first)["related"]
    assert f"{told['id']} tries it again and is failed" in related


@pytest.mark.parametrize("end", [QUEUED, CLAIMED, RUNNING, DONE, LOST])
def test_what_has_not_failed_is_not_tried_again(office: Office, host: Worker, end: str) -> None:
    id = one(office, host)
    if end != QUEUED:
        host.claim()
    if end in (RUNNING, LOST):
        host.run(id)
    if end == DONE:
        host.end(id)
    if end == LOST:
        host.sync(free={})
    assert shown(office, id)["state"] == end
    error = retry(office, host, id).error
    assert error.code == "wrong_state"
    assert id in error.message


def test_a_secret_has_to_be_given_anew(office: Office, host: Worker) -> None:
    asked = office.submit("vm clone", image=IMAGE, hostname="new1", root_password_hash=HASH)
    office.serve(host)
    id = asked.job["id"]
    host.claim()
    fail(host, id)
    assert "--root-password-hash was a secret and is not kept" in retry(office, host, id).error.message


def test_a_key_of_another_request_is_no_key_of_a_retry(office: Office, host: Worker) -> None:
    asked = office.submit("vm stop", key="again", name="web1")
    office.serve(host)
    other = one(office, host, "web2")
    assert retry(office, host, other).error.job == asked.job["id"]


def test_two_who_want_the_same_again_at_the_same_moment(office: Office, host: Worker) -> None:
    first = one(office, host)
    host.claim()
    fail(host, first)
    asked = [office.ask({"op": "retry", "key": key, "id": first, "owner": "me@here"}) for key in ("a", "b")]
    office.serve(host)
    office.sleep(0.1)
    office.serve(host)
    assert sorted(bool(one.answer and one.answer["ok"]) for one in asked) == [False, True]
    assert len(office.store.jobs.retries(first)) == 1


def test_the_failed_ones_of_a_group_are_tried_again(office: Office, host: Worker) -> None:
    told = group(office, host, [*VMS[:3], "nope"]).good["group"]
    good, bad, gone = host.claim()
    host.end(good)
    fail(host, bad)
    lose(host, gone)
    assert retry(office, host, told["id"]).error.message == f"1 of the 4 jobs of group {told['id']} are done"
    host.vms["nope"] = "running"
    again = retry(office, host, told["id"], failed=True).good["group"]
    assert again["retry_of"] == told["id"]
    assert [(member["name"], member["state"]) for member in again["members"]] == [
        ("web2", QUEUED), ("web3", "refused"), ("nope", QUEUED),
    ]  # fmt: skip
    assert shown(office, again["members"][0]["job"])["retry_of"] == bad
    assert again["members"][1]["error"]["message"] == f"job {gone} is lost"
    assert shown(office, again["members"][2]["job"])["args"]["timeout"] == 5.0, "a refused one knows its arguments"


def test_two_who_want_the_failed_ones_of_a_group_again_at_the_same_moment(office: Office, host: Worker) -> None:
    told = group(office, host, [*VMS[:2], "nope"]).good["group"]
    first, second = host.claim()
    fail(host, first)
    host.end(second)
    host.vms["nope"] = "running"
    message = {"op": "retry", "id": told["id"], "failed": True, "owner": "me@here"}
    asked = [office.ask({**message, "key": key}) for key in ("a", "b")]
    office.serve(host)
    office.sleep(0.1)
    office.serve(host)
    assert sorted(bool(one.answer and one.answer["ok"]) for one in asked) == [False, True]
    assert asked[1].error.message == f"no job of group {told['id']} has failed that is not tried again already"
    assert len(office.store.jobs.retries(first)) == 1
    assert office.store.jobs.count_open() == 2


@pytest.mark.parametrize("between", [False, True], ids=["first", "second"])
def test_a_refused_one_of_a_group_is_tried_again_once(office: Office, host: Worker, between: bool) -> None:
    """Also when a try before was refused as well: what is done hangs on that one then."""
    told = group(office, host, ["web1", "nope"]).good["group"]
    host.end(*host.claim())
    tries = told["id"]
    if between:
        host.vms["web9"] = "running"
        other = group(office, host, ["web9", "nope"], key="other").good["group"]
        (failed,) = host.claim()
        fail(host, failed)
        told, tries = other, retry(office, host, other["id"], key="x").good["group"]["id"]
    host.vms["nope"] = "running"
    again = retry(office, host, tries, key="y", failed=True).good["group"]
    new = next(member["job"] for member in again["members"] if member["name"] == "nope")
    for state in (QUEUED, RUNNING, DONE):
        if state == RUNNING:
            host.claim()
            host.run(new)
        if state == DONE:
            host.end(new)
        names = names_tried_again(retry(office, host, told["id"], key=f"z{state}", failed=True))
        assert "nope" not in names, state


def test_a_refused_one_of_a_group_whose_try_failed_is_tried_again(office: Office, host: Worker) -> None:
    told = group(office, host, ["web1", "nope"]).good["group"]
    host.end(*host.claim())
    host.vms["nope"] = "running"
    for key in "ab":
        again = retry(office, host, told["id"], key=key, failed=True)
        assert names_tried_again(again) == ["nope"]
        (new,) = host.claim()
        fail(host, new)
    single = retry(office, host, new, key="single").job["id"]
    host.claim()
    host.end(single)
    assert names_tried_again(retry(office, host, told["id"], key="c", failed=True)) == []


def names_tried_again(asked: Asked) -> list[str]:
    """The names of the members that a retry made jobs of."""
    if asked.answer and not asked.answer["ok"]:
        assert "has failed that is not tried again already" in asked.error.message
        return []
    return [member["name"] for member in asked.good["group"]["members"] if member["job"]]


def test_a_try_that_failed_and_was_tried_again_itself_is_no_reason_for_another(office: Office, host: Worker) -> None:
    first = one(office, host)
    host.claim()
    fail(host, first)
    second = retry(office, host, first, key="a").job["id"]
    host.claim()
    fail(host, second)
    third = retry(office, host, second, key="b").job["id"]
    host.claim()
    host.end(third)
    assert retry(office, host, first, key="c").error.job == third


def test_a_group_without_failures_is_not_tried_again(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:2]).good["group"]
    assert retry(office, host, told["id"], failed=True).error.code == "wrong_state"
    for id in host.claim():
        host.end(id)
    assert retry(office, host, told["id"], failed=True).error.code == "wrong_state"


# ----------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(("said", "state"), [("success", DONE), ("failure", FAILED)])
def test_a_person_decides_what_became_of_a_lost_job(office: Office, host: Worker, said: str, state: str) -> None:
    id = one(office, host)
    host.claim()
    lose(host, id)
    ended = shown(office, id)["ended_at"]
    office.sleep(60)
    item = office.read("job settle", id=id, as_=said, reason="I looked", owner="me@here").good["item"]
    assert item["state"] == state
    verdict = item["verdict"]
    assert (verdict["as"], verdict["reason"], verdict["owner"]) == (said, "I looked", "me@here")
    assert "no longer knows of this job" in verdict["was"]["message"]
    assert item["ended_at"] == ended, "the verdict has a time of its own"
    assert (item["error"] is None) == (said == "success")
    assert item["changed"] is None, "nobody knows"
    assert "me@here said" in explained(office, id)["verdict"]
    error = office.read("job settle", id=id, as_="failure", reason="no", owner="me@here").error
    assert error.code == "wrong_state", "once"


@pytest.mark.parametrize("said", ["success", "failure"])
def test_a_verdict_that_is_told_twice_is_recorded_once(office: Office, host: Worker, said: str) -> None:
    """Whoever has heard no answer for ten seconds asks again."""
    id = one(office, host)
    host.claim()
    lose(host, id)
    wanted = {"id": id, "as_": said, "reason": "I looked", "owner": "me@here"}
    first, second = (office.post({"op": "read", "action": "job settle", "args": wanted}) for _ in range(2))
    office.turn()
    item = first.good["item"]
    assert second.good["item"] == item
    office.restart()
    assert office.read("job settle", **wanted).good["item"] == item
    for other in (
        {"reason": "I looked twice"},
        {"owner": "you@there"},
        {"as_": "success" if said == "failure" else "failure"},
    ):
        assert office.read("job settle", **{**wanted, **other}).error.code == "wrong_state"


def test_a_lost_job_is_tried_again_when_a_person_says_so(office: Office, host: Worker) -> None:
    id = one(office, host)
    host.claim()
    lose(host, id)
    new = retry(office, host, id, lost=True, reason="it still runs").job
    assert new["retry_of"] == id
    old = shown(office, id)
    assert (old["state"], old["verdict"]["as"], old["verdict"]["reason"]) == (FAILED, "retry", "it still runs")


def test_a_verdict_that_cannot_be_followed_changes_nothing(office: Office, host: Worker) -> None:
    id = one(office, host)
    host.claim()
    lose(host, id)
    del host.vms["web1"]
    assert retry(office, host, id, lost=True).error.code == "unknown_entity"
    assert shown(office, id)["state"] == LOST


@pytest.mark.parametrize("end", [QUEUED, DONE, FAILED])
def test_only_lost_jobs_need_a_verdict(office: Office, host: Worker, end: str) -> None:
    id = one(office, host)
    if end != QUEUED:
        host.claim()
        host.end(id) if end == DONE else fail(host, id)
    assert office.read("job settle", id=id, as_="success", reason="x", owner="me@here").error.code == "wrong_state"
    assert retry(office, host, id, lost=True).error.code == "wrong_state"
    assert shown(office, id)["state"] == end


def test_a_host_cannot_settle_what_is_lost(office: Office, host: Worker) -> None:
    id = one(office, host)
    host.claim()
    lose(host, id)
    host.end(id)
    assert shown(office, id)["state"] == LOST


# ------------------------------------------------------------------------------------- order, room, locks


def test_a_queued_job_says_which_lock_it_waits_for(office: Office, host: Worker) -> None:
    first, second, third = (one(office, host) for _ in range(3))
    host.claim()
    record = shown(office, second)
    assert record["blocked_on"] == {"kind": "lock", "lock": "vm:web1", "job": first}
    assert record["waits_for"] == f"VM web1, held by job {first} (vm stop, which is claimed)"
    assert (record["position"], shown(office, third)["position"]) == (1, 2)
    (lock,) = office.read("lock list").good["items"]
    assert (lock["lock"], lock["job"], lock["waiting"]) == ("vm:web1", first, [second, third])
    assert lock["since_at"] == shown(office, first)["claimed_at"]
    host.end(first)
    assert office.read("lock list").good["items"][0]["job"] == second
    assert shown(office, first)["waits_for"] is None


def test_a_queued_job_says_that_its_host_is_down(office: Office, host: Worker) -> None:
    id = one(office, host)
    assert shown(office, id)["blocked_on"] == {"kind": "turn", "host": "host1"}
    office.sleep(30)
    assert shown(office, id)["blocked_on"] == {"kind": "host", "host": "host1"}
    assert "bring host1 back" in explained(office, id)["next"]


def test_a_queued_job_says_which_slot_it_waits_for(office: Office, host: Worker) -> None:
    ids = [one(office, host, name) for name in VMS[:4]]
    assert host.claim(free={"quick": 2}) == ids[:2]
    record = shown(office, ids[3])
    assert record["blocked_on"] == {"kind": "slot", "slot": "quick", "host": "host1"}
    assert record["waits_for"] == f"a quick slot on host1; taken by {ids[0]}, {ids[1]}; 1 before it"
    assert record["position"] == 2
    item = office.read("job list", state="queued").good["items"][0]
    assert item["waits_for"] == f"a quick slot on host1; taken by {ids[0]}, {ids[1]}"
    told = {"id": ids[0], "step": "wait: its agent does not answer", "progress": None, "steps": [], "commands": []}
    host.sync(have=ids[:2], progress=[{**told, "step": "copy"}], free={})
    host.sync(have=ids[:2], progress=[told], free={})
    assert shown(office, ids[2])["waits_for"] == f"a quick slot on host1; taken by {ids[1]}", "who waits has none"


@pytest.mark.parametrize("end", [DONE, FAILED, CANCELLED, LOST])
def test_what_has_ended_holds_no_lock(office: Office, host: Worker, end: str) -> None:
    id = one(office, host)
    host.claim()
    if end == LOST:
        lose(host, id)
    elif end == FAILED:
        fail(host, id)
    else:
        host.end(id, end)
    assert shown(office, id)["state"] == end
    assert office.read("lock list").good["items"] == []
    assert office.store.jobs.holders("vm:web1") == []


def test_moves_have_slots_of_their_own(office: Office, host: Worker) -> None:
    from maglica.config import HostWorkerSection
    from maglica.declare import SLOTS

    assert SLOTS == ("quick", "disk", "guest", "move")
    assert all(f"slots_{slot}" in HostWorkerSection.FIELDS for slot in SLOTS)


# ------------------------------------------------------------------------------------------------- lists


def test_lists_are_filtered(office: Office, host: Worker) -> None:
    old = one(office, host, "web1")
    office.sleep(3600)
    host.sync(free={})
    told = group(office, host, VMS[1:3]).good["group"]
    new = [member["job"] for member in told["members"]]
    restart = one(office, host, "web4", action="vm restart")
    host.claim(free={"quick": 1})

    def listed(**args: Any) -> list[str]:
        found = office.ask({"op": "read", "action": "job list", "args": args}).good["items"]
        return [item["id"] for item in found]

    assert listed() == [old, *new, restart]
    assert listed(since="30m") == [*new, restart]
    assert listed(until="30m") == [old]
    assert listed(since="2h", until="30m") == [old]
    assert listed(group=told["id"]) == new
    assert listed(action="vm restart") == listed(action="vm-restart") == [restart]
    assert listed(owner="me") == listed(owner="me@here") == [old, *new, restart]
    assert listed(owner="m") == listed(owner="you") == []
    assert listed(state="open") == [old, *new, restart]
    assert listed(state="claimed") == [old]
    assert listed(state="ended") == []
    host.end(old)
    assert (listed(state="ended"), listed(state="open")) == ([old], [*new, restart])
    wrong = office.ask({"op": "read", "action": "job list", "args": {"action": "vm nosuch"}})
    assert wrong.error.code == "wrong_input"


def test_names_in_a_filter_may_be_shortened_to_a_dot(office: Office) -> None:
    host = Worker(office, "host1.example.jp", {"web1.example.jp": "running", "web10": "running"})
    host.hello()
    first, _ = one(office, host, "web1.example.jp"), one(office, host, "web10")
    assert [item["id"] for item in office.read("job list", vm="web1").good["items"]] == [first]
    assert len(office.read("job list", host="host1").good["items"]) == 2
    assert office.read("job list", host="host").good["items"] == []


def test_lists_leave_out_what_only_one_job_is_asked_for(office: Office, host: Worker) -> None:
    one(office, host)
    (item,) = office.read("job list").good["items"]
    assert {"by", "owner", "reason", "group", "retry_of", "waits_for", "position", "changed"} <= item.keys()
    assert not {"steps", "commands"} & item.keys()


def test_prune_forgets_what_has_ended_but_not_what_is_lost(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:2]).good["group"]
    lost, still = one(office, host, "web3"), one(office, host, "web4")
    first, second, *_ = host.claim()
    host.end(first)
    fail(host, second)
    host.run(lost)
    host.sync(have=[still], free={})
    office.sleep(100)
    assert office.read("job prune", older_than="5m").good["item"] == {"forgotten": 0, "changed": False}
    assert office.read("job prune", older_than="1s").good["item"] == {"forgotten": 2, "changed": True}
    assert office.read("job show", id=told["id"]).error.code == "unknown_entity"
    assert [item["id"] for item in office.read("job list").good["items"]] == [lost, still]


def test_a_group_whose_jobs_are_forgotten_in_part_says_so(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:2]).good["group"]
    first, _ = host.claim()
    host.end(first)
    office.sleep(10)
    office.read("job prune", older_than="5s")
    assert [member["state"] for member in shown(office, told["id"])["members"]] == ["forgotten", CLAIMED]


def test_retention_forgets_a_thousand_in_a_turn(office: Office, host: Worker) -> None:
    id = one(office, host)
    host.claim()
    host.end(id)
    record = office.store.jobs.get(id)
    assert record is not None
    for number in range(2500):
        office.store.jobs.add(job.Job(**{**record, "id": f"0000{number:06d}", "key": f"k{number}", "locks": []}))  # type: ignore[typeddict-item]
        office.store.write(jobs.SQL["set job"], DONE, None, 1, "{}", f"0000{number:06d}")
    office.store.commit()
    office.mono += 3601
    left = []
    for _ in range(4):
        office.turn()
        left.append(len(office.store.jobs.latest(5000)))
    assert left == [1501, 501, 1, 1], "the newest one stays"


# ------------------------------------------------------------------------------------------------ explain


def test_a_job_explains_itself(office: Office, host: Worker) -> None:
    id = one(office, host)
    queued = explained(office, id)
    assert queued["what"] == f"job {id}, vm stop web1: queued"
    assert queued["placed"] == "on host1, because: the VM is there"
    assert queued["waits_for"].startswith("its turn")
    host.claim()
    commands = [{"argv": ["virsh", "x"], "exit_status": 1, "seconds": 0.1, "stderr": "no"}]
    fail(host, id, steps=[{"name": "shut down", "seconds": 8.0, "note": None}], commands=commands)
    told = explained(office, id)
    assert told["asked"].startswith("by me@here")
    assert told["asked"].endswith("without a reason")
    assert "shut down 8.0 s; the command virsh ended with status 1" in told["happened"]
    assert told["failed"] == "it did not obey"
    assert told["next"] == f"use --force; `maglica job retry {id}` tries it again"
    assert told["waits_for"] is None


def test_what_could_not_be_undone_is_told(office: Office, host: Worker) -> None:
    id = one(office, host)
    host.claim()
    error = Failed("environment_error", "no", details={"left_behind": ["the disk x"]}).to_wire()
    host.sync(have=[id], done=[outcome(id, FAILED, error=error)], free={})
    assert explained(office, id)["changed"] == "it could not take back: the disk x"
    assert shown(office, id)["changed"] is True


def test_what_has_no_way_back_is_told(office: Office, host: Worker) -> None:
    id = one(office, host)
    host.claim()
    error = Failed("environment_error", "no", details={"stays": "the disk x is larger"}).to_wire()
    host.sync(have=[id], done=[outcome(id, FAILED, error=error)], free={})
    assert explained(office, id)["changed"] == "the disk x is larger; the rest was undone"
    assert shown(office, id)["changed"] is True


def test_a_group_explains_itself(office: Office, host: Worker) -> None:
    told = group(office, host, [*VMS[:2], "nope"]).good["group"]
    good, bad = host.claim()
    host.end(good)
    fail(host, bad)
    item = explained(office, told["id"])
    assert item["what"].startswith(f"group {told['id']}, vm stop of 3: ")
    assert item["asked"].endswith("because: moving house")
    assert item["changed"] == "1 of 3"
    assert item["next"] == f"`maglica job retry {told['id']} --failed` tries those again that did not succeed"
    assert "it did not obey" in item["failed"]


def test_a_group_of_which_a_host_that_is_down_has_jobs_says_what_to_do(office: Office, host: Worker) -> None:
    told = group(office, host, VMS[:3]).good["group"]
    host.claim(free={"quick": 2})
    assert office.read("job cancel", id=told["id"]).good["item"]["next"] is None
    office.sleep(7)
    way = "`maglica host remove host1` makes its jobs lost, and `maglica job recover` takes your verdict on them"
    says = f"bring host1 back; if that is gone for good, {way}"
    assert explained(office, told["id"])["next"] == says
    assert office.read("job cancel", id=told["id"]).good["item"]["next"] == says
    assert len(office.read("host remove", name="host1").good["item"]["lost"]) == 2
    assert shown(office, told["id"])["open"] == 0


# ---------------------------------------------------------------------------------------------- the store


def test_a_store_of_the_first_layout_is_brought_up_to_date(office: Office, host: Worker, tmp_path: Path) -> None:
    id = one(office, host)
    record = office.store.jobs.get(id)
    assert record is not None
    old = {name: value for name, value in record.items() if name not in job.LATER}
    path = str(tmp_path / "old.db")
    raw = sqlite3.connect(path)
    raw.executescript(f"{STEPS[0]} PRAGMA user_version = 1;")
    raw.execute(
        "INSERT INTO job VALUES (?, 'k', 'host1', 'queued', 'quick', 'web1', 'vm stop', NULL, NULL, ?)",
        (id, json.dumps(old)),
    )
    raw.commit()
    raw.close()
    store = Store(path)
    found = store.jobs.get(id)
    assert found is not None
    assert (found["group"], found["retry_of"], found["verdict"], found["by"]) == (None, None, None, None)
    assert [one["id"] for one in store.jobs.latest(5, owner="me")] == [id]
    store.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    raw.close()


def test_ten_thousand_ended_jobs_slow_no_list_down(office: Office, host: Worker) -> None:
    """Counted in steps of SQLite's machine, not in seconds."""
    id = one(office, host)
    host.claim()
    host.end(id)
    record = office.store.jobs.get(id)
    assert record is not None
    store = office.store
    for number in range(10_000):
        store.jobs.add(job.Job(**{**record, "id": f"0000{number:06d}", "key": f"k{number}", "locks": []}))  # type: ignore[typeddict-item]
        store.write(jobs.SQL["set job"], DONE, None, 1, "x", f"0000{number:06d}")
    store.commit()

    def steps(**wanted: Any) -> int:
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        store.connection.set_progress_handler(step, 100)
        store.jobs.latest(20, **wanted)
        store.connection.set_progress_handler(None, 0)
        return count

    assert steps(group="gnone") < 20
    assert steps(since="0t") < 20
    for wanted in ({"state": "lost"}, {"vm": "nope"}, {"owner": "nobody"}):
        plan = store.connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM job WHERE state = 'lost' ORDER BY id DESC LIMIT 20"
        ).fetchall()
        assert "COVERING INDEX job_list" in plan[0][3]
        assert steps(**wanted) < 3000
