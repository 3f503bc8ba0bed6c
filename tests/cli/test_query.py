"""--filter, --sort, --columns."""

from __future__ import annotations

from typing import Any

import pytest

from maglica.cli import query
from maglica.errors import Refused

ITEMS: list[dict[str, Any]] = [
    {"name": "vm10", "state": "running", "memory_bytes": 4 << 30, "ips": ["192.0.2.10", "10.0.0.1"], "start": True},
    {"name": "vm2", "state": "shut-off", "memory_bytes": 1 << 30, "ips": [], "start": False},
    {"name": "db1", "state": "running", "memory_bytes": None, "ips": ["192.0.2.11"], "start": None},
]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, ["vm10", "vm2", "db1"]),
        ("", ["vm10", "vm2", "db1"]),
        ("state=running", ["vm10", "db1"]),
        ("state!=running", ["vm2"]),
        ("state=running,name=db1", ["db1"]),
        ("state=running and name=db1", ["db1"]),
        ("name=vm*", ["vm10", "vm2"]),
        ("name!=vm*", ["db1"]),
        ("name~^vm\\d+$", ["vm10", "vm2"]),
        ("name!~0", ["vm2", "db1"]),
        ("memory_bytes>1G", ["vm10"]),
        ("memory>=1G", ["vm10", "vm2"]),
        ("memory < 2G", ["vm2"]),
        ("memory<=1073741824", ["vm2"]),
        ("memory=4G", ["vm10"]),
        ("memory!=4G", ["vm2", "db1"]),
        ("memory=?", ["db1"]),
        ("ips=10.0.0.1", ["vm10"]),
        ("ips~^192", ["vm10", "db1"]),
        ("start=yes", ["vm10"]),
        ("start=0", ["vm2"]),
        ("name>m", ["vm10", "vm2"]),
        ("name>5", []),
    ],
)
def test_filters(wanted: str | None, names: list[str]) -> None:
    assert [item["name"] for item in query.filtered(ITEMS, wanted, ("name",))] == names


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        ("running", "cannot read 'running'", "key=value"),
        ("stat=running", "no column stat", "did you mean state"),
        ("name~(", "no regular expression", ""),
    ],
)
def test_filters_that_mean_nothing(wanted: str, message: str, hint: str) -> None:
    with pytest.raises(Refused, match=message) as caught:
        query.filtered(ITEMS, wanted, ())
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (None, ["vm10", "vm2", "db1"]),
        (["name"], ["db1", "vm2", "vm10"]),
        (["-name"], ["vm10", "vm2", "db1"]),
        (["memory"], ["vm2", "vm10", "db1"]),
        (["-memory_bytes"], ["vm10", "vm2", "db1"]),
        (["state", "-name"], ["vm10", "db1", "vm2"]),
    ],
)
def test_sorting(keys: list[str] | None, names: list[str]) -> None:
    assert [item["name"] for item in query.ordered(ITEMS, keys, ())] == names


def test_mixed_values_can_be_sorted() -> None:
    items: list[dict[str, Any]] = [{"v": "10"}, {"v": 3}, {"v": "a1"}, {"v": None}, {"v": "9"}, {"v": "a"}]
    assert [item["v"] for item in query.ordered(items, ["v"], ())] == [3, "9", "10", "a", "a1", None]


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (None, ["name", "state"]),
        (["name"], ["name"]),
        (["state", "name"], ["state", "name"]),
        (["+memory"], ["name", "state", "memory_bytes"]),
        (["+name"], ["name", "state"]),
        (["uuid", "+name"], ["uuid", "name"]),
    ],
)
def test_columns(words: list[str] | None, columns: list[str]) -> None:
    assert query.chosen(words, ("name", "state"), ("memory_bytes", "uuid")) == columns


def test_a_column_that_does_not_exist() -> None:
    with pytest.raises(Refused, match="no column nme") as caught:
        query.chosen(["nme"], ("name", "state"), ())
    assert caught.value.hint == "did you mean name?"
