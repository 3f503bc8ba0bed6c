"""What a VM is renamed to, and an image is called: free on all hosts, in all jobs, and for whoever gives it."""

from __future__ import annotations

from typing import Any

import pytest

from maglica.errors import Failed, Refused
from tests.client_worker.office import IMAGE, Office, Worker
from tests.client_worker.test_broker import Three, host, office, opened, three

__all__ = ["host", "office", "opened", "three"]


def test_a_name_that_a_vm_of_another_host_has_is_taken(three: Three) -> None:
    office, *hosts = three
    for to in ("web2", "db1.example.jp"):
        asked = office.submit("vm rename", name="web1", to=to)
        office.serve(*hosts)
        assert (asked.error.code, asked.error.hint) == ("already_exists", "choose another --to")
    asked = office.submit("vm rename", name="web1", to="db1")
    office.serve(*hosts)
    assert (asked.job["host"], asked.job["locks"]) == ("host1", ["vm:web1", "vm:db1"])


def test_a_name_that_it_has_already_is_no_other_name(three: Three) -> None:
    office, *hosts = three
    asked = office.submit("vm rename", name="web1", to="web1")
    office.serve(*hosts)
    assert (asked.job["host"], asked.job["locks"]) == ("host1", ["vm:web1"])


def test_a_host_that_does_not_answer_may_have_it(three: Three) -> None:
    office, one, two, _ = three
    for ignore, code in ((False, "host_down"), (True, None)):
        one.hello()
        two.hello()
        asked = office.submit("vm rename", name="web1", to="new1", ignore_missing=ignore)
        office.serve(one, two)
        office.sleep(5.1)
        assert asked.error.code == code if code else asked.job["host"] == "host1"


def test_a_name_that_is_just_being_given_is_taken(office: Office, host: Worker) -> None:
    made = office.submit("vm clone", image=IMAGE, hostname="new1")
    office.serve(host)
    asked = office.submit("vm rename", name="web1", to="new1")
    office.serve(host)
    assert asked.error.message == f"job {made.job['id']} is working on new1"
    renamed = office.submit("vm rename", name="web1", to="new2")
    office.serve(host)
    for action, args in (
        ("vm clone", {"image": IMAGE, "hostname": "new2"}),
        ("vm rename", {"name": "web2", "to": "new2"}),
    ):
        host.vms["web2"] = "shut-off"
        asked = office.submit(action, **args)
        office.serve(host)
        assert asked.error.message == f"job {renamed.job['id']} is working on new2"


@pytest.mark.parametrize("jump", [0, -3_600_000, 3_600_000], ids=["steady", "back", "ahead"])
@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("vm rename", {"name": "web2", "to": "new1"}),
        ("vm clone", {"image": IMAGE, "hostname": "new1", "on": "host2"}),
        ("vm define", {"name": "new1", "on": "host2"}),
    ],
    ids=["rename", "clone", "define"],
)
def test_a_name_that_was_given_while_the_hosts_were_asked_is_taken(
    three: Three, action: str, args: dict[str, str], jump: int
) -> None:
    """The first host had told before the second gave the name. `jump`: of the clock, meanwhile."""
    office, one, two, third = three
    first = office.submit(action, **args)
    office.serve(one, two, third)
    office.bells()
    two.claim()
    asked = office.submit("vm clone", image=IMAGE, hostname="new1", on="host1")
    office.turn()
    for worker in (two, one, third):  # the survey of host2 is as old as the beginning of its job
        worker.answer_all()
        if worker is two:
            office.ms += jump
            two.end(first.job["id"])
    office.turn()
    assert asked.error.code == "already_exists"
    office.sleep(0.1)
    later = office.submit("vm clone", image=IMAGE, hostname="new1", on="host1")
    office.serve(one, two, third)
    assert later.job["host"] == "host1", "whoever asks later hears of what is there then: it was removed again"


def test_two_of_a_group_cannot_get_one_name(three: Three) -> None:
    office, *hosts = three
    message = {
        "op": "submit_group", "key": "g", "action": "vm rename", "args": {"to": "new1"},
        "each": [{"name": "web1"}, {"name": "web2"}], "owner": "me@here",
    }  # fmt: skip
    asked = office.ask(message)
    office.serve(*hosts)
    members = asked.good["group"]["members"]
    assert sorted(one["state"] for one in members) == ["queued", "refused"]


@pytest.fixture
def shelf(three: Three) -> Three:
    """An image on each of the first two hosts."""
    _, one, two, _ = three
    one.vms["el9:1"], two.vms["el9:2"] = "shut-off", "shut-off"
    return three


MAKES_IMAGES = [("image seal", "web1"), ("image upgrade", "el9:1")]


