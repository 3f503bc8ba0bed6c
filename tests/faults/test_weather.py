"""Messages that are lost, doubled, delayed and overtaken, on every leg and in both directions."""

from __future__ import annotations

import pytest

from tests.faults import effects
from tests.faults.stage import LONG, Stage
from tests.waiting import until

MANY = {host: [f"vm{number}.{host}" for number in range(40)] for host in ("host1", "host10")}
STORM = {"drop": 0.3, "double": 0.3, "delay": 0.3, "late": 0.5}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(10 if LONG else 1))
def test_a_thousand_jobs_in_a_storm(stage: Stage, seed: int) -> None:
    stage.plan(weather={**STORM, "seed": seed})
    calm(stage)
    with stage.storm():
        stage.submit(1000, people=50, vms=MANY)
        until(stage.settled, 100, "every job has ended in the storm", pause=0.1)
    assert stage.audit() == []


def calm(stage: Stage) -> None:
    """Everything runs, and the weather is still good."""
    # Without encryption: who asks again makes a new connection, and fifty would do little but shake hands.
    stage.configure(client="read_timeout = 0.2s\nsecurity = none", host_worker="slots_quick = 40")
    stage.open(MANY)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_late_answer_that_is_taken_is_noticed(stage: Stage) -> None:
    """The control of the above, as `test_controls.py` has them for crashes: every message comes twice."""
    echo = {"drop": 0.0, "double": 1.0, "delay": 0.5, "late": 1.0, "seed": 1}
    stage.plan(weather=echo, defects=["late_answers_taken"])
    calm(stage)
    with stage.storm():
        # It takes a late answer that meets a job which was done and forgotten meanwhile: chance, but not for long.
        for _ in range(8):
            stage.submit(200, people=50, vms=MANY)
            if max(effects.seen(stage.effects).made.values()) > 1:
                break
    found = stage.audit(5.0)
    assert any("made 1 2 times" in line for line in found), found


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_message_comes_twice(stage: Stage) -> None:
    stage.plan(weather={"drop": 0.0, "double": 1.0, "delay": 0.3, "late": 1.0, "seed": 1})
    calm(stage)
    with stage.storm():
        stage.submit(200, people=50, vms=MANY)
    assert stage.audit() == []
