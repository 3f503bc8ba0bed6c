"""SQLite's write-ahead log: what was written and is not in the file yet."""

from __future__ import annotations

import struct


def wal_is_damaged(path: str) -> bool:
    """Whether SQLite's write-ahead log holds a whole frame that does not fit its checksum.

    SQLite takes such a frame for the torn end of a crash and silently forgets it and all that follow. A process that is
    killed leaves a frame that is cut off, never a whole one with other bytes in it. The format: sqlite.org/fileformat2.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return False
    if len(data) < 32:
        return False
    magic, _, page, _, salt1, salt2, sum1, sum2 = struct.unpack(">8I", data[:32])
    order = {0x377F0682: "<", 0x377F0683: ">"}.get(magic)
    if order is None or _summed(data[:24], 0, 0, order) != (sum1, sum2):
        return True
    sums = sum1, sum2
    for at in range(32, len(data) - page - 24 + 1, page + 24):
        one, two, *expected = struct.unpack(">4I", data[at + 8 : at + 24])
        sums = _summed(data[at : at + 8], *sums, order)
        sums = _summed(data[at + 24 : at + 24 + page], *sums, order)
        if (one, two) != (salt1, salt2) or sums != tuple(expected):
            return True
    return False


def _summed(data: bytes, one: int, two: int, order: str) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
