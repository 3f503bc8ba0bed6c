"""Messages and bytes: what is a message, and that nothing else gets through a door."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import pytest

from maglica import declare, wire
from maglica.errors import Failed, MaglicaError, Refused

GOOD: dict[str, dict[str, Any]] = {
    "ping": {"op": "ping"},
    "read": {"op": "read", "action": "vm list", "args": {"state": "running"}, "timeout": 2.5},
    "submit": {
        "op": "submit",
        "key": "k" * 32,
        "action": "vm start",
        "args": {"name": "web1"},
        "owner": "me@here",
        "reason": "because",
        "dry_run": True,
    },
    "submit_group": {
        "op": "submit_group",
        "key": "k" * 32,
        "action": "vm stop",
        "args": {"timeout": 5.0},
        "each": [{"name": "web1"}, {"name": "web2"}],
        "owner": "me@here",
        "reason": "because",
    },
    "retry": {
        "op": "retry",
        "key": "k" * 32,
        "id": "1b7q2k0m4z",
        "owner": "me@here",
        "reason": "because",
        "failed": True,
        "lost": False,
    },
    "wait": {"op": "wait", "id": "1b7q2k0m4z", "rev": -1, "timeout": 10},
    "hello": {
        "op": "hello",
        "host": "host1",
        "journal": "j",
        "versions": [1],
        "features": ["reads"],
        "version": "0.1.0",
        "pid": 7,
        "facts": {"libvirt": "ok"},
    },
    "join": {"op": "join", "host": "host1", "secret": "5ec4e7", "version": "0.1.0"},
    "sync": {
        "op": "sync",
        "host": "host1",
        "incarnation": 3,
        "have": ["a"],
        "done": [{"id": "a", "attempt": 1, "state": "done", "result": {}}],
        "progress": [{"id": "b", "step": "copy"}],
        "free": {"quick": 8},
        "facts": {},
    },
    "answer": {"op": "answer", "host": "host1", "ask": 5, "ok": True, "value": {"items": []}},
    "need": {"op": "need", "host": "host1", "ask": 3, "job": "1b7q2k0m4z", "args": {"disk": "vda"}},
    "part": {"op": "part", "host": "host1", "ask": 7, "part": 0, "parts": 2, "data": b"x"},
    "stream": {
        "op": "stream", "key": "k" * 32, "action": "vm console", "args": {"name": "web1"}, "n": 3, "life": "1",
        "have": 5, "at": 2, "data": b"x", "taken": 1, "timeout": 2.0, "more": False, "look": False, "full": False,
        "bye": False,
    },
    "flow": {
        "op": "flow", "host": "host1", "stream": "console web1", "life": "1", "n": 4, "start": 0, "at": 5,
        "data": b"x", "have": {"k": 2}, "live": 1, "full": False, "busy": False, "over": True, "error": {},
    },
}  # fmt: skip


def refused(data: bytes, limit: int = wire.MAX_BYTES) -> Refused:
    with pytest.raises(Refused) as error:
        wire.decode(data, limit)
    return error.value


def test_there_is_a_sample_of_every_request() -> None:
    assert set(GOOD) == set(wire.REQUESTS)
    for op, (required, optional) in wire.REQUESTS.items():
        assert {"op", *required} <= set(GOOD[op]) <= {"op", *required, *optional}


@pytest.mark.parametrize("op", GOOD)
def test_a_request_survives_the_wire(op: str) -> None:
    again = wire.decode(wire.encode(GOOD[op]))
    assert again == {"v": wire.VERSION, **GOOD[op]}
    assert wire.check(again) == op


@pytest.mark.parametrize("value", [None, True, 0, -1, 1 << 63, (1 << 64) - 1, 1.5, "", "日本", b"", b"\0\xff", [], {}])
def test_plain_values_survive_the_wire(value: Any) -> None:
    again = wire.decode(wire.encode({"value": value, "list": [value], "map": {"x": value}}))
    assert again == {"v": wire.VERSION, "value": value, "list": [value], "map": {"x": value}}
    assert type(again["value"]) is type(value)


@pytest.mark.parametrize("op", GOOD)
def test_a_field_that_is_missing_is_named(op: str) -> None:
    for name in wire.REQUESTS[op][0]:
        message = {key: value for key, value in GOOD[op].items() if key != name}
        with pytest.raises(Refused, match=f"{op}: field {name} is missing"):
            wire.check(message)
    for name in wire.REQUESTS[op][1]:
        wire.check({key: value for key, value in GOOD[op].items() if key != name})
        wire.check({**GOOD[op], name: None})


@pytest.mark.parametrize("op", GOOD)
def test_a_field_of_another_type_is_named(op: str) -> None:
    samples: list[Any] = ["text", 5, 1.5, True, [], {}, b"bytes"]
    required, optional = wire.REQUESTS[op]
    for name, kind in {**required, **optional}.items():
        fine = {float: (int, float)}.get(kind, (kind,))
        for value in samples:
            message = {**GOOD[op], name: value}
            if type(value) in fine:
                assert wire.check(message) == op
            else:
                with pytest.raises(Refused, match=f"{op}: field {name} is a {type(value).__name__}"):
                    wire.check(message)
        if name in required:
            with pytest.raises(Refused, match=f"{op}: field {name} is a NoneType"):
                wire.check({**GOOD[op], name: None})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_time_that_is_no_number_is_refused(value: float) -> None:
    """A deadline that is not a number is never reached: whoever waited for it would wait for ever."""
    message = wire.decode(wire.encode({**GOOD["wait"], "timeout": value}))
    with pytest.raises(Refused, match="wait: field timeout"):
        wire.check(message)


@pytest.mark.parametrize(
    "op", [None, "", "Ping", "stop", 5, True, b"ping", ["ping"], {"ping": 1}, "__class__", "ping\0"]
)
def test_an_unknown_request_is_refused(op: Any) -> None:
    with pytest.raises(Refused, match="unknown request"):
        wire.check({"op": op})
    with pytest.raises(Refused, match="unknown request"):
        wire.check({})


def test_unknown_fields_are_ignored() -> None:
    """The next version may add some."""
    assert wire.check(wire.decode(wire.encode({**GOOD["ping"], "colour": "green"}))) == "ping"


def test_the_kind_of_a_message_is_its_op_and_nothing_else() -> None:
    """D8: a result with the keys of a request is still a result."""
    both = {**GOOD["submit"], **GOOD["sync"], "op": "answer", **{k: v for k, v in GOOD["answer"].items() if k != "op"}}
    assert wire.check(both) == "answer"


# ------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize("version", [0, 3, -1, 1 << 60, "1", None, 1.5, [1], True, 1.0, 2.0])
def test_another_version_is_told_apart(version: Any) -> None:
    error = refused(msgpack.packb({"v": version, "op": "ping"}))
    assert error.code == "version_mismatch"
    assert repr(version) in error.message
    assert error.details == {"supported": [1, 2], "asked": version if type(version) is int else None}
    assert refused(msgpack.packb({"op": "ping"})).code == "version_mismatch"


@pytest.mark.parametrize("version", wire.VERSIONS)
def test_the_version_before_is_understood(version: int) -> None:
    assert wire.decode(msgpack.packb({"v": version, "op": "ping"})) == {"v": version, "op": "ping"}


def test_there_is_a_version_before() -> None:
    assert wire.VERSIONS == (wire.OLDEST, wire.VERSION) == (1, 2)


@pytest.mark.parametrize("version", [0, 3, "x", None])
def test_a_refusal_is_understood_whatever_its_version(version: Any) -> None:
    told = wire.failure(Refused("version_mismatch", "from another time"))
    assert wire.decode(msgpack.packb({"v": version, **told}))["error"]["message"] == "from another time"
    with pytest.raises(Refused, match="protocol version"):
        wire.decode(msgpack.packb({"v": version, "ok": False, "error": "text"}))


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [([1], 1), ([2], 2), ([1, 2], 2), ([2, 1, 7], 2), ([3], None), ([], None), (None, None), ([True], None),
     ([1.0, "2", None, [2]], None), ("12", None), ({1: 1}, None)],
)  # fmt: skip
def test_the_highest_common_version(offered: Any, agreed: int | None) -> None:
    assert wire.agree(offered) == agreed


def test_the_form_of_a_refusal_never_changes() -> None:
    """What an older or a newer release reads, whatever else it does not understand."""
    told = msgpack.unpackb(wire.encode(wire.failure(Refused("version_mismatch", "text", "hint", details={"x": 1}))))
    assert told == {
        "v": wire.VERSION,
        "ok": False,
        "error": {
            "kind": "refused",
            "code": "version_mismatch",
            "message": "text",
            "hint": "hint",
            "retryable": False,
            "job": None,
            "details": {"x": 1},
        },
    }


# ------------------------------------------------------------------------------------- what is no message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"{}",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x81\xa1v",
        msgpack.packb({"v": 1}) + b"\0",
        msgpack.packb({"v": 1, "x": "a"}, use_bin_type=True)[:-1],
        b"\x82\xa1v\x01\xa1x\xa1\xff",  # text that is not UTF-8
        msgpack.packb({1: 2, "v": 1}),
        msgpack.packb({None: 2, "v": 1}),
        b"\xdf\xff\xff\xff\xff",  # a map of four thousand million
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    error = refused(data)
    assert error.code == "wrong_input"
    assert error.message == "the message is not msgpack"


@pytest.mark.parametrize("value", [None, 1, "text", [], [{"v": 1}], b"bytes"])
def test_a_message_is_a_map(value: Any) -> None:
    assert refused(msgpack.packb(value)).message == "the message is not a map"


@pytest.mark.parametrize(
    "ext",
    [
        msgpack.ExtType(5, b"abc"),
        msgpack.ExtType(5, b""),
        msgpack.ExtType(127, b"x" * 300),
        msgpack.Timestamp(0),
        msgpack.Timestamp(1 << 40, 5),
    ],
)
def test_extension_types_are_refused(ext: Any) -> None:
    for place in (ext, [ext], {"x": {"y": ext}}):
        assert refused(msgpack.packb({"v": 1, "op": "ping", "x": place})).message == "the message is not msgpack"


def test_the_size_is_limited_before_anything_is_read() -> None:
    data = wire.encode({"op": "ping", "x": b"x" * wire.MAX_BYTES})
    assert f"has {len(data)} bytes, more than {wire.MAX_BYTES}" in refused(data).message
    assert wire.decode(data, wire.MAX_ANSWER_BYTES)["op"] == "ping"
    fill = wire.MAX_BYTES - len(wire.encode({"op": "ping", "x": b"x" * 70000})) + 70000
    assert len(wire.decode(wire.encode({"op": "ping", "x": b"x" * fill}))["x"]) == fill
    assert "bytes, more than" in refused(wire.encode({"op": "ping", "x": b"x" * (fill + 1)})).message


def nested(depth: int, kind: str) -> Any:
    """A value of that many containers inside each other."""
    value: Any = 1
    for number in range(depth):
        if kind == "list" or (kind == "mixed" and number % 2):
            value = [5, value, "\x91", b"\x81"]
        else:
            value = {"k": value, "\x82": 1.5}
    return value


@pytest.mark.parametrize("kind", ["list", "map", "mixed"])
def test_the_depth_is_limited_exactly(kind: str) -> None:
    deepest = wire.MAX_DEPTH - 1  # the message itself is one
    assert wire.decode(wire.encode({"x": nested(deepest, kind)}))["x"] == nested(deepest, kind)
    error = refused(wire.encode({"x": nested(deepest + 1, kind)}))
    assert error.message == f"the message is nested deeper than {wire.MAX_DEPTH}"
    assert "nested deeper" in refused(b"\x82\xa1v\x01\xa1x" + b"\x91" * 100_000 + b"\xc0").message


def test_bytes_that_look_like_containers_are_only_bytes() -> None:
    for filler in (b"\x91" * 5000, "\x81" * 5000, ["\x91" * 40] * 40, [[i] for i in range(2000)], b"\xdd\xdf" * 900):
        assert wire.decode(wire.encode({"x": filler}))["x"] == filler


def test_a_broken_container_is_not_read_beyond_its_end() -> None:
    for code in (b"\x9f", b"\x8f", b"\xdc\xff\xff", b"\xde\xff\xff"):
        assert refused(b"\x82\xa1v\x01\xa1x" + b"\x91" * 12 + code * 20).code == "wrong_input"


def test_encoding_what_is_not_plain_fails_at_the_sender() -> None:
    for value in ({1, 2}, object(), 1 << 64):
        with pytest.raises((TypeError, OverflowError, ValueError)):
            wire.encode({"x": value})


# ----------------------------------------------------------------------------------------------- fuzz

SEED = 20260101


def anything(chance: random.Random, depth: int = 0) -> Any:
    """Some plain value."""
    kind = chance.randrange(9 if depth < 4 else 7)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.choice([0, 1, -1, 1 << 31, (1 << 64) - 1, -(1 << 63), chance.randrange(1000)])
    if kind == 2:
        return chance.choice([0.0, -1.5, float("nan"), float("inf"), 1e308])
    if kind == 3:
        return chance.choice(["", "web1", "host1", "all", "\0", "日本", "x" * 300, "__class__", "self", "vm start"])
    if kind == 4:
        return bytes(chance.choices(range(256), k=chance.randrange(8)))
    if kind == 5:
        return chance.choice(["done", "queued", "quick", "1b7q2k0m4z", "512M", "-1s", "--help", "../x", "a\nb"])
    if kind == 6:
        return []
    if kind == 7:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    keys = ["id", "attempt", "state", "x", "self", "op", "v", "items"]
    return {chance.choice(keys): anything(chance, depth + 1) for _ in range(chance.randrange(4))}


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Valid bytes with a few of them changed, cut, doubled or spliced with another's."""
    found = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(found)) if found else 0
        match chance.randrange(6):
            case 0 if found:
                found[at] = chance.randrange(256)
            case 1 if found:
                found[at] ^= 1 << chance.randrange(8)
            case 2:
                del found[at : at + chance.randrange(1, 9)]
            case 3:
                found[at:at] = bytes(chance.choices(range(256), k=chance.randrange(1, 9)))
            case 4:
                found[at:at] = found[at : at + chance.randrange(1, 40)]
            case _:
                found = found[:at] + bytearray(wire.encode(chance.choice(list(GOOD.values()))))[at:]
    return bytes(found)


