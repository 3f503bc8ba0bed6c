"""kill -9 of each daemon at every step of the protocol, on both sides of every durable write."""

from __future__ import annotations

import pytest

from tests.faults import points
from tests.faults.stage import LONG, Stage

JOBS = 40
# Hits of all lives together: early and late in a life, and in the middle of several jobs. The long run dies once a run.
HITS = [[hit] for hit in (1, 2, 3, 5, 8, 13, 17, 21, 30)] if LONG else [[1, 2, 5, 17]]


@pytest.mark.slow
@pytest.mark.parametrize("hits", HITS, ids=str)
@pytest.mark.parametrize("point", [*points.CLIENT_WORKER, *points.HOST_WORKER])
def test_killed_at(stage: Stage, point: str, hits: list[int]) -> None:
    stage.plan(crash={point: hits})
    stage.open()
    stage.submit(JOBS)
    assert stage.audit() == []
    # What is told together counts once: some points are passed less often than there are jobs.
    assert len(stage.crashes()) >= min(len(hits), 2) or hits[0] > 8, stage.crashes()


@pytest.mark.slow
def test_killed_while_it_puts_the_house_in_order(stage: Stage) -> None:
    """A host worker dies in the middle of a job, and again while it takes back what that job had made."""
    recovery = {"hw.before_forget_undo": [1, 3, 5], "hw.after_forget_undo": [2, 6], "hw.before_end": [2, 4]}
    stage.plan(crash={"hw.after_effect": [3, 9, 20], **recovery})
    stage.open()
    stage.submit(JOBS)
    assert stage.audit() == []
    assert len(stage.crashes()) >= 8, stage.crashes()


@pytest.mark.slow
def test_both_sides_die(stage: Stage) -> None:
    """Client worker and host workers together, each at several points."""
    stage.plan(crash={point: [7, 31] for point in (*points.CLIENT_WORKER, *points.HOST_WORKER)})
    stage.open()
    stage.submit(4 * JOBS)
    assert stage.audit(60.0) == []
    assert len(stage.crashes()) >= 20, stage.crashes()
