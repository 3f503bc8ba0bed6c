"""Jobs: what was asked for, how far it is, how it ended."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, OPERATOR, Action, Where, action, arg

STATES = ("queued", "claimed", "running", "done", "failed", "cancelled", "lost")


@action(
    where=Where.CLIENT_WORKER,
    columns=("id", "state", "action", "object", "host", "created_at", "took_seconds"),
    wide=("step", "owner", "reason", "message"),
    example="maglica job list --state=failed",
)
class JobList(Action):
    """List jobs, the newest last."""

    last: int = arg(kinds.integer(1, 10000), "how many", default=20)
    state: str | None = arg(kinds.choice(*STATES), "only those in this state", default=None)
    vm: str | None = arg(kinds.NAME, "only those about this VM", default=None, values_of="vm")
    host: str | None = arg(kinds.HOST, "only those on this host", default=None, values_of="host")


@action(where=Where.CLIENT_WORKER, example="maglica job show 1b7q2k0m4z")
class JobShow(Action):
    """Show everything that is known of a job."""

    id: str = arg(kinds.JOB, "the job, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.CLIENT_WORKER, example="maglica job log 1b7q2k0m4z")
class JobLog(Action):
    """Print a job's story: its steps, the commands they ran with their exit status and last words, its end."""

    id: str = arg(kinds.JOB, "the job, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.TERMINAL, example="maglica job wait 1b7q2k0m4z --timeout=10m")
class JobWait(Action):
    """Wait until a job has ended, silently, and exit as it did."""

    id: str = arg(kinds.JOB, "the job, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.TERMINAL, example="maglica job attach 1b7q2k0m4z")
class JobAttach(Action):
    """Follow a job in this terminal, as if it had been started here."""

    id: str = arg(kinds.JOB, "the job, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.CLIENT_WORKER, role=OPERATOR, example="maglica job cancel 1b7q2k0m4z")
class JobCancel(Action):
    """Stop a job. What it has made so far is undone."""

    id: str = arg(kinds.JOB, "the job, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.CLIENT_WORKER, role=ADMIN, hidden=True)
class JobStore(Action):
    """Tell what a check-up wants to know of the client worker and its store."""