def through_the_doors(data: bytes) -> str | None:
    """What a client worker does first with the bytes of a request; the op where they are one."""
    message = wire.decode(data)
    op = wire.check(message)
    if op in ("read", "submit"):
        declare.build(message["action"], message["args"])
    return op


def test_changed_bytes_are_a_request_or_refused() -> None:
    chance = random.Random(SEED)
    frames = [wire.encode(message) for message in GOOD.values()]
    passed = turned_down = 0
    codes = set()
    for _ in range(20_000):
        try:
            through_the_doors(mutated(chance, chance.choice(frames)))
            passed += 1
        except Refused as error:
            codes.add(error.code)
            wire.encode(wire.failure(error))  # and the refusal itself can be told
            turned_down += 1
    assert codes == {"wrong_input", "version_mismatch"}
    assert passed > 500, "some changes leave a request"
    assert turned_down > 5000


def test_random_bytes_are_refused() -> None:
    chance = random.Random(SEED)
    for _ in range(5_000):
        with pytest.raises(Refused):
            through_the_doors(bytes(chance.choices(range(256), k=chance.randrange(60))))


def test_requests_with_any_values_are_requests_or_refused() -> None:
    chance = random.Random(SEED)
    names = [*declare.load_all(), "", "nosuch", "vm\0start"]
    passed = 0
    for _ in range(10_000):
        message = dict(chance.choice(list(GOOD.values())))
        for _ in range(chance.randrange(1, 3)):
            message[chance.choice(list(message))] = anything(chance)
        if "args" in message and chance.random() < 0.7:
            message["action"] = name = chance.choice(names)
            fields = list(declare.ACTIONS[name].FIELDS) if name in declare.ACTIONS else []
            message["args"] = {chance.choice([*fields, "x", "self"]): anything(chance) for _ in range(3)}
        try:
            through_the_doors(wire.encode(message))
            passed += 1
        except Refused as error:
            wire.encode(wire.failure(error))
    assert passed > 500


