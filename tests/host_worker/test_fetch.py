"""Files from paths and from a web server on loopback: packed, broken off, slow, changed, too big."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.image import fetch
from tests.small_disk import small_disk

DATA = random.Random(1).randbytes(3 << 20) + bytes(5 << 20) + random.Random(2).randbytes(123_457)
PACK = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}


class Server(BaseHTTPRequestHandler):
    """`/N` gives the N-th content; what else it does is set by the test."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[bytes] = DATA
    breaks: ClassVar[list[int]] = []  # after how many bytes each of the next connections breaks
    etag: ClassVar[str | None] = '"1"'
    ranges: ClassVar[list[str]] = []
    location: ClassVar[str | None] = None

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.ranges.append(asked)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.location:
            self.send_response(302)
            self.send_header("Location", self.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = int(asked[6:-1]) if asked and self.headers.get("If-Range") == self.etag else 0
        body = self.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.etag:
            self.send_header("ETag", self.etag)
        self.end_headers()
        if self.breaks:
            self.wfile.write(body[: self.breaks.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Server.content, Server.breaks, Server.etag, Server.ranges, Server.location = DATA, [], '"1"', [], None
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def get(source: str, path: Path, folder: Path, **told: Any) -> fetch.Fetched:
    wanted = {"checksum": None, "reserve": 0, "progress": lambda done, total: None, "check": lambda: None, **told}
    return fetch.fetch(source, str(path), folder=str(folder), **wanted)


@pytest.mark.parametrize("packing", ["", "gz", "xz", "bz2"])
def test_a_file_is_unpacked_on_the_way_and_stays_sparse(tmp_path: Path, packing: str) -> None:
    packed = PACK[packing](DATA) if packing else DATA
    (tmp_path / "source").write_bytes(packed)
    told: list[tuple[int, int]] = []
    got = get(
        str(tmp_path / "source"), tmp_path / "got", tmp_path, progress=lambda done, total: told.append((done, total)),
        checksum=f"sha256:{hashlib.sha256(packed).hexdigest()}",
    )  # fmt: skip
    assert (tmp_path / "got").read_bytes() == DATA
    assert got == (len(packed), hashlib.sha256(packed).hexdigest(), packing, len(DATA))
    assert told[-1] == (len(packed), len(packed))
    assert os.stat(tmp_path / "got").st_blocks * 512 < 4 << 20


@pytest.mark.parametrize("packing", PACK)
def test_several_packed_files_in_a_row_are_one(tmp_path: Path, packing: str) -> None:
    (tmp_path / "source").write_bytes(PACK[packing](DATA[:1000]) + PACK[packing](DATA[1000:]))
    get(str(tmp_path / "source"), tmp_path / "got", tmp_path)
    assert (tmp_path / "got").read_bytes() == DATA


@pytest.mark.parametrize("packing", PACK)
def test_a_packed_file_that_was_cut_or_damaged_is_refused(tmp_path: Path, packing: str) -> None:
    whole = PACK[packing](DATA)
    for number, content in enumerate(
        (whole[:-9], whole[: len(whole) // 2] + b"x" * 64 + whole[len(whole) // 2 + 64 :])
    ):
        (tmp_path / "source").write_bytes(content)
        with pytest.raises(Refused, match="cannot be unpacked"):
            get(str(tmp_path / "source"), tmp_path / f"got{number}", tmp_path)


def test_a_web_server_gives_a_file(tmp_path: Path, server: str) -> None:
    told: list[tuple[int, int]] = []
    got = get(f"{server}/1", tmp_path / "got", tmp_path, progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / "got").read_bytes() == DATA
    assert (got.bytes, told[-1]) == (len(DATA), (len(DATA), len(DATA)))


def test_a_connection_that_breaks_goes_on_where_it_broke(tmp_path: Path, server: str) -> None:
    Server.breaks = [1_000_000, 500_000]
    get(f"{server}/1", tmp_path / "got", tmp_path)
    assert (tmp_path / "got").read_bytes() == DATA
    assert Server.ranges == ["", "bytes=1000000-", "bytes=1500000-"]


def test_a_file_that_changed_meanwhile_is_not_put_together_of_two(tmp_path: Path, server: str) -> None:
    Server.breaks = [1_000_000]

    def change(done: int, total: int) -> None:
        Server.etag = '"2"'

    with pytest.raises(Failed, match="the file has changed"):
        get(f"{server}/1", tmp_path / "got", tmp_path, progress=change)


def test_without_a_version_nothing_is_put_together(tmp_path: Path, server: str) -> None:
    Server.breaks, Server.etag = [1_000_000], None
    with pytest.raises(Failed, match="after 1000000 of 8512065 bytes"):
        get(f"{server}/1", tmp_path / "got", tmp_path)
    assert Server.ranges == [""]


def test_a_server_that_breaks_off_for_ever_is_given_up(tmp_path: Path, server: str) -> None:
    Server.breaks = [1000] * 10
    with pytest.raises(Failed, match=f"after {1000 * fetch.TRIES} of"):
        get(f"{server}/1", tmp_path / "got", tmp_path)


def test_a_server_that_is_silent_is_given_up(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.2)
    monkeypatch.setattr(Server, "do_GET", lambda self: threading.Event().wait(2))
    with pytest.raises(MaglicaError, match="nothing came for"):
        get(f"{server}/1", tmp_path / "got", tmp_path)


def test_what_is_not_there_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(Refused, match="the server says 404") as missing:
        get(f"{server}/missing", tmp_path / "a", tmp_path)
    assert missing.value.code == "unknown_entity"
    with pytest.raises(Refused, match="refused"):
        get("http://127.0.0.1:1/x", tmp_path / "b", tmp_path)
    with pytest.raises(Refused, match="cannot read"):
        get(str(tmp_path / "none"), tmp_path / "c", tmp_path)


def test_a_server_cannot_send_us_to_a_file(tmp_path: Path, server: str) -> None:
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "/loop"):
        Server.location = location
        with pytest.raises(Refused, match=r"leads to|the server says 302"):
            get(f"{server}/1", tmp_path / location.replace("/", "_"), tmp_path)


def test_a_wrong_checksum_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(Refused, match="has the checksum sha256:"):
        get(f"{server}/1", tmp_path / "got", tmp_path, checksum="sha256:" + "0" * 64)


def test_only_files_of_one_folder_are_read(tmp_path: Path) -> None:
    """The host worker is root; whoever may import must not read what he likes."""
    folder = tmp_path / "import"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"root")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    for name in ("../secret", "link"):
        with pytest.raises(Refused, match="the only folder"):
            get(str(folder / name), tmp_path / "got", folder)
    with pytest.raises(Refused, match="is no file"):
        get(str(folder / "pipe"), tmp_path / "got", folder)


def test_a_cancel_ends_it_between_two_pieces(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(DATA)

    def check() -> None:
        raise Failed("cancelled", "the job was cancelled")

    with pytest.raises(Failed, match="cancelled"):
        get(str(tmp_path / "source"), tmp_path / "got", tmp_path, check=check)


def test_a_cancel_counts_while_nothing_comes(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE", 0.2)
    Server.breaks, Server.etag = [0], None
    checks = iter([None, None])

    def check() -> None:
        if next(checks, "cancelled"):
            raise Failed("cancelled", "the job was cancelled")

    def stall(self: Server) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 500)
        threading.Event().wait(1)

    monkeypatch.setattr(Server, "do_GET", stall)
    with pytest.raises(Failed, match="cancelled"):
        get(f"{server}/1", tmp_path / "got", tmp_path, check=check)


def test_a_bomb_ends_when_there_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(gzip.compress(random.Random(3).randbytes(1 << 20) * 40))
    with small_disk(tmp_path / "small", 16) as small, pytest.raises(Failed, match="No space left") as failed:
        get(str(tmp_path / "source"), small / "got", tmp_path)
    assert failed.value.code == "no_capacity"
