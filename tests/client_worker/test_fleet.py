"""What the client worker knows of its hosts; the time is an argument."""

from __future__ import annotations

import pytest

from maglica.client_worker.fleet import BEATS, Fleet
from maglica.errors import Refused

BEAT = 2.0
PATIENCE = BEATS * BEAT


def fleet(started: float = 100.0) -> Fleet:
    return Fleet(BEAT, started)


def state(fleet: Fleet, name: str, now: float) -> str:
    return fleet.state(fleet.hosts[name], now)


def test_a_host_that_was_never_heard_of_gets_a_grace() -> None:
    found = fleet(started=100.0)
    host = found.know("host1")
    assert found.state(host, 100.0) == "unknown"
    assert found.state(host, 100.0 + PATIENCE) == "unknown"
    assert found.state(host, 100.1 + PATIENCE) == "down"
    assert found.why(host, 200.0) == "has not reported since the client worker started"


def test_a_host_is_up_for_three_beats_after_each_word() -> None:
    found = fleet()
    host = found.hello("host1", "journal", 110.0)
    assert found.state(host, 110.0) == "up"
    assert found.state(host, 110.0 + PATIENCE) == "up"
    assert found.why(host, 110.0 + PATIENCE) == "reports regularly"
    assert found.state(host, 110.1 + PATIENCE) == "down"
    assert found.why(host, 120.4) == "last heard 10 s ago"
    found.heard("host1", host.incarnation, 130.0)
    assert found.state(host, 130.0 + PATIENCE) == "up"


def test_who_is_asked_and_who_is_named_as_silent() -> None:
    found = fleet(started=100.0)
    for name in ("c", "b", "a"):
        found.know(name)
    found.hello("b", "j", 101.0)
    assert found.answering(102.0) == ["a", "b", "c"], "in the order of their names; the unknown are worth asking"
    assert found.silent(102.0) == {}
    found.heard("b", 1, 110.0)
    assert found.answering(110.0) == ["b"]
    assert found.silent(110.0) == dict.fromkeys(("a", "c"), "has not reported since the client worker started")
    assert found.answering(120.0) == []
    assert found.silent(120.0)["b"] == "last heard 10 s ago"


def test_to_know_a_host_twice_is_to_know_it_once() -> None:
    found = fleet()
    assert found.know("host1") is found.know("host1")
    assert list(found.hosts) == ["host1"]


# ---------------------------------------------------------------------------------------------- fencing


def test_every_start_of_a_worker_gets_the_next_number() -> None:
    found = fleet()
    assert [found.hello("host1", "journal", 100.0 + at).incarnation for at in range(3)] == [1, 2, 3]


def test_an_older_incarnation_is_told_to_stop() -> None:
    found = fleet()
    found.hello("host1", "journal", 101.0)
    found.hello("host1", "journal", 102.0)
    with pytest.raises(Refused, match="incarnation 1 of host1 was replaced by 2") as refused:
        found.heard("host1", 1, 103.0)
    assert refused.value.code == "locked"
    assert refused.value.details == {"fenced": True, "known": 2}
    assert found.hosts["host1"].heard == 102.0, "its word does not count"
    assert found.heard("host1", 2, 104.0).heard == 104.0
    with pytest.raises(Refused):
        found.heard("host1", 3, 105.0)


def test_a_host_that_never_said_hello_has_to() -> None:
    found = fleet()
    found.know("host1")  # the settings name it
    for name in ("host1", "host2"):
        with pytest.raises(Refused, match=f"host {name} is not known here") as refused:
            found.heard(name, 0, 101.0)
        assert (refused.value.code, refused.value.hint) == ("unknown_entity", "it has to say hello first")
    assert "host2" not in found.hosts