def test_a_refusal_does_not_repeat_a_quarter_of_a_megabyte() -> None:
    """Whoever sends rubbish gets a sentence, and so does the log."""
    long = "x" * 200_000
    for args in ({"name": long}, {long: 1}, {"name": [long]}, {"name": "web1", "ignore_missing": long}):
        with pytest.raises(Refused) as error:
            declare.build("vm start", args)
        assert len(str(error.value.to_wire())) < 10_000
    for op in (long, "read"):
        with pytest.raises(Refused) as error:
            wire.check({"op": op, "action": 5, "args": {}})
        assert len(str(error.value.to_wire())) < 10_000
    assert len(str(refused(msgpack.packb({"v": long})).to_wire())) < 10_000


# --------------------------------------------------------------------------------------------- answers


def test_a_good_answer_is_given_as_it_came() -> None:
    assert wire.result(wire.ok(job={"id": "x"})) == {"ok": True, "job": {"id": "x"}}


@pytest.mark.parametrize("family", [Refused, Failed])
def test_an_error_arrives_as_the_class_it_left_as(family: type[MaglicaError]) -> None:
    sent = family("no_capacity", "text", "hint", details={"host1": "full"}, job="1b7q")
    with pytest.raises(family) as arrived:
        wire.result(wire.decode(wire.encode(wire.failure(sent))))
    assert arrived.value.to_wire() == sent.to_wire()


