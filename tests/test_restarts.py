"""Daemons that are killed again and again while jobs come in: every job ends, none is carried out twice."""

from __future__ import annotations

import random
import re
import threading
import time

import pytest

import maglica
from maglica import job
from maglica.errors import MaglicaError

from .daemons import RUNNING, Daemon, House, until

SECONDS = 12
ENOUGH = 20  # jobs
NAMES = [f"vm{number}.example.jp" for number in range(6)]


def begun(house: House) -> list[str]:
    """The id of every job that a host worker began, as often as it did."""
    return [found for host in house.hosts.values() for found in re.findall(r"begin job=(\w+)", host.log)]


def harass(daemons: list[Daemon], chance: random.Random, stop: threading.Event) -> int:
    """Kill one daemon after the other, and start it again; how often."""
    kills = 0
    while not stop.wait(chance.uniform(0.1, 0.5)):
        victim = chance.choice(daemons)
        victim.kill()
        stop.wait(chance.uniform(0.0, 0.3))
        victim.start()
        kills += 1
    return kills


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_job_is_lost_or_done_twice(house: House) -> None:
    chance = random.Random(20)
    house.start()
    for name, own in (("host1", NAMES[:3]), ("host10", NAMES[3:])):
        house.start_host(name, dict.fromkeys(own, RUNNING))
    stop = threading.Event()
    kills: list[int] = []
    daemons = [house.client_worker, *house.hosts.values()]
    trouble = threading.Thread(target=lambda: kills.append(harass(daemons, chance, stop)))
    trouble.start()
    accepted: dict[str, str] = {}
    try:
        with maglica.connect(config_file=str(house.config)) as cloud:
            began = time.monotonic()
            # On a busy machine a daemon takes longer to start than it lives.
            while (lasted := time.monotonic() - began) < SECONDS or (len(accepted) <= ENOUGH and lasted < 5 * SECONDS):
                key, name = f"key-{len(accepted)}", NAMES[len(accepted) % len(NAMES)]
                try:
                    accepted[key] = cloud.vm.destroy.submit(name=name, idempotency_key=key).id
                except MaglicaError as error:
                    # A host that is being started again is a host that may have the VM: ask again, with the same key.
                    if error.code not in {"unreachable", "timeout", "host_down", "unknown_entity"}:
                        raise
                time.sleep(0.02)
    finally:
        stop.set()
        trouble.join()
    for daemon in daemons:
        if not daemon.alive:
            daemon.start()
    assert kills[0] > 10, "hardly anything was killed"
    assert len(accepted) > ENOUGH, "hardly anything was accepted"
    assert len(set(accepted.values())) == len(accepted), "every key is a job of its own"

    with maglica.connect(config_file=str(house.config)) as cloud:

        def open_jobs() -> list[str]:
            return [record["id"] for record in cloud.job.list(last=10000) if record["state"] not in job.FINAL]

        until(lambda: not open_jobs(), 30, "every job has ended")
        records = {record["id"]: record for record in cloud.job.list(last=10000)}
        assert set(records) >= set(accepted.values()), "every accepted job is recorded"
        assert len(records) == len({record["key"] for record in records.values()})
        twice = [found for found in set(begun(house)) if begun(house).count(found) > 1]
        assert twice == []
        for record in records.values():
            assert record["state"] in (job.DONE, job.FAILED)
            if record["state"] == job.FAILED:
                assert record["error"]["code"] in ("lost", "unknown_entity"), record["error"]
