"""What is said of a VM, and what it forbids. libvirt's test driver."""

from __future__ import annotations

from typing import Any

import pytest

from maglica import declare
from maglica.declare import Action, Where
from maglica.errors import Refused
from maglica.host_worker import jobs, signs, undo
from maglica.host_worker.domain import record
from tests.host_worker.test_jobs_vm import Ward, ward
from tests.host_worker.worlds import IMAGE
from tests.test_table import filled

__all__ = ["ward"]

CLONED = {"kind": "clone", "image": IMAGE, "job": "job1"}


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (record.with_state(CLONED, "retired"), {**CLONED, "state": "retired"}),
        (record.with_state({**CLONED, "state": "retired"}, "online"), CLONED),
        (record.with_protection(CLONED, True), {**CLONED, "protected": "yes"}),
        (record.with_protection({**CLONED, "protected": "yes"}, False), CLONED),
        (record.with_tags({"tags": "b,a"}, more=["c", "a"]), {"tags": "b,a,c"}),
        (record.with_tags({"tags": "b,a"}, less=["b", "x"]), {"tags": "a"}),
        (record.with_tags({"tags": "a", **CLONED}, less=["a"]), CLONED),
        (record.with_owner(CLONED, " alice "), {**CLONED, "owner": "alice"}),
        (record.with_owner({**CLONED, "owner": "alice"}, " "), CLONED),
        (record.with_description(CLONED, "<shop> & 'db'"), {**CLONED, "description": "<shop> & 'db'"}),
    ],
)
def test_edits_touch_nothing_else(edited: dict[str, str], expected: dict[str, str]) -> None:
    assert edited == expected


def test_nothing_said_is_online_and_nobodys() -> None:
    assert record.told({}) == {
        "record_state": "online", "protected": False, "tags": [], "owner": None, "description": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("action", "args", "key", "value"),
    [
        ("vm set-state", {"state": "maintenance"}, "record_state", "maintenance"),
        ("vm protect", {}, "protected", True),
        ("vm tag", {"tags": "ci,web"}, "tags", ["ci", "web"]),
        ("vm describe", {"text": "<shop> & 'db'"}, "description", "<shop> & 'db'"),
        ("vm owner", {"owner": "alice"}, "owner", "alice"),
    ],
)
@pytest.mark.parametrize("name", ["web1", "web2"])
def test_what_is_said_is_kept_with_the_vm(
    ward: Ward, name: str, action: str, args: dict[str, Any], key: str, value: Any
) -> None:
    """One runs, one is off."""
    told = ward.do(action, name=name, **args)
    assert (told["changed"], told[key]) == (True, value)
    assert ward.read("vm info", name=name)["item"][key] == value
    listed = {item["name"]: item for item in ward.read("vm list")["items"]}
    assert listed[name][key] == value
    assert listed["web1" if name == "web2" else "web2"][key] != value
    again = ward.do(action, name=name, **args)
    assert again == {**told, "changed": False}
    assert ward.work.report()["steps"] == []


def test_it_is_taken_back_and_leaves_nothing(ward: Ward) -> None:
    before = ward.domain("web1").mark
    ward.do("vm tag", name="web1", tags="a,b,c")
    assert ward.do("vm untag", name="web1", tags="b")["tags"] == ["a", "c"]
    assert ward.do("vm untag", name="web1")["tags"] == []
    ward.do("vm owner", name="web1", owner="alice")
    ward.do("vm owner", name="web1", owner="")
    ward.do("vm protect", name="web1")
    ward.do("vm unprotect", name="web1")
    ward.do("vm set-state", name="web1", state="maintenance")
    ward.do("vm set-state", name="web1", state="online")
    assert ward.domain("web1").mark == before == {}


def test_a_crash_after_the_change_is_seen(ward: Ward) -> None:
    found = ward.domain("web2")
    shown = signs.sign("marked", {"changed": True}, uuid=found.uuid, mark={"owner": "alice"})
    assert not signs.seen(shown, ward.hypervisor)
    ward.do("vm owner", name="web2", owner="alice")
    assert signs.seen(shown, ward.hypervisor)
    nobody = signs.sign("marked", {}, uuid="22222222-2222-4222-8222-222222222222", mark={})
    assert not signs.seen(nobody, ward.hypervisor)


def begin(ward: Ward) -> None:
    """The next job is one that the journal knows."""
    ward.journal.begin(f"job{ward.jobs + 1}", 1, "vm set-state", "web2")


def shows(ward: Ward) -> bool:
    """Whether the whole effect of the job at work can be seen."""
    (kept,) = [entry.sign for entry in ward.journal.entries() if entry.id == ward.work.job]
    return kept is not None and signs.seen(kept, ward.hypervisor)


