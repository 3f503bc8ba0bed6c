"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import House


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heeded() -> Iterator[None]:
    """What a script starts in the background ignores SIGINT, and hands that down; what a test starts shall heed it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of its own for one test; nothing is started yet."""
    found = House(tmp_path)
    try:
        yield found
    finally:
        found.close()
