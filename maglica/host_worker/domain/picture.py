"""A screen's picture as PNG: what QEMU gives is PNG or PPM. Bytes in, bytes out.

PPM: https://netpbm.sourceforge.net/doc/ppm.html; PNG: https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from maglica.errors import Failed

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PPM = re.compile(rb"P6\s(?:#[^\n]*\n|\s)*(\d{1,5})\s+(\d{1,5})\s+255\s")


class Picture(NamedTuple):
    png: bytes
    width: int
    height: int


def png(data: bytes) -> Picture:
    """The picture, whichever of the two it came as."""
    if data.startswith(SIGNATURE) and data[12:16] == b"IHDR":
        width, height = struct.unpack(">II", data[16:24])
        return Picture(data, width, height)
    found = _PPM.match(data)
    if not found:
        raise Failed("environment_error", f"the screen came as something that is neither PNG nor PPM: {data[:8]!r}")
    width, height = int(found[1]), int(found[2])
    pixels = data[found.end() :]
    if len(pixels) < width * height * 3:
        raise Failed("environment_error", f"the picture of the screen ends after {len(pixels)} bytes", "try again")
    return Picture(_encoded(pixels, width, height), width, height)


def _encoded(pixels: bytes, width: int, height: int) -> bytes:
    """8 bits for each of red, green and blue; each line begins with a byte that says that it is not filtered."""
    line = width * 3
    rows = b"".join(b"\0" + pixels[at : at + line] for at in range(0, line * height, line))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 6)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
