"""What a job here needs of another host: asked for through the client worker, which knows what the job may ask for.

Job threads ask and wait; the loop, which alone talks to the bus, sends what is in `outgoing` and hands in the answers.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from maglica import wire
from maglica.errors import Failed

AGAIN = 10.0  # seconds after which a question, or its answer, is taken for lost


def _item(answer: wire.Message) -> dict[str, Any]:
    """What an answer is about. The other host may have said anything."""
    value = answer.get("value") or {}
    item = (value.get("item") or {}) if isinstance(value, dict) else value
    if not isinstance(item, dict):
        raise Failed("environment_error", f"the other host's answer makes no sense: {item!r}", "look at its log")
    return item


class Needs:
    """Questions that are out, and what came back."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the loop look at `outgoing`."""
        self._wake = wake
        self._number = itertools.count(1)
        self._out: queue.SimpleQueue[wire.Message] = queue.SimpleQueue()
        self._waiting: dict[int, queue.SimpleQueue[wire.Message]] = {}
        self._lock = threading.Lock()

    def ask(self, job: str, args: dict[str, Any], within: float, check: Callable[[], None]) -> dict[str, Any]:
        """What the other host says; its error is raised here. `within`: seconds; `check` raises when it shall end."""
        until = time.monotonic() + within
        while (left := until - time.monotonic()) > 0:
            answer = self._once(job, args, min(left, AGAIN), check)
            if answer is not None:
                return _item(wire.result(answer))
        raise Failed(
            "timeout", "the client worker does not answer", "`maglica host list` shows whether it hears this host"
        )

    def _once(self, job: str, args: dict[str, Any], within: float, check: Callable[[], None]) -> wire.Message | None:
        number = next(self._number)
        answers: queue.SimpleQueue[wire.Message] = queue.SimpleQueue()
        with self._lock:
            self._waiting[number] = answers
        self._out.put({"op": "need", "ask": number, "job": job, "args": args})
        self._wake()
        until = time.monotonic() + within
        try:
            while time.monotonic() < until:
                check()
                try:
                    return answers.get(timeout=0.2)
                except queue.Empty:
                    continue
            return None
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def outgoing(self) -> list[wire.Message]:
        """The questions that are to be sent."""
        found = []
        while not self._out.empty():
            found.append(self._out.get())
        return found

    def answered(self, message: wire.Message) -> None:
        """An answer came; one that nobody waits for any more is dropped."""
        with self._lock:
            answers = self._waiting.get(message.get("ask", 0))
        if answers is not None:
            answers.put(message)
