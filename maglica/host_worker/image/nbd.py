"""What a guest sees on a disk, whatever its format: served by qemu-nbd at a socket that only we can open, and read.

The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md. Of it the older handshake and simple
reads are enough, because qemu-img tells where there is data at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

from maglica.errors import Failed
from maglica.host_worker import commands

ANSWER_WITHIN = 30.0  # seconds that a read may take
READY_WITHIN = 15.0  # seconds until a server has opened its disk
PIECE = 2 << 20
AHEAD = 2  # pieces that are asked for at once
BLOCK = 64 << 10
ZEROS = bytes(BLOCK)

Extents = list[tuple[int, int]]


def digest(
    path: str,
    format: str,
    *,
    folder: str,
    mark: str,
    timeout: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> str:
    """The SHA-256 of what a guest sees on a disk: the same for copies in other formats, with or without holes.

    What is hashed: the size in bytes, then for every block of 64 KiB that is not all zeros its offset and its bytes
    (numbers as 8 bytes, big-endian). `folder`: for a socket, with a short path. `timeout`: seconds.
    """
    until = time.monotonic() + timeout
    extents, size = data_of(path, format, timeout, mark)
    total = sum(length for _, length in extents)
    found, done = hashlib.sha256(size.to_bytes(8, "big")), 0
    if not total:
        return found.hexdigest()
    address = os.path.join(folder, f"{os.urandom(4).hex()}.sock")
    # The image may be in use as a base; nobody writes to it, and a lock would be in other readers' way.
    argv = ["qemu-nbd", "-r", "-f", format, "-k", address, "--", path]
    server = commands.start(argv, mark=mark)
    try:
        for offset, piece in _read(server, address, extents):
            for at in range(0, len(piece), BLOCK):
                block = piece[at : at + BLOCK]
                if block != (ZEROS if len(block) == BLOCK else bytes(len(block))):
                    found.update((offset + at).to_bytes(8, "big"))
                    found.update(block)
            done += len(piece)
            progress(done, total)
            check()
            if time.monotonic() > until:
                raise Failed("timeout", f"{path} was not read within {timeout:.0f} s", "is the storage very slow?")
    finally:
        server.end()
        if os.path.lexists(address):
            os.unlink(address)
    return found.hexdigest()


def together(digests: dict[str, str]) -> str:
    """One checksum for all disks of an image, by their targets: that of its only disk, or of a list of all."""
    if len(digests) == 1:
        return f"sha256:{next(iter(digests.values()))}"
    lines = "".join(f"{target} {found}\n" for target, found in sorted(digests.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def data_of(path: str, format: str, timeout: float, mark: str) -> tuple[Extents, int]:
    """(offset, length) of all that may hold something else than zeros, in blocks of 64 KiB; and the disk's size."""
    pieces: list[str] = []
    argv = ["qemu-img", "map", "--force-share", "-f", format, "--output=json", "--", path]
    ended = commands.run(argv, timeout=timeout, mark=mark, on_output=pieces.append)
    if ended.exit_status != 0:
        raise Failed("environment_error", f"cannot read {path}: {(ended.stderr or 'qemu-img failed').splitlines()[-1]}")
    links = json.loads("".join(pieces) or "[]")
    size = max((link["start"] + link["length"] for link in links), default=0)
    return blocks(((link["start"], link["length"]) for link in links if link["data"] and not link["zero"]), size), size


def blocks(extents: Iterator[tuple[int, int]], size: int) -> Extents:
    """Extents that begin and end at blocks (or with the disk), in order, those that touch made one."""
    found: Extents = []
    for start, length in extents:
        begin, end = start // BLOCK * BLOCK, min(size, -(-(start + length) // BLOCK) * BLOCK)
        if found and begin <= sum(found[-1]):
            begin = found.pop()[0]
        found.append((begin, end - begin))
    return found


def _read(server: commands.Running, address: str, extents: Extents) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes), piece by piece, in order. The next one is on its way while one is worked on."""
    wanted = [
        (at, min(PIECE, start + length - at)) for start, length in extents for at in range(start, start + length, PIECE)
    ]
    came: dict[int, bytes] = {}
    with _connected(server, address) as connection:
        for number in range(min(AHEAD, len(wanted))):
            _ask(connection, number, *wanted[number])
        for number, (offset, _) in enumerate(wanted):
            while number not in came:  # the answers come in any order
                magic, error, handle = struct.unpack(">IIQ", _exactly(connection, 16))
                if magic != 0x67446698 or error or not number <= handle < len(wanted):
                    raise Failed("environment_error", f"reading a disk failed near byte {offset}: error {error}")
                came[handle] = _exactly(connection, wanted[handle][1])
            if number + AHEAD < len(wanted):
                _ask(connection, number + AHEAD, *wanted[number + AHEAD])
            yield offset, came.pop(number)
        connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))


def _connected(server: commands.Running, address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_WITHIN)
    try:
        until = time.monotonic() + READY_WITHIN
        while True:
            try:
                connection.connect(address)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if server.over() or time.monotonic() > until:
                    raise Failed("environment_error", f"qemu-nbd does not serve: {server.end()}") from None
                time.sleep(0.01)
        if _exactly(connection, 18)[:16] != b"NBDMAGICIHAVEOPT":
            raise Failed("environment_error", "qemu-nbd speaks another protocol")
        connection.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
        _exactly(connection, 10)
    except OSError as error:
        connection.close()
        raise Failed("environment_error", f"qemu-nbd: {error.strerror or error}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, number: int, offset: int, length: int) -> None:
    connection.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, number, offset, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        try:
            had = connection.recv_into(view)
        except OSError as error:
            raise Failed("environment_error", f"reading a disk failed: {error.strerror or error}") from None
        if not had:
            raise Failed("environment_error", "reading a disk failed: qemu-nbd ended")
        view = view[had:]
    return bytes(data)
