"""What a guest writes to its serial console, as libvirt (virtlogd) keeps it in a file that it rotates."""

from __future__ import annotations

import os
import re
from io import FileIO

BLOCK = 1 << 16  # bytes that are read at once
CAPTURED = 1 << 20  # bytes of each of its files that are told
LINES = 20  # of a tail
WIDE = 200  # characters of a line of a tail

# ECMA-48: control sequences (colours, the cursor), operating system commands (titles), two-letter escapes.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[ -/]*[0-~]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(data: bytes) -> str:
    """The text of a console: lines, and no control characters."""
    text = _ESCAPES.sub("", data.decode("utf-8", "replace"))
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " "))


def last_lines(data: bytes, secrets: tuple[str, ...] = ()) -> list[str]:
    """The last lines that say something, each no longer than a wide terminal's; without these secrets."""
    text = clean(data)
    for secret in secrets:
        text = text.replace(secret, "***")
    lines = [line.rstrip() for line in text.split("\n")]
    return [line[:WIDE] for line in lines if line][-LINES:]


def tail(path: str, secrets: tuple[str, ...] = ()) -> list[str]:
    """The last lines of a console's log; of the file before, too, when it was rotated a moment ago."""
    data = _end_of(path)
    if data.count(b"\n") < LINES:
        data = _end_of(f"{path}.0") + data
    return last_lines(data, secrets)


def _end_of(path: str, size: int = BLOCK) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size)
    except OSError:
        return b""


def captured(path: str, lines: int) -> list[str]:
    """The last so many lines of a console's log, of the file before it too; without control characters."""
    text = clean(_end_of(f"{path}.0", CAPTURED) + _end_of(path, CAPTURED))
    found = text.removesuffix("\n").split("\n") if text else []
    return found[-lines:] if lines else []


def ending(path: str, size: int) -> bytes:
    """The last bytes of a console's log as they came, from the beginning of a line on."""
    data = _end_of(path, size)
    return data if len(data) < size else data.partition(b"\n")[2]


class Follower:
    """Reads what is appended to a console's log, and looks for a text in it.

    virtlogd renames a full log to NAME.0 and begins a new one; a domain that does not append to its log truncates it
    when it starts. `all_of_it`: also what the file holds at the first look, not only what is appended from now on.
    """

    def __init__(self, path: str, wanted: str, *, all_of_it: bool) -> None:
        self.path = path
        self._wanted = wanted
        self._file = self._open()
        self._carry = b""
        self.found = False
        if self._file and not all_of_it:
            self._file.seek(0, os.SEEK_END)

    def _open(self) -> FileIO | None:
        try:
            return FileIO(self.path)
        except OSError:
            return None

    def look(self) -> bool:
        """Read on; whether the text has come by now."""
        self._file = self._file or self._open()
        if self._file is None or self.found:
            return self.found
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # truncated: the VM was started anew
            self._carry = b""
        self._read(self._file)
        if self._rotated(self._file):
            self._read(self._file)  # what came between the last look and the renaming
            self._file.close()
            self._file = self._open()
            if self._file:
                self._read(self._file)
        return self.found

    def _rotated(self, file: FileIO) -> bool:
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(file.fileno()))
        except OSError:
            return False  # between two names; the next look sees

    def _read(self, file: FileIO) -> None:
        while not self.found and (data := file.read(BLOCK)):
            seen = self._carry + data
            self.found = self._wanted in clean(seen)
            # The text may come in two pieces, with colours in its middle.
            self._carry = seen[-(4 * len(self._wanted) + 256) :]

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
