"""How far jobs are: one line for each, redrawn on a terminal; otherwise a line for every change, never a flood."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from maglica.cli.cells import duration, printable, size
from maglica.cli.output import cut
from maglica.job import CANCELLED, CLAIMED, DONE, FAILED, FINAL, LOST, OPEN, QUEUED, RUNNING, Job

LABEL = 32  # columns that the label gets before anything else is left out
EVERY = 10.0  # seconds between two lines about bytes where lines are not redrawn
FEW = 100  # jobs of groups whose changes are told as they come, where lines are not redrawn
SOON_AGAIN = 1.0  # seconds between two lines about them
WINDOW = 5.0  # seconds over which the rate is taken
_ORDER = (QUEUED, CLAIMED, RUNNING, DONE, FAILED, CANCELLED, LOST)  # of the states in a summary
SOON = 0.5  # seconds before which nothing sensible can be said about it


class Meter:
    """One job's progress over time. Time is an argument: seconds that only grow."""

    def __init__(self, record: Job, now: float, age: float) -> None:
        self.record = record
        self.began = now - age
        self._samples: list[tuple[float, int]] = []
        self._said: tuple[Any, ...] = ()
        self._said_at = now

    def update(self, record: Job, now: float) -> None:
        if record["step"] != self.record["step"]:
            self._samples.clear()
        self.record = record
        done = (record["progress"] or {}).get("done_bytes")
        if done is not None and (not self._samples or self._samples[-1][1] != done):
            self._samples.append((now, done))
            while len(self._samples) > 2 and self._samples[1][0] < now - WINDOW:
                self._samples.pop(0)

    def rate(self) -> float | None:
        """Bytes in a second, lately."""
        if len(self._samples) < 2:
            return None
        (first, had), (last, has) = self._samples[0], self._samples[-1]
        return (has - had) / (last - first) if last - first >= SOON and has >= had else None

    def news(self, now: float) -> str | None:
        """A line when there is something new to say: another state or step, or more bytes after a while."""
        record = self.record
        told = (record["state"], record["step"], record["cancel"], _blocked(record))
        if record["state"] == CLAIMED and not record["cancel"]:
            return None  # between queued and running, and of interest to nobody
        if told == self._said:
            amount = _amount(record)
            if not amount or now - self._said_at < EVERY:
                return None
        elif record["state"] in FINAL and self._said and record["state"] == DONE:
            self._said = told
            return f"{label(record)}: done after {duration(took(record) or now - self.began)}"
        self._said, self._said_at = told, now
        words = [state(record), _amount(record), _speed(self.rate()) if _amount(record) else ""]
        return f"{label(record)}: {', '.join(word for word in words if word)}"

    def line(self, now: float, columns: int, *, grouped: bool = False) -> str:
        """The whole state on one line that fits: label, step, bar, bytes, rate, time. `grouped`: one of many that do
        the same, each somewhere else.
        """
        name = printable(f"{self.record['object']} on {self.record['host']}") if grouped else label(self.record)
        head = f"{name}: {state(self.record)}"
        for tail in self._tails(duration(float(int(now - self.began)))):
            room = columns - 1 - len(tail) - 2
            if room >= min(len(head), LABEL):
                return f"{cut(head, room)}  {tail}"
        return cut(head, columns - 1)

    def _tails(self, elapsed: str) -> Iterator[str]:
        """What stands at the right, from all that there is to the least."""
        record = self.record
        amount, share = _amount(record), _share(record)
        speed = _speed(self.rate()) if amount else ""
        bars = [[_bar(share, columns)] for columns in (20, 10, 0)] if share is not None else [[]]
        for words in (*([*bar, amount, speed] for bar in bars), [*bars[-1], amount], bars[-1], []):
            yield "  ".join([*(word for word in words if word), elapsed])


def label(record: Job) -> str:
    """What the job does, in two or three words."""
    return printable(f"{record['action']} {record['object'] or ''}".strip())


def state(record: Job) -> str:
    """The state, or the step when there is one."""
    if record["cancel"] and record["state"] not in FINAL:
        return "being cancelled"
    if record["state"] == CLAIMED:
        return "starting"
    if record["state"] == QUEUED:
        return queued(record)
    if record["state"] in FINAL:
        return record["state"]
    return printable(record["step"] or record["state"])


def queued(record: Any) -> str:
    """What it waits for, and its place in the line when that is not the first."""
    if not _blocked(record):
        return QUEUED
    place = record.get("position") or 1
    line = f"queued, number {place} in line" if place > 1 else QUEUED
    return printable(f"{line}; waits for {record['waits_for']}")


def _blocked(record: Any) -> str:
    """What a queued job waits for other than its turn, in a word that changes with it."""
    told = record.get("blocked_on") or {}
    return "" if told.get("kind") in (None, "turn") else " ".join(str(told[key]) for key in sorted(told))


def took(record: Any) -> float | None:
    """Seconds from a job's submission to its end, as the client worker has it; None while it is open."""
    found = record.get("took_seconds")
    return None if found is None else float(found)


def _told(record: Job) -> tuple[int | None, int | None]:
    told = record["progress"] or {}
    return told.get("done_bytes"), told.get("total_bytes")


