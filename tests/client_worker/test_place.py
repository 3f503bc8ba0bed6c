"""Placement and look-up: lists of surveys in, a host or a reason out."""

from __future__ import annotations

from typing import Any

import pytest

from maglica.client_worker.placement import place
from maglica.client_worker.placement.place import Choice, Reserved, Survey, Wanted
from maglica.errors import Refused

GIB = 1 << 30
IMAGE = "el9.original"


def domain(name: str, state: str = "shut-off", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "image": name.endswith(".original"),
        "vcpus": 2,
        "memory_bytes": 2 * GIB,
        "macs": [],
        "disks": [{"target": "vda", "allocation_bytes": 4 * GIB}],
        **more,
    }


def survey(*domains: dict[str, Any], image: bool = True, **more: Any) -> Survey:
    """A host with room for everything, that holds the image."""
    listed = [*domains, domain(IMAGE)] if image else list(domains)
    return {
        "driver": "qemu",
        "active": sum(one["state"] == "running" for one in listed),
        "vcpus": 8,
        "memory_free_bytes": 32 * GIB,
        "domains": listed,
        "pools": [{"name": "default", "free_bytes": 100 * GIB}],
        **more,
    }


def wanted(**more: Any) -> Wanted:
    usual: dict[str, Any] = {
        "image": IMAGE,
        "hostname": "web1",
        "on": None,
        "vcpus": None,
        "memory_bytes": None,
        "mode": "full",
        "pool": None,
        "macs": (),
    }
    return Wanted(**{**usual, **more})


def choose(
    want: Wanted,
    surveys: dict[str, Survey],
    *,
    missing: dict[str, str] | None = None,
    weights: dict[str, float] | None = None,
    reserved: dict[str, Reserved] | None = None,
    ignore_missing: bool = False,
) -> Choice:
    return place.choose(want, surveys, missing or {}, weights or {}, reserved or {}, ignore_missing)


