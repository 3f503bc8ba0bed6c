"""What is on the disk, and not only in memory: before anything else is deleted, or told as done, because of it.

fsync(2): of a file that was just given its name also the folder has to be brought to the disk.
"""

from __future__ import annotations

import errno
import os


def content(path: str) -> None:
    """Bring what is in a file to the disk. qemu-img leaves what it wrote to the kernel."""
    _synced(path, os.O_RDONLY)


def names(folder: str) -> None:
    """Bring the names in a folder to the disk, where its file system knows how: some of networks do not."""
    try:
        _synced(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _synced(path: str, flags: int) -> None:
    file = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
