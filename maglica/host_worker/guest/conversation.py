"""A child process that opens guests' disks: started, spoken to, and ended with all that it started.

One line of JSON for each task goes into its stdin, lines of JSON come back on its stdout. It lives as long as that
stdin is open, works in a process group of its own, and keeps its files in a folder of its own, whose name tells whose
child it is: what a host worker that was killed left there is swept away by its next start.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from maglica.errors import Failed, MaglicaError, from_wire
from maglica.host_worker.commands import MARK, outlast

POLL = 0.1
"""Seconds between two looks at `cancelled` and at the clock."""

GRACE = 3.0
"""Seconds that the child has to tidy up after SIGTERM, before SIGKILL."""

STDERR_TAIL = 8192
"""Bytes of stderr that are kept for an error's details."""

CONTROL = re.compile(r"\x1b\[[0-9;]*m|\r")
"""Colours and carriage returns of the appliance's console."""

HINT_TIMEOUT = "an appliance takes 10 s or more without KVM: look at the host's load, or allow more time"


def converse(
    child: Child,
    task: dict[str, Any],
    *,
    deadline: float,
    on_step: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Give the child a task and wait for its report; `deadline` in seconds.

    Raises what the child answered, and `Failed` with `cancelled`, `timeout` or `environment_error` (it died). After
    any error the child is to be stopped.
    """
    ends = time.monotonic() + deadline
    step = "start"
    child.good = False
    child.say(task)
    while True:
        for event in child.events(POLL):
            if event["event"] in ("done", "error"):
                child.good = event.get("good", event["event"] == "done")
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
def one_task(*, kvm: bool, mark: str) -> Iterator[Child]:
    """A child that is gone afterwards, however this ends."""
    child = Child(kvm=kvm, mark=mark)
    try:
        yield child
    finally:
        child.stop()


def sweep(mark: str) -> list[str]:
    """Remove the folders of children that are gone together with their parent; their paths."""
    left = [str(path) for path in Path(tempfile.gettempdir()).glob(f"{_prefix(mark)}*")] if mark else []
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return left


def _prefix(mark: str) -> str:
    return f"maglica-guest-{mark.replace(':', '-')}-" if mark else "maglica-guest-"


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


def _hashes(value: Any) -> set[str]:
    """All password hashes in a request."""
    if isinstance(value, dict):
        own = {one for key, one in value.items() if key.endswith("password_hash") and one}
        return own.union(*(_hashes(one) for one in value.values()))
    return set().union(*(_hashes(one) for one in value)) if isinstance(value, list | tuple) else set()


def _start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "maglica.host_worker.guest.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
        cwd="/",
        start_new_session=True,
    )


class Child:
    """One running child: its events, the tail of its stderr, and its end. `stop` it whatever happens."""

    def __init__(self, *, kvm: bool, mark: str) -> None:
        self.ended = False
        self.good = False  # whether it may be given another task after its last answer
        self._tail = b""
        self._rest = b""
        self._secrets: set[str] = set()
        self.folder = tempfile.mkdtemp(prefix=_prefix(mark))
        try:
            self._process = _start(_environment(self.folder, kvm=kvm) | ({MARK: mark} if mark else {}))
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._unsent = b""
        self._selector = selectors.DefaultSelector()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            self._selector.register(stream, selectors.EVENT_READ)
        assert self._process.stdin is not None
        self._stdin = self._process.stdin.fileno()
        os.set_blocking(self._stdin, False)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    def say(self, task: dict[str, Any]) -> None:
        """One line, sent as `events` is called: whoever does not read must not stop us. The pipe stays open as a sign
        of life.
        """
        self._tail = b""
        self._secrets |= _hashes(task["request"])
        if not self._unsent:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        self._unsent += json.dumps(task).encode() + b"\n"

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._stdin, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            # It died at once; `events` sees the end and `death` tells why.
            self._unsent = b""
        if not self._unsent:
            self._selector.unregister(self._stdin)

    def events(self, wait: float) -> list[dict[str, Any]]:
        """The events that came within `wait` seconds. Sets `ended` when the child closed its stdout."""
        found: list[dict[str, Any]] = []
        for key, _ in self._selector.select(wait):
            if key.fileobj == self._stdin:
                self._send()
                continue
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
        until = time.monotonic() + GRACE
        while self._selector.get_map() and self._selector.select(0) and time.monotonic() < until:
            self.events(0)
        text = CONTROL.sub("", self._tail.decode("utf-8", "replace")).strip()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if error.code not in ("environment_error", "timeout") or not text:
            return error
        wire = error.to_wire()
        wire["details"] = {**error.details, "stderr": text}
        if error.code == "environment_error" and step in ("start", "launch"):
            # libguestfs itself says no more than "launch failed"; QEMU or supermin said why.
            wire["message"] += f" ({text.splitlines()[-1][:300]})"
        return from_wire(wire)

    def stop(self) -> None:
        """End the whole group (child, appliance, helpers): politely, then not; its folder goes too. Harmless when it is
        gone.
        """
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                pass
        # Also when the child left by itself: what it had started must not outlive it.
        self._signal(signal.SIGKILL)
        outlast(self._process)
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                _close(stream)
        self._wait_for_group()
        shutil.rmtree(self.folder, ignore_errors=True)

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
