"""Foreign commands: the only place of the lab that runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DEFAULT_LIMIT = 60.0


class LabError(Exception):
    """Something the user has to know; `status` is the exit status of the command."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def say(text: str) -> None:
    """Print one line of progress on stderr: stdout belongs to results."""
    print(text, file=sys.stderr, flush=True)


def tail_of(text: str, lines: int = 8) -> str:
    """The last lines of an output, for an error message."""
    return "\n".join(text.strip().splitlines()[-lines:])


def run(
    *command: str | Path,
    stdin: bytes | None = None,
    limit: float = DEFAULT_LIMIT,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Run a command and return its stdout; raise LabError with the command and its last words when it fails.

    `limit` is in seconds; a command that takes longer is killed.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=limit, cwd=cwd, env=env, check=False)
    except FileNotFoundError:
        raise LabError(f"the command '{words[0]}' is not installed; `make deps` installs what the lab needs") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(words)}` did not end within {limit:g} s") from None
    if done.returncode != 0:
        text = tail_of((done.stderr or done.stdout).decode(errors="replace"))
        raise LabError(f"`{' '.join(words)}` ended with status {done.returncode}: {text}")
    return done.stdout.decode(errors="replace")


def works(*command: str | Path, stdin: bytes | None = None, limit: float = DEFAULT_LIMIT) -> bool:
    """True when the command exists and ends with status 0."""
    try:
        run(*command, stdin=stdin, limit=limit)
    except LabError:
        return False
    return True


def missing_commands(names: Sequence[str]) -> list[str]:
    """Those of the names that are not on the PATH."""
    return [name for name in names if shutil.which(name) is None]


def wait_until(check: Callable[[], bool], limit: float, pause: float = 0.05) -> bool:
    """Ask `check` again and again until it says True or `limit` seconds are over; the last answer is returned."""
    deadline = time.monotonic() + limit
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
