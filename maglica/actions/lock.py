"""Locks: what jobs that are open keep for themselves."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.CLIENT_WORKER,
    columns=("lock", "job", "action", "state", "since_at", "waiting"),
    wide=("host", "owner", "step"),
    example="maglica lock list",
)
class LockList(Action):
    """List who holds what since when, and who waits behind it. A lock ends with its job, however that ends."""

    vm: str | None = arg(kinds.NAME, "only that of this VM", default=None, values_of="vm")
    host: str | None = arg(kinds.HOST, "only those held by jobs on this host", default=None, values_of="host")
