"""Questions to other hosts, from a job's thread through the loop and back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from maglica import wire
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import needs
from maglica.host_worker.needs import Needs


class Desk:
    """A loop that answers as the test says."""

    def __init__(self, *answers: wire.Message | None) -> None:
        self.asked: list[wire.Message] = []
        self._answers = list(answers)
        self.needs = Needs(self._wake)

    def _wake(self) -> None:
        for question in self.needs.outgoing():
            self.asked.append(question)
            answer = self._answers.pop(0) if self._answers else None
            if answer is not None:
                late = {**answer, "op": "need", "ask": question["ask"]}
                threading.Thread(target=self.needs.answered, args=(late,)).start()

    def ask(self, within: float = 5.0) -> dict[str, Any]:
        return self.needs.ask("job1", {"disk": "vda"}, within, lambda: None)


def test_an_answer_comes_back_to_the_thread_that_asked() -> None:
    desk = Desk(wire.ok(value={"item": {"port": 1}}))
    assert desk.ask() == {"port": 1}
    assert desk.asked == [{"op": "need", "ask": 1, "job": "job1", "args": {"disk": "vda"}}]


def test_an_error_is_raised_as_what_it_left_as() -> None:
    with pytest.raises(Refused, match="it runs"):
        Desk(wire.failure(Refused("wrong_state", "it runs"))).ask()


@pytest.mark.parametrize("value", [{"item": b"x"}, {"item": [1]}, {"item": 7}, [1], "x", 7])
def test_an_answer_that_makes_no_sense_is_an_error(value: Any) -> None:
    with pytest.raises(Failed, match="makes no sense"):
        Desk(wire.ok(value=value)).ask()


def test_there_may_be_nothing_to_say() -> None:
    assert Desk(wire.ok(value={"item": {}})).ask() == Desk(wire.ok()).ask() == {}


def test_what_was_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "AGAIN", 0.3)
    desk = Desk(None, wire.ok(value={"item": {"port": 2}}))
    assert desk.ask() == {"port": 2}
    assert [question["ask"] for question in desk.asked] == [1, 2]


def test_nobody_waits_for_ever_and_a_late_answer_is_dropped() -> None:
    desk = Desk()
    with pytest.raises(Failed, match="the client worker does not answer"):
        desk.ask(0.3)
    desk.needs.answered({"op": "need", "ask": 1, **wire.ok()})
    desk.needs.answered({"op": "need"})


def test_a_job_that_shall_stop_stops_asking() -> None:
    def check() -> None:
        raise Failed("cancelled", "the job was cancelled")

    with pytest.raises(MaglicaError, match="cancelled"):
        Desk().needs.ask("job1", {}, 60.0, check)
