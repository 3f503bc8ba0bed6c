"""What the header of a qcow2 file says: how large its disk is, and what it rests on. Nothing of it is executed.

The layout: docs/interop/qcow2.txt of QEMU. Asking `qemu-img info` the same takes 15 ms, and fails where a file behind
it is missing.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from typing import NamedTuple

MAGIC = b"QFI\xfb"
BACKING_FORMAT = 0xE2792ACA  # a header extension: the name of the backing file's format
DATA_FILE = 4  # of the incompatible features: the data are in another file
MOST = 64 << 10  # bytes of the first cluster that are looked at
LONGEST_NAME = 1023  # bytes of what is written of a backing file
LONGEST_CHAIN = 64  # more is a circle


class Header(NamedTuple):
    """Sizes in bytes. `backing` as it is written there, be it the name of a file or not; None: it rests on nothing.
    `elsewhere`: its data are in another file, which it alone knows the layout of.
    """

    capacity_bytes: int
    backing: str | None
    backing_format: str | None
    snapshots: int
    elsewhere: bool = False


def header(path: str) -> Header | None:
    """The header of that file; None when it is no qcow2, or cannot be read."""
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            return None  # a pipe never ends, and some devices act when they are opened
        with open(path, "rb") as file:
            data = file.read(MOST)
    except OSError:
        return None
    return parse(data)


def parse(data: bytes) -> Header | None:
    """The header in these bytes; None when they hold none."""
    if len(data) < 72 or data[:4] != MAGIC:
        return None
    version, offset, length, _, capacity = struct.unpack_from(">IQIIQ", data, 4)
    (snapshots,) = struct.unpack_from(">I", data, 60)
    features = struct.unpack_from(">Q", data, 72)[0] if version >= 3 and len(data) >= 80 else 0
    elsewhere = bool(features & DATA_FILE)
    if not offset or not length:
        return Header(capacity, None, None, snapshots, elsewhere)
    whole = length <= LONGEST_NAME and offset + length <= len(data)  # QEMU refuses any other
    backing = data[offset : offset + length].decode(errors="surrogateescape") if whole else ""
    return Header(capacity, backing, _backing_format(data, version), snapshots, elsewhere)


def _backing_format(data: bytes, version: int) -> str | None:
    at = struct.unpack_from(">I", data, 100)[0] if version >= 3 and len(data) >= 104 else 72
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(">II", data, at)
        if kind == 0:
            return None
        if kind == BACKING_FORMAT:
            return data[at + 8 : at + 8 + length].decode(errors="replace") or None
        at += 8 + (length + 7) // 8 * 8
    return None


def merge(overlay: str) -> list[str]:
    """The command that writes what an overlay holds into the disk that it rests on, which becomes as large as it. May
    be given again when it was interrupted: the overlay keeps what it holds.
    """
    return ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", "--", overlay]


class Unreadable(ValueError):
    """What a file rests on is written in a way that only QEMU understands, such as `json:…` or `nbd://…`, or nobody.

    `links`: the chain as far as it was read. `asks`: whether QEMU may be asked how it goes on; not where it would have
    to guess the format of something that a guest may have written.
    """

    def __init__(self, text: str, links: Sequence[str], *, asks: bool = False) -> None:
        super().__init__(text)
        self.links, self.asks = list(links), asks


def chain(path: str, format: str | None) -> list[str]:
    """A file of that format and all that it rests on; the last may be missing. Raises `Unreadable`.

    Only qcow2 is followed: what a guest wrote at the beginning of a raw disk is no header. The format of a file that
    another one rests on stands in that one. Where it does not, or is None as of a file that no definition names, it is
    what the content says, as it is for QEMU.
    """
    found, named = [os.path.realpath(path)], format is not None
    while format in ("qcow2", None) and (told := header(found[-1])) is not None and told.backing is not None:
        format, named = told.backing_format, named and told.backing_format is not None
        under = _place(found, told.backing, asks=named)
        if under in found or len(found) > LONGEST_CHAIN:
            raise Unreadable(f"{path} rests on itself", found)
        found.append(under)
    return found


def _place(links: Sequence[str], written: str, *, asks: bool) -> str:
    """Where the file lies that stands as `written` in the header of the last of these files, be it there or not."""
    name = written.removeprefix("file:")
    words = name.encode(errors="backslashreplace").decode()
    if not name or "\0" in name or words != name:
        raise Unreadable(f"{links[-1]} rests on {words!r}, which is no name of a file", links)
    if ":" in name.split("/", 1)[0]:
        raise Unreadable(f"{links[-1]} rests on {name}", links, asks=asks)
    return os.path.realpath(os.path.join(os.path.dirname(links[-1]), name))
