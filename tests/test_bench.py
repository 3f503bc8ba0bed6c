"""The measurements themselves: each runs, with numbers so small that the figures mean nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench import soak
from bench.figures import Figure, compare, share
from bench.measurements import MEASUREMENTS, TINY


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_yields_figures(name: str) -> None:
    if name in ("copies", "verbs") and os.geteuid() != 0:
        pytest.skip("a lab needs root")
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


# -------------------------------------------------------------------------------------------------- soak

LEAK = """
import os, sys
kept = []
for line in sys.stdin:
    kept.append(bytearray(os.urandom(1 << 20)))
    kept.append(os.dup(0))
    print("leaked", flush=True)
"""


@pytest.mark.parametrize(
    ("memory", "descriptors", "flat"),
    [
        ([10.0] * 30, [20] * 30, True),
        ([float(n) for n in range(10)] + [10.0] * 20, [20] * 30, True),  # it warms up
        ([10.0 + 9.0 * (n % 2) for n in range(30)], [20 + n % 5 for n in range(30)], True),  # up and down
        ([10.0 + n / 4 for n in range(30)], [20] * 30, False),
        ([10.0] * 30, [20 + n for n in range(30)], False),
        ([10.0] * 20 + [13.0] * 10, [20] * 30, False),
    ],
)
def test_growth_is_told_from_ups_and_downs(memory: list[float], descriptors: list[int], flat: bool) -> None:
    samples = [soak.Sample(m, d) for m, d in zip(memory, descriptors, strict=True)]
    assert all(figure.met for figure in soak.judged("it", samples)) is flat


def test_a_process_that_leaks_is_found_out() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", LEAK], stdin=pipe, stdout=pipe, text=True) as leaking:
        assert leaking.stdin is not None
        assert leaking.stdout is not None
        samples = []
        for _ in range(12):
            print(file=leaking.stdin, flush=True)
            assert leaking.stdout.readline() == "leaked\n"
            samples.append(soak.sample(leaking.pid))
    assert [figure.met for figure in soak.judged("it", samples)] == [False, False]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_daemons_do_not_grow_under_load() -> None:
    figures = soak.run(75.0)
    assert {figure.name for figure in figures if "done" in figure.name and figure.value < 5} == set()
    assert [figure.line for figure in figures if not figure.met] == []