def refusal(want: Wanted, surveys: dict[str, Survey], **more: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        choose(want, surveys, **more)
    return refused.value


# ---------------------------------------------------------------------------------------------- ranking


@pytest.mark.parametrize(
    ("active", "weights", "best"),
    [
        ({"a": 0, "b": 1}, {}, "a"),
        ({"a": 3, "b": 2}, {}, "b"),
        ({"a": 4, "b": 3}, {"a": 20.0, "b": 10.0}, "a"),  # 4*10/20 = 2 against 3*10/10 = 3
        ({"a": 4, "b": 3}, {"a": 10.0, "b": 20.0}, "b"),
        ({"a": 1, "b": 100}, {"a": 1.0, "b": 1000.0}, "b"),  # 10 against 1
        ({"a": 1, "b": 1}, {"a": 0.5, "b": 1.0}, "b"),
        ({"a": 2, "b": 1}, {"b": 5.0}, "a"),  # 10 is what a host without a section weighs; 2 = 2: by name
    ],
)
def test_the_least_loaded_for_its_weight(active: dict[str, int], weights: dict[str, float], best: str) -> None:
    surveys = {name: survey(active=count) for name, count in active.items()}
    assert choose(wanted(), surveys, weights=weights).host == best


def test_the_load_is_the_first_maglicas_figure() -> None:
    assert place.load(survey(active=4), Reserved(), 20.0) == 2.0
    assert place.load(survey(active=4), Reserved(vms=2), 20.0) == 3.0
    assert choose(wanted(), {"a": survey(active=4), "b": survey(active=9)}).why.startswith(
        "least load for its weight (4)"
    )


def test_equal_load_goes_to_the_most_free_memory_and_then_by_name() -> None:
    surveys = {"b": survey(), "a": survey(), "c": survey(memory_free_bytes=33 * GIB)}
    assert choose(wanted(), surveys).host == "c"
    del surveys["c"]
    assert choose(wanted(), surveys).host == "a"
    assert choose(wanted(), surveys, reserved={"a": Reserved(0, 1, 0)}).host == "b"


def test_load_counts_before_memory() -> None:
    surveys = {"a": survey(active=1, memory_free_bytes=300 * GIB), "b": survey(active=0)}
    assert choose(wanted(), surveys).host == "b"


def test_what_was_given_away_counts_as_used() -> None:
    """Many clones at once spread over the hosts instead of all going to the one that was empty."""
    surveys = {"a": survey(), "b": survey(active=1)}
    assert choose(wanted(), surveys).host == "a"
    assert choose(wanted(), surveys, reserved={"a": Reserved(2, 4 * GIB, 8 * GIB)}).host == "b"


def test_weight_zero_takes_none_by_itself_and_divides_nothing() -> None:
    """D17."""
    surveys = {"a": survey(), "b": survey(active=50)}
    choice = choose(wanted(), surveys, weights={"a": 0.0})
    assert choice.host == "b"
    assert choice.refused == {"a": "weight 0"}
    assert choose(wanted(on="a"), surveys, weights={"a": 0.0}).host == "a"
    error = refusal(wanted(), surveys, weights={"a": 0.0, "b": 0.0})
    assert error.code == "no_capacity"
    assert error.details == {"a": "weight 0", "b": "weight 0"}


def test_the_choice_says_why() -> None:
    surveys = {"a": survey(), "b": survey(image=False), "c": survey(active=3)}
    choice = choose(wanted(), surveys)
    assert choice == Choice("a", "least load for its weight (0) of 2 that fit", {"b": f"does not hold {IMAGE}"})
    assert choose(wanted(on="c"), surveys).why == "--on=c"
    assert choose(wanted(), {"a": surveys["a"]}).why == "the only host that fits"


# ------------------------------------------------------------------------------------------------- room


@pytest.mark.parametrize(
    ("host", "want", "why"),
    [
        ({"memory_free_bytes": 2 * GIB - 1}, {}, "needs 2048 MiB of memory, 2048 MiB are free"),
        ({"memory_free_bytes": 3 * GIB}, {"memory_bytes": 4 * GIB}, "needs 4096 MiB of memory, 3072 MiB are free"),
        ({"memory_free_bytes": -5 * GIB}, {}, "needs 2048 MiB of memory, 0 MiB are free"),
        ({"vcpus": 1}, {}, "needs 2 vCPUs, the host has 1"),
        ({}, {"vcpus": 9}, "needs 9 vCPUs, the host has 8"),
        (
            {"pools": [{"name": "a", "free_bytes": 3 * GIB}, {"name": "b", "free_bytes": 2 * GIB}]},
            {},
            "needs 4096 MiB of disk, the roomiest pool has 3072 MiB to give",
        ),
        (
            {"pools": [{"name": "a", "free_bytes": 0}]},
            {"mode": "linked"},
            "needs 1 MiB of disk, the roomiest pool has 0 MiB to give",
        ),
        ({"pools": []}, {}, "has no active pool"),
        ({"pool": "fast"}, {}, "has no active pool fast"),
        ({}, {"pool": "slow"}, "has no active pool slow"),
    ],
)
def test_no_room_is_refused_with_the_reason(host: dict[str, Any], want: dict[str, Any], why: str) -> None:
    error = refusal(wanted(**want), {"host1": survey(**host)})
    assert error.code == "no_capacity"
    assert error.retryable
    assert error.message == f"no host can take web1: host1: {why}"
    assert error.details == {"host1": why}


@pytest.mark.parametrize(
    ("host", "want"),
    [
        ({"memory_free_bytes": 2 * GIB}, {}),
        ({"memory_free_bytes": GIB}, {"memory_bytes": GIB}),
        ({"vcpus": 2}, {}),
        ({"vcpus": 1}, {"vcpus": 1}),
        ({"pools": [{"name": "a", "free_bytes": 0}, {"name": "b", "free_bytes": 4 * GIB}]}, {}),
        ({"pools": [{"name": "a", "free_bytes": 1 << 20}]}, {"mode": "linked"}),
    ],
)
def test_exactly_enough_is_enough(host: dict[str, Any], want: dict[str, Any]) -> None:
    assert choose(wanted(**want), {"host1": survey(**host)}).host == "host1"


def test_every_host_is_refused_with_its_own_reason() -> None:
    surveys = {
        "host1": survey(memory_free_bytes=0),
        "host2": survey(domain(IMAGE, "running"), image=False),
        "host3": survey(image=False),
        "host4": survey(vcpus=1),
    }
    error = refusal(wanted(), surveys)
    assert error.details == {
        "host1": "needs 2048 MiB of memory, 0 MiB are free",
        "host2": f"{IMAGE} is running there",
        "host3": f"does not hold {IMAGE}",
        "host4": "needs 2 vCPUs, the host has 1",
    }
    assert error.message.startswith("no host can take web1: host1: needs")


def test_all_disks_of_an_image_need_room() -> None:
    two = [{"target": "vda", "allocation_bytes": 3 * GIB}, {"target": "vdb", "allocation_bytes": 5 * GIB}]
    for room, fits in ((8 * GIB, True), (8 * GIB - 1, False)):
        host = survey(domain(IMAGE, disks=two), image=False, pools=[{"name": "p", "free_bytes": room}])
        assert (place.unfit(wanted(), host, Reserved()) == "") == fits


def test_what_was_given_away_is_no_longer_room() -> None:
    host = survey(memory_free_bytes=4 * GIB, pools=[{"name": "p", "free_bytes": 8 * GIB}])
    one = place.needs(wanted(), host)
    assert one == Reserved(1, 2 * GIB, 4 * GIB)
    assert place.unfit(wanted(), host, one) == ""
    two = Reserved(*(a + b for a, b in zip(one, one, strict=True)))
    assert place.unfit(wanted(), host, two) == "needs 2048 MiB of memory, 0 MiB are free"
    assert place.unfit(wanted(memory_bytes=1), host, Reserved(2, 0, 8 * GIB)).startswith("needs 4096 MiB of disk")
    assert place.needs(wanted(mode="linked", memory_bytes=GIB), host) == Reserved(1, GIB, place.LINKED_BYTES)


def way(mode: str, needed: int, *pools: str, auto: bool = True, why_not: str = "") -> dict[str, Any]:
    return {"mode": mode, "auto": auto, "needed_bytes": needed, "pools": list(pools), "why_not": why_not}


def test_room_is_that_of_the_mode_and_of_its_pools() -> None:
    """What a host tells of the ways that it has decides, not the size of the image."""
    modes = [
        way("reflink", 1 << 20, "fast"),
        way("linked", 1 << 20, "fast", "slow", auto=False, why_not="no image"),
        way("thin", 1 << 20, auto=False, why_not="no logical volume"),
        way("full", 4 * GIB, "fast", "slow"),
    ]
    pools = [{"name": "fast", "free_bytes": GIB}, {"name": "slow", "free_bytes": 5 * GIB}]
    host = survey(domain(IMAGE, modes=modes), image=False, pools=pools)

    def unfit(**more: Any) -> str:
        return place.unfit(wanted(**more), host, Reserved())

    assert [unfit(mode=mode) for mode in ("auto", "reflink", "linked", "full")] == [""] * 4
    assert unfit(mode="thin") == "thin: no logical volume"
    assert unfit(mode="reflink", pool="slow") == "reflink: not possible in pool slow"
    assert unfit(mode="full", pool="fast") == "needs 4096 MiB of disk, pool fast has 1024 MiB to give"
    assert unfit(mode="auto", pool="slow") == ""
    error = refusal(wanted(mode="thin"), {"host1": host})
    assert (error.code, error.hint) == ("environment_error", "--mode=auto takes what is possible")
    assert error.message == "no host can take web1: host1: thin: no logical volume"
    taken = {(mode, pool): place.needs(wanted(mode=mode, pool=pool), host).disk_bytes
             for mode in ("auto", "full") for pool in (None, "fast", "slow")}  # fmt: skip
    assert taken == {
        ("auto", None): 1 << 20, ("auto", "fast"): 1 << 20, ("auto", "slow"): 4 * GIB,
        ("full", None): 4 * GIB, ("full", "fast"): 4 * GIB, ("full", "slow"): 4 * GIB,
    }  # fmt: skip


def test_a_thin_pool_that_is_nearly_full() -> None:
    full = {**way("thin", 0, auto=False, why_not="thin pool vg0/thin is full to 95 %"), "full": True}
    pools = [{"name": "lvm", "free_bytes": 0}, {"name": "slow", "free_bytes": 5 * GIB}]
    host = survey(domain(IMAGE, modes=[full, way("full", 4 * GIB, "slow")]), image=False, pools=pools)
    error = refusal(wanted(mode="thin"), {"host1": host})
    assert (error.code, error.message) == (
        "no_capacity", "no host can take web1: host1: thin pool vg0/thin is full to 95 %",
    )  # fmt: skip
    assert "lvextend" in error.hint
    other = survey(domain(IMAGE, modes=[way("thin", 0, "lvm")]), image=False, pools=pools)
    assert choose(wanted(mode="thin"), {"host1": host, "host2": other}).host == "host2"
    assert choose(wanted(mode="auto"), {"host1": host}).host == "host1", "it copies there"


# ----------------------------------------------------------------------------------------- --on=HOST


def test_on_overrides_the_choice_and_not_the_checks() -> None:
    surveys = {"host1": survey(), "host2": survey(active=9), "host3": survey(image=False), "host4": survey(vcpus=1)}
    assert choose(wanted(on="host2"), surveys).host == "host2"
    error = refusal(wanted(on="host4"), surveys)
    assert error.code == "no_capacity"
    assert error.message == "no host can take web1: host4: needs 2 vCPUs, the host has 1"
    assert error.details == {"host4": "needs 2 vCPUs, the host has 1"}
    error = refusal(wanted(on="host3"), surveys)
    assert (error.code, error.message) == ("unknown_entity", f"host3 does not hold an image {IMAGE}")
    assert error.hint == "it is on host1, host2, host4; leave out --on, or choose one of them"
    assert refusal(wanted(on="host2", hostname=IMAGE), surveys).code == "already_exists"


def test_an_unknown_host_is_refused_with_the_nearest_name() -> None:
    surveys = {"host1": survey(), "host2": survey()}
    error = refusal(wanted(on="hots1"), surveys)
    assert (error.code, error.message, error.hint) == (
        "unknown_entity",
        "there is no host hots1",
        "did you mean host1?",
    )
    assert refusal(wanted(on="zz"), surveys).hint == "known are host1, host2"
    assert refusal(wanted(on="zz"), {}).hint == "known are none"


def test_a_host_that_does_not_answer_cannot_be_chosen() -> None:
    for ignore in (False, True):
        error = refusal(
            wanted(on="host2"), {"host1": survey()}, missing={"host2": "last heard 9 s ago"}, ignore_missing=ignore
        )
        assert (error.code, error.message) == ("host_down", "host host2 does not answer: last heard 9 s ago")


# -------------------------------------------------------------------------------- image, names, addresses


def test_an_unknown_image_is_refused_with_the_nearest_name() -> None:
    surveys = {"host1": survey(), "host2": survey(domain("deb12.original"))}
    error = refusal(wanted(image="el9.orginal"), surveys)
    assert (error.code, error.message) == ("unknown_entity", "no host holds an image el9.orginal")
    assert error.hint == f"did you mean {IMAGE}?"
    assert refusal(wanted(image="zz"), surveys).hint == "`maglica image list` shows them"


def test_an_unknown_image_may_be_on_a_host_that_does_not_answer() -> None:
    error = refusal(wanted(image="zz"), {"host1": survey()}, missing={"host2": "down"}, ignore_missing=True)
    assert error.hint == "it may be on a host that does not answer: host2"


def test_a_running_image_is_refused() -> None:
    running = survey(domain(IMAGE, "running"), image=False)
    error = refusal(wanted(), {"host1": running})
    assert (error.code, error.message) == ("wrong_state", f"{IMAGE} is running on host1")
    assert choose(wanted(), {"host1": running, "host2": survey()}).host == "host2"
    assert refusal(wanted(), {"host1": survey(domain(IMAGE, "paused"), image=False)}).code == "wrong_state"


def test_a_name_that_is_taken_on_any_host_is_refused() -> None:
    """D19: also on a host that would not be chosen, and whatever state it is in."""
    for state in ("running", "shut-off", "paused", "crashed"):
        surveys = {"host1": survey(), "host2": survey(domain("web1", state), image=False)}
        for on in (None, "host1"):
            error = refusal(wanted(on=on), surveys)
            assert (error.code, error.message) == ("already_exists", f"web1 exists on host2 ({state})")
    assert choose(wanted(), {"host1": survey(domain("web10"), domain("web1.example.jp"))}).host == "host1"


def test_an_address_that_is_taken_on_any_host_is_refused() -> None:
    taken = "52:54:00:00:00:01"
    surveys = {"host1": survey(), "host2": survey(domain("db1", macs=[None, taken]))}
    error = refusal(wanted(macs=("52:54:00:00:00:02", taken)), surveys)
    assert (error.code, error.message) == ("already_exists", f"{taken} belongs to db1 on host2")
    assert choose(wanted(macs=("52:54:00:00:00:02",)), surveys).host == "host1"


def test_a_host_that_does_not_answer_may_have_the_name() -> None:
    """Nothing is decided on a part of the view, unless that is asked for aloud."""
    missing = {"host2": "last heard 9 s ago", "host3": "no answer in time"}
    error = refusal(wanted(), {"host1": survey()}, missing=missing)
    assert error.code == "host_down"
    assert error.retryable
    assert "host2 last heard 9 s ago; host3 no answer in time" in error.message
    assert "--ignore-missing" in error.hint
    assert error.details == {"missing_hosts": missing}
    assert choose(wanted(), {"host1": survey()}, missing=missing, ignore_missing=True).host == "host1"


def test_without_any_host_there_is_no_image() -> None:
    assert refusal(wanted(), {}).code == "unknown_entity"


# ---------------------------------------------------------------------------------------------- look-up


FLEET: dict[str, Survey] = {
    "host1": survey(domain("web1.example.jp"), domain("db1"), domain("twin"), domain("app.a")),
    "host10.example.jp": survey(domain("web10.example.jp"), domain("twin"), domain("app.b"), image=False),
}


def locate(name: str, *, full_name: bool = False, whole_fleet: bool = False, **missing: str) -> tuple[str, str]:
    return place.locate(name, FLEET, missing, full_name=full_name, whole_fleet=whole_fleet)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("db1", ("host1", "db1")),
        ("web1.example.jp", ("host1", "web1.example.jp")),
        ("web1", ("host1", "web1.example.jp")),
        ("web10", ("host10.example.jp", "web10.example.jp")),
        ("web1.example", ("host1", "web1.example.jp")),
        ("twin@host1", ("host1", "twin")),
        ("twin@host10.example.jp", ("host10.example.jp", "twin")),
        ("web1@host1", ("host1", "web1.example.jp")),
        ("app@host1", ("host1", "app.a")),
        (IMAGE, ("host1", IMAGE)),
    ],
)
def test_what_a_name_means(name: str, found: tuple[str, str]) -> None:
    assert locate(name) == found


