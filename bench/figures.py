"""A measured figure, and whether it is what it should be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the result. `target`: the most, or with `at_least` the least, that is wanted; None = told only."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target

    @property
    def line(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "" if self.target is None else f" (target {sign} {self.target:g}: {'met' if self.met else 'MISSED'})"
        return f"{self.name}: {self.value:.4g} {self.unit}".rstrip() + verdict + (f"; {self.note}" if self.note else "")


class Pairs(NamedTuple):
    """What came of two things that were done turn by turn; seconds each."""

    ours: float
    floor: float
    ratio: float


def share(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(ours: Callable[[], object], floor: Callable[[], object], times: int, turns: int) -> Pairs:
    """Medians of both and of their ratio: batches of `times`, taken turn by turn, after a first turn that warms up."""

    def batch(work: Callable[[], object]) -> float:
        return timed(lambda: [work() for _ in range(times)]) / times

    batch(ours), batch(floor)
    pairs = [(batch(ours), batch(floor)) for _ in range(turns)]
    return Pairs(
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def ratio(name: str, target: float, pairs: Pairs, floor: str) -> Figure:
    note = f"{pairs.ours * 1000:.2f} ms, {floor} {pairs.floor * 1000:.2f} ms"
    return Figure(name, pairs.ratio, "x", target, note=note)
