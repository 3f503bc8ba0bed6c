"""Copies that share their blocks: FICLONE of Linux, ioctl_ficlonerange(2). Whether it works is tried, never guessed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from maglica.errors import Failed

# linux/fs.h: _IOW(0x94, 9, int), _IOW(0x94, 13, struct file_clone_range), _IOR('f', 1, long), _IOW('f', 2, long)
FICLONE = 0x40049409
FICLONERANGE = 0x4020940D
GETFLAGS = 0x80086601
SETFLAGS = 0x40086602
NOCOW = 0x00800000  # FS_NOCOW_FL: btrfs shares no blocks between files that differ in it; libvirt sets it on volumes

WHY = {
    errno.EXDEV: "the image lies on another file system than the pool",
    errno.EOPNOTSUPP: "the file system of the pool cannot share blocks",
    errno.ENOTTY: "the file system of the pool cannot share blocks",
    errno.ENOSYS: "this kernel cannot share blocks",
    errno.EINVAL: "the file system does not share blocks of this file",
}


def copy(source: str, target: str) -> None:
    """Make `target` a file of its own with the content of `source`, whatever its size, at once. Raises `Failed`."""
    try:
        with open(source, "rb") as given, open(target, "xb") as made:
            _like(given.fileno(), made.fileno())
            fcntl.ioctl(made.fileno(), FICLONE, given.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Failed(
            "no_capacity" if full else "environment_error",
            f"reflink of {source} to {target}: {error.strerror}",
            "make room in the pool, or choose another host with --on" if full else "--mode=full copies in any case",
        ) from None


def impossible(source: str, folder: str) -> str:
    """Why blocks of a file cannot be shared by a new file in that folder; '' when they can. Leaves nothing behind."""
    try:
        with open(source, "rb") as given, _nameless(folder) as made:
            size = min(os.fstat(given.fileno()).st_blksize, os.fstat(given.fileno()).st_size)
            _like(given.fileno(), made)
            # A file's end is the only place where a length needs not be a multiple of the block size: 0 = to the end.
            wanted = struct.pack("qQQQ", given.fileno(), 0, size if size % 4096 == 0 else 0, 0)
            fcntl.ioctl(made, FICLONERANGE, wanted)
    except OSError as error:
        return WHY.get(error.errno or 0, error.strerror or "it does not work")
    return ""


@contextlib.contextmanager
def _nameless(folder: str) -> Iterator[int]:
    """A file that goes away by itself, whatever becomes of us; where there is no such thing, one with a name."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        name = os.path.join(folder, f".maglica-probe.{os.getpid()}")
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        os.unlink(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def nocow(path: str) -> bool:
    """Whether a file is one that is changed in place."""
    try:
        with open(path, "rb") as file:
            return bool(_flags(file.fileno()) & NOCOW)
    except OSError:
        return False


def _like(source: int, target: int) -> None:
    """Give an empty file the one attribute that has to be the same."""
    with contextlib.suppress(OSError):
        theirs, ours = _flags(source) & NOCOW, _flags(target)
        if theirs != ours & NOCOW:
            fcntl.ioctl(target, SETFLAGS, struct.pack("l", (ours & ~NOCOW) | theirs))


def _flags(descriptor: int) -> int:
    return int(struct.unpack("l", fcntl.ioctl(descriptor, GETFLAGS, struct.pack("l", 0)))[0])
