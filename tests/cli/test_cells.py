"""A value as a person reads it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from maglica.cli import cells

NOW = datetime(2026, 3, 4, 15, 0, tzinfo=timezone(timedelta(hours=9)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"),
        (1 << 30, "1 GiB"), (10 * (1 << 30) + (1 << 29), "10.5 GiB"), ((1 << 30) - 1, "1 GiB"), (3 << 40, "3 TiB"),
        (5 << 50, "5 PiB"), (5000 << 50, "5000 PiB"), (-(2 << 30), "-2 GiB"),
    ],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert cells.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.0004, "0.4 ms"), (0.002, "2 ms"), (0.012, "12 ms"), (0.9994, "999 ms"), (0.9999, "1 s"),
        (1, "1 s"), (3.24, "3.2 s"), (59.94, "59.9 s"), (59.96, "1m"), (60, "1m"), (61, "1m 1s"), (200, "3m 20s"),
        (3600, "1h"), (3661, "1h 1m"), (86399, "23h 59m"), (86400, "1d"), (90000, "1d 1h"), (7 * 86400, "7d"),
        (-90, "-1m 30s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert cells.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-03-04T05:06:07.123Z", "14:06:07"),
        ("2026-03-03T15:30:00Z", "00:30:00"),
        ("2026-03-03T14:30:00Z", "2026-03-03 23:30"),
        ("2025-12-31T00:00:00Z", "2025-12-31 09:00"),
        ("soon", "soon"),
    ],
)
def test_times_are_local(text: str, shown: str) -> None:
    assert cells.when(text, NOW) == shown


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("name", "web1", "web1"),
        ("name", None, "?"),
        ("memory_bytes", None, "?"),
        ("expires_at", None, "never"),
        ("at", "2026-03-04T05:06:07Z", "14:06:07"),
        ("job", None, ""),
        ("memory_bytes", 1 << 30, "1 GiB"),
        ("took_seconds", 1.5, "1.5 s"),
        ("created_at", "2026-03-04T05:06:07Z", "14:06:07"),
        ("changed", True, "yes"),
        ("changed", False, "no"),
        ("vcpus", 4, "4"),
        ("weight", 2.5, "2.5"),
        ("weight", 10.0, "10"),
        ("ips", [], ""),
        ("ips", ["192.0.2.1", "192.0.2.2"], "192.0.2.1, 192.0.2.2"),
        ("disks", [{"target": "vda", "path": "/a.img"}, {"target": "vdb", "path": "/b.img"}], "/a.img, /b.img"),
        ("disks", [{"target": "vda"}], "vda"),
        ("seen", {"name": "web1", "memory_bytes": 1024}, "name=web1 memory_bytes=1 KiB"),
        ("note", "two\nlines", "two lines"),
        ("note", "\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("note", "a\tb", "a    b"),
    ],
)
def test_cells(key: str, value: Any, text: str) -> None:
    assert cells.cell(key, value, NOW) == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("name", "Name"), ("memory_bytes", "Memory"), ("memory_free_bytes", "Memory free"), ("created_at", "Created"),
        ("round_trip_seconds", "Round trip"), ("vcpus", "vCPUs"), ("vms_running", "VMs running"), ("uuid", "UUID"),
        ("id", "ID"), ("os_name", "OS name"), ("seconds", "Seconds"), ("ips", "IPs"), ("cpu_mhz", "CPU MHz"),
    ],
)  # fmt: skip
def test_headings(key: str, text: str) -> None:
    assert cells.heading(key) == text


def test_the_width_of_what_is_not_ascii() -> None:
    assert [cells.width(text) for text in ("abc", "äöü", "東京", "e\u0301")] == [3, 3, 4, 1]
