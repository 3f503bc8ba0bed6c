"""Commands that die while they submit or wait."""

from __future__ import annotations

import random
import time

import pytest

from tests.daemons import RUNNING, House
from tests.faults.stage import LONG


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10 if LONG else 1))
def test_commands_that_are_killed(house: House, seed: int) -> None:
    """Each leaves no job or one; the same key given again makes it one."""
    chance = random.Random(seed)
    house.start()
    names = [f"web{number}" for number in range(12)]
    house.start_host("host1", dict.fromkeys(names, RUNNING))
    for name in names:
        command = house.spawn("vm", "destroy", name, "--yes", f"--idempotency-key=key-{name}")
        time.sleep(chance.uniform(0.0, 0.6))
        command.kill()
        command.wait(10)
    with house.connect() as cloud:
        found = [job["key"] for job in cloud.job.list(last=100)]
        assert len(found) == len(set(found)), "two jobs of one command"
        for name in names:
            cloud.vm.destroy.submit(name=name, idempotency_key=f"key-{name}").wait(30)
        jobs = cloud.job.list(last=100)
        assert sorted(job["key"] for job in jobs) == sorted(f"key-{name}" for name in names)
        assert {job["state"] for job in jobs} == {"done"}
        assert {vm["state"] for vm in cloud.vm.list()} == {"shut-off"}
