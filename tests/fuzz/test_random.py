"""Thousands of damaged messages at every door, the same ones every time. `make fuzz` looks further."""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz.targets import TARGETS, mutated

COUNT = 200_000 if os.environ.get("MAGLICA_TEST_LONG") else 4000


@pytest.mark.parametrize("door", TARGETS)
def test_damaged_messages(door: str) -> None:
    chance = random.Random(door)
    target = TARGETS[door]()
    for _ in range(COUNT):
        data = mutated(chance)
        try:
            target(data)
        except Exception as error:
            raise AssertionError(f"{door}: {data!r}") from error
