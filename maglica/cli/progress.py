"""How far jobs are: one line for each, redrawn on a terminal; otherwise a line for every change, never a flood."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from maglica.cli.cells import duration, printable, size
from maglica.cli.output import cut
from maglica.job import CLAIMED, DONE, FINAL, QUEUED, Job

LABEL = 32  # columns that the label gets before anything else is left out
EVERY = 10.0  # seconds between two lines about bytes where lines are not redrawn
WINDOW = 5.0  # seconds over which the rate is taken
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
        told = (record["state"], record["step"], record["cancel"])
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

    def line(self, now: float, columns: int) -> str:
        """The whole state on one line that fits: label, step, bar, bytes, rate, time."""
        head = f"{label(self.record)}: {state(self.record)}"
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
    if record["state"] in FINAL or record["state"] == QUEUED:
        return record["state"]
    return printable(record["step"] or record["state"])


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
    """Draws meters on stderr."""

    def __init__(self, *, tty: bool, quiet: bool, columns: int, lines: int) -> None:
        self._tty, self._quiet, self._columns, self._lines = tty, quiet, columns, lines
        self._meters: dict[str, Meter] = {}
        self._drawn = 0

    def show(self, records: Sequence[Job], now: float, ages: Sequence[float]) -> None:
        """Draw the records as they are at `now`. `ages`: how old each was when it was first seen, in seconds."""
        for record, age in zip(records, ages, strict=True):
            self._meters.setdefault(record["id"], Meter(record, now, age)).update(record, now)
        if self._quiet:
            return
        if self._tty:
            self._redraw(now)
        else:
            self._tell(now)

    def _tell(self, now: float) -> None:
        for meter in self._meters.values():
            news = meter.news(now)
            if news:
                sys.stderr.write(f"{news}\n")
        sys.stderr.flush()

    def _redraw(self, now: float) -> None:
        meters = list(self._meters.values())
        if len(meters) > 1:
            meters = [meter for meter in meters if meter.record["state"] not in FINAL]
        lines = [meter.line(now, self._columns) for meter in meters]
        if len(self._meters) > 1:
            lines = [*lines[: self._lines - 2], self._summary()]
        self.clear()
        sys.stderr.write("\n".join(lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def _summary(self) -> str:
        counts: dict[str, int] = {}
        for meter in self._meters.values():
            counts[meter.record["state"]] = counts.get(meter.record["state"], 0) + 1
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        return cut(f"{len(self._meters)} jobs: {told}", self._columns - 1)

    def clear(self) -> None:
        """Take away what is drawn, so that something else can be printed."""
        if self._drawn:
            up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
            sys.stderr.write(f"\r{up}\x1b[J")
            sys.stderr.flush()
            self._drawn = 0
