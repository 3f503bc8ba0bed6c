"""A command in a terminal of its own: what it prints, and keys that are pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Any

from tests.daemons import HOME, House


class Typed:
    """One `maglica …` on a pseudo terminal. `stderr` may go elsewhere, as by `2>`."""

    def __init__(
        self,
        house: House,
        *words: str,
        columns: int = 80,
        lines: int = 24,
        stderr: int | None = None,
        **environment: str,
    ) -> None:
        self._mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.text = ""
        self.process = subprocess.Popen(
            [str(HOME / "bin" / "maglica"), *words],
            stdin=theirs, stdout=theirs, stderr=theirs if stderr is None else stderr,
            env=house.environment(TERM="xterm", **environment), start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._mine)

    def see(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """Wait until the terminal has shown a text that matches."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.text, re.DOTALL)
            if found:
                return found
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.text!r}"
            self._read(0.05)

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self._mine], [], [], timeout)
        if not ready:
            return True
        try:
            data = os.read(self._mine, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += data.decode()
        return bool(data)

    def press(self, keys: str) -> None:
        os.write(self._mine, keys.encode())

    def interrupt(self) -> None:
        """Ctrl-C, by way of the terminal."""
        self.press("\x03")

    def end(self, timeout: float = 30.0) -> int:
        """Wait for the end; the exit status. `text` has all that was shown."""
        deadline = time.monotonic() + timeout
        while self._read(0.05):
            assert time.monotonic() < deadline, self.text
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    @property
    def screen(self) -> list[str]:
        """The lines that remain to be seen: what was drawn over is gone."""
        return drawn(self.text)


def drawn(text: str) -> list[str]:
    """What a terminal shows after it was sent this: the few controls that progress uses."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|\r\n|\r|\n|[^\x1b\r\n]+", text):
        control: Any = re.fullmatch(r"\x1b\[(\d*)([A-Za-z])", part)
        if control and control[2] == "A":
            row -= int(control[1] or 1)
        elif control and control[2] == "J":
            del lines[row + 1 :]
            lines[row] = ""
        elif part in ("\n", "\r\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif not control and part != "\r":
            lines[row] += part
    return lines


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
