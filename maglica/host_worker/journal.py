"""The host's journal: which jobs it has begun, what they made, how they ended. The only file here with SQL in it.

Written before anything is done and before anything is told, so that the next start of the host worker knows what to
undo and what to report. No arguments are kept: nothing is ever done again from here, and they may hold secrets.

Nothing in it is believed that was not written so: every row has a CRC, the log of what is not yet in the file (SQLite's
WAL) is checked frame by frame, and a journal that fails is set aside, see `open_journal`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import struct
import tempfile
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from maglica.ballast import Ballast
from maglica.errors import Failed

log = logging.getLogger("maglica.host_worker")

LAYOUT = "2"
BALLAST = 1 << 20  # bytes; an outcome takes some thousand
SETTLE_AFTER = 256  # commits after which the WAL is brought into the file at once, not at the next quiet moment

# No rowids: they would make a second tree for each key, which no check compares with the rows.
SCHEMA = """
CREATE TABLE self (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE job (
    id TEXT PRIMARY KEY, attempt INTEGER NOT NULL, action TEXT NOT NULL, object TEXT, step TEXT, sign TEXT,
    outcome TEXT, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE undo (
    job TEXT NOT NULL, number INTEGER NOT NULL, what TEXT NOT NULL, args TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
"""

SQL = {
    "put self": "INSERT OR REPLACE INTO self VALUES (?, ?, ?)",
    "self": "SELECT * FROM self ORDER BY name",
    "put job": "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "job": "SELECT * FROM job WHERE id = ?",
    "forget job": "DELETE FROM job WHERE id = ? AND attempt = ? AND outcome IS NOT NULL",
    "all": "SELECT * FROM job ORDER BY id",
    "put undo": "INSERT OR REPLACE INTO undo VALUES (?, ?, ?, ?, ?)",
    "undos": "SELECT * FROM undo WHERE job = ? ORDER BY number DESC",
    "all undos": "SELECT * FROM undo ORDER BY job DESC, number DESC",
    "forget undo": "DELETE FROM undo WHERE job = ? AND number = ?",
    "forget undos": "DELETE FROM undo WHERE job = ?",
    "forget other undos": "DELETE FROM undo WHERE job = ? AND what NOT IN (SELECT value FROM json_each(?))",
    "layout 1": "SELECT name, value FROM self",
    "jobs of layout 1": "SELECT id, attempt, action, object, step, NULL, outcome FROM job",
    "undos of layout 1": "SELECT job, number, what, args FROM undo",
}

# Both directions: what lies before a damaged page, and what lies behind it.
SQL_SALVAGE = ("SELECT * FROM {} ORDER BY 1, 2", "SELECT * FROM {} ORDER BY 1 DESC, 2 DESC")

# SQLite's primary result codes; the sqlite3 module names them from Python 3.11 on, in lower bytes of its own.
FULL, IO_ERROR, CORRUPT, NO_DATABASE = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB
)  # fmt: skip
# An I/O error that says nothing of what is in the file: the disk failed while something was written.
WRITING = {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE}


class Entry(NamedTuple):
    """One job in the journal; `outcome` is None while it has not ended. `sign`: what shows that its whole effect is
    there, see `work.Sign`.
    """

    id: str
    attempt: int
    action: str
    object: str | None
    step: str | None
    outcome: dict[str, Any] | None
    sign: dict[str, Any] | None = None


class Undo(NamedTuple):
    """How to take back one thing that a job made: a name from `undo.py` and its arguments."""

    number: int
    what: str
    args: dict[str, Any]


class Damaged(Exception):
    """The journal holds something that was never written."""


class Journal:
    """Durable; may be used from every thread of the host worker.

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
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._prepare()
            self._check()
            self.uuid, self.starts = self._started()
        except sqlite3.Error as error:
            self._db.close()
            if _is_damage(error):
                raise Damaged(str(error)) from None
            raise self._unusable(error) from None
        except BaseException:
            self._db.close()
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
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_autocheckpoint = 0")  # `settle` does it
        self._db.execute("PRAGMA secure_delete = ON")  # no old row may come back as a good one
        # What a commit that was cut off left in the WAL is overwritten only in part by the next: then it would look
        # like damage. So the WAL is emptied first.
        self._settle()
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(verdict)
        tables = dict(self._db.execute("SELECT name, sql FROM sqlite_master"))
        if not tables:
            self._db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif "crc" not in tables.get("self", ""):
            self._migrate()

    def _migrate(self) -> None:
        """From layout 1, whose rows had no CRC. Its children ended with the last start, or are found by their mark."""
        known = dict(self._db.execute(SQL["layout 1"]))
        jobs = self._db.execute(SQL["jobs of layout 1"]).fetchall()
        undos = self._db.execute(SQL["undos of layout 1"]).fetchall()
        self._db.execute("BEGIN IMMEDIATE")
        for table in ("self", "job", "undo", "child"):
            self._db.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in filter(str.strip, SCHEMA.split(";")):
            self._db.execute(statement)
        for row in (("uuid", known["uuid"]), ("starts", str(known["starts"])), ("layout", LAYOUT)):
            self._put("self", *row)
        for row in jobs:
            self._put("job", *row)
        for row in undos:
            self._put("undo", *row)
        self._db.execute("COMMIT")

    def _started(self) -> tuple[str, int]:
        """(the journal's name, how often it was opened: of two processes with it, the later one)."""
        known = dict(self._read("self"))
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
                self._put("self", *row)

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
            self.entries()
            for job in self.jobs_to_undo():
                self.undos(job)
        except (Failed, ValueError, TypeError) as error:
            raise Damaged(str(error)) from None

    # ----------------------------------------------------------------------------------- rows and their CRCs

    def _put(self, table: str, *values: Any) -> None:
        self._db.execute(SQL[f"put {table}"], [*values, crc(table, values)])

    def _read(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement without their CRCs, which were right."""
        table = {"self": "self", "job": "job", "all": "job"}.get(name, "undo")
        rows = []
        for *row, found in self._db.execute(SQL[name], values):
            if crc(table, row) != found:
                raise Damaged(f"a row of {table} is not what was written")
            rows.append(tuple(row))
        return rows

    def _commit(self, work: Callable[[], None], *, synced: bool = True) -> None:
        """`synced`: it survives a power cut from now on; otherwise only the end of this process, and a power cut from
        the next commit on.
        """
        if not synced:
            self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            work()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        finally:
            if not synced:
                self._db.execute("PRAGMA synchronous = FULL")
        self._unsettled += 1

    def _rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._read(name, *values)
            except (sqlite3.Error, Damaged) as error:
                raise self._failed(error, "read") from None

    def _write(self, work: Callable[[], None], *, synced: bool = True) -> None:
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
            self._write(lambda: self._put("self", "starts", str(self.starts)))
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
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._unsettled = 0
        except sqlite3.Error as error:
            log.warning("the journal cannot be tidied now: %s", error)

    # ---------------------------------------------------------------------------------------------- jobs

    def begin(self, job: str, attempt: int, action: str, about: str | None) -> bool:
        """Note that a job begins; False when it is known already and must not begin again.

        Not synced: it looks first, and says `will` before it changes anything. What a power cut forgets has done
        nothing, and is handed out again.
        """
        if self._rows("job", job):
            return False
        self._write(lambda: self._put("job", job, attempt, action, about, None, None, None), synced=False)
        return True

    def will(self, job: str) -> None:
        """From here on the job changes things: that it has begun survives a power cut as well."""
        self._change(job, lambda row: row)

    def step(self, job: str, name: str, sign: dict[str, Any] | None = None) -> None:
        """Note the step that a job is in, and what will show, if it is the last one, that all of it was done."""
        self._change(job, lambda row: (*row[:4], name, json.dumps(sign) if sign else None, row[6]))

    def end(self, job: str, outcome: dict[str, Any]) -> None:
        """Note how a job ended, before anybody is told. When it ended well, what it made is no longer to be undone;
        otherwise what could not be undone stays noted, and is tried again at the next start.
        """

        def forget() -> None:
            if outcome["state"] == "done":
                self._db.execute(SQL["forget undos"], [job])

        self._change(job, lambda row: (*row[:5], None, json.dumps(outcome)), forget)

    def _change(
        self, job: str, change: Callable[[tuple[Any, ...]], tuple[Any, ...]], more: Callable[[], None] = lambda: None
    ) -> None:
        def work() -> None:
            for row in self._read("job", job):
                self._put("job", *change(row))
            more()

        self._write(work)

    def forget(self, jobs: list[tuple[str, int]]) -> None:
        """The client worker has recorded the outcomes of these jobs and attempts. Not synced: what a power cut brings
        back is told, and acknowledged, once more.
        """

        def work() -> None:
            for job, attempt in jobs:
                self._execute("forget job", job, attempt)

        if jobs:
            self._write(work, synced=False)

    def _execute(self, name: str, *values: Any) -> None:
        self._db.execute(SQL[name], values)

    def entries(self) -> list[Entry]:
        return [_entry(row) for row in self._rows("all")]

    def put_undo(self, job: str, number: int, what: str, args: dict[str, Any]) -> None:
        self._write(lambda: self._put("undo", job, number, what, json.dumps(args)))

    def undos(self, job: str) -> list[Undo]:
        """What is to be taken back, the last made first."""
        return [Undo(number, what, json.loads(args)) for _, number, what, args in self._rows("undos", job)]

    def jobs_to_undo(self) -> list[str]:
        """The jobs that left something to be taken back, the latest first."""
        return list(dict.fromkeys(row[0] for row in self._rows("all undos")))

    def keep(self, job: str) -> None:
        """What the job made is no longer to be undone, whatever becomes of the job."""
        self._write(lambda: self._execute("forget undos", job))

    def commit(self, job: str, but: Sequence[str]) -> None:
        """The same, but for undos of these names: what they settle is settled in any case."""
        self._write(lambda: self._execute("forget other undos", job, json.dumps(list(but))))

    def forget_undo(self, job: str, number: int) -> None:
        self._write(lambda: self._execute("forget undo", job, number))

    def take_over(self, jobs: list[tuple[Any, ...]], undos: list[tuple[Any, ...]]) -> None:
        """Write down what could be read of a damaged journal."""

        def work() -> None:
            for row in jobs:
                self._put("job", *row)
            for row in undos:
                self._put("undo", *row)

        self._write(work)

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _entry(row: tuple[Any, ...]) -> Entry:
    job, attempt, action, about, step, sign, told = row
    return Entry(
        job, attempt, action, about, step, json.loads(told) if told else None, json.loads(sign) if sign else None
    )


def crc(table: str, values: Any) -> int:
    """CRC-32 of a row: it finds every change of one bit."""
    return zlib.crc32(json.dumps([table, *values]).encode())


def _is_damage(error: Exception) -> bool:
    """Whether an error of SQLite says that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.OperationalError) and "decode" in str(error)  # text that is no UTF-8
    known = (CORRUPT, NO_DATABASE, sqlite3.SQLITE_ERROR)  # the last: a table or a column is missing
    return code & 0xFF in known or (code & 0xFF == IO_ERROR and code not in WRITING)


# ------------------------------------------------------------------------------------------ the log before the file


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


# ------------------------------------------------------------------------------------------------- after damage


def open_journal(path: str, harmless: frozenset[str]) -> Journal:
    """The journal at a path. One that is damaged is set aside, never deleted, and a new one takes its place.

    The new one has another uuid: the client worker then calls those jobs lost of which nothing is known. What can still
    be read is carried over: outcomes, so that they are told, and undos, so that what was left behind is tidied. When
    the last writes may be missing, only undos of the `harmless` kinds are: a job may have ended well since, and what it
    made must not be taken back.
    """
    try:
        return Journal(path)
    except Damaged as damage:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = f"{path}.damaged-{stamp}"
        stale = wal_is_damaged(path + "-wal")
        jobs, undos = _salvaged(path)
        for suffix in ("", "-wal"):  # in this order: a file without its WAL would be an older one, and look sound
            if os.path.exists(path + suffix):
                os.rename(path + suffix, aside + suffix)
        log.error("the journal %s is damaged (%s); it was set aside as %s and a new one is begun", path, damage, aside)
    found = Journal(path)
    ended = [row for row in jobs if row[6] is not None]
    kept = [row for row in undos if not stale or row[2] in harmless]
    found.take_over(ended, kept)
    log.error(
        "carried over from the damaged journal: %d outcomes, %d things to be undone; jobs that it does not know of"
        " become lost: look at their VMs", len(ended), len(kept),
    )  # fmt: skip
    for row in undos:
        if row not in kept:
            log.error("job=%s may have left something behind; look at it: %s %s", row[0], row[2], row[3])
    return found


def set_aside(path: str) -> list[str]:
    """The damaged journals that lie beside this one."""
    folder, name = os.path.split(path)
    try:
        return sorted(
            file
            for file in os.listdir(folder)
            if file.startswith(f"{name}.damaged-") and not file.endswith(("-wal", "-shm"))
        )
    except OSError:
        return []


def _salvaged(path: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """(jobs, undos) of a damaged journal whose CRCs are right. Of a copy: reading would change it."""
    with tempfile.TemporaryDirectory(prefix="maglica-journal-") as folder:
        copy = os.path.join(folder, "journal.db")
        try:
            for suffix in ("", "-wal"):
                if os.path.exists(path + suffix):
                    shutil.copyfile(path + suffix, copy + suffix)
            source = sqlite3.connect(copy, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            log.error("nothing can be carried over from %s: %s", path, error)
            return [], []
        try:
            return [*_good_rows(source, "job")], [*_good_rows(source, "undo")]
        finally:
            source.close()


def _good_rows(source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    found: dict[tuple[Any, ...], None] = {}
    for sql in SQL_SALVAGE:
        try:
            for *row, told in source.execute(sql.format(table)):
                if crc(table, row) == told:
                    found[tuple(row)] = None
        except (sqlite3.Error, ValueError, TypeError):
            continue  # the other direction may reach more
    yield from found