@pytest.mark.parametrize("answer", [{}, {"ok": False}, {"ok": False, "error": "text"}, {"error": None}, {"ok": 0}])
def test_an_answer_that_is_neither_is_an_error_of_ours(answer: dict[str, Any]) -> None:
    with pytest.raises(Failed) as error:
        wire.result(answer)
    assert error.value.code == "internal_error"


# ---------------------------------------------------------------------------------------------- topics


def test_topics_end_so_that_no_name_is_the_beginning_of_another() -> None:
    """D1: a SUB filter is a prefix."""
    names = ["host1", "host10", "host1.example.jp", "host", "all", "allhosts"]
    for one in names:
        for other in names:
            assert wire.topic(other).startswith(wire.topic(one)) == (one == other)


# -------------------------------------------------------------------------------------------- long answers


def answer_of(size: int) -> dict[str, Any]:
    return {"v": 2, "op": "answer", "host": "host1", "ask": 7, "ok": True, "value": {"items": ["x" * size]}}


def test_an_answer_that_fits_travels_as_it_is() -> None:
    for parts in (True, False):
        assert wire.split(answer_of(1000), parts=parts) == [answer_of(1000)]


@pytest.mark.parametrize("size", [wire.MAX_BYTES, 3_000_000, wire.PART_BYTES * wire.MAX_PARTS - 100])
def test_a_long_answer_travels_in_pieces_that_are_requests(size: int) -> None:
    pieces = wire.split(answer_of(size), parts=True)
    assert len(pieces) > 1
    for number, piece in enumerate(pieces):
        decoded = wire.decode(wire.encode(piece))
        assert wire.check(decoded) == "part"
        assert (decoded["host"], decoded["ask"], decoded["part"], decoded["parts"]) == ("host1", 7, number, len(pieces))
    whole = b"".join(piece["data"] for piece in pieces)
    assert wire.decode(whole, len(whole)) == answer_of(size)


