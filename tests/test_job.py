"""A job's states: which may follow which, walked completely."""

from __future__ import annotations

from itertools import product

import pytest

from maglica import job
from maglica.actions.job import STATES
from maglica.job import CANCELLED, CLAIMED, DONE, FAILED, FINAL, LOST, QUEUED, RUNNING, may_become

ALL = (QUEUED, CLAIMED, RUNNING, DONE, FAILED, CANCELLED, LOST)

# The whole of it once more, in a form that a person checks by looking at it.
MAY = {
    (QUEUED, CLAIMED),
    (QUEUED, CANCELLED),
    (CLAIMED, RUNNING),
    (CLAIMED, DONE),  # ended before its first report
    (CLAIMED, FAILED),
    (CLAIMED, CANCELLED),
    (CLAIMED, LOST),
    (RUNNING, DONE),
    (RUNNING, FAILED),
    (RUNNING, CANCELLED),
    (RUNNING, LOST),
    (LOST, DONE),  # these two by a person's verdict only
    (LOST, FAILED),
}


@pytest.mark.parametrize(("old", "new"), list(product(ALL, ALL)))
def test_which_state_may_follow_which(old: str, new: str) -> None:
    assert may_become(old, new) == ((old, new) in MAY)


def test_the_table_is_total() -> None:
    assert set(job.MAY_FOLLOW) == set(ALL)
    assert {old for follows in job.MAY_FOLLOW.values() for old in follows} <= set(ALL)


def test_what_has_ended_stays_as_it_is() -> None:
    assert {DONE, FAILED, CANCELLED, LOST} == FINAL
    for old, new in product(FINAL - {LOST}, ALL):
        assert not may_become(old, new)
    assert {new for new in ALL if may_become(LOST, new)} == {DONE, FAILED}, "somebody looked"


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    reached, frontier = {QUEUED}, {QUEUED}
    while frontier:
        frontier = {new for old in frontier for new in ALL if may_become(old, new)} - reached
        reached |= frontier
    assert reached == set(ALL)
    for state in set(ALL) - FINAL:
        assert any(may_become(state, end) for end in FINAL)


def test_nothing_goes_back() -> None:
    """A job that was handed out is never queued again: it could run on two hosts."""
    order = {state: number for number, state in enumerate(ALL)}
    assert all(order[old] < order[new] for old, new in MAY if old != LOST)


def test_the_command_line_offers_the_same_states() -> None:
    assert STATES == ALL
