"""A guest's disks, opened by libguestfs in a process of its own that can be killed.

`customise` makes a clone a machine of its own and reads the disk again; `verify` does only the second reading;
`inspect_disks` says what is there. All three start one appliance, which costs seconds, and hold no state between
calls. A crash in the middle of `customise` leaves a disk that is half done: its owner throws it away.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from maglica.errors import Failed, MaglicaError, Refused, from_wire
from maglica.host_worker.commands import MARK
from maglica.host_worker.guest.model import GuestRequest

POLL = 0.1
"""Seconds between two looks at `cancelled` and at the clock."""

GRACE = 3.0
"""Seconds that the child has to tidy up after SIGTERM, before SIGKILL."""

STDERR_TAIL = 8192
"""Bytes of stderr that are kept for an error's details."""

CONTROL = re.compile(r"\x1b\[[0-9;]*m|\r")
"""Colours and carriage returns of the appliance's console."""

FORMATS = ("raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx")
HINT_TIMEOUT = "an appliance takes 10 s or more without KVM: look at the host's load, or allow more time"


@dataclass(frozen=True)
class Disk:
    """An image file or block device. The format is never guessed: a raw disk's owner can write any header into it."""

    path: str
    format: str

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise Refused("wrong_input", f"disk format {self.format!r} is not one of {', '.join(FORMATS)}")


def customise(
    disks: Sequence[Disk],
    request: GuestRequest,
    *,
    kvm: bool,
    deadline: float,
    on_step: Callable[[str], None],
    cancelled: Callable[[], bool],
    mark: str = "",
) -> dict[str, Any]:
    """Change the disks (all of one machine, which must not run) as `request` says, and read them again.

    `deadline` in seconds, for everything; `kvm` False makes the appliance run without it. `on_step` hears launch,
    inspect, read, edit, verify, close; `cancelled` is asked ten times a second; `mark` is in the environment
    of all that it starts. Returns os, network, host_keys, seconds per step, verified and edits (texts without secrets).

    Raises `Refused` (nothing was changed: unknown system, no libguestfs, no disk) and `Failed` with `cancelled`,
    `timeout`, `wrong_state` (the second reading differs) or `environment_error`. No process is left in any case.
    """
    task = _task("customise", disks, request)
    return _converse(task, kvm=kvm, deadline=deadline, on_step=on_step, cancelled=cancelled, mark=mark)


