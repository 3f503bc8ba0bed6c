"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house of its own for one test; nothing is started yet."""
    found = House(tmp_path)
    try:
        yield found
    finally:
        found.close()