@pytest.mark.parametrize("name", ["web", "web1.", "web1.ex", "we", "", "db1@host10.example.jp"])
def test_a_part_of_a_label_means_nothing(name: str) -> None:
    with pytest.raises(Refused, match=f"there is no VM {name}"):
        locate(name)


@pytest.mark.parametrize(
    ("name", "candidates"),
    [("twin", "twin@host1, twin@host10.example.jp"), ("app", "app.a@host1, app.b@host10.example.jp")],
)
def test_an_ambiguous_name_is_refused_with_the_candidates(name: str, candidates: str) -> None:
    """D19: the first match does not win."""
    with pytest.raises(Refused, match=f"{name} may be {candidates}") as refused:
        locate(name)
    assert refused.value.code == "ambiguous_name"
    assert refused.value.details == {"candidates": candidates}


def test_the_exact_name_wins_over_longer_ones() -> None:
    fleet = {"host1": survey(domain("app"), domain("app.example.jp"))}
    assert place.locate("app", fleet, {}, full_name=False, whole_fleet=False) == ("host1", "app")


def test_destructive_verbs_want_the_full_name() -> None:
    assert locate("web1.example.jp", full_name=True) == ("host1", "web1.example.jp")
    assert locate("db1@host1", full_name=True) == ("host1", "db1")
    with pytest.raises(Refused) as refused:
        locate("web1", full_name=True)
    assert refused.value.code == "unknown_entity"
    assert refused.value.hint == "this verb wants the full name: web1.example.jp"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(Refused) as refused:
        locate("wbe1.example.jp")
    assert refused.value.code == "unknown_entity"
    assert refused.value.hint == "did you mean web1.example.jp?"
    with pytest.raises(Refused) as refused:
        locate("zzzz")
    assert refused.value.hint == "`maglica vm list` shows them"


