"""Calls that do not come back in time: given up, counted, and let back in when they come."""

from __future__ import annotations

import threading

import pytest

from maglica.host_worker.deadline import Calls, Overdue
from tests.waiting import until


def test_a_call_gives_its_value_or_raises_its_error() -> None:
    calls = Calls(4)
    assert calls.run(lambda: 5, 10.0) == 5
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0, 10.0)
    assert calls.run(lambda: None, 10.0) is None


def test_threads_are_used_again() -> None:
    calls = Calls(4)
    assert len({calls.run(threading.get_ident, 10.0) for _ in range(50)}) <= 2


def test_calls_of_many_threads_do_not_wait_for_each_other() -> None:
    calls = Calls(4)
    together = threading.Barrier(20)
    threads = [threading.Thread(target=calls.run, args=(lambda: together.wait(10), 10.0)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert not together.broken


def test_a_call_that_hangs_is_given_up_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    calls, back = Calls(4), threading.Event()
    with pytest.raises(Overdue):
        calls.run(lambda: back.wait(30), 0.05)
    assert calls.hung == 1
    assert calls.run(lambda: 5, 10.0) == 5
    back.set()
    until(lambda: calls.hung == 0)
    assert "a call came back" in caplog.text


def test_no_more_than_so_many_are_left_to_themselves() -> None:
    calls, back = Calls(3), threading.Event()
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(Overdue):
            calls.run(lambda: back.wait(30), 0.01)
    for _ in range(20):
        with pytest.raises(Overdue):
            calls.run(lambda: pytest.fail("it must not be begun"), 10.0)
    assert threading.active_count() <= before + 3
    back.set()
    until(lambda: calls.hung == 0)
    assert calls.run(lambda: 5, 10.0) == 5