@pytest.mark.parametrize(("action", "name"), MAKES_IMAGES)
def test_an_image_gets_a_name_that_is_free_everywhere(shelf: Three, action: str, name: str) -> None:
    office, *hosts = shelf
    assert office.read("image promote", name="el9:1").answer is None
    office.serve(*hosts)

    def asked(as_: str | None, **more: Any) -> Any:
        found = office.submit(action, name=name, as_=as_, **more)
        office.serve(*hosts)
        return found

    for taken in ("el9:2", "web2", "el9:stable"):
        assert asked(taken).error.code == "already_exists"
        assert asked(taken, dry_run=True).error.code == "already_exists"
    assert asked("el9:2").error.hint == "choose another --as"
    made = asked("el9:3").job
    assert made["locks"][-2:] == ["vm:el9:3", "image:el9:3"]
    for other in (
        ("image seal", {"name": "web1", "as_": "el9:3"}),
        ("image import", {"source": "https://images.example.jp/x", "name": "el9:3"}),
    ):
        found = office.submit(other[0], **other[1])
        office.serve(*hosts)
        assert found.error.message == f"job {made['id']} is working on el9:3"


@pytest.mark.parametrize(("action", "name"), MAKES_IMAGES)
def test_a_host_that_does_not_answer_may_have_such_an_image(shelf: Three, action: str, name: str) -> None:
    office, one, two, _ = shelf
    for ignore, code in ((False, "host_down"), (True, None)):
        one.hello()
        two.hello()
        asked = office.submit(action, name=name, as_="el9:3", ignore_missing=ignore)
        office.serve(one, two)
        office.sleep(5.1)
        assert asked.error.code == code if code else asked.job["host"] == "host1"


@pytest.mark.parametrize(
    ("action", "name", "as_"), [("image seal", "web1", "web1.original"), ("image upgrade", "el9:1", "el9:2026-01-12")]
)
def test_the_name_by_default_is_looked_for_as_well_and_stays(shelf: Three, action: str, name: str, as_: str) -> None:
    office, *hosts = shelf
    hosts[2].vms[as_] = "shut-off"
    asked = office.submit(action, name=name)
    office.serve(*hosts)
    assert asked.error.message == f"{as_} exists on host3 (shut-off)"
    del hosts[2].vms[as_]
    ids = set()
    for _ in range(2):  # the same request is the same job, although the name was not said
        asked = office.submit(action, key="k", name=name)
        office.serve(*hosts)
        ids.add(asked.job["id"])
        assert asked.job["args"]["as_"] == as_
    assert len(ids) == 1


def test_two_of_a_group_cannot_make_one_image(shelf: Three) -> None:
    office, one, *hosts = shelf
    one.vms["el9:0"] = "shut-off"
    message = {
        "op": "submit_group", "key": "g", "action": "image upgrade", "args": {}, "owner": "me@here",
        "each": [{"name": "el9:0"}, {"name": "el9:1"}],
    }  # fmt: skip
    asked = office.ask(message)
    office.serve(one, *hosts)
    members = asked.good["group"]["members"]
    assert [one["state"] for one in members] == ["queued", "refused"]
    assert members[1]["message"] == "el9:2026-01-12 is wanted twice"


def test_an_image_that_was_made_while_the_hosts_were_asked_is_there(shelf: Three) -> None:
    office, one, two, third = shelf
    first = office.submit("image upgrade", name="el9:2", as_="el9:3")
    office.serve(one, two, third)
    office.bells()
    assert two.claim() == [first.job["id"]]
    asked = office.submit("image seal", name="web1", as_="el9:3")
    office.turn()
    for worker in (two, one, third):  # the survey of host2 is as old as the beginning of its job
        worker.answer_all()
        if worker is two:
            two.end(first.job["id"])
    office.turn()
    assert asked.error.message == "el9:3 exists by now"


GIVE_NEW1: dict[str, dict[str, Any]] = {
    "vm clone": {"image": IMAGE, "hostname": "new1"},
    "vm build": {"name": "new1", "barebones": True, "on": "host1"},
    "vm define": {"name": "new1", "on": "host3"},
    "vm rename": {"name": "web2", "to": "new1"},
    "image import": {"source": "https://images.example.jp/a.qcow2", "name": "new1"},
    "image seal": {"name": "web1", "as_": "new1"},
    "image upgrade": {"name": "el9:2", "as_": "new1"},
    "image copy": {"name": "el9:1", "as_": "new1", "dest": "host3"},
}


