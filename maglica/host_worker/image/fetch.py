"""Getting a file from a path or a URL: in pieces, with a checksum, unpacked on the way, and never more than fits.

What comes from elsewhere is copied before it is looked at: whoever may write where it lies could change it meanwhile.
"""

from __future__ import annotations

import bz2
import hashlib
import http.client
import lzma
import os
import stat
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from maglica import VERSION
from maglica.errors import Failed, Refused
from maglica.host_worker.disk import formats

PIECE = 1 << 20
BLOCK = 64 << 10  # zeros of this length become a hole
SILENCE = 15.0  # seconds without a byte after which a connection is given up
TRIES = 4  # connections for one file, each going on where the last one broke
LZMA_MEMORY = 512 << 20
LOOK_EVERY = 64 << 20  # bytes between two looks at the room that is left


class Fetched(NamedTuple):
    """What was got: bytes as they came, their SHA-256, how they were compressed ('' = not), bytes as they lie now."""

    bytes: int
    sha256: str
    compression: str
    unpacked_bytes: int


class Unpacker(Protocol):
    """What gzip, xz and bzip2 have in common."""

    eof: bool

    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


UNPACKERS: dict[str, Callable[[], Any]] = {
    "gz": lambda: zlib.decompressobj(wbits=31),
    "xz": lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY),
    "bz2": bz2.BZ2Decompressor,
}


def fetch(
    source: str,
    path: str,
    *,
    folder: str,
    checksum: str | None,
    reserve: int,
    progress: Callable[[int, int], None],
    check: Callable[[], None],
) -> Fetched:
    """Get `source` into a new file at `path`, sparse. `folder`: the only one that local files may come from.

    gz, xz and bz2 are unpacked on the way; zst stays as it is, see `Fetched.compression`. `checksum`: of what comes,
    as `sha256:…`. `reserve`: bytes that its file system keeps free. `progress` gets bytes that came and that are to
    come (0: not known); `check` is called between two pieces and raises when it shall end.
    """
    digest, count = hashlib.sha256(), 0
    pieces = _pieces(source, folder, check)
    total = next(pieces)
    assert isinstance(total, int)
    with _Target(path, reserve) as target:
        packing, unpack = "", _unpacking("")
        for piece in pieces:
            assert isinstance(piece, bytes)
            if not count:
                packing = formats.compression(piece)
                unpack = _unpacking(packing)
            digest.update(piece)
            count += len(piece)
            for part in unpack(piece):
                target.write(part)
            progress(count, total)
            check()
        for part in unpack(b""):
            target.write(part)
    if checksum is not None and checksum != f"sha256:{digest.hexdigest()}":
        raise Refused(
            "wrong_input",
            f"{source} has the checksum sha256:{digest.hexdigest()}, expected {checksum}",
            "it is another file, or it was changed on its way",
        )
    return Fetched(count, digest.hexdigest(), packing, target.size)


# ------------------------------------------------------------------------------------------------ where it comes from


def local(source: str) -> bool:
    return source.startswith("/")


def find(source: str, folder: str) -> str:
    """The real path of a local file, which must lie below `folder`; `Refused` otherwise."""
    path, inside = os.path.realpath(source), os.path.realpath(folder)
    if os.path.commonpath([path, inside]) != inside:
        raise Refused(
            "wrong_input",
            f"{source} is not in {folder}, the only folder that images are imported from",
            "move it there, or set [host_worker] import_dir on that host",
        )
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused("wrong_input", f"{source} is no file")
    except OSError as error:
        raise Refused("unknown_entity", f"cannot read {source}: {error.strerror}", "it is a path on the host") from None
    return path


def _pieces(source: str, folder: str, check: Callable[[], None]) -> Iterator[int | bytes]:
    """The size (0: not known), then the bytes."""
    return _of_file(source, folder) if local(source) else _of_url(source, check)


