"""A stage for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.bus import client
from tests.faults.stage import Stage


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of this process ask again sooner than people's do: times are shortened, nothing else."""
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    monkeypatch.setattr(client, "KNOCK", 0.1)
    monkeypatch.setattr(client, "RESEND", 0.2)


@pytest.fixture
def stage(tmp_path: Path, impatience: None) -> Iterator[Stage]:
    """Daemons that can be made to die, in a folder of their own; nothing is started yet."""
    found = Stage(tmp_path)
    try:
        yield found
    finally:
        found.close()
