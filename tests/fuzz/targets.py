"""What is fed with bytes, and what must never come of it. One function per door; any exception is a finding."""

from __future__ import annotations

import atexit
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maglica import wire
from maglica.errors import MaglicaError, Refused
from tests.client_worker.office import Office, Worker, outcome, submission

REFRESH = 300  # requests, after which the office is a new one: what one request brought about shall not hide another's


def decoder(data: bytes) -> None:
    """Bytes are a message, or are refused; a message means the same after another round."""
    try:
        message = wire.decode(data)
    except Refused:
        return
    assert isinstance(message, dict)
    assert len(data) <= wire.MAX_BYTES
    try:
        wire.check(message)
    except Refused:
        pass
    if not _strange(message):
        assert wire.decode(wire.encode(message)) == {"v": wire.VERSION, **message}


def answer(data: bytes) -> None:
    """The same for what a host worker or a client takes from the client worker."""
    try:
        message = wire.decode(data, wire.MAX_ANSWER_BYTES)
        wire.result(message)
    except MaglicaError:
        pass


def _strange(value: Any) -> bool:
    """Whether something in it is unequal to itself, or not text that can be written again."""
    if isinstance(value, dict):
        return any(_strange(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(_strange(part) for part in value)
    return isinstance(value, float) and math.isnan(value)


class Doors:
    """The broker's door: whatever comes in is answered, held back or refused, and never an unexpected error."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(
            prefix="maglica-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        )
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._office: Office | None = None
        self._asked = 0

    def __call__(self, data: bytes) -> None:
        if self._office is None or self._asked % REFRESH == 0:
            self._office = self._fresh()
        self._asked += 1
        asked = self._office.post(data)
        self._office.turn()
        for told in asked.answers:
            error = told.get("error") or {}
            assert error.get("code") != "internal_error", error

    def _fresh(self) -> Office:
        if self._office:
            self._office.close()
        for path in Path(self._folder).iterdir():
            path.unlink()
        office = Office(Path(self._folder))
        for name in ("host1", "host2"):
            host = Worker(office, name, {"a1": "running", "el9.original": "shut-off"} if name == "host1" else {})
            host.hello()
            office.submit("vm destroy", key=f"key of {name}", name="a1")
            office.serve(host)
            host.sync()
        return office


def good() -> list[bytes]:
    """Messages as they should be: what mutations begin with."""
    known = {
        "hello": {"host": "host1", "journal": "j", "versions": [1], "features": ["reads"], "version": "1", "facts": {}},
        "sync": {
            "host": "host1", "incarnation": 1, "seq": 5, "have": ["0t1"], "done": [outcome("0t1")], "facts": {},
            "progress": [{"id": "0t1", "step": "copy", "progress": {"done_bytes": 1, "total_bytes": 2}}],
            "free": {"quick": 8, "disk": 2}, "epoch": 1, "heard": 3, "clock": 1.5,
        },
        "answer": {"host": "host1", "ask": 7, "ok": True, "value": {"items": [{"name": "a1"}]}},
        "wait": {"id": "0t1", "rev": 1, "timeout": 0.5},
        "read": {"action": "job list", "args": {"last": 3, "state": "done"}},
        "ping": {},
    }  # fmt: skip
    messages: list[dict[str, Any]] = [{"op": op, **fields} for op, fields in known.items()]
    messages.append(submission("vm stop", key="k", name="a1", timeout=5.0, force=True))
    messages.append(submission("vm clone", key="c", image="el9.original", hostname="web1.example.jp", memory=1 << 30))
    messages.append({"op": "read", "action": "vm info", "args": {"name": "a1@host1"}})
    messages.append({"op": "read", "action": "job cancel", "args": {"id": "0t1"}})
    messages.append({"ok": False, "error": {"code": "denied", "message": "no"}})
    return [wire.encode(message) for message in messages]


def mutated(chance: random.Random) -> bytes:
    """A good message with some bytes changed, lost, doubled or cut off; now and then nothing but chance."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(200))
    data = bytearray(chance.choice(good()))
    for _ in range(chance.choice([1, 1, 2, 5])):
        at, what = chance.randrange(len(data) or 1), chance.randrange(5)
        if what == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            del data[at : at + chance.randrange(1, 4)]
        elif what == 2:
            data[at:at] = data[at : at + chance.randrange(1, 20)]
        elif what == 3:
            data[at:at] = chance.choice([b"\xc0", b"\xc3", b"\x90", b"\x80", b"\xcb" + chance.randbytes(8), b"\xff"])
        else:
            data = data[:at]
    return bytes(data)


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "decoder": lambda: decoder,
    "answer": lambda: answer,
    "doors": Doors,
}
