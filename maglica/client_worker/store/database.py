"""The connection: SQLite in WAL mode with `synchronous=FULL`, so that what was committed survives a power cut.

One transaction per turn of the loop: the first write opens it, `commit` ends it. What is asked of the database stands
with the tables, beside this file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from maglica.ballast import Ballast, free_bytes
from maglica.client_worker.store.layout import SCHEMA_VERSION, STEPS
from maglica.errors import Failed, Refused

log = logging.getLogger("maglica.client_worker")

BALLAST = 16 << 20  # bytes; let go when the disk is full, so that what ends can be written down
FULL = sqlite3.SQLITE_FULL
BUSY_TURNS = 50  # turns of the loop after which secrets are wiped also when it never rests

# After these of SQLite's primary result codes a connection is not to be believed any more. A full disk is none of them.
FATAL = {
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip

T = TypeVar("T")

TURN = "turn"  # the mark of a piece before which nothing was written in its turn

LARGEST_CHECKED = 64 << 20  # bytes; the loop stands still meanwhile


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class Piece:
    """Some writes that stand or fall together. `mark`: where they began, in SQLite's words; none before the first."""

    def __init__(self) -> None:
        self.mark = ""


class Database:
    """The file, and what is done about a disk that is full or broken. How it is used stands at `Store`."""

    def __init__(self, path: str, reserve: int = 0) -> None:
        self.path = path
        self.fatal: Failed | None = None
        self._reserve = reserve
        self._folder = os.path.dirname(os.path.abspath(path))
        self._ballast = Ballast(path + ".ballast", BALLAST)
        self._full = False  # the disk was full, and the ballast has not been taken back yet
        self._wipe = 0  # turns since something secret became old; 0: nothing did
        self._broken: Failed | None = None  # a write of this turn failed
        self._pieces: list[Piece] = []  # that are at work, one in the other
        fresh = not os.path.exists(path)
        try:
            if fresh:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            # autocommit: transactions begin and end where this file says so
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        if free_bytes(self._folder) < BALLAST // 4:
            self._full = self._ballast.release()
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.connection.close()
            if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged(str(error)) from None
            raise self._unusable(error) from None
        except Failed:
            self.connection.close()
            raise

    def _unusable(self, error: Exception) -> Failed:
        hint = f"make room on the file system of {self.path}" if _code(error) == FULL else "check [paths] state"
        return Failed("environment_error", f"cannot open the job store {self.path}: {error}", hint)

    def _damaged(self, why: str) -> Failed:
        return Failed(
            "environment_error",
            f"cannot open the job store {self.path}: it is damaged: {why}",
            "put a backup of it in its place: the hosts then tell what has ended since. Without one, move it and its"
            " -wal away to begin anew: jobs that run go on to their ends on their hosts, but are recorded nowhere, and"
            " hosts and people have to be let in again",
        )

    def _prepare(self) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA secure_delete = ON")  # hashes of passwords stand in open jobs
        self.connection.execute("PRAGMA temp_store = MEMORY")  # what a piece would take back: in no file of /tmp
        (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(" ".join(verdict.split()))
        self._migrate()

    def _migrate(self) -> None:
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise Failed(
                "version_mismatch",
                f"the job store {self.path} has layout {version}, this release knows {SCHEMA_VERSION}",
                "start the release that wrote it, or move the file away",
            )
        for number, step in enumerate(STEPS[version:], version + 1):
            self.connection.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")

    def rows(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """What a question finds."""
        return self._guarded(lambda: iter(self.connection.execute(statement, values).fetchall()))

    def write(self, statement: str, *values: Any) -> int:
        """Change something, in the transaction of this turn; how many rows."""

        def run() -> int:
            self._begin()
            return self.connection.execute(statement, values).rowcount

        return self._guarded(run)

    def _begin(self) -> None:
        """Before a write: the transaction of this turn, and a mark for each piece that has written nothing yet."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")
            for piece in self._pieces:
                piece.mark = TURN
        for depth, piece in enumerate(self._pieces):
            if not piece.mark:
                piece.mark = f"piece{depth}"
                self.connection.execute(f"SAVEPOINT {piece.mark}")

    @contextmanager
    def all_or_nothing(self) -> Iterator[Piece]:
        """What is written in here stays as a whole; when something is raised, nothing of it does. May stand in itself.

        It costs nothing before the first write, and nothing but that where that is the first one of its turn.
        """
        piece = Piece()
        self._pieces.append(piece)
        try:
            yield piece
        except BaseException:
            self._pieces.pop()
            self._take_back(piece.mark)
            raise
        self._pieces.pop()
        if piece.mark not in ("", TURN):
            self._guarded(lambda: self.connection.execute(f"RELEASE {piece.mark}"))

    def _take_back(self, mark: str) -> None:
        if mark == TURN:
            self.rollback()
        elif mark:
            try:
                self.connection.execute(f"ROLLBACK TO {mark}")
                self.connection.execute(f"RELEASE {mark}")
            except sqlite3.Error as error:
                self._broken = self._unwritable(error)
                self.rollback()

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            self._broken = self._unwritable(error)
            if _code(error) in FATAL:
                self.fatal = self._broken
            elif _code(error) == FULL:
                self._noticed_full()
            self.rollback()
            raise self._broken from None

    def _unwritable(self, error: sqlite3.Error) -> Failed:
        if _code(error) == FULL:
            hint = f"make room on the file system of {self.path}"
            return Failed("no_capacity", f"the job store cannot be written: {error}", hint)
        return Failed("environment_error", f"the job store cannot be written: {error}", f"check {self.path}")

    # ------------------------------------------------------------------------------------- room, and secrets

    def _noticed_full(self) -> None:
        """This turn is lost, the next one has the ballast's room: hosts and people ask again."""
        if self._ballast.release():
            log.error("the disk of the job store is full; what was kept for that is used up now: make room")
        self._full = True

    def keep_room(self) -> None:
        """Take the ballast (back) when there is room for it; for quiet moments."""
        if self._ballast.fill(self._reserve) and self._full:
            self._full = False
            log.info("there is room again for the job store")

    def refuse_when_low(self) -> None:
        """Raise `Refused` when the disk has too little room for one more job: what is left is for those that run."""
        free = free_bytes(self._folder)
        if free < self._reserve or self._full:
            raise Refused(
                "no_capacity",
                f"the job store's disk is full but for {free >> 20} MiB; no more jobs are accepted",
                f"make room on the client worker's file system of {self._folder}; [client] store_reserve"
                f" ({self._reserve >> 20}M) sets what stays free",
            )

    def wipe_soon(self) -> None:
        """Something secret was overwritten; what it was stands in SQLite's write-ahead log until that is emptied."""
        self._wipe = self._wipe or 1

    def settle(self, idle: bool) -> None:
        """Empty the write-ahead log where that was asked for; `idle`: nobody waits for this turn of the loop."""
        if not self._wipe or self.connection.in_transaction:
            return
        self._wipe += 1
        if idle or self._wipe > BUSY_TURNS:
            try:
                busy, *_ = self._guarded(lambda: self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
            finally:
                self._broken = None  # nothing of a turn was in it
            self._wipe = 1 if busy else 0  # busy: somebody reads it just now

    def commit(self) -> None:
        """Make everything since the last commit durable.

        Raises `Failed` when that cannot be done, or when a write since then failed: one failed write takes the whole
        turn with it, and nothing of it may be told as recorded.
        """
        broken, self._broken = self._broken, None
        if broken:
            self.rollback()
            raise broken
        if self.connection.in_transaction:
            try:
                self._guarded(lambda: self.connection.execute("COMMIT"))
            finally:
                self._broken = None  # told now; the next turn is another one

    def rollback(self) -> None:
        for piece in self._pieces:
            piece.mark = ""
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.fatal = self.fatal or self._unwritable(error)

    def close(self) -> None:
        self.rollback()
        self.connection.close()

    def verdict(self) -> str | None:
        """`ok`, or what SQLite finds wrong in the file; None when it is too large to be examined beside the work."""
        if os.path.getsize(self.path) > LARGEST_CHECKED:
            return None
        return str(next(self.rows("PRAGMA quick_check(1)"))[0])
