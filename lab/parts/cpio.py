"""An initramfs archive ("newc" cpio) written in memory: no root rights, no device nodes on the builder's disk."""

from __future__ import annotations

import stat
from pathlib import Path

HEADER = "070701" + "{:08X}" * 13


class Archive:
    """Collects entries; `data()` gives the archive. Folders have to be added before what they contain."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0

    def _add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        head = HEADER.format(
            self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(encoded), 0
        ).encode()
        self._parts += [_padded(head + encoded), _padded(content)]

    def folder(self, name: str) -> None:
        """Add a folder with mode 0755."""
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a plain file."""
        self._add(name, stat.S_IFREG | mode, content)

    def copy(self, name: str, source: Path) -> None:
        """Add a program or script of this machine with mode 0755."""
        self.file(name, source.read_bytes(), 0o755)

    def character_device(self, name: str, major: int, minor: int) -> None:
        """Add a device node with mode 0600."""
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def data(self) -> bytes:
        """The whole archive with its trailer."""
        self._add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _padded(part: bytes) -> bytes:
    """The part filled up with zeros to a multiple of four bytes, as the format wants it."""
    return part + b"\0" * (-len(part) % 4)
