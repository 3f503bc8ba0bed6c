"""The host's journal: which jobs it has begun, what they made, how they ended. The only folder here with SQL in it.

Written before anything is done and before anything is told, so that the next start of the host worker knows what to
undo and what to report. No arguments are kept: nothing is ever done again from here, and they may hold secrets.

Nothing in it is believed that was not written so: every row has a CRC, the log of what is not yet in the file (SQLite's
WAL) is checked frame by frame, and a journal that fails is set aside, see `open_journal`.

`journal.py` what is written down when · `database.py` the file · `rows.py` what is in it · `wal.py` the log before the
file · `damage.py` what is done about one that is damaged.
"""

from maglica.host_worker.journal.damage import open_journal, set_aside
from maglica.host_worker.journal.journal import LATER, Journal
from maglica.host_worker.journal.rows import Damaged, Entry, Undo
from maglica.host_worker.journal.wal import wal_is_damaged

__all__ = ["LATER", "Damaged", "Entry", "Journal", "Undo", "open_journal", "set_aside", "wal_is_damaged"]
