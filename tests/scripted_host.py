"""A host whose every word the test decides: real sockets and real messages, but no libvirt and no time of its own.

What takes minutes on a hypervisor (a copy of a big disk, a guest that does not obey) happens here when a test says so.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from maglica import VERSION, wire
from maglica.bus import Listener
from maglica.declare import SLOTS
from maglica.keys import Key

GIB = 1 << 30
BEAT = 0.05  # seconds


class ScriptedHost:
    """Says hello, has some VMs, takes every job, and does with it what `progress` and `end` tell."""

    def __init__(
        self,
        name: str,
        pub_port: int,
        rep_port: int,
        vms: dict[str, str],
        key: Key | None = None,
        protocol: int = wire.VERSION,
    ) -> None:
        self.name, self.vms, self._key, self.protocol = name, vms, key, protocol
        self.versions: set[int] = set()  # of the messages that came
        self.jobs: dict[str, dict[str, Any]] = {}
        self.cancelled: set[str] = set()
        self._ports = pub_port, rep_port
        self._journal = uuid.uuid4().hex
        self._incarnation: int | None = None
        self._orders: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._done: dict[str, dict[str, Any]] = {}
        self._at_survey: dict[int, Callable[[], object]] = {}
        self._surveys = 0
        self._stop = threading.Event()
        self.up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> ScriptedHost:
        self._thread.start()
        assert self.up.wait(10), "the scripted host was not accepted"
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    # ------------------------------------------------------------------------------ what a test says

    def at_survey(self, count: int, what: Callable[[], object]) -> None:
        """Do something instead of answering the survey that comes as number `count`: a submission begins with one."""
        self._at_survey[count] = what

    def job(self, name: str) -> str | None:
        """The id of the job about that VM, once it is here."""
        return next((job_id for job_id, handed in self.jobs.items() if handed["object"] == name), None)

    def progress(self, job_id: str, step: str, done: int | None = None, total: int | None = None) -> None:
        progress = None if done is None else {"done_bytes": done, "total_bytes": total}
        self._orders.put(("progress", {"id": job_id, "step": step, "progress": progress, "steps": [], "commands": []}))

    def end(
        self, job_id: str, result: dict[str, Any] | None = None, error: dict[str, Any] | None = None, **told: Any
    ) -> None:
        """`told`: `steps` and `commands` of the record."""
        state = "done" if error is None else "cancelled" if error["code"] == "cancelled" else "failed"
        outcome = {
            "id": job_id, "attempt": self.jobs[job_id]["attempt"], "state": state, "result": result, "error": error,
            "step": None, "progress": None, "steps": [], "commands": [], **told,
        }  # fmt: skip
        self._orders.put(("end", outcome))

    # ---------------------------------------------------------------------------------------- the rest

    def _run(self) -> None:
        bus = Listener("127.0.0.1", *self._ports, [wire.topic(self.name)], self._key)
        try:
            bus.send({
                "v": self.protocol,
                "op": "hello", "host": self.name, "journal": self._journal, "versions": [self.protocol],
                "features": [], "version": VERSION, "facts": {"libvirt": "ok"},
            })  # fmt: skip
            due = 0.0
            while not self._stop.is_set():
                published, answers = bus.receive(BEAT)
                self.versions |= {message["v"] for message in [*published, *answers]}
                for message in published:
                    self._asked(bus, message)
                for answer in answers:
                    self._answered(answer)
                if self._incarnation is not None and time.monotonic() >= due:
                    due = time.monotonic() + BEAT
                    bus.send(self._sync())
        finally:
            bus.close()

    def _sync(self) -> wire.Message:
        progress = []
        while not self._orders.empty():
            what, told = self._orders.get()
            if what == "progress":
                progress.append(told)
            else:
                self._done[told["id"]] = told
        return {
            "v": self.protocol, "op": "sync", "host": self.name, "incarnation": self._incarnation,
            "have": list(self.jobs), "done": list(self._done.values()), "progress": progress,
            "free": dict.fromkeys(SLOTS, 100),
        }  # fmt: skip

    def _answered(self, answer: wire.Message) -> None:
        if answer.get("op") == "hello" and answer["ok"]:
            self._incarnation = answer["incarnation"]
            self.up.set()
        elif answer.get("op") == "sync" and answer["ok"]:
            for receipt in answer["acked"]:
                self._done.pop(receipt["id"], None)
                self.jobs.pop(receipt["id"], None)
            self.jobs.update({handed["id"]: handed for handed in answer["jobs"]})
            self.cancelled.update(answer["cancel"])

    def _asked(self, bus: Listener, message: wire.Message) -> None:
        if message["op"] in ("bell", "beat"):
            return
        value: dict[str, Any] = {"items": [self._vm(name) for name in self.vms]}
        if message["action"] == "host survey":
            self._surveys += 1
            self._at_survey.get(self._surveys, lambda: None)()
            value = {
                "driver": "test", "active": len(self.vms), "vcpus": 8, "memory_free_bytes": 32 * GIB,
                "domains": [self._vm(name) for name in self.vms],
                "pools": [{"name": "default", "free_bytes": 100 * GIB}],
            }  # fmt: skip
        elif message["op"] == "plan":
            value = {"item": {"would": {"do": message["action"]}, "changed": True}}
        bus.send(
            {"v": self.protocol, "op": "answer", "host": self.name, "ask": message["ask"], "ok": True, "value": value}
        )

    def _vm(self, name: str) -> dict[str, Any]:
        return {"name": name, "state": self.vms[name], "image": False}