def test_a_second_worker_of_the_same_name_is_refused_aloud() -> None:
    """D2."""
    found = fleet()
    first = found.hello("host1", "journal A", 101.0)
    with pytest.raises(Refused, match="another host worker called host1 is alive") as refused:
        found.hello("host1", "journal B", 101.0 + PATIENCE)
    assert refused.value.code == "already_exists"
    assert "name" in refused.value.hint
    assert (first.journal, first.incarnation, first.heard) == ("journal A", 1, 101.0)
    second = found.hello("host1", "journal B", 101.1 + PATIENCE)
    assert (second.journal, second.incarnation) == ("journal B", 2)
    with pytest.raises(Refused):
        found.heard("host1", 1, 110.0)


def test_the_same_worker_may_come_back_at_once() -> None:
    found = fleet()
    found.hello("host1", "journal", 101.0)
    assert found.hello("host1", "journal", 101.1).incarnation == 2


def test_after_a_restart_of_the_client_worker_a_known_worker_counts_as_alive() -> None:
    """Otherwise whoever speaks first takes the name, while the other one is in the middle of a job."""
    found = fleet(started=100.0)
    host = found.know("host1")
    host.journal, host.incarnation = "journal A", 7  # as the store remembers it
    with pytest.raises(Refused, match="another host worker called host1 is alive"):
        found.hello("host1", "journal B", 100.0 + PATIENCE)
    assert found.heard("host1", 7, 100.0 + PATIENCE).incarnation == 7
    other = found.know("host2")
    other.journal, other.incarnation = "journal A", 7
    assert found.hello("host2", "journal B", 100.1 + PATIENCE).incarnation == 8, "it had its time"


def test_who_says_hello_again_keeps_its_number() -> None:
    """Its answer was lost."""
    found = fleet()
    assert [found.hello("host1", "journal", 101.0 + at, (4, "word")).incarnation for at in range(3)] == [1, 1, 1]
    assert found.hello("host1", "journal", 105.0, (4, "another word")).incarnation == 2, "a copy of that journal"
    assert found.hello("host1", "journal", 106.0, (5, "another word")).incarnation == 3, "started again"
    assert found.hello("host1", "journal", 107.0, (5, "another word")).incarnation == 3


def test_a_hello_of_an_earlier_start_does_not_replace_a_later_one() -> None:
    """Sent on a connection that broke, and delivered when it is no longer true."""
    found = fleet()
    host = found.hello("host1", "journal", 101.0, (5, "late"))
    with pytest.raises(Refused, match="came late"):
        found.hello("host1", "journal", 102.0, (4, "early"))
    assert (host.incarnation, host.start) == (1, (5, "late"))
    later = 102.0 + PATIENCE
    assert found.hello("host1", "journal", later, (4, "from a backup")).incarnation == 2, "nobody else is alive"


def test_a_report_that_was_overtaken_does_not_count() -> None:
    found = fleet()
    found.hello("host1", "journal", 101.0, (1, "word"))
    for seq in (1, 2, 5):
        assert found.heard("host1", 1, 101.0 + seq, seq).seq == seq
    for seq in (5, 4, 0):
        with pytest.raises(Refused, match=f"report {seq} of host1 came late: 5 has been heard") as refused:
            found.heard("host1", 1, 120.0, seq)
        assert "fenced" not in refused.value.details
    assert found.hosts["host1"].heard == 106.0
    found.hello("host1", "journal", 121.0, (1, "word"))
    with pytest.raises(Refused):
        found.heard("host1", 1, 122.0, 5)
    found.hello("host1", "journal", 123.0, (2, "word"))
    assert found.heard("host1", 2, 124.0, 1).seq == 1, "another process counts from the beginning"


def test_names_are_told_apart_exactly() -> None:
    """D1, D2: neither a prefix nor a short name is the host."""
    found = fleet()
    for name in ("host1", "host10", "host1.example.jp"):
        found.hello(name, f"journal of {name}", 101.0)
    assert state(found, "host10", 101.0) == "up"
    found.heard("host10", 1, 120.0)
    assert (state(found, "host1", 120.0), state(found, "host10", 120.0)) == ("down", "up")
    assert state(found, "host1.example.jp", 120.0) == "down"
