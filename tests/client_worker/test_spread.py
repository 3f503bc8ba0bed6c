"""Places for many: the same as one after the other would get, much sooner, and never more than there is."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from maglica.client_worker.placement import place, spread
from maglica.client_worker.placement.place import Reserved, Seen, Survey
from maglica.client_worker.placement.spread import Rooms, Spread, Whose
from maglica.errors import Refused
from tests.client_worker.test_place import GIB, IMAGE, domain, survey, wanted

HERE: frozenset[str] = frozenset()


def spreading(surveys: dict[str, Survey], *, fill: bool = False, rooms: Rooms | None = None, **more: Any) -> Spread:
    weights = more.pop("weights", {})
    return Spread(
        wanted(**more), Seen(surveys, {}), rooms or Rooms({}, {}), weights, HERE, fill=fill, ignore_missing=False
    )


def many(found: Spread, count: int, **more: Any) -> list[str]:
    """Where they go; `-` for one that has no place."""
    hosts = []
    for number in range(count):
        try:
            hosts.append(found.choose(wanted(hostname=f"ci-{number}", **more)).host)
        except Refused:
            hosts.append("-")
    return hosts


def test_they_are_spread_by_weight_or_fill_one_host_after_the_other() -> None:
    surveys = {"a": survey(), "b": survey(), "c": survey(active=1)}
    assert many(spreading(surveys), 5) == ["a", "b", "c", "a", "b"]
    assert sorted(many(spreading(surveys, weights={"a": 20.0}), 6)) == ["a", "a", "a", "b", "b", "c"]
    assert many(spreading(surveys, weights={"b": 0.0}), 3) == ["a", "c", "a"]
    small = {"a": survey(memory_free_bytes=5 * GIB), "b": survey(memory_free_bytes=9 * GIB)}
    assert many(spreading(small, fill=True), 7) == ["a", "a", "b", "b", "b", "b", "-"]
    assert many(spreading(small), 7) == ["b", "a", "b", "a", "b", "b", "-"]


def test_where_they_go_and_why_is_told() -> None:
    surveys = {"a": survey(memory_free_bytes=3 * GIB), "b": survey(memory_free_bytes=5 * GIB)}
    found = spreading(surveys)
    said = [found.choose(wanted(hostname=f"ci-{number}")).why for number in range(3)]
    least = "least load for its weight (0) of 2 that fit"
    assert said == [least, least, "the only host with room left"]
    with pytest.raises(Refused) as refused:
        found.choose(wanted(hostname="ci-4"))
    assert refused.value.details == {
        "a": "needs 2048 MiB of memory, 960 MiB are free", "b": "needs 2048 MiB of memory, 896 MiB are free",
    }  # fmt: skip
    assert spreading(surveys, on="a").choose(wanted(hostname="ci-4", on="a")).why == "--on=a"
    assert "fills a first" in spreading(surveys, fill=True).choose(wanted(hostname="ci-5")).why


def test_each_pool_is_counted_by_itself() -> None:
    """Two pools with 9 GiB each take two clones of 4 GiB each: not four, as their sum would, nor two."""
    pools = [{"name": "fast", "free_bytes": 9 * GIB}, {"name": "slow", "free_bytes": 9 * GIB}]
    roomy = {"memory_free_bytes": 999 * GIB}
    assert many(spreading({"a": survey(pools=pools, **roomy)}), 6) == ["a", "a", "a", "a", "-", "-"]
    odd = [{"name": "fast", "free_bytes": 7 * GIB}, {"name": "slow", "free_bytes": 7 * GIB}]
    assert many(spreading({"a": survey(pools=odd, **roomy)}), 4) == ["a", "a", "-", "-"]
    assert many(spreading({"a": survey(pools=pools, **roomy)}, pool="fast"), 3, pool="fast") == ["a", "a", "-"]
    more = {"extra_bytes": 2 * GIB}
    assert many(spreading({"a": survey(pools=pools, **roomy)}, **more), 3, **more) == ["a", "a", "-"]


def test_a_name_that_is_taken_or_wanted_twice_is_refused_and_takes_no_room() -> None:
    rooms = Rooms({}, {"ci-2": Whose("1b7q2k0m4z", "ci-2", "a")})
    found = spreading({"a": survey(domain("ci-1"))}, rooms=rooms)
    for name, what in [("ci-1", "ci-1 exists on a"), ("ci-2", "job 1b7q2k0m4z is working on ci-2")]:
        with pytest.raises(Refused, match=what):
            found.choose(wanted(hostname=name))
    assert rooms.reserved == {}
    found.choose(wanted(hostname="ci-3"))
    with pytest.raises(Refused, match="ci-3 is wanted twice"):
        found.choose(wanted(hostname="ci-3"))
    assert rooms.reserved["a"].vms == 1


def record(name: str, host: str, state: str = "running", **more: Any) -> Any:
    values = {"image": IMAGE, "hostname": name, "mode": "full", **more}
    return {"id": f"job of {name}", "action": "vm clone", "args": values, "object": name, "host": host, "state": state}


def test_what_was_given_away_and_is_not_seen_yet_counts() -> None:
    """Open jobs, and those that were done while the hosts were asked; what a host shows it counts itself."""
    seen = Seen({"a": survey(domain("web1")), "b": survey()}, {})
    records = [record("web1", "a"), record("web2", "a"), record("web3", "b", "done"), record("web4", "gone")]
    rooms = spread.given_away(seen, records)
    need = 2 * GIB + place.OVERHEAD
    assert rooms.reserved == {
        "a": Reserved(1, need, 0, (("default", 4 * GIB),)), "b": Reserved(1, need, 0, (("default", 4 * GIB),)),
    }  # fmt: skip
    assert set(rooms.names) == {"web1", "web2", "web3", "web4"}
    gone = spread.given_away(Seen({"a": survey(domain("web1"))}, {}), [record("web1", "a", "done")])
    assert gone.names == {}, "it is over, and the host tells of it"


def test_a_try_leaves_no_trace() -> None:
    rooms = Rooms({}, {})
    tried = rooms.copy()
    many(spreading({"a": survey()}, rooms=tried), 3)
    assert (rooms.reserved, rooms.names) == ({}, {})
    assert tried.reserved["a"].vms == 3


def random_surveys(chance: random.Random) -> dict[str, Survey]:
    return {
        f"host{number}": survey(
            *(domain(f"vm{number}-{n}", "running") for n in range(chance.randrange(6))),
            image=chance.random() < 0.9,
            vcpus=chance.choice([1, 8]),
            memory_free_bytes=chance.randrange(20) * GIB,
            pools=[{"name": f"p{n}", "free_bytes": chance.randrange(20) * GIB} for n in range(chance.randrange(1, 4))],
        )
        for number in range(chance.randrange(1, 9))
    }


@pytest.mark.parametrize("seed", range(40))
def test_it_is_what_one_after_the_other_would_get(seed: int) -> None:
    chance = random.Random(seed)
    surveys = random_surveys(chance)
    surveys["host0"] = survey(active=chance.randrange(4))
    weights = {host: chance.choice([0.0, 5.0, 10.0, 20.0]) for host in surveys if chance.random() < 0.5}
    expected, reserved = [], dict[str, Reserved]()
    for number in range(25):
        want = wanted(hostname=f"ci-{number}")
        try:
            host = place.choose(want, surveys, {}, weights, reserved, False).host
        except Refused:
            expected.append("-")
            continue
        expected.append(host)
        reserved[host] = place.reserve(reserved.get(host, Reserved()), want, surveys[host])
    rooms = Rooms({}, {})
    try:
        found = many(spreading(surveys, rooms=rooms, weights=weights), 25)
    except Refused:
        found = ["-"] * 25
    assert found == expected
    for host, taken in rooms.reserved.items():
        assert taken.memory_bytes - place.OVERHEAD <= surveys[host]["memory_free_bytes"], "the last one may use it up"
        free = {pool["name"]: pool["free_bytes"] for pool in surveys[host]["pools"]}
        assert all(used <= free[pool] for pool, used in taken.pools)


def test_a_thousand_over_a_hundred_hosts_are_placed_in_no_time() -> None:
    """Measured on two busy cores: 0.03 s; one after the other it takes a hundred times as long."""
    surveys = {f"host{n}": survey(*(domain(f"vm{n}-{m}", "running") for m in range(50))) for n in range(100)}
    began = time.perf_counter()
    hosts = many(spreading(surveys), 1000)
    took = time.perf_counter() - began
    assert set(hosts) == set(surveys)
    assert {hosts.count(host) for host in surveys} == {10}
    assert took < 2.0, "seconds"
