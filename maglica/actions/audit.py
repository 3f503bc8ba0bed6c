"""The audit: who asked for what."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, Action, Where, action, arg


@action(
    where=Where.CLIENT_WORKER,
    role=ADMIN,
    columns=("at", "who", "address", "action", "object", "outcome", "job"),
    wide=("role", "message"),
    example="maglica audit list --outcome=denied",
)
class AuditList(Action):
    """List who did what, from where, and whether it was allowed; the newest last."""

    last: int = arg(kinds.integer(1, 10000), "how many", default=50)
    who: str | None = arg(kinds.NAME, "only what this key asked for", default=None, values_of="key")
    outcome: str | None = arg(kinds.choice("done", "accepted", "refused", "denied", "cut"), "only these", default=None)
    object: str | None = arg(kinds.NAME, "only what was about this VM, host or key", default=None)
