"""What cannot be told: values that no message holds, and a host worker that goes on all the same (libvirt's test
driver, a real journal, real sockets)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import wire
from maglica.bus import Listener
from maglica.client_worker.ledger import reports
from maglica.errors import Failed, from_wire
from maglica.host_worker import telling
from maglica.host_worker.allegiance import Allegiance
from maglica.host_worker.journal import Entry
from maglica.host_worker.main import Loop
from tests.host_worker.test_run import CLONE, Place
from tests.host_worker.worlds import IMAGE, MiB, domain, world

SURROGATE = os.fsdecode(b"\xff")


def nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


UNTELLABLE = [SURROGATE, b"\xff", 1 << 64, -(1 << 63) - 1, nested(20), {"a", "b"}, object(), "x" * telling.MOST]
REPORT = {
    "id": "job1", "step": "copy", "progress": {"done_bytes": 1, "total_bytes": 2},
    "steps": [{"name": "look", "seconds": 0.1, "note": None}], "commands": [{"argv": ["true"]}],
}  # fmt: skip
DONE = {**REPORT, "attempt": 1, "state": "done", "result": {"name": "web1"}, "error": None}
FAILED = {**DONE, "state": "failed", "result": None, "error": Failed("environment_error", "broken").to_wire()}


def told(value: dict[str, Any]) -> dict[str, Any]:
    """As the client worker gets it."""
    (found,) = wire.decode(wire.encode({"op": "sync", "done": [value]}))["done"]
    reports.refuse_malformed(found)
    return dict(found)


# --------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("value", UNTELLABLE, ids=lambda value: type(value).__name__)
def test_what_cannot_be_told_is_noticed(value: Any) -> None:
    assert not telling.fits({"a": value})
    assert telling.fits({"a": "é", "b": (1 << 63) - 1, "c": [None, {"d": 0.5}]})


@pytest.mark.parametrize("value", UNTELLABLE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", telling.PIECES)
def test_a_report_is_told_without_the_piece_that_cannot_be(name: str, value: Any) -> None:
    piece = {
        "step": value,
        "progress": {"done_bytes": value},
        "steps": [{"name": value}],
        "commands": [{"argv": value}],
    }
    for whole in (REPORT, DONE, FAILED):
        found = told(telling.report({**whole, name: piece[name]}))
        assert found == {**whole, name: telling.PIECES[name]}
    assert telling.report(REPORT) is REPORT


def test_a_report_that_is_too_long_is_told_without_its_commands() -> None:
    commands = [{"argv": ["x" * 4000]}] * 50
    assert told(telling.report({**DONE, "commands": commands})) == {**DONE, "commands": []}


@pytest.mark.parametrize("value", UNTELLABLE, ids=lambda value: type(value).__name__)
def test_an_end_is_an_error_where_it_cannot_be_told_itself(value: Any) -> None:
    error = Failed("unknown_entity", "x", details={"who": value, "left_behind": ["a file"]}).to_wire()
    for ended in ({**DONE, "result": {"a": value}}, {**FAILED, "error": error}):
        found = told(telling.outcome(ended, "job=job1", "host1"))
        assert (found["id"], found["attempt"], found["state"], found["result"]) == ("job1", 1, "failed", None)
        assert found["steps"] == REPORT["steps"]
        said = from_wire(found["error"])
        assert (said.code, "job=job1" in said.hint) == ("internal_error", True)
        assert said.details == ({"left_behind": ["a file"]} if ended["error"] else {})
    assert telling.outcome(DONE, "job=job1", "host1") is DONE


@pytest.mark.parametrize("value", UNTELLABLE, ids=lambda value: type(value).__name__)
def test_what_has_happened_stays_so(value: Any) -> None:
    done = Entry("job1", 1, "vm start", "web1", None, {**DONE, "result": {"a": value}, "steps": [{"name": value}]})
    found = told(telling.kept(done, "host1"))
    assert (found["state"], found["error"], found["steps"]) == ("done", None, [])
    assert (found["result"]["name"], found["result"]["changed"]) == ("web1", None)
    failed = done._replace(outcome={**FAILED, "error": {"message": value}})
    found = told(telling.kept(failed, "host1"))
    assert (found["state"], found["result"], found["error"]["code"]) == ("failed", None, "internal_error")
    assert telling.kept(done._replace(outcome=DONE), "host1") is DONE


@pytest.mark.parametrize("value", [SURROGATE, 1 << 64, nested(5000), object()], ids=lambda value: type(value).__name__)
def test_an_answer_that_cannot_be_encoded_is_an_error(value: Any) -> None:
    found = telling.answer({"ok": True, "value": {"item": value}}, "action='vm info'", "host1")
    error = from_wire(wire.decode(wire.encode(found))["error"])
    assert (found["ok"], error.code, "action='vm info'" in error.hint) == (False, "internal_error", True)


# ---------------------------------------------------------------------------------------------- a host worker


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A host with real disks, one of which something rests on whose name is no UTF-8."""
    pool = tmp_path / "pool"
    pool.mkdir()
    names = ["web1", "web2", IMAGE]
    more = "".join(domain(name, disk=str(pool / f"{name}.img"), state=5) for name in names)
    uri = world(tmp_path, volumes=[f"{name}.img" for name in names], more=more)
    text = (tmp_path / "world.xml").read_text()
    (tmp_path / "world.xml").write_text(text.replace("/default-pool", str(pool)))
    for name in names:
        (pool / f"{name}.img").write_bytes(bytes(MiB))
    for name in ("web1", IMAGE):
        over = os.fsencode(pool) + b"/\xff-" + name.encode() + b".qcow2"
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", pool / f"{name}.img", over]
        subprocess.run(argv, check=True)
    found = Place(tmp_path, uri)
    found.hypervisor.driver = "files"
    yield found
    found.close()


