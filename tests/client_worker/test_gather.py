"""One question to several hosts, and what its answers come to."""

from __future__ import annotations

from typing import Any

import pytest

from maglica import declare, wire
from maglica.client_worker.asking import gather
from maglica.client_worker.asking.gather import Gather
from maglica.errors import Failed, MaglicaError, Refused


def question(*asked: str, missing: dict[str, str] | None = None) -> Gather:
    action = declare.build("vm list", {})
    return Gather(7, action, list(asked), missing or {}, 100.0, 105.0, lambda done: None)


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def test_it_is_complete_when_everybody_has_spoken_or_is_given_up() -> None:
    found = question("a", "b", "c")
    found.answer("a", {}, 100.5)
    found.error("b", Failed("host_down", "libvirt: unreachable"))
    assert not found.complete
    found.give_up("c", "no answer in time")
    assert found.complete
    assert found.missing == {"b": "libvirt: unreachable", "c": "no answer in time"}
    assert found.seconds == {"a": 0.5}


def test_nobody_to_ask_is_complete_at_once() -> None:
    assert question().complete
    assert question(missing={"a": "down"}).complete


@pytest.mark.parametrize("late", ["answer", "error", "give_up"])
def test_only_the_first_word_of_a_host_counts(late: str) -> None:
    found = question("a", "b")
    found.answer("a", {"items": [item("first")]}, 101.0)
    found.give_up("b", "no answer in time")
    for host in ("a", "b", "stranger"):
        if late == "answer":
            found.answer(host, {"items": [item("second")]}, 102.0)
        elif late == "error":
            found.error(host, Failed("host_down", "late"))
        else:
            found.give_up(host, "late")
    assert found.answers == {"a": {"items": [item("first")]}}
    assert found.seconds == {"a": 1.0}
    assert found.missing == {"b": "no answer in time"}
    assert found.errors == {}


def test_items_of_all_hosts_in_one_list() -> None:
    found = question("b", "a", "c", missing={"d": "last heard 9 s ago"})
    found.answer("b", {"items": [item("web2"), item("twin", state="running")]}, 100.2)
    found.answer("a", {"items": [item("web1"), item("twin", state="shut-off")]}, 100.1)
    found.answer("c", {}, 100.0)
    assert gather.merge(found) == {
        "missing_hosts": [{"host": "d", "why": "last heard 9 s ago"}],
        "answer_seconds": {"b": pytest.approx(0.2), "a": pytest.approx(0.1), "c": 0.0},
        "items": [
            {"name": "twin", "state": "shut-off", "host": "a"},
            {"name": "twin", "state": "running", "host": "b"},
            {"name": "web1", "host": "a"},
            {"name": "web2", "host": "b"},
        ],
    }


def test_a_host_cannot_speak_for_another() -> None:
    found = question("a")
    found.answer("a", {"items": [item("web1", host="elsewhere")]}, 100.0)
    assert gather.merge(found)["items"] == [{"name": "web1", "host": "a"}]


def test_missing_hosts_are_named_in_order() -> None:
    found = question("c", "b", missing={"a": "down"})
    found.error("c", Failed("environment_error", "libvirt: broken"))
    found.give_up("b", "no answer in time")
    assert gather.merge(found)["missing_hosts"] == [
        {"host": "a", "why": "down"},
        {"host": "b", "why": "no answer in time"},
        {"host": "c", "why": "libvirt: broken"},
    ]


def test_the_answer_of_the_only_one() -> None:
    found = question("a")
    found.answer("a", {"item": {"name": "web1"}}, 100.0)
    assert gather.only(found) == {"missing_hosts": [], "item": {"name": "web1", "host": "a"}}


def test_what_the_only_one_has_several_of() -> None:
    found = question("a")
    found.answer("a", {"items": [{"target": "vda"}, {"target": "vdb"}]}, 100.0)
    told = gather.only(found)
    assert told == {"missing_hosts": [], "items": [{"target": "vda", "host": "a"}, {"target": "vdb", "host": "a"}]}


@pytest.mark.parametrize("family", [Refused, Failed])
def test_the_error_of_the_only_one_is_raised_as_it_is(family: type[MaglicaError]) -> None:
    found = question("a")
    found.error("a", family("unknown_entity", "there is no VM web1 on this host", "look again"))
    with pytest.raises(family, match="there is no VM web1 on this host") as error:
        gather.only(found)
    assert (error.value.code, error.value.hint) == ("unknown_entity", "look again")


def test_the_silence_of_the_only_one_is_an_error() -> None:
    found = question("a")
    found.give_up("a", "no answer in time")
    with pytest.raises(MaglicaError, match="host a does not answer: no answer in time") as error:
        gather.only(found)
    assert error.value.code == "host_down"
    assert error.value.retryable


# -------------------------------------------------------------------------------------------- long answers


def test_the_pieces_of_an_answer_are_put_together_in_whatever_order_they_come() -> None:
    found = question("host1", "host2")
    assert found.part("host1", 2, 3, b"c") is None
    assert found.part("host1", 0, 3, b"a") is None
    assert found.part("host2", 0, 2, b"x") is None
    assert found.part("host1", 0, 3, b"a") is None, "one that came twice is one"
    assert found.part("host1", 1, 3, b"b") == b"abc"
    assert found.part("host2", 1, 2, b"y") == b"xy"


def test_pieces_of_who_was_not_asked_are_not_kept() -> None:
    found = question("host1")
    assert found.part("stranger", 0, 1, b"x") is None
    found.answer("host1", {}, 1.0)
    assert found.part("host1", 0, 1, b"x") is None


@pytest.mark.parametrize(
    ("number", "of", "size"),
    [(3, 3, 1), (-1, 3, 1), (0, 0, 1), (0, wire.MAX_PARTS + 1, 1), (0, 1, wire.PART_BYTES + 1)],
)
def test_pieces_that_are_none_are_refused(number: int, of: int, size: int) -> None:
    with pytest.raises(Refused, match="is none of an answer"):
        question("host1").part("host1", number, of, b"x" * size)