def _amount(record: Job) -> str:
    done, total = _told(record)
    if done is None or record["state"] in FINAL:
        return ""
    if not total:
        return size(done)
    had, unit = size(done).split(" ")
    return f"{had} of {size(total)}" if size(total).endswith(f" {unit}") else f"{had} {unit} of {size(total)}"


def _share(record: Job) -> float | None:
    """How much of the step is done, from 0 to 1; None where nobody knows."""
    done, total = _told(record)
    return min(1.0, done / total) if done is not None and total and record["state"] not in FINAL else None


def _bar(share: float, columns: int) -> str:
    filled = int(columns * share)
    bar = f"[{'#' * filled}{'.' * (columns - filled)}] " if columns else ""
    return f"{bar}{int(100 * share):3d}%"


def _speed(rate: float | None) -> str:
    return f"{size(int(rate))}/s" if rate else ""


class Watch:
    """Draws meters on stderr, and one line for all together when there are several."""

    def __init__(self, *, tty: bool, quiet: bool, columns: int, lines: int) -> None:
        self._tty, self._quiet, self._columns, self._lines = tty, quiet, columns, lines
        self._meters: dict[str, Meter] = {}
        self._drawn = 0
        self._groups: Sequence[Any] = ()
        self._told = ""
        self._told_at = float("-inf")
        self._began: float | None = None

    def show(self, records: Sequence[Job], now: float, ages: Sequence[float], groups: Sequence[Any] = ()) -> None:
        """Draw the records as they are at `now`. `ages`: how old each was when it was first seen, in seconds.

        `groups`: those whose running jobs are among the records; all of their jobs are counted.
        """
        for record, age in zip(records, ages, strict=True):
            self._meters.setdefault(record["id"], Meter(record, now, age)).update(record, now)
        self._groups = groups
        known = {record["id"] for record in records}
        self._meters = {name: meter for name, meter in self._meters.items() if name in known}
        if self._quiet:
            return
        if self._tty:
            self._redraw(now)
        else:
            self._tell(now)

    def _tell(self, now: float) -> None:
        named = {group["id"] for group in self._groups}
        for meter in self._meters.values():
            record: Any = meter.record
            news = meter.news(now) if record.get("group") not in named else None
            if news:
                sys.stderr.write(f"{news}\n")
        if self._groups:
            self._tell_summary(now)
        sys.stderr.flush()

    def _tell_summary(self, now: float) -> None:
        """Counts change with every job: they are told now and then, and at the end."""
        summary = self._summary()
        ended = not any(group["open"] for group in self._groups)
        pause = SOON_AGAIN if sum(group["jobs"] for group in self._groups) <= FEW else EVERY
        if summary != self._told and (ended or now - self._told_at >= pause):
            sys.stderr.write(f"{summary}\n")
            self._told, self._told_at = summary, now

    def _redraw(self, now: float) -> None:
        meters = list(self._meters.values())
        several = len(meters) > 1 or bool(self._groups)
        if several:
            meters = [meter for meter in meters if meter.record["state"] not in FINAL]
        named = {group["id"] for group in self._groups}
        lines = [meter.line(now, self._columns, grouped=meter.record.get("group") in named) for meter in meters]
        if several:
            lines = [*lines[: self._lines - 2], self._last_line(now)]
        self.clear()
        sys.stderr.write("\n".join(lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _last_line(self, now: float) -> str:
        """The summary, with a bar for the groups where there is room."""
        summary = self._summary()
        if not self._groups:
            return cut(summary, self._columns - 1)
        jobs = sum(group["jobs"] for group in self._groups)
        over = sum(count for group in self._groups for state, count in group["states"].items() if state not in OPEN)
        self._began = now if self._began is None else self._began
        elapsed = duration(float(int(now - self._began)))
        for tail in (f"{_bar(over / jobs, 20)}  {elapsed}", f"{_bar(over / jobs, 10)}  {elapsed}", elapsed):
            room = self._columns - 1 - len(tail) - 2
            if room >= len(summary):
                return f"{summary}  {tail}"
        return cut(summary, self._columns - 1)

    def _summary(self) -> str:
        named = {group["id"] for group in self._groups}
        counts: dict[str, int] = {}
        for meter in self._meters.values():
            record: Any = meter.record
            if record.get("group") not in named:
                counts[record["state"]] = counts.get(record["state"], 0) + 1
        for group in self._groups:
            for state, count in group["states"].items():
                counts[state] = counts.get(state, 0) + count
        order = sorted(counts, key=lambda state: _ORDER.index(state) if state in _ORDER else len(_ORDER))
        told = ", ".join(f"{counts[state]} {state}" for state in order)
        working = counts.get(CLAIMED, 0) + counts.get(RUNNING, 0)
        waits = next((group["first_in_line"] for group in self._groups if group["first_in_line"]), None)
        rest = printable(f"; waiting for {waits}") if waits and not working else ""
        for group in self._groups:
            if group.get("undo"):
                undo = ", ".join(f"{count} {state}" for state, count in group["undo"].items())
                rest += f"; taking back what was made: {undo}"
        return f"{sum(counts.values())} jobs: {told}{rest}"

    def clear(self) -> None:
        """Take away what is drawn, so that something else can be printed."""
        if self._drawn:
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            sys.stderr.write(f"\r{up}\x1b[J")
            sys.stderr.flush()
            self._drawn = 0
