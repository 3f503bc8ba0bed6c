"""What is shown of a job while it runs."""

from __future__ import annotations

from typing import Any

import pytest

from maglica.cli.progress import Meter, Watch
from tests.cli.records import record
from tests.cli.typing_in import drawn

GIB = 1 << 30


def copying(done: int, total: int | None = 4 * GIB) -> Any:
    return record(state="running", step="copy disks", progress={"done_bytes": done, "total_bytes": total})


def test_a_line_tells_step_bar_bytes_rate_and_time() -> None:
    meter = Meter(copying(0), 100.0, 2.0)
    meter.update(copying(0), 100.0)
    meter.update(copying(GIB), 104.0)
    line = meter.line(104.0, 100)
    assert line == "vm stop web1: copy disks  [#####...............]  25%  1 of 4 GiB  256 MiB/s  6 s"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (record(), "vm stop web1: queued  5 s"),
        (record(state="claimed"), "vm stop web1: starting  5 s"),
        (record(state="running", step="shut down"), "vm stop web1: shut down  5 s"),
        (record(state="running", step="shut down", cancel=True), "vm stop web1: being cancelled  5 s"),
        (copying(GIB, None), "vm stop web1: copy disks  1 GiB  5 s"),
        (record(state="done"), "vm stop web1: done  5 s"),
    ],
)
def test_lines(given: Any, line: str) -> None:
    assert Meter(given, 100.0, 0.0).line(105.0, 80) == line


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (80, "vm stop web1: copy disks  [#####.....]  50%  2 of 4 GiB  64 MiB/s  32 s"),
        (63, "vm stop web1: copy disks   50%  2 of 4 GiB  64 MiB/s  32 s"),
        (55, "vm stop web1: copy disks   50%  2 of 4 GiB  32 s"),
        (40, "vm stop web1: copy disks   50%  32 s"),
        (32, "vm stop web1: copy disks  32 s"),
        (20, "vm stop web1: copy…"),
    ],
)
def test_what_does_not_fit_is_left_out_in_order(columns: int, line: str) -> None:
    meter = Meter(copying(0), 0.0, 0.0)
    for second in range(33):
        meter.update(copying(second * GIB // 16), float(second))
    assert meter.line(32.0, columns) == line


@pytest.mark.parametrize("columns", range(10, 100, 5))
def test_a_line_never_wraps(columns: int) -> None:
    meter = Meter(copying(GIB), 0.0, 0.0)
    assert len(meter.line(5.0, columns)) < columns


def test_the_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter(copying(0), 0.0, 0.0)
    for second in range(60):
        meter.update(copying(second * 10 if second < 50 else 500 + (second - 50) * 1000), float(second))
    assert meter.rate() == pytest.approx(1000, rel=0.2)


def test_without_a_terminal_a_line_for_every_change_and_no_flood() -> None:
    meter = Meter(record(), 0.0, 0.0)
    said = [(second, meter.news(float(second))) for second in range(3)]
    meter.update(record(state="claimed"), 3.0)
    said.append((3, meter.news(3.0)))
    for second in range(4, 40):
        meter.update(copying(second * GIB // 10), float(second))
        said.append((second, meter.news(float(second))))
    meter.update(record(state="done", took_seconds=41.0), 40.0)
    said += [(40, meter.news(40.0)), (41, meter.news(41.0))]
    told = [(second, line) for second, line in said if line]
    assert [second for second, _ in told] == [0, 4, 14, 24, 34, 40]
    assert told[0][1] == "vm stop web1: queued"
    assert told[2][1] == "vm stop web1: copy disks, 1.4 of 4 GiB, 102.4 MiB/s"
    assert told[-1][1] == "vm stop web1: done after 41 s"


def test_several_jobs_are_redrawn_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(tty=True, quiet=False, columns=60, lines=24)
    first, second = record(id="a", object="web1"), record(id="b", object="web2", state="running", step="shut down")
    watch.show([first, second], 0.0, [0.0, 0.0])
    watch.show([first, second], 1.0, [0.0, 0.0])
    shown = capsys.readouterr().err
    assert drawn(shown) == [
        "vm stop web1: queued  1 s",
        "vm stop web2: shut down  1 s",
        "2 jobs: 1 queued, 1 running",
    ]
    watch.show([first, record(id="b", object="web2", state="done")], 2.0, [0.0, 0.0])
    shown += capsys.readouterr().err
    assert drawn(shown)[:2] == ["vm stop web1: queued  2 s", "2 jobs: 1 queued, 1 done"]
    watch.clear()
    shown += capsys.readouterr().err
    assert "".join(drawn(shown)) == ""


def test_more_jobs_than_lines(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(tty=True, quiet=False, columns=60, lines=10)
    jobs = [record(id=str(number), object=f"web{number}") for number in range(50)]
    watch.show(jobs, 0.0, [0.0] * 50)
    watch.show(jobs, 1.0, [0.0] * 50)
    lines = drawn(capsys.readouterr().err)
    assert len(lines) == 9
    assert lines[-1] == "50 jobs: 50 queued"


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for tty in (True, False):
        Watch(tty=tty, quiet=True, columns=60, lines=10).show([record()], 0.0, [0.0])
    assert capsys.readouterr().err == ""
