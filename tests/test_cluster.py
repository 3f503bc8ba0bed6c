"""Which client worker a host may work for."""

from __future__ import annotations

import pytest

from maglica.cluster import Cluster, heard, refusal

KNOWN = Cluster("red", 5, "0b")


def test_what_a_host_remembers_survives_the_wire() -> None:
    assert heard(KNOWN.told()) == KNOWN
    assert heard({}) == heard({"cluster": None, "epoch": None, "last_job": None}) == Cluster()


@pytest.mark.parametrize(
    "now",
    [KNOWN, KNOWN._replace(epoch=6), KNOWN._replace(epoch=500), KNOWN._replace(last_job="0c"), Cluster("red", 6, "1a")],
)
def test_a_store_that_went_on_is_the_same(now: Cluster) -> None:
    assert refusal("host1", KNOWN, now) is None


def test_nobody_is_refused_before_anything_is_known() -> None:
    assert refusal("host1", Cluster(), KNOWN) is None
    assert refusal("host1", KNOWN, Cluster()) is None, "the release before does not tell"


@pytest.mark.parametrize(
    ("now", "code", "said"),
    [
        (Cluster("blue", 5, "0b"), "wrong_cluster", "host1 belongs to cluster red, and this client worker keeps"),
        (Cluster("blue", 1, ""), "wrong_cluster", "cluster blue"),
        (Cluster("red", 4, "0b"), "store_went_back", "it counts start 4, and host1 has seen start 5"),
        (Cluster("red", 6, "0a"), "store_went_back", "its newest job is 0a, and host1 was handed 0b"),
        (Cluster("red", 6, ""), "store_went_back", "its newest job is none, and host1 was handed 0b"),
    ],
)
def test_another_cluster_and_an_older_store_are_refused(now: Cluster, code: str, said: str) -> None:
    error = refusal("host1", KNOWN, now)
    assert error is not None
    assert error.code == code
    assert said in error.message
    assert "`maglica_host_worker --accept`" in error.hint
