"""Cancelling races with everything: one end, and effects that agree with it."""

from __future__ import annotations

import random
import threading

import pytest

from tests.faults.stage import LONG, Stage

# Where a cancel may meet a death.
DEATHS: list[dict[str, list[int]]] = [
    {},
    {"cw.before_commit.ended": [2, 5], "cw.after_answer.handed": [3]},
    {"hw.after_effect": [3, 8], "hw.before_tell": [4], "hw.before_forget_undo": [2]},
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10 if LONG else 1))
@pytest.mark.parametrize("crash", DEATHS, ids=["alive", "client worker dies", "host worker dies"])
def test_cancelled_at_any_moment(stage: Stage, crash: dict[str, list[int]], seed: int) -> None:
    chance = random.Random(seed)
    stage.plan(crash=crash)
    stage.open()
    people = threading.Thread(target=stage.submit, args=(40,), kwargs={"seconds": 0.1})
    people.start()
    cancelled = 0
    while people.is_alive() or cancelled < 15:
        known = sorted(set(stage.accepted.values()) - stage.cancelled)
        if known and (chance.random() < 0.5 or not people.is_alive()):
            stage.cancel(chance.choice(known[-12:]))
            cancelled += 1
        people.join(0.02)
    assert stage.audit() == []
    states = {record["state"] for record in stage.last.values() if record["id"] in stage.cancelled}
    assert "cancelled" in states, "no cancel came in time"
