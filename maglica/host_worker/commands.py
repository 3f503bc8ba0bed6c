"""External commands: argument lists, deadlines, process groups that can be ended. The only file that starts processes
of other people's programs.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from maglica.errors import Failed, Refused

log = logging.getLogger("maglica.host_worker")

TICK = 0.2  # seconds between two looks at whether the job was cancelled
KILL_AFTER = 3.0  # seconds that a process has after SIGTERM
UNKILLABLE = 20.0  # seconds after SIGKILL; whoever has not ended by then is not waited for
MARK = "MAGLICA_WORK"  # in the environment of every process that works for a job
KEEP = 4000  # characters of stdout and stderr that are kept, from the end


class Ended(NamedTuple):
    """How a command ended."""

    argv: list[str]
    exit_status: int
    seconds: float
    stdout: str
    stderr: str

    def record(self) -> dict[str, Any]:
        """What a job's record keeps of it."""
        return {
            "argv": self.argv,
            "exit_status": self.exit_status,
            "seconds": round(self.seconds, 3),
            "stderr": self.stderr[-600:],
        }


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    mark: str = "",
    cancelled: Callable[[], bool] = lambda: False,
    on_start: Callable[[int], None] = lambda pid: None,
    on_output: Callable[[str], None] = lambda text: None,
) -> Ended:
    """Run a command to its end, whatever its exit status.

    `timeout` in seconds; `mark` is how `end_orphans` finds it, and all that it starts, after a crash; `on_start` gets
    the process id, which is also the process group's; `on_output` pieces of stdout as they come. Raises `Refused` when
    the program is missing, `Failed` with code `timeout` or `cancelled` after the whole process group was ended.
    """
    began = time.monotonic()

    def check() -> None:
        if cancelled():
            raise Failed("cancelled", f"{argv[0]}: ended because the job was cancelled")
        if time.monotonic() > began + timeout:
            hint = "is the storage very slow, or does it hang?"
            raise Failed("timeout", f"{argv[0]}: ended because it took too long", hint)

    process = _start(argv, mark)
    out, err = _Tail(), _Tail()
    try:
        on_start(process.pid)
        _read(process, out, err, check, on_output)
        status = _await(process, check)
    except BaseException:  # whatever it is, also in what our caller does: no process is left
        end_group(process)
        raise
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
    return Ended(list(argv), status, time.monotonic() - began, out.text(), err.text())


class Running:
    """A command that goes on beside us until it ends by itself or is ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def end(self) -> str:
        """End it, with all that it started; its last words."""
        end_group(self._process)
        said = b""
        if self._process.stderr and not self._process.stderr.closed:
            os.set_blocking(self._process.stderr.fileno(), False)
            said = self._process.stderr.read(KEEP) or b""
            self._process.stderr.close()
        return said.decode(errors="replace").strip() or f"it ended with status {self._process.returncode}"


def start(argv: Sequence[str], *, mark: str = "") -> Running:
    """Start a command that says little and runs until it is ended. Whoever starts it must end it."""
    return Running(_start(argv, mark, subprocess.DEVNULL))


def _start(argv: Sequence[str], mark: str, out: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "LC_ALL": "C"} | ({MARK: mark} if mark else {})
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
        )
    except OSError as error:
        raise Refused(
            "environment_error", f"cannot run {argv[0]}: {error.strerror}", PACKAGES.get(argv[0], "")
        ) from None


# Which package of Debian and its kin brings a program.
PACKAGES = {
    "qemu-img": "install qemu-utils",
    "qemu-io": "install qemu-utils",
    "qemu-nbd": "install qemu-utils",
    "qemu-storage-daemon": "install qemu-system-common",
    "qemu-system-x86_64": "install qemu-system-x86",
    "xorrisofs": "install xorriso",
    "zstd": "install zstd",
    "ssh-keygen": "install openssh-client",
    "virsh": "install libvirt-clients",
}
EITHER = {"xorrisofs": ("genisoimage", "mkisofs"), "qemu-system-x86_64": ("qemu-kvm", "/usr/libexec/qemu-kvm")}


def lacking() -> list[dict[str, str]]:
    """The programs that jobs run and that are not here: `what`, and the `cure`."""
    return [
        {"what": program, "cure": cure}
        for program, cure in PACKAGES.items()
        if not any(shutil.which(one) for one in (program, *EITHER.get(program, ())))
    ]


class _Tail:
    """The last characters of a stream."""

    def __init__(self) -> None:
        self._kept = b""

    def add(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-KEEP:]

    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


def _read(
    process: subprocess.Popen[bytes],
    out: _Tail,
    err: _Tail,
    check: Callable[[], None],
    on_output: Callable[[str], None],
) -> None:
    with selectors.DefaultSelector() as selector:
        for pipe, tail in ((process.stdout, out), (process.stderr, err)):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ, tail)
        while selector.get_map():
            for key, _ in selector.select(TICK):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                key.data.add(data)
                if key.data is out:
                    on_output(data.decode(errors="replace"))
            check()


def _await(process: subprocess.Popen[bytes], check: Callable[[], None]) -> int:
    """The exit status. A process may close its output long before it ends."""
    while True:
        try:
            return process.wait(TICK)
        except subprocess.TimeoutExpired:
            check()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started: SIGTERM, and SIGKILL for what is still there."""
    _signal(process.pid, signal.SIGTERM)
    try:
        process.wait(KILL_AFTER)
    except subprocess.TimeoutExpired:
        pass
    _signal(process.pid, signal.SIGKILL)
    outlast(process)


def outlast(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process that was sent SIGKILL, but not for ever.

    One that waits in the kernel for storage that does not answer ends when that does, without another step.
    """
    try:
        process.wait(UNKILLABLE)
    except subprocess.TimeoutExpired:
        log.error("process %d does not end by SIGKILL: look at the storage that it uses", process.pid)
        threading.Thread(target=process.wait, name=f"end of {process.pid}", daemon=True).start()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # it is gone already


def birth(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with the pid it names one process for ever. None: no such."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def end_orphans(mark: str) -> list[int]:
    """End the processes that outlived their host worker: those with this mark in their environment. Their ids.

    The mark is there from a process' first instruction on; a note in the journal would come a moment too late.
    """
    ended: set[int] = set()
    until = time.monotonic() + KILL_AFTER
    while found := _end_marked(mark):  # again: what they started meanwhile
        ended |= found
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    return sorted(ended)


def _end_marked(mark: str) -> set[int]:
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _end_if(int(name), wanted):
            found.add(int(name))
    return found


def _end_if(pid: int, wanted: bytes) -> bool:
    """End a process that has these words in its environment; by a descriptor, which never means another process."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False  # it ended meanwhile
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if wanted not in file.read().split(b"\0"):
                return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False  # it ended, or belongs to somebody else
    finally:
        os.close(process)
    return True