@pytest.mark.parametrize("first", GIVE_NEW1)
@pytest.mark.parametrize("second", GIVE_NEW1)
def test_a_name_is_given_once_whatever_gives_it(shelf: Three, first: str, second: str) -> None:
    """To a VM or to an image, on whatever host: also in the same turn, and as long as the first one is open."""
    office, *hosts = shelf
    giver, at_once = (office.submit(action, **GIVE_NEW1[action]) for action in (first, second))
    office.serve(*hosts)
    later = office.submit(second, **GIVE_NEW1[second])
    office.serve(*hosts)
    for asked in (at_once, later):
        what = "el9:1@host3" if first == second == "image copy" else "new1"
        assert (asked.error.code, asked.error.message) == (
            "already_exists", f"job {giver.job['id']} is working on {what}",
        )  # fmt: skip


def test_an_image_is_copied_under_one_name_to_many_hosts(shelf: Three) -> None:
    office, one, *hosts = shelf
    one.vms["el9:0"] = "shut-off"

    def asked(name: str, dest: str) -> Any:
        found = office.submit("image copy", name=name, as_="new1", dest=dest)
        office.serve(one, *hosts)
        return found

    first = asked("el9:1", "host2").job
    assert asked("el9:1", "host3").job["host"] == "host3"
    assert "is working on new1" in asked("el9:0", "host3").error.message
    assert asked("el9:0", "host2").error.code == "already_exists"
    assert first["locks"] == ["image:el9:1@host2"], "they need not wait for each other"


@pytest.mark.parametrize(
    ("action", "args", "each", "states"),
    [
        ("image copy", {"as_": "new1"}, [{"name": "el9:1", "dest": "host3"}, {"name": "el9:2", "dest": "host3"}],
         ["queued", "refused"]),
        ("image copy", {"name": "el9:1", "as_": "new1"}, [{"dest": "host2"}, {"dest": "host3"}], ["queued", "queued"]),
        ("image import", {"name": "new1"},
         [{"source": "https://a.example.jp/1", "on": "host1"}, {"source": "https://a.example.jp/2", "on": "host2"}],
         ["queued", "refused"]),
        ("vm define", {"name": "new1"}, [{"on": "host1"}, {"on": "host2"}], ["queued", "refused"]),
    ],
)  # fmt: skip
def test_two_of_a_group_cannot_make_two_things_of_one_name(
    shelf: Three, action: str, args: dict[str, Any], each: list[dict[str, Any]], states: list[str]
) -> None:
    office, *hosts = shelf
    asked = office.ask({"op": "submit_group", "key": "g", "action": action, "args": args, "each": each, "owner": "me"})
    office.serve(*hosts)
    assert [one["state"] for one in asked.good["group"]["members"]] == states


@pytest.mark.parametrize("failed", [True, False], ids=["failed", "refused"])
def test_what_failed_while_the_hosts_were_asked_may_have_made_it(three: Three, failed: bool) -> None:
    """A guest that was waited for in vain is there; what a host refused is not."""
    office, one, two, third = three
    first = office.submit("vm clone", image=IMAGE, hostname="new1", on="host2", wait="ssh")
    office.serve(one, two, third)
    office.bells()
    two.claim()
    asked = office.submit("vm clone", image=IMAGE, hostname="new1", on="host1")
    office.turn()
    error = Failed("timeout", "it does not answer") if failed else Refused("no_capacity", "there is no room")
    for worker in (two, one, third):
        worker.answer_all()
        if worker is two:
            two.end(first.job["id"], "failed", error=error.to_wire())
    office.turn()
    if failed:
        assert asked.error.code == "already_exists"
    else:
        assert asked.job["host"] == "host1"


@pytest.mark.parametrize(
    ("action", "more"), [("vm define", {}), ("vm import", {"qemu_args": "-name new1"})], ids=["define", "import"]
)
def test_what_is_defined_has_a_name_that_is_free_and_a_host(three: Three, action: str, more: dict[str, str]) -> None:
    office, *hosts = three

    def asked(**args: Any) -> Any:
        found = office.submit(action, **{"name": "new1", **more, **args})
        office.serve(*hosts)
        return found

    assert asked().error.message == "new1 may be on host1, host2, host3"
    assert asked(on="host9").error.message == "there is no host host9"
    assert asked(name="db1.example.jp", on="host1").error.code == "already_exists"
    made = asked(on="host2").job
    assert (made["host"], made["object"], made["locks"]) == ("host2", "new1", ["vm:new1"])
    assert asked(on="host1").error.message == f"job {made['id']} is working on new1"
    clone = office.submit("vm clone", image=IMAGE, hostname="new1")
    office.serve(*hosts)
    assert clone.error.code == "already_exists"


def test_the_only_host_need_not_be_said(office: Office, host: Worker) -> None:
    asked = office.submit("vm define", name="new1")
    office.serve(host)
    assert asked.job["host"] == "host1"


def test_nothing_is_defined_on_a_part_of_the_view(three: Three) -> None:
    office, one, two, _ = three
    asked = office.submit("vm define", name="new1", on="host1")
    office.serve(one, two)
    office.sleep(5.1)
    assert asked.error.code == "host_down"
