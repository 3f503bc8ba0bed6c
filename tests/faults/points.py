"""Named points in the daemons at which they can be made to kill themselves, put there from outside.

`Points.hit` counts how often a point was passed, over all lives of a daemon, and ends the process with SIGKILL when
the count is one of those that the plan names: no handler runs, nothing is flushed, as in a power cut or an OOM kill.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What a turn of the client worker's loop records; each has a point before and after its commit.
RECORDED = ("queued", "claimed", "running", "ended")
# What an answer of the client worker may hold; each has a point before and after it leaves.
ANSWERED = ("job", "handed", "acked")

CLIENT_WORKER = [
    *(f"cw.{when}_commit.{what}" for what in RECORDED for when in ("before", "after")),
    *(f"cw.{when}_answer.{what}" for what in ANSWERED for when in ("before", "after")),
    "cw.before_bell",
    "cw.after_bell",
    "cw.after_question",
]
HOST_WORKER = [
    "hw.after_claim",
    "hw.before_begin",
    "hw.after_begin",
    "hw.before_undo_note",
    "hw.after_undo_note",
    "hw.before_effect",
    "hw.after_effect",
    "hw.before_forget_undo",
    "hw.after_forget_undo",
    "hw.before_end",
    "hw.after_end",
    "hw.before_tell",
    "hw.after_tell",
    "hw.before_forget",
    "hw.after_forget",
]


class Points:
    """The points of one daemon. `plan`: point -> the hits at which it dies, counted once a file `armed` is there."""

    def __init__(self, folder: Path, who: str, plan: dict[str, list[int]]) -> None:
        self._folder, self._who, self._plan = folder, who, plan
        folder.mkdir(parents=True, exist_ok=True)

    def hit(self, point: str) -> None:
        """Pass a point."""
        if point not in self._plan or not (self._folder / "armed").exists():
            return
        if self._count(point) in self._plan[point]:
            self._append("crashes", f"{self._who} {point}\n")
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal may reach another thread first

    def _count(self, point: str) -> int:
        return self._append(f"{self._who}.{point}", ".")

    def _append(self, name: str, text: str) -> int:
        fd = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, text.encode())
            return os.fstat(fd).st_size
        finally:
            os.close(fd)


def around(
    owner: Any, name: str, before: Callable[..., object] | None = None, after: Callable[..., object] | None = None
) -> None:
    """Have something called with the same arguments before, or after, a method of the product."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(*args: Any, **more: Any) -> Any:
        if before:
            before(*args, **more)
        value = method(*args, **more)
        if after:
            after(*args, **more)
        return value

    setattr(owner, name, wrapped)


def into_client_worker(points: Points) -> None:
    from maglica import job
    from maglica.bus import Server
    from maglica.client_worker.store import Store
    from maglica.client_worker.store.jobs import Jobs

    recorded: set[str] = set()  # in this turn

    def noted(jobs: Jobs, record: job.Job, **more: Any) -> None:
        recorded.add("ended" if record["state"] in job.FINAL else record["state"])

    around(Jobs, "add", after=noted)
    around(Jobs, "save", after=noted)

    def before_commit(store: Store) -> None:
        for what in sorted(recorded):
            points.hit(f"cw.before_commit.{what}")

    def after_commit(store: Store) -> None:
        for what in sorted(recorded):
            points.hit(f"cw.after_commit.{what}")
        recorded.clear()

    around(Store, "commit", before_commit, after_commit)

    def answered(when: str) -> Callable[..., None]:
        def passed(server: Server, route: Any, message: dict[str, Any], *more: Any) -> None:
            what = _answer(message)
            if what:
                if when == "after":
                    time.sleep(0.005)  # the socket's own thread sends: let it
                points.hit(f"cw.{when}_answer.{what}")

        return passed

    around(Server, "answer", answered("before"), answered("after"))

    def before_ring(server: Server, topic: bytes, message: dict[str, Any], *more: Any) -> None:
        if message["op"] == "bell":
            points.hit("cw.before_bell")

    def after_ring(server: Server, topic: bytes, message: dict[str, Any], *more: Any) -> None:
        points.hit("cw.after_bell" if message["op"] == "bell" else "cw.after_question")

    around(Server, "publish", before_ring, after_ring)


def _answer(message: dict[str, Any]) -> str | None:
    """What an answer holds, of what matters here."""
    if "job" in message:
        return "job"
    if message.get("op") == "sync":
        return "handed" if message["jobs"] else "acked" if message["acked"] else None
    return None


def into_host_worker(points: Points) -> None:
    from maglica.bus import Listener
    from maglica.host_worker.journal import Journal
    from maglica.host_worker.run import Runner

    def at(point: str) -> Callable[..., None]:
        return lambda *args, **more: points.hit(point)

    around(Runner, "begin", before=at("hw.after_claim"))
    around(Journal, "begin", at("hw.before_begin"), at("hw.after_begin"))
    around(Journal, "put_undo", at("hw.before_undo_note"), at("hw.after_undo_note"))
    around(Journal, "forget_undo", at("hw.before_forget_undo"), at("hw.after_forget_undo"))
    around(Journal, "end", at("hw.before_end"), at("hw.after_end"))
    around(Journal, "forget", at("hw.before_forget"), at("hw.after_forget"))

    def before_tell(listener: Listener, message: dict[str, Any]) -> None:
        if message.get("done"):
            points.hit("hw.before_tell")

    def after_tell(listener: Listener, message: dict[str, Any]) -> None:
        if message.get("done"):
            time.sleep(0.005)  # the socket's own thread sends: let it
            points.hit("hw.after_tell")

    around(Listener, "send", before_tell, after_tell)
