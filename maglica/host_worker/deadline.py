"""Calls that may never come back, in threads of their own, with a deadline. How many may be out is bounded."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

log = logging.getLogger("maglica.host_worker")

T = TypeVar("T")


class Overdue(Exception):
    """A call did not come back in time, or so many others have not that no more are begun."""


class _Call(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self.work: Callable[[], T] | None = work
        self.over = threading.Lock()  # free when it has come back
        self.over.acquire()
        self.value: T | None = None
        self.error: BaseException | None = None
        self.came_back = False
        self.given_up: float | None = None  # when nobody waited for it any more


class Calls:
    """Threads that are used again, and left to themselves when a call hangs in one of them."""

    def __init__(self, most_hung: int) -> None:
        self._most_hung = most_hung
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._idle = 0
        self.hung = 0  # calls that nobody waits for and that have not come back

    def run(self, work: Callable[[], T], within: float) -> T:
        """What `work` gives or raises; `Overdue` when it takes more than `within` seconds.

        A call that was given up goes on, and may still take effect.
        """
        call = _Call(work)
        with self._lock:
            if self.hung >= self._most_hung:
                raise Overdue
            fresh = self._idle == 0
            self._idle -= not fresh
        if fresh:
            threading.Thread(target=self._serve, name="call", daemon=True).start()
        self._queue.put(call)
        if not call.over.acquire(timeout=within):
            with self._lock:
                if not call.came_back:
                    call.given_up = time.monotonic()
                    self.hung += 1
                    raise Overdue
        if call.error is not None:
            raise call.error
        return cast(T, call.value)

    def _serve(self) -> None:
        while True:
            call = self._queue.get()
            try:
                call.value = cast(Callable[[], Any], call.work)()
            except BaseException as error:
                call.error = error
            call.work = None  # to let go of a connection may take a while, too
            with self._lock:
                call.came_back = True
                self._idle += 1
                self.hung -= call.given_up is not None
            if call.given_up is not None:
                log.warning("a call came back %.0f s after it was given up", time.monotonic() - call.given_up)
            call.over.release()
            del call  # what it gave is not kept until the next one