def test_an_unknown_name_may_be_on_a_host_that_does_not_answer() -> None:
    with pytest.raises(Refused) as refused:
        locate("zzzz", host7="no answer in time")
    assert refused.value.code == "host_down", "whether it exists is not known"
    assert "host7 no answer in time" in refused.value.message


def test_an_unknown_host_after_the_at_sign() -> None:
    with pytest.raises(Refused, match="there is no host host2") as refused:
        locate("twin@host2")
    assert refused.value.code == "unknown_entity"
    with pytest.raises(Refused, match="host host7 does not answer: gone") as refused:
        locate("twin@host7", host7="gone")
    assert refused.value.code == "host_down"


def test_who_must_know_the_whole_fleet_is_refused_a_part_of_it() -> None:
    assert locate("db1", host7="gone") == ("host1", "db1")
    with pytest.raises(Refused, match="db1 may exist on a host that does not answer: host7 gone") as refused:
        locate("db1", whole_fleet=True, host7="gone")
    assert refused.value.code == "host_down"
    assert locate("db1", whole_fleet=True) == ("host1", "db1")


@pytest.mark.parametrize("state", ["running", "idle", "paused", "in-shutdown", "pm-suspended", "crashed"])
def test_a_vm_does_not_live_on_two_hosts(state: str) -> None:
    """D19: whoever says NAME@HOST knows that there are two; both of them running is another matter."""
    fleet = {"host1": survey(domain("twin"), domain("db1")), "host2": survey(domain("twin", state))}
    with pytest.raises(Refused, match=f"twin is {state} on host2") as refused:
        place.refuse_double_life("twin", "host1", place.index(fleet))
    assert refused.value.code == "wrong_state"
    place.refuse_double_life("twin", "host2", place.index(fleet))
    place.refuse_double_life("db1", "host1", place.index(fleet))