def test_a_name_that_is_no_utf8_ends_nothing(place: Place) -> None:
    answer = place.ask("image dependents", name=IMAGE)
    assert from_wire(wire.decode(wire.encode(answer))["error"]).code == "internal_error"
    found = told(place.do("vm start", name="web1"))  # refused, with the name of what rests on it
    assert (found["state"], from_wire(found["error"]).code) == ("failed", "internal_error")
    place.hypervisor.driver = "test"  # which starts nothing else
    place.begin("vm start", id="job2", name="web2")
    assert place.told("job2")["state"] == "done"
    wire.encode({"op": "sync", **place.runner.state()})


def test_a_job_ends_also_with_an_error_of_another_host(place: Place) -> None:
    """Whatever its details hold, as they came over the bus; what was made is taken back, and the locks are free."""
    before = place.volumes()

    def break_once() -> None:
        if place.volumes() != before:
            place.on_wake = lambda: None
            raise Failed("unknown_entity", "there is none", details={"x": b"\xff", 1: SURROGATE})

    place.hypervisor.driver = "test"
    place.on_wake = break_once
    found = told(place.do("vm clone", **CLONE))
    assert (found["state"], from_wire(found["error"]).code) == ("failed", "internal_error")
    assert place.volumes() == before
    assert place.runner.count() == 0


def test_a_journal_that_holds_what_cannot_be_told_is_told(place: Place) -> None:
    for job, ended in (
        ("job1", {**DONE, "result": {"path": SURROGATE}}),
        ("job2", {**FAILED, "error": {"x": 1 << 70}}),
    ):
        place.journal.begin(job, 1, "vm start", "web1")
        place.journal.end(job, {**ended, "id": job})
    found = [told(one) for one in place.runner.state()["done"]]
    assert [(one["id"], one["state"]) for one in found] == [("job1", "done"), ("job2", "failed")]


def test_the_loop_goes_on(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Figures that cannot be encoded are left out of what is said; nobody listens here, but the words leave."""
    listener = Listener("127.0.0.1", 1, 2, [wire.topic("host1")])
    loop = Loop(listener, place.runner, Allegiance(str(place.folder), ""), 2.0)
    place.runner.facts = {"libvirt": SURROGATE}
    place.runner.read({"op": "read", "ask": 5, "action": "image dependents", "args": {"name": IMAGE}})
    until = time.monotonic() + 10
    while place.runner._waiting_reads and time.monotonic() < until:
        time.sleep(0.01)
    loop.speak(time.monotonic() + 100)
    listener.close()
    assert "op=hello unexpected error" in caplog.text


def test_a_message_without_what_cannot_be_encoded() -> None:
    assert telling.bare({"op": "sync", "data": b"\xff", "facts": {"a": SURROGATE}, "n": 1 << 70}) == {
        "op": "sync", "data": b"\xff",
    }  # fmt: skip
