"""Messages that are lost, doubled, delayed and overtaken, on every leg and in both directions."""

from __future__ import annotations

import pytest

from tests.faults.stage import LONG, Stage
from tests.waiting import until

MANY = {host: [f"vm{number}.{host}" for number in range(40)] for host in ("host1", "host10")}
STORM = {"drop": 0.3, "double": 0.3, "delay": 0.3, "late": 0.5}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(10 if LONG else 1))
def test_a_thousand_jobs_in_a_storm(stage: Stage, seed: int) -> None:
    # Without encryption: who asks again makes a new connection, and fifty would do little but shake hands.
    stage.configure(client="read_timeout = 0.2s\nsecurity = none", host_worker="slots_quick = 40")
    stage.plan(weather={**STORM, "seed": seed})
    stage.open(MANY)
    with stage.storm():
        stage.submit(1000, people=50, vms=MANY)
        until(stage.settled, 60, "every job has ended in the storm", pause=0.1)
    assert stage.audit() == []