def _of_file(source: str, folder: str) -> Iterator[int | bytes]:
    descriptor = os.open(find(source, folder), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused("wrong_input", f"{source} is no file")
        yield os.fstat(descriptor).st_size
        while piece := file.read(PIECE):
            yield piece


class _NoDetours(urllib.request.HTTPRedirectHandler):
    """A server may send us to another one, but not from https to http, nor to what is neither."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://") and not (newurl.startswith("http://") and req.type == "http"):
            raise Refused("wrong_input", f"{req.full_url} leads to {newurl}", "name the URL itself")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS and nothing else: urllib's own would read files as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(), _NoDetours(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _of_url(url: str, check: Callable[[], None]) -> Iterator[int | bytes]:
    """A connection that breaks is made again, and goes on where it broke, where the server can do that."""
    had, total, version = 0, -1, ""
    broke = "the connection broke"
    for _ in range(TRIES):
        check()
        try:
            with _open(url, had, version) as answer:
                if total < 0:
                    length = answer.headers.get("Content-Length", "")
                    total = int(length) if length.isdigit() else 0
                    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
                    yield total
                while piece := answer.read(PIECE):
                    had += len(piece)
                    yield piece
        except (OSError, http.client.HTTPException) as error:
            broke = _words(error)
            check()  # a cancel that came while nothing did
        if (had and had == total) or (had and not total and broke == "the connection broke"):
            return
        if had and not version:
            break  # it might be another file by now
    raise Failed("environment_error", f"{url}: {broke} after {had} of {max(0, total)} bytes", "try again later")


def _open(url: str, had: int, version: str) -> Any:
    headers = {"User-Agent": f"maglica/{VERSION}", "Accept-Encoding": "identity"}
    if had:
        headers |= {"Range": f"bytes={had}-", "If-Range": version}
    try:
        answer = _opener().open(urllib.request.Request(url, headers=headers), timeout=SILENCE)
    except urllib.error.HTTPError as error:
        with error:
            code = "unknown_entity" if error.code in (404, 410) else "environment_error"
            raise Refused(code, f"{url}: the server says {error.code} {error.reason}", "is it the right URL?") from None
    except urllib.error.URLError as error:
        if had:
            raise OSError(_words(error)) from None
        raise Refused("environment_error", f"{url}: {_words(error)}", "can that host reach it?") from None
    except ValueError as error:
        raise Refused("wrong_input", f"{url}: {error}") from None
    if had and answer.status != 206:
        answer.close()
        raise Failed("environment_error", f"{url}: the connection broke after {had} bytes, and the file has changed")
    return answer


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError) or "timed out" in str(reason):
        return f"nothing came for {SILENCE:g} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


# ------------------------------------------------------------------------------------------------------ what it becomes


def _unpacking(packing: str) -> Callable[[bytes], Iterator[bytes]]:
    """A function from packed pieces to unpacked ones; an empty piece says that there are no more."""
    if packing not in UNPACKERS:
        return lambda piece: iter((piece,))
    state: list[Any] = [UNPACKERS[packing]()]
    began = [False]

    def unpack(piece: bytes) -> Iterator[bytes]:
        try:
            if not piece and not state[0].eof and began[0]:
                raise EOFError("it ends too early")
            while piece:
                began[0] = True
                yield from _some(state[0], piece, packing)
                piece = state[0].unused_data.lstrip(b"\0") if state[0].eof else b""  # padding, as on tapes
                if state[0].eof:
                    state[0], began[0] = UNPACKERS[packing](), False  # such a file may be several in a row
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise Refused("wrong_input", f"it cannot be unpacked ({packing}): {error}", "is it whole?") from None

    return unpack


def _some(unpacker: Any, piece: bytes, packing: str) -> Iterator[bytes]:
    """A small piece may become a huge one: never more of it at once than a few megabytes."""
    most = 4 * PIECE
    part = unpacker.decompress(piece, most)
    while part:
        yield part
        # zlib gives back what it did not take; the others keep it.
        part = b"" if unpacker.eof else unpacker.decompress(getattr(unpacker, "unconsumed_tail", b""), most)


class _Target:
    """A new file that zeros are not written into, and that leaves some room on its file system."""

    def __init__(self, path: str, reserve: int) -> None:
        self._path, self._reserve = path, reserve
        self._unseen = LOOK_EVERY
        self.size = 0

    def __enter__(self) -> _Target:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return self

    def write(self, data: bytes) -> None:
        for at in range(0, len(data), BLOCK):
            block = data[at : at + BLOCK]  # a copy: views are compared byte by byte, which is 20 times slower
            if block != (ZEROS if len(block) == BLOCK else bytes(len(block))):
                self._put(block, self.size + at)
        self.size += len(data)

    def _put(self, block: bytes, offset: int) -> None:
        try:
            while block:
                written = os.pwrite(self._fd, block, offset)
                block, offset = block[written:], offset + written
                self._unseen += written
        except OSError as error:
            raise full(self._path, error) from None
        if self._unseen >= LOOK_EVERY:
            self._unseen = 0
            room = os.fstatvfs(self._fd)
            if room.f_bavail * room.f_frsize < self._reserve:
                raise Failed("no_capacity", f"there is no room for {self._path}", "make room in the pool")

    def __exit__(self, kind: object, *error: object) -> None:
        try:
            if kind is None:
                os.ftruncate(self._fd, self.size)
        except OSError as wrong:
            raise full(self._path, wrong) from None
        finally:
            os.close(self._fd)


ZEROS = bytes(BLOCK)


def full(path: str, error: OSError) -> Failed:
    code = "no_capacity" if error.errno in (28, 27, 122) else "environment_error"  # ENOSPC, EFBIG, EDQUOT
    return Failed(
        code, f"cannot write {path}: {error.strerror}", "make room in the pool" if code == "no_capacity" else ""
    )
