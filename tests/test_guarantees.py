"""What docs/guarantees.md promises has the tests that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[1]
TEXT = (HOME / "docs" / "guarantees.md").read_text()


def named() -> list[tuple[str, str]]:
    """(file, test) of everything named; `::test` continues in the file that was named before it."""
    found, file = [], ""
    for path, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", TEXT):
        file = path or file
        found.append((file, test))
    return found


@pytest.mark.parametrize(("file", "test"), sorted(set(named())))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    assert re.search(rf"^(def|class) {test}\b|^{test} = ", (HOME / file).read_text(), re.MULTILINE)


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"`((?:tests|docs)/[\w/.]+?)(?:::\w+)?`", TEXT):
        assert (HOME / path).exists(), path


def test_every_fault_has_a_row_and_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 28))
    assert all("::test_" in shown for _, _, shown in rows)
    assert len(named()) > 40
