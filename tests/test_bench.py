"""The measurements themselves: each runs, with numbers so small that the figures mean nothing."""

from __future__ import annotations

import pytest

from bench.figures import Figure, compare, share
from bench.measurements import MEASUREMENTS, TINY


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_yields_figures(name: str) -> None:
    figures = list(MEASUREMENTS[name](TINY))
    assert figures
    assert all(figure.value > 0 for figure in figures)


def test_a_figure_says_whether_it_is_what_was_wanted() -> None:
    assert "met" in Figure("a", 2.0, "x", 2.0).line
    assert "MISSED" in Figure("a", 2.01, "x", 2.0).line
    assert "MISSED" in Figure("a", 1999.0, "per second", 2000.0, True).line
    assert "met" in Figure("a", 2000.0, "per second", 2000.0, True).line
    assert Figure("a", 2.0, "x").line == "a: 2 x"


def test_shares_are_values_that_were_measured() -> None:
    assert share([3.0, 1.0, 2.0], 50) == 2.0
    assert share([float(n) for n in range(1, 101)], 99) == 100.0
    assert share([1.0], 99) == 1.0


def test_two_things_are_done_in_turn() -> None:
    done = ""

    def ours() -> None:
        nonlocal done
        done += "a"

    def floor() -> None:
        nonlocal done
        done += "b"

    compare(ours, floor, 2, 3)
    assert done == "aabb" * 4
