"""What is done about a journal that is damaged: it is kept, and what can be read of it is carried over."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from maglica.host_worker.journal.journal import LATER, Journal
from maglica.host_worker.journal.rows import Damaged, crc

log = logging.getLogger("maglica.host_worker")

# Both directions: what lies before a damaged page, and what lies behind it.
SQL_SALVAGE = ("SELECT * FROM {} ORDER BY 1, 2", "SELECT * FROM {} ORDER BY 1 DESC, 2 DESC")


def open_journal(path: str, harmless: frozenset[str]) -> Journal:
    """The journal at a path. One that is damaged is set aside, never deleted, and a new one takes its place.

    The new one has another uuid: the client worker then calls those jobs lost that had not ended, and their VMs are
    free for others. What can still be read is carried over: outcomes, so that they are told, and of the undos those
    that are `harmless`, whatever is missing beside them, and that may be made `LATER`. A job may have ended well since,
    somebody may work on its VM, and what was to be undone before may not be there to be read: the others are for
    whoever looks at the lost job, and are named in the log.
    """
    try:
        return Journal(path)
    except Damaged as damage:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = f"{path}.damaged-{stamp}"
        jobs, undos = _salvaged(path)
        for suffix in ("", "-wal"):  # in this order: a file without its WAL would be an older one, and look sound
            if os.path.exists(path + suffix):
                os.rename(path + suffix, aside + suffix)
        log.error("the journal %s is damaged (%s); it was set aside as %s and a new one is begun", path, damage, aside)
    found = Journal(path)
    ended = [row for row in jobs if row[6] is not None]
    kept = [row for row in undos if row[2] in harmless & LATER]
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