def test_a_crash_before_something_was_taken_away_is_seen(ward: Ward) -> None:
    ward.do("vm owner", name="web2", owner="alice")
    seen = []

    def look() -> None:
        seen.append(shows(ward))

    begin(ward)
    ward.do("vm owner", name="web2", owner="", changed=look)
    assert seen == [False, True]


DESTRUCTIVE = [
    action
    for name, action in sorted(declare.load_all().items())
    if action.DESTRUCTIVE and action.WHERE == Where.OWNER and action.CHANGES
]


@pytest.mark.parametrize("action", DESTRUCTIVE, ids=lambda action: action.NAME)
def test_nothing_of_a_protected_vm_is_destroyed(ward: Ward, action: type[Action]) -> None:
    """Whatever is declared destructive is refused, also what will be declared one day."""
    ward.do("vm protect", name="web1")
    want = type(filled(action))(**{**filled(action, everything=False).values(), "name": "web1"})
    before = ward.seen()
    with pytest.raises(Refused) as refused:
        jobs.function(want)(want, ward.host, ward.work)
    assert (refused.value.code, refused.value.hint) == (
        "protected", "if it has to be, `maglica vm unprotect web1` first",
    )  # fmt: skip
    assert f"web1 is protected: `{action.NAME}` could destroy" in refused.value.message
    assert ward.seen() == before


def test_force_is_no_way_around_protection(ward: Ward) -> None:
    ward.do("vm protect", name="web1")
    assert ward.refusal("vm remove", name="web1", force=True).code == "protected"
    ward.do("vm unprotect", name="web1")
    assert ward.do("vm remove", name="web1", force=True)["changed"] is True


def test_what_is_retired_is_off_and_stays_off(ward: Ward) -> None:
    error = ward.refusal("vm set-state", name="web1", state="retired")
    assert (error.code, error.message) == ("wrong_state", "web1 is running")
    ward.do("vm set-state", name="web2", state="retired")
    error = ward.refusal("vm start", name="web2")
    assert (error.code, error.message) == ("wrong_state", "web2 is retired: it is kept, but not started")
    assert "vm set-state web2 --state=online" in error.hint
    ward.do("vm set-state", name="web2", state="maintenance")
    assert ward.do("vm start", name="web2")["state"] == "running"


def test_what_is_retired_does_not_come_up_with_its_host(ward: Ward) -> None:
    ward.do("vm autostart", name="web2")
    told = ward.do("vm set-state", name="web2", state="retired")
    assert (told["record_state"], told["autostart"], told["changed"]) == ("retired", False, True)
    assert not ward.hypervisor.autostarts("web2")
    error = ward.refusal("vm autostart", name="web2")
    assert (error.code, error.message) == ("wrong_state", "web2 is retired: it is kept, but not started")
    assert ward.do("vm autostart", name="web2", off=True)["changed"] is False
    ward.hypervisor.set_autostart("web2", True)  # by somebody else
    told = ward.do("vm set-state", name="web2", state="retired")
    assert (told["autostart"], told["changed"], ward.hypervisor.autostarts("web2")) == (False, True, False)
    assert ward.do("vm set-state", name="web2", state="online")["autostart"] is False
    assert ward.do("vm autostart", name="web2")["changed"] is True
    assert ward.do("vm set-state", name="web2", state="maintenance")["autostart"] is True


def test_killed_at_any_step_it_is_retired_and_stays_off_or_neither(ward: Ward) -> None:
    class Killed(BaseException):
        """As sudden as a power cut."""

    ended = []
    for at in range(1, 9):
        ward.do("vm set-state", name="web2", state="online")
        ward.hypervisor.set_autostart("web2", True)
        count = 0

        def die(at: int = at) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise Killed

        begin(ward)
        try:
            ward.do("vm set-state", name="web2", state="retired", changed=die)
        except Killed:
            if not shows(ward):
                assert undo.take_back(ward.work.job, ward.journal, ward.hypervisor) == []
            retired = ward.domain("web2").mark.get("state") == "retired"
            assert ward.hypervisor.autostarts("web2") is not retired, at
            ended.append(retired)
            continue
        assert ended == [False, False, False, True]
        return
    raise AssertionError("it never got through")


def test_a_clone_of_it_begins_anew(ward: Ward) -> None:
    ward.do("vm set-state", name="web2", state="retired")
    ward.do("vm protect", name="web2")
    ward.do("vm owner", name="web2", owner="alice")
    ward.do("vm clone", image="web2", hostname="new1", customize="none")
    told = record.told(ward.domain("new1").mark)
    assert (told["record_state"], told["protected"], told["owner"]) == ("online", False, None)