@pytest.mark.parametrize(("size", "parts"), [(wire.MAX_BYTES, False), (wire.PART_BYTES * wire.MAX_PARTS, True)])
def test_an_answer_that_cannot_travel_says_so(size: int, parts: bool) -> None:
    (told,) = wire.split(answer_of(size), parts=parts)
    assert wire.check(wire.decode(wire.encode(told))) == "answer"
    assert (told["ask"], told["ok"]) == (7, False)
    assert "bytes, more than" in told["error"]["message"]


def test_reports_are_told_as_far_as_they_fit_and_at_least_one() -> None:
    reports = [{"id": str(number), "text": "x" * 1000} for number in range(10)]
    assert wire.fitting(reports) == reports
    assert wire.fitting(reports, 3100) == reports[:3]
    assert wire.fitting(reports, 10) == reports[:1]
    assert wire.fitting([], 10) == []


def test_every_request_is_somebodys() -> None:
    """Who may send what is decided by these lists: an op in none of them would be nobody's."""
    assert wire.OF_HOSTS | wire.OF_PEOPLE | {"join"} == set(wire.REQUESTS)
    assert not wire.OF_HOSTS & wire.OF_PEOPLE
    for op in wire.OF_HOSTS:
        assert "host" in wire.REQUESTS[op][0], "its key is compared with it"