def verify(
    disks: Sequence[Disk],
    request: GuestRequest,
    *,
    kvm: bool,
    deadline: float,
    on_step: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Read disks that `customise` changed and that were not booted since; nothing is written. Arguments, answer and
    errors as there."""
    task = _task("verify", disks, request)
    return _converse(task, kvm=kvm, deadline=deadline, on_step=on_step, cancelled=cancelled)


def inspect_disks(
    disks: Sequence[Disk],
    request: GuestRequest | None = None,
    *,
    kvm: bool,
    deadline: float,
    on_step: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """What is on the disks: os (its family is None when it is not known) and network tool; nothing is written.

    With a request also the edits that `customise` would make, or its refusal.
    """
    task = _task("inspect", disks, request)
    return _converse(task, kvm=kvm, deadline=deadline, on_step=on_step, cancelled=cancelled)


def _task(verb: str, disks: Sequence[Disk], request: GuestRequest | None) -> dict[str, Any]:
    if not disks:
        raise Refused("wrong_input", "the machine has no disk to customise")
    for disk in disks:
        if not os.path.exists(disk.path):
            raise Refused("unknown_entity", f"disk {disk.path} does not exist")
    pairs = [[os.path.abspath(disk.path), disk.format] for disk in disks]
    return {"verb": verb, "disks": pairs, "request": request.to_map() if request else None}


# ---- the conversation -------------------------------------------------------------------------------------------


def _converse(
    task: dict[str, Any],
    *,
    kvm: bool,
    deadline: float,
    on_step: Callable[[str], None],
    cancelled: Callable[[], bool],
    mark: str = "",
) -> dict[str, Any]:
    ends = time.monotonic() + deadline
    step = "start"
    with _child(task, kvm=kvm, mark=mark) as child:
        while True:
            for event in child.events(POLL):
                if event["event"] == "done":
                    report: dict[str, Any] = event["report"]
                    return report
                if event["event"] == "error":
                    raise child.with_tail(from_wire(event["error"]), step)
                step = event["name"]
                on_step(step)
            if child.ended:
                raise child.with_tail(child.death(step), step)
            if cancelled():
                raise Failed("cancelled", f"customising was cancelled (step {step})")
            if time.monotonic() >= ends:
                message = f"customising the disks took longer than {deadline:g} s (step {step})"
                raise child.with_tail(Failed("timeout", message, HINT_TIMEOUT), step)


@contextmanager
def _child(task: dict[str, Any], *, kvm: bool, mark: str) -> Iterator[_Child]:
    """The child in its own process group and with its own folder; both are gone afterwards, however this ends."""
    folder = tempfile.mkdtemp(prefix="maglica-guest-")
    try:
        child = _Child(task, _environment(folder, kvm=kvm) | ({MARK: mark} if mark else {}))
        try:
            yield child
        finally:
            child.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: str, *, kvm: bool) -> dict[str, str]:
    """LIBGUESTFS_TRACE would write file contents (and the password hash) into the log: never handed down."""
    package_root = str(Path(__file__).resolve().parents[3])
    search = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    unwanted = ("LIBGUESTFS_TRACE", "LIBGUESTFS_DEBUG")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | {
        "LIBGUESTFS_BACKEND": "direct",
        "LIBGUESTFS_BACKEND_SETTINGS": "" if kvm else "force_tcg",
        "LIBGUESTFS_TMPDIR": folder,
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(search),
    }


class _Child:
    """One running child: its events, the tail of its stderr, and its end."""

    def __init__(self, task: dict[str, Any], environment: dict[str, str]) -> None:
        self.ended = False
        self._tail = b""
        self._rest = b""
        self._secret: str | None = (task["request"] or {}).get("root_password_hash")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "maglica.host_worker.guest.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        self._selector = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            self._selector.register(stream, selectors.EVENT_READ)
        self._say(task)

    def _say(self, task: dict[str, Any]) -> None:
        """One line; the pipe stays open as a sign of life."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It died at once; `events` sees the end and `death` tells why.
            pass

    def events(self, wait: float) -> list[dict[str, Any]]:
        """The events that came within `wait` seconds. Sets `ended` when the child closed its stdout."""
        found: list[dict[str, Any]] = []
        for key, _ in self._selector.select(wait):
            stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
            data = os.read(stream.fileno(), 65536)
            if not data:
                self._selector.unregister(stream)
                self.ended = self.ended or stream is self._process.stdout
            elif stream is self._process.stderr:
                self._tail = (self._tail + data)[-STDERR_TAIL:]
            else:
                *lines, self._rest = (self._rest + data).split(b"\n")
                found += [json.loads(line) for line in lines]
        return found

    def death(self, step: str) -> MaglicaError:
        """The error for a child that went without a word."""
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return Failed("environment_error", f"the libguestfs child closed its output (step {step})")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return Failed("environment_error", f"the libguestfs child died ({how}, step {step})")

    def with_tail(self, error: MaglicaError, step: str) -> MaglicaError:
        """The error with the last lines of stderr, where they can say more. They never hold the password hash."""
        while self._selector.get_map() and self._selector.select(0):
            self.events(0)
        text = CONTROL.sub("", self._tail.decode("utf-8", "replace")).strip()
        if self._secret:
            text = text.replace(self._secret, "***")
        if error.code not in ("environment_error", "timeout") or not text:
            return error
        wire = error.to_wire()
        wire["details"] = {**error.details, "stderr": text}
        if error.code == "environment_error" and step in ("start", "launch"):
            # libguestfs itself says no more than "launch failed"; QEMU or supermin said why.
            wire["message"] += f" ({text.splitlines()[-1][:300]})"
        return from_wire(wire)

    def stop(self) -> None:
        """End the whole group (child, appliance, helpers): politely, then not. Harmless when it is gone."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                pass
        # Also when the child left by itself: what it had started must not outlive it.
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                _close(stream)
        self._wait_for_group()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _wait_for_group(self) -> None:
        """SIGKILL takes effect a moment later; only then is the disk free. Zombies of others' children may stay."""
        ends = time.monotonic() + GRACE
        while time.monotonic() < ends:
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        # Unsent bytes for a child that is gone.
        pass
