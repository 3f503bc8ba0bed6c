"""What one request changes: all of it, or nothing.

Requests of one turn of the loop share a transaction. One that fails in its middle must leave nothing of what it had
begun: neither in the store, nor on its way out, nor in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maglica.client_worker.door.audit import Audit
from maglica.client_worker.door.keyring import Keyring
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.ledger import Ledger
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.store import Store


class Whole:
    """`with whole():` around what belongs together, also one in the other."""

    def __init__(self, store: Store, out: Outbox, ring: Keyring, ledger: Ledger, audit: Audit, fleet: Fleet) -> None:
        self._store, self._outbox, self._keyring, self._ledger, self._audit = store, out, ring, ledger, audit
        self._fleet = fleet
        self._depth = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """When something is raised, it is as if nothing had been written, and nobody been told of it. What was denied
        or turned down stays in the audit.
        """
        if not self._depth:
            self._ledger.certain()
        mark = len(self._outbox), self._ledger.mark(), self._fleet.removals
        self._depth += 1
        self._audit.hold()
        try:
            with self._store.all_or_nothing() as piece:
                yield
        except Exception:
            if piece.mark:
                self._undo(*mark)
            raise
        finally:
            self._depth -= 1
            self._audit.let_go()

    def _undo(self, sent: int, told: int, removals: int) -> None:
        self._outbox.take_back(sent)
        self._ledger.undone(told)
        self._keyring.reload()
        if self._fleet.removals != removals:
            self._fleet.recall(self._store.hosts.all())