BIG = b"\xdd" + (60_000).to_bytes(4, "big") + b"\x80" * 60_000
BROKEN = {
    "cut off": (b"\x81\xa1a" + BIG)[:-1],
    "not UTF-8": b"\x82\xa1a\x92" + BIG + b"\xa1\xff\xa1b\x01",
    "half a character": b"\x81\xa1a\x92" + BIG + b"\xa3\xed\xa0\x80",
    "a list as key": b"\x81\xa1a\x92" + BIG + b"\x81\x90\x01",
    "a number as key": b"\x81\xa1a\x92" + BIG + b"\x81\x01\x01",
    "an extension": b"\x81\xa1a\x92" + BIG + b"\xd4\x05a",
    "half a timestamp": b"\x81\xa1a\x92" + BIG + b"\xc7\x00\xff",
    "no type at all": b"\x81\xa1a\x92" + BIG + b"\xc1",
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_messages_leave_nothing_behind(how: str) -> None:
    """msgpack's decoder never frees what it had made when it gives up: 4 MiB for each of these."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    refused(BROKEN[how])
    before = resident()
    for _ in range(40):
        assert refused(BROKEN[how]).code == "wrong_input"
    assert resident() < before + (40 << 20)


@pytest.mark.parametrize("inside", [b"\x80", b"\x90", b"\x91\x90", b"\x81\xa0\x80", b"\xdc\0\0", b"\xdd\0\0\0\0"])
def test_many_empty_things_are_not_even_made(inside: bytes) -> None:
    """A byte on the wire each, 64 in memory."""
    count = (wire.MAX_BYTES - 16) // len(inside)
    bomb = b"\x82\xa1v\x01\xa1x\xdd" + count.to_bytes(4, "big") + inside * count
    assert len(bomb) <= wire.MAX_BYTES
    tracemalloc.start()
    try:
        refused(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


EXTENSION = b"\xd4\xff\0"  # for it the decoder that is written in Python has to be asked


@pytest.mark.parametrize("core", [b"\xc0", EXTENSION])
@pytest.mark.parametrize("head", [b"\x91", b"\x81\xa0"])
@pytest.mark.parametrize("size", [wire.UNCOUNTED_BYTES - 64, wire.MAX_BYTES - 64])
def test_what_is_nested_too_deep_costs_little_until_that_is_known(head: bytes, core: bytes, size: int) -> None:
    """The depth is looked at when all is decoded. What is nested as deep as msgpack goes has a container in every byte
    or two: of a long message they are counted before, and a short one has room for few.
    """
    chain = head * 900 + core
    count = size // len(chain)
    data = b"\x82\xa1v\x01\xa1x\xdd" + count.to_bytes(4, "big") + chain * count
    assert len(data) <= size + 64
    refused(data)
    tracemalloc.start()
    try:
        assert refused(data).code == "wrong_input"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    began = time.process_time()
    for _ in range(20):
        refused(data)
    assert (time.process_time() - began) / 20 < 0.1


def test_long_messages_of_use_are_not_taken_for_that() -> None:
    domains = [{"name": f"vm{number}", "state": "running", "disks": [], "tags": {}} for number in range(3500)]
    for value in (domains, ["\u304c\u304e" * 15_000, "\u0440" * 40_000], list(range(-30, 200)) * 400, "\x81" * 90_000):
        data = wire.encode({"x": value})
        assert wire.UNCOUNTED_BYTES < len(data) <= wire.MAX_BYTES
        assert wire.decode(data)["x"] == value
