"""Room kept for a bad day: a file that takes space on a disk and is let go when the disk is full.

A full disk must not lose what has ended meanwhile. What the ballast took is enough to write that down; new work is
turned away until there is room for the ballast again.
"""

from __future__ import annotations

import os


def free_bytes(folder: str) -> int:
    """Room on the file system of a folder."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


class Ballast:
    """One file of a fixed size."""

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size

    @property
    def held(self) -> bool:
        """Whether it is there in its whole size, with real blocks."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return found.st_size >= self.size and found.st_blocks * 512 >= self.size

    def fill(self, spare: int = 0) -> bool:
        """Take the room, where at least `spare` bytes beside it stay free; whether it is held now."""
        if self.held:
            return True
        try:
            if free_bytes(os.path.dirname(self.path)) < self.size + spare:
                return False
            fd = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self.size)
            finally:
                os.close(fd)
        except OSError:
            self.release()  # half of it helps nobody
            return False
        return True

    def release(self) -> bool:
        """Give the room back; whether there was any."""
        try:
            os.unlink(self.path)
        except OSError:
            return False
        return True
