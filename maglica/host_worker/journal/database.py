"""The file of the journal: SQLite, a CRC at every row, and what is done about a disk that is full or broken."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable
from typing import Any

from maglica.ballast import Ballast
from maglica.errors import Failed
from maglica.host_worker.journal.rows import LAYOUT, SCHEMA, SQL, Damaged, crc, entry, undo
from maglica.host_worker.journal.wal import wal_is_damaged

log = logging.getLogger("maglica.host_worker")

BALLAST = 1 << 20  # bytes; an outcome takes some thousand
SETTLE_AFTER = 256  # commits after which the WAL is brought into the file at once, not at the next quiet moment

# SQLite's primary result codes; the sqlite3 module names them from Python 3.11 on, in lower bytes of its own.
FULL, IO_ERROR, CORRUPT, NO_DATABASE = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB
)  # fmt: skip
# An I/O error that says nothing of what is in the file: the disk failed while something was written.
WRITING = {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE}


class Database:
    """What of the journal is about its file. May be used from every thread of the host worker.

    `trouble` says why no job should begin: there is no room to note it. `fatal`: the connection cannot be trusted any
    more, and the host worker has to end; what is wrong is found at the next start.
    """

    def __init__(self, path: str) -> None:
        """Raises `Damaged`, or `Failed` when the place is not usable."""
        self.path = path
        self.trouble: str | None = None
        self.fatal: Failed | None = None
        self._ballast = Ballast(path + ".ballast", BALLAST)
        self._lock = threading.Lock()
        self._unsettled = 0  # commits that are only in the WAL
        try:
            if not os.path.exists(path):
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            if wal_is_damaged(path + "-wal"):
                raise Damaged("its write-ahead log holds a frame that was not written so")
            # autocommit: transactions begin and end where this file says so
            self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._prepare()
            self._check()
            self.uuid, self.starts = self._started()
        except sqlite3.Error as error:
            self.connection.close()
            if _is_damage(error):
                raise Damaged(str(error)) from None
            raise self._unusable(error) from None
        except BaseException:
            self.connection.close()
            raise
        if not self._ballast.fill(BALLAST):
            self.trouble = self._no_room(f"less than {2 * BALLAST >> 20} MiB are free")

    @property
    def mark(self) -> str:
        """What the processes carry in their environment that are started for jobs of this journal, and no others on
        this machine.
        """
        folder = os.stat(os.path.dirname(os.path.abspath(self.path)))
        return f"{folder.st_dev}:{folder.st_ino}"

    def _unusable(self, error: Exception) -> Failed:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == FULL
        hint = f"make room on the file system of {self.path}" if full else "check [paths] state"
        return Failed("environment_error", f"cannot open the journal {self.path}: {error}", hint)

    # ----------------------------------------------------------------------------------------- opening

    def _prepare(self) -> None:
        # Nobody else opens it; and without a shared index it can be read even where not one block is free.
        self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA wal_autocheckpoint = 0")  # `settle` does it
        self.connection.execute("PRAGMA secure_delete = ON")  # no old row may come back as a good one
        # What a commit that was cut off left in the WAL is overwritten only in part by the next: then it would look
        # like damage. So the WAL is emptied first.
        self._settle()
        (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(verdict)
        tables = dict(self.connection.execute("SELECT name, sql FROM sqlite_master"))
        if not tables:
            self.connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif "crc" not in tables.get("self", ""):
            self._migrate()

    def _migrate(self) -> None:
        """From layout 1, whose rows had no CRC. Its children ended with the last start, or are found by their mark."""
        known = dict(self.connection.execute(SQL["layout 1"]))
        jobs = self.connection.execute(SQL["jobs of layout 1"]).fetchall()
        undos = self.connection.execute(SQL["undos of layout 1"]).fetchall()
        self.connection.execute("BEGIN IMMEDIATE")
        for table in ("self", "job", "undo", "child"):
            self.connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in filter(str.strip, SCHEMA.split(";")):
            self.connection.execute(statement)
        for row in (("uuid", known["uuid"]), ("starts", str(known["starts"])), ("layout", LAYOUT)):
            self.put("self", *row)
        for row in jobs:
            self.put("job", *row)
        for row in undos:
            self.put("undo", *row)
        self.connection.execute("COMMIT")

    def _started(self) -> tuple[str, int]:
        """(the journal's name, how often it was opened: of two processes with it, the later one)."""
        known = dict(self.read("self"))
        layout = known.get("layout", LAYOUT)
        if layout != LAYOUT:
            raise Failed(
                "version_mismatch",
                f"the journal {self.path} has layout {layout}, this release knows {LAYOUT}",
                "start the release that wrote it until its jobs have ended",
            )
        if known and ("uuid" not in known or not known.get("starts", "").isdigit()):
            raise Damaged("it does not say which journal it is")
        name, starts = known.get("uuid") or str(uuid.uuid4()), int(known.get("starts", "0")) + 1

        def note() -> None:
            for row in (("uuid", name), ("starts", str(starts)), ("layout", LAYOUT)):
                self.put("self", *row)

        try:
            self._commit(note)
        except sqlite3.Error as error:
            if not known or getattr(error, "sqlite_errorcode", 0) & 0xFF != FULL:
                raise
            self._noticed_full(error)  # it counts on from memory; jobs begin when it can be written
        return name, starts

    def _check(self) -> None:
        """Look at every row; what cannot be what was written is `Damaged`."""
        try:
            for row in self.read("all"):
                entry(row)
            for row in self.read("all undos"):
                undo(row)
        except (ValueError, TypeError) as error:
            raise Damaged(str(error)) from None

    # ----------------------------------------------------------------------------------- rows and their CRCs

    def put(self, table: str, *values: Any) -> None:
        """Write a row; inside of what is given to `write`, as `execute` and `read`."""
        self.connection.execute(SQL[f"put {table}"], [*values, crc(table, values)])

    def execute(self, name: str, *values: Any) -> None:
        self.connection.execute(SQL[name], values)

    def read(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement without their CRCs, which were right."""
        table = {"self": "self", "job": "job", "all": "job"}.get(name, "undo")
        rows = []
        for *row, found in self.connection.execute(SQL[name], values):
            if crc(table, row) != found:
                raise Damaged(f"a row of {table} is not what was written")
            rows.append(tuple(row))
        return rows

    def _commit(self, work: Callable[[], None], *, synced: bool = True) -> None:
        """`synced`: it survives a power cut from now on; otherwise only the end of this process, and a power cut from
        the next commit on.
        """
        if not synced:
            self.connection.execute("PRAGMA synchronous = NORMAL")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            work()
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        finally:
            if not synced:
                self.connection.execute("PRAGMA synchronous = FULL")
        self._unsettled += 1

    def rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """The same for everybody else: what goes wrong is `Failed`."""
        with self._lock:
            try:
                return self.read(name, *values)
            except (sqlite3.Error, Damaged) as error:
                raise self._failed(error, "read") from None

    def write(self, work: Callable[[], None], *, synced: bool = True) -> None:
        """Do it in one transaction. On a full disk once more, with the room that was kept for that."""
        with self._lock:
            try:
                self._commit(work, synced=synced)
            except (sqlite3.Error, Damaged) as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != FULL:
                    raise self._failed(error, "written") from None
                self._noticed_full(error)
                try:
                    self._commit(work, synced=synced)
                except (sqlite3.Error, Damaged) as again:
                    raise self._failed(again, "written") from None
            if self._unsettled >= SETTLE_AFTER:
                self._settle()

    def _failed(self, error: Exception, verb: str) -> Failed:
        code = getattr(error, "sqlite_errorcode", 0)
        hint = f"make room on the file system of {self.path}" if code & 0xFF == FULL else f"check {self.path}"
        failed = Failed("environment_error", f"the journal cannot be {verb}: {error}", hint)
        if isinstance(error, Damaged) or _is_damage(error) or code & 0xFF == IO_ERROR:
            self.fatal = failed
        return failed

    # --------------------------------------------------------------------------------------- a full disk

    def _noticed_full(self, error: Exception) -> None:
        """Let the ballast go. What a failed commit left in the WAL goes too: it would look like damage."""
        self._ballast.release()
        self.trouble = self._no_room(str(error))
        self._settle()

    def _no_room(self, why: str) -> str:
        return f"no job can begin: the journal's disk is full ({why}): make room for {self.path}"

    def recovered(self) -> bool:
        """Whether jobs may begin: tried again when there was no room, which counts as back when the ballast is."""
        if self.trouble is None:
            return True
        if not self._ballast.fill(BALLAST):
            return False
        try:
            self.write(lambda: self.put("self", "starts", str(self.starts)))
        except Failed:
            return False
        self.trouble = None
        return True

    def settle(self) -> None:
        """Bring what is only in the WAL into the file itself, and empty the WAL. For quiet moments."""
        with self._lock:
            if self._unsettled:
                self._settle()

    def _settle(self) -> None:
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._unsettled = 0
        except sqlite3.Error as error:
            log.warning("the journal cannot be tidied now: %s", error)

    def close(self) -> None:
        with self._lock:
            self.connection.close()


def _is_damage(error: Exception) -> bool:
    """Whether an error of SQLite says that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.OperationalError) and "decode" in str(error)  # text that is no UTF-8
    known = (CORRUPT, NO_DATABASE, sqlite3.SQLITE_ERROR)  # the last: a table or a column is missing
    return code & 0xFF in known or (code & 0xFF == IO_ERROR and code not in WRITING)
