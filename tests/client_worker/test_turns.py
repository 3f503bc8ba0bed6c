"""Whose request is next. No sockets; the ones with sockets are in tests/test_bus.py."""

from __future__ import annotations

from maglica import wire
from maglica.bus import Request
from maglica.client_worker.door.limits import Rates
from maglica.client_worker.door.turns import AT_ONCE, WAITING, WAITING_BYTES, Turns


def request(public: str, connection: int = 0, body: bytes = b"x") -> Request:
    return Request((b"%d" % connection, b""), body, public)


def filled(*public: str, rate: int = 1_000_000) -> Turns:
    turns = Turns(Rates(rate))
    for number, key in enumerate(public):
        assert turns.put(request(key, number), 0.0) is None
    return turns


def taken(turns: Turns) -> str:
    return "".join(one.public for one in turns.take())


def test_keys_take_turns_however_many_connections_they_have() -> None:
    turns = filled(*"a" * 500, "b", "c", "c")
    assert taken(turns) == "abc" + "ac" + "a" * (AT_ONCE - 2)
    assert taken(turns) == "a" * AT_ONCE
    assert turns, "the others wait"


def test_nobody_waits_for_more_than_one_turn_of_somebody_else() -> None:
    turns = filled(*"a" * 900)
    for _ in range(20):
        assert turns.put(request("b"), 0.0) is None
        assert "b" in taken(turns)[:2]


def test_the_requests_of_a_key_stay_in_their_order() -> None:
    turns = Turns(Rates(1000))
    for number in range(20):
        turns.put(request("ab"[number % 2], number), 0.0)
    order: list[Request] = []
    while turns:
        order += turns.take()
    for public in "ab":
        numbers = [int(one.route[0]) for one in order if one.public == public]
        assert numbers == sorted(numbers)
        assert len(numbers) == 10


def test_too_many_of_one_key_are_turned_down_and_those_of_others_are_not() -> None:
    turns = filled(*"a" * WAITING)
    why = turns.put(request("a"), 0.0)
    assert why is not None
    assert why.code == "no_capacity"
    assert turns.put(request("b"), 0.0) is None
    assert "b" in taken(turns)
    assert turns.put(request("a"), 0.0) is None, "there is room again"


def test_bytes_count_as_well_and_one_large_request_is_always_possible() -> None:
    turns = Turns(Rates(1_000_000))
    large = bytes(wire.MAX_BYTES)
    answers = [turns.put(request("a", body=large), 0.0) for _ in range(20)]
    assert [why is None for why in answers].count(True) == WAITING_BYTES // wire.MAX_BYTES
    assert turns.put(request("b", body=large), 0.0) is None
    while turns:
        list(turns.take())
    assert turns._bytes == {}
    assert turns.put(request("a", body=large), 0.0) is None


def test_who_is_turned_down_and_goes_on_floods() -> None:
    turns = filled(*"a" * 100, rate=100)
    one = request("a")
    for _ in range(99):
        assert turns.put(one, 0.0) is not None
        assert not turns.floods(one, 0.0)
    assert turns.put(one, 0.0) is not None
    assert turns.floods(one, 0.0)
    assert not turns.floods(request("b"), 0.0)


def test_without_keys_each_connection_is_counted_by_itself() -> None:
    turns = Turns(Rates(1000))
    for number in range(30):
        turns.put(request("", connection=number % 3), 0.0)
    assert [int(one.route[0]) for one in turns.take()][:6] == [0, 1, 2, 0, 1, 2]
