"""Waiting for something that another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(question: Callable[[], Any], timeout: float = 30.0, what: str = "", *, pause: float = 0.01) -> Any:
    """Ask until the answer is true, and give it; `pause` seconds between two questions."""
    deadline = time.monotonic() + timeout
    while True:
        found = question()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(pause)
