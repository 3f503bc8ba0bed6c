"""Looks that take longer than a question on the bus may: begun when asked for first, told when they are over."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

Value = dict[str, Any]

MOST_KEPT = 1000  # VMs whose disks were read


class Reading:
    """What was read in disks, for as long as they do not change; one VM at a time, in a thread of its own.

    A read of the bus is answered within seconds and may be asked again at any time: this takes longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Any, ...], Value] = {}
        self._busy = False

    def look(self, disks: Sequence[str], read: Callable[[], Value]) -> Value | None:
        """What `read` gave for these disks as they are now; None: it is at work, or will be when it is asked again."""
        key = tuple((path, seen.st_ino, seen.st_mtime_ns) for path in disks for seen in [os.stat(path)])
        with self._lock:
            if key in self._known or self._busy:
                return self._known.get(key)
            self._busy = True
        threading.Thread(target=self._read, args=(key, read), name="identity", daemon=True).start()
        return None

    def _read(self, key: tuple[Any, ...], read: Callable[[], Value]) -> None:
        found: Value = {"why": "its disks could not be read"}
        try:
            found = read()
        finally:
            with self._lock:
                if len(self._known) >= MOST_KEPT:
                    self._known.clear()
                self._known[key] = found
                self._busy = False
