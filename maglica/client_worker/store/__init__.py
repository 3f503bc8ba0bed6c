"""The job store. The only folder of the client worker with SQL in it; every statement has a name.

`write` opens a transaction when one is needed, `commit` ends it once in each turn of the loop, and only then may
anything be told to anybody.

`store.py` the whole · `database.py` the connection, the only file with sqlite3 · `layout.py` the tables as they grew;
the others: a kind of record each, with its statements.
"""

from maglica.client_worker.store.jobs import MOST_LIKE
from maglica.client_worker.store.layout import SCHEMA_VERSION, STEPS
from maglica.client_worker.store.store import Store

__all__ = ["MOST_LIKE", "SCHEMA_VERSION", "STEPS", "Store"]