def test_a_vm_that_is_off_everywhere_may_be_brought_to_life_anywhere() -> None:
    fleet = {"host1": survey(domain("twin")), "host2": survey(domain("twin"))}
    for host in fleet:
        place.refuse_double_life("twin", host, place.index(fleet))


def holding(name: str, state: str = "shut-off", **lives: list[str]) -> dict[str, Any]:
    return domain(name, state, lives={"macs": [], "alone": [], "along": [], **lives})


@pytest.mark.parametrize(
    ("mine", "theirs", "state", "words"),
    [
        ({"macs": ["m"]}, {"macs": ["x", "m"]}, "running", "the MAC address m"),
        ({"macs": ["m"]}, {"macs": ["m"]}, "paused", "the MAC address m"),
        ({"macs": ["m"]}, {"macs": ["m"]}, "shut-off", None),
        ({"alone": ["d"]}, {"alone": ["d"]}, "running", "its disk d"),
        ({"alone": ["d"]}, {"along": ["d"]}, "crashed", "its disk d"),
        ({"along": ["d"]}, {"alone": ["d"]}, "running", "its disk d"),
        ({"along": ["d"]}, {"along": ["d"]}, "running", None),
        ({"alone": ["d"]}, {"alone": ["d"]}, "shut-off", None),
    ],
)
def test_nothing_comes_to_life_with_what_one_that_lives_elsewhere_has(
    mine: dict[str, list[str]], theirs: dict[str, list[str]], state: str, words: str | None
) -> None:
    fleet = {"host1": survey(holding("web1", **mine)), "host2": survey(holding("db1", state, **theirs))}
    if words is None:
        return place.refuse_contended("web1", "host1", place.lives(fleet))
    with pytest.raises(Refused) as refused:
        place.refuse_contended("web1", "host1", place.lives(fleet))
    assert refused.value.code == "wrong_state"
    assert refused.value.message == f"web1 cannot live on host1: db1 is {state} on host2, and has {words}"
    assert "stop that one first" in refused.value.hint


def test_what_its_own_host_has_is_looked_at_there_and_a_host_that_cannot_tell_is_believed() -> None:
    both = survey(holding("web1", macs=["m"]), holding("db1", "running", macs=["m"]))
    place.refuse_contended("web1", "host1", place.lives({"host1": both}))
    old = {"host1": survey(domain("web1")), "host2": survey(holding("db1", "running", macs=["m"]))}
    place.refuse_contended("web1", "host1", place.lives(old))
    old = {"host1": survey(holding("web1", macs=["m"])), "host2": survey(domain("db1", "running"))}
    place.refuse_contended("web1", "host1", place.lives(old))
