"""What both daemons need around their loop: log lines, signals, a lock against a second one, a word to systemd."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from maglica.errors import Failed, MaglicaError

EXIT_FENCED = 75  # EX_TEMPFAIL: another one has taken this one's place


class Lines(logging.Formatter):
    """One line per record: level, logger, text. Line breaks, in tracebacks and in what somebody sent, become ` | `."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.levelname.lower()} {record.name} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        text = " | ".join(text.splitlines())
        stamp = "" if os.environ.get("JOURNAL_STREAM") else self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z") + " "
        return stamp + text


def log_to_stderr(level: str) -> None:
    """Send log records of this level and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def only_one(folder: str, what: str) -> int:
    """Hold the lock of a state folder for as long as this process lives; the kernel drops it with the process.

    Makes the folder (0700). Raises `Failed` when another process holds it.
    """
    path = os.path.join(folder, "lock")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed("environment_error", f"cannot write {path}: {error.strerror}", "check [paths] state") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        raise Failed(
            "locked", f"another {what} (process {holder or '?'}) uses {folder}", "stop it, or set another [paths] state"
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT."""

    def handle(number: int, frame: Any) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def notify(state: str) -> None:
    """Tell systemd, when it wants to know: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
        try:
            unix.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            pass  # systemd went away; it is told nothing


def run(main: Callable[[], int], what: str) -> int:
    """Run a daemon's main; an error that it could not live with is one sentence and an exit status."""
    try:
        return main()
    except MaglicaError as error:
        print(f"{what}: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_status
