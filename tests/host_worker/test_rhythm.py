"""When a host worker speaks and when it makes its sockets anew; the time and the chance are arguments."""

from __future__ import annotations

import itertools

import pytest

from maglica.host_worker.rhythm import ANSWER_WITHIN, DOUBLINGS, PROGRESS_EVERY, UNHEARD, Rhythm

BEAT = 2.0


def rhythm(chance: float = 0.5) -> Rhythm:
    """`chance`: where between its bounds every random number lies."""
    found = Rhythm(BEAT, lambda low, high: low + chance * (high - low))
    found.listens = True
    return found


def talk(found: Rhythm, now: float, until: float, *, heard: bool) -> float:
    """Ask and be answered with every beat, and hear the client worker's or not; what time it is then."""
    while now < until:
        found.asks(now)
        found.answered(now)
        if heard:
            found.heard(now)
        now += BEAT
    return now


def test_it_speaks_once_a_beat_and_never_twice_at_a_time() -> None:
    found = rhythm()
    assert found.due(10.0)
    found.asks(10.0)
    assert not found.due(10.5), "a request is out"
    assert found.pause(10.5) == ANSWER_WITHIN - 0.5
    found.answered(11.0)
    assert not found.due(12.9)
    assert found.due(13.0), "one beat after the answer"
    assert found.pause(11.0) == PROGRESS_EVERY, "progress waits for no beat"
    assert found.pause(12.9) == pytest.approx(0.1)
    found.at_once(11.5)
    assert found.due(11.5)


def test_no_answer_is_noticed_in_time() -> None:
    found = rhythm()
    assert not found.unanswered(1000.0), "nothing was asked"
    found.asks(10.0)
    assert not found.unanswered(11.9)
    assert found.unanswered(12.0)
    found.reconnects(12.0)
    assert not found.unanswered(20.0)


def test_hosts_come_back_at_moments_of_their_own() -> None:
    """Full jitter: from at once to a bound that doubles up to a beat."""
    early, late = rhythm(0.0), rhythm(1.0)
    bounds = []
    for number in range(8):
        for found in (early, late):
            found.reconnects(100.0 * number)
        assert early.due(100.0 * number)
        bounds.append(late.pause(100.0 * number) if number < 1 else None)
        assert late.due(100.0 * number + BEAT), "never later than a beat"
        assert not late.due(100.0 * number + 0.19)
    assert bounds[0] == pytest.approx(0.2)


def test_a_client_worker_that_is_away_for_weeks_is_still_asked() -> None:
    found = rhythm(1.0)
    for number in range(5000):
        found.asks(number * 5.0)
        found.reconnects(number * 5.0 + ANSWER_WITHIN)
    assert found.due(5000 * 5.0 + BEAT)
    assert found.failures == 5000


def test_an_ear_that_hears_is_left_alone() -> None:
    found = rhythm()
    now = talk(found, 0.0, 1000.0, heard=True)
    assert not found.deaf(now)


def test_it_notices_that_it_can_call_but_not_hear() -> None:
    found = rhythm()
    now = talk(found, 0.0, 20.0, heard=True)
    while not found.deaf(now) and now < 100.0:
        now = talk(found, now, now + BEAT, heard=False)
    assert now - 18.0 <= (UNHEARD + 2) * BEAT, "within a few beats of the last one that was heard"


def test_a_client_worker_that_does_not_answer_is_another_matter() -> None:
    found = rhythm()
    now = talk(found, 0.0, 10.0, heard=True)
    found.asks(now)
    assert not found.deaf(now + 1000.0)
    found.reconnects(now + 1000.0)
    found.asks(now + 1001.0)
    found.answered(now + 1001.0)
    assert not found.deaf(now + 1001.0), "the new ear has its time, too"


def test_a_client_worker_without_beats_is_never_called_silent() -> None:
    found = rhythm()
    found.listens = False
    assert not found.deaf(talk(found, 0.0, 1000.0, heard=False))


def test_an_ear_that_does_not_help_is_made_less_and_less_often() -> None:
    found = rhythm(0.0)
    now, made = 0.0, []
    while now < 1000.0:
        now = talk(found, now, now + BEAT, heard=False)
        if found.deaf(now):
            found.listens_anew(now)
            made.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(made)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= UNHEARD * BEAT * 2**DOUBLINGS + 2 * BEAT, "but it is never given up"
    found.heard(now)
    assert found.deaf(talk(found, now, now + (UNHEARD + 2) * BEAT, heard=False)), "one beat makes up for all"


def test_a_new_ear_is_not_deaf_because_the_machine_has_been_up_for_long() -> None:
    found = rhythm()
    found.asks(1_000_000.0)
    found.answered(1_000_000.1)
    assert not found.deaf(1_000_000.1)
    end = talk(found, 1_000_000.2, 1_000_000.0 + UNHEARD * BEAT + BEAT, heard=False)
    assert found.deaf(end)


def test_who_is_not_answered_is_patient_the_next_time() -> None:
    """A client worker that is busy with everybody's handshakes is not made to begin with them again."""
    found, now, waited = rhythm(), 100.0, []
    for _ in range(4):
        found.asks(now)
        waited.append(found.pause(now))
        assert not found.unanswered(now + waited[-1] - 0.01)
        assert found.unanswered(now + waited[-1])
        now += waited[-1]
        found.reconnects(now)
    assert waited == [ANSWER_WITHIN, 2 * ANSWER_WITHIN, 4 * ANSWER_WITHIN, 4 * ANSWER_WITHIN]
    found.asks(now)
    found.answered(now)
    found.asks(now)
    assert found.unanswered(now + ANSWER_WITHIN)
