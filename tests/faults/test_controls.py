"""The suite itself is put to the test: with a defect put into the product, its audit has to complain."""

from __future__ import annotations

import re

import pytest

from tests.faults.mutations import MUTATIONS
from tests.faults.stage import Stage

# defect -> (when a daemon is killed, what the audit has to say)
CAUGHT: dict[str, list[tuple[dict[str, list[int]], str]]] = {
    "answer_before_commit": [
        ({"cw.before_commit.queued": [1, 2, 5, 17]}, "is not recorded"),
        # What was acknowledged and not recorded is run again, or, if its host worker was asked first, told as lost.
        ({"cw.before_commit.ended": [1, 2, 5]}, "began 2 times|is lost, but"),
    ],
    "no_dedupe_by_key": [({"cw.after_commit.queued": [1, 2, 5, 17]}, "nobody submitted key-")],
    "no_locks": [({}, "overlap")],
    "handed_out_once": [({"hw.after_claim": [1, 2, 5]}, "is claimed")],
    "told_once": [({"cw.before_commit.ended": [1, 2, 5]}, "not within")],
    "journal_after_the_fact": [({"hw.after_effect": [1, 2, 5, 17]}, "made 1 2 times|is lost")],
    "nothing_taken_back": [({}, "are there"), ({"hw.after_effect": [1, 2, 5]}, "are there")],
}


# Jobs that are over before the next one is accepted cannot overlap.
SECONDS = {"no_locks": 0.3}

# Noticed in bad weather only: `test_weather.py` has its control.
IN_A_STORM = {"late_answers_taken"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defect", "crash", "complaint"), [(name, *case) for name, cases in CAUGHT.items() for case in cases]
)
def test_a_defect_is_noticed(stage: Stage, defect: str, crash: dict[str, list[int]], complaint: str) -> None:
    stage.plan(crash=crash, defects=[defect])
    stage.open()
    stage.submit(40, seconds=SECONDS.get(defect, 0.0))
    found = stage.audit(5.0)
    assert any(re.search(complaint, line) for line in found), found


def test_every_defect_has_a_control() -> None:
    assert set(CAUGHT) | IN_A_STORM == set(MUTATIONS)
