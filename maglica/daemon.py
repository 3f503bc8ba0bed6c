"""What both daemons need around their loop: log lines, signals, a lock against a second one, a word to systemd."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from maglica import config
from maglica.errors import Failed, MaglicaError

log = logging.getLogger("maglica.daemon")

STATUS_EVERY = 5.0  # seconds between two lines about what a daemon does
EXIT_FENCED = 75  # EX_TEMPFAIL: another one has taken this one's place
EXIT_LOCKED = 76  # another one has its folder: it may end, as one that somebody started by hand does


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
    try:
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
    except OSError:
        pass  # a full disk; the number is only for the words above
    return fd


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT."""

    def handle(number: int, frame: Any) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def ends() -> None:
    """The loop has ended and the rest is quick. A second SIGTERM while Python takes itself apart would make a good end
    look like a bad one.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    notify("STOPPING=1")


def on_reload(ask: Callable[[], None]) -> None:
    """Call `ask` on SIGHUP."""

    def handle(number: int, frame: Any) -> None:
        ask()

    signal.signal(signal.SIGHUP, handle)


class Duties:
    """What a daemon owes to systemd and to its administrator with every turn of its loop.

    systemd hears that the loop turns, and nothing else says so: a daemon whose loop hangs is started again
    (WatchdogSec). `status` gives a line of what it is doing; `reread` is called in the loop's own turn after a SIGHUP,
    for which `wake` ends the loop's waiting.
    """

    def __init__(self, status: Callable[[], str], reread: Callable[[], None], wake: Callable[[], None]) -> None:
        self._status, self._reread, self._wake = status, reread, wake
        self._asked = False
        self._every = min(STATUS_EVERY, _watchdog() / 4)
        self._due = 0.0 if os.environ.get("NOTIFY_SOCKET") else math.inf
        on_reload(self._ask)

    def _ask(self) -> None:
        self._asked = True
        self._wake()

    def turn(self, now: float) -> None:
        """`now`: seconds that only grow."""
        if self._asked:
            self._asked = False
            self._reread()
        if now >= self._due:
            self._due = now + self._every
            notify(f"WATCHDOG=1\nSTATUS={self._status()}")


def _watchdog() -> float:
    """Seconds within which systemd wants to hear of us; endless when it does not."""
    try:
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return math.inf
        return int(os.environ["WATCHDOG_USEC"]) / 1e6
    except (KeyError, ValueError):
        return math.inf


def reread(
    old: config.Settings,
    live: Mapping[str, frozenset[str]],
    overrides: Mapping[tuple[str, str], tuple[str, str]] | None = None,
) -> config.Settings:
    """The settings after a SIGHUP, and words in the log about each that is new; the old ones if the file is broken."""
    try:
        found = config.reread(old, live, overrides)
    except MaglicaError as error:
        log.error("the settings stay as they were: %s%s", error.message, f" ({error.hint})" if error.hint else "")
        return old
    log.info("settings read again file=%s new=%s", found.now.file, ", ".join(found.changed) or "nothing")
    if found.waits:
        log.warning("these take effect with the next start only: %s", ", ".join(found.waits))
    logging.getLogger().setLevel(found.now.log.level.upper())
    return found.now


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
        return EXIT_LOCKED if error.code == "locked" else error.exit_status
