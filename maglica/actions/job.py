"""Jobs: what was asked for, how far it is, how it ended. Where a job is named, a group of jobs may be named as well."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, OPERATOR, Action, Where, action, arg

STATES = ("queued", "claimed", "running", "done", "failed", "cancelled", "lost")


@action(
    where=Where.CLIENT_WORKER,
    columns=("id", "state", "action", "object", "host", "created_at", "took_seconds"),
    wide=("position", "waits_for", "step", "group", "owner", "by", "reason", "message"),
    example="maglica job list --state=failed --since=2h",
)
class JobList(Action):
    """List jobs, the newest last."""

    last: int = arg(kinds.integer(1, 10000), "how many", default=20)
    state: str | None = arg(kinds.choice(*STATES, "open", "ended"), "only those in this state", default=None)
    vm: str | None = arg(kinds.NAME, "only those about this VM", default=None, values_of="vm")
    host: str | None = arg(kinds.HOST, "only those on this host", default=None, values_of="host")
    owner: str | None = arg(kinds.TEXT, "only those of USER or USER@MACHINE", default=None)
    action: str | None = arg(kinds.TEXT, "only those that do this, such as 'vm clone' or vm-clone", default=None)
    group: str | None = arg(kinds.JOB, "only those of this group", default=None, values_of="job")
    since: float | None = arg(kinds.DURATION, "only those submitted within this time, such as 2h", default=None)
    until: float | None = arg(kinds.DURATION, "only those submitted before that, such as 1h", default=None)


@action(where=Where.CLIENT_WORKER, example="maglica job show 1b7q2k0m4z")
class JobShow(Action):
    """Show everything that is known of a job, or of a group and each of its jobs."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.CLIENT_WORKER, example="maglica job log 1b7q2k0m4z")
class JobLog(Action):
    """Print a job's story: its steps, the commands they ran with their exit status and last words, its end."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.TERMINAL, example="maglica job wait 1b7q2k0m4z --timeout=10m")
class JobWait(Action):
    """Wait until a job has ended, silently, and exit as it did."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.TERMINAL, example="maglica job attach 1b7q2k0m4z")
class JobAttach(Action):
    """Follow a job in this terminal, as if it had been started here."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.CLIENT_WORKER, role=OPERATOR, example="maglica job cancel 1b7q2k0m4z")
class JobCancel(Action):
    """Stop a job. What it has made so far is undone."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.CLIENT_WORKER, example="maglica job explain 1b7q2k0m4z")
class JobExplain(Action):
    """Tell in plain words what was asked, where it went and why, what happened, what it waits for, what to do next."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")


@action(where=Where.TERMINAL, role=OPERATOR, example="maglica job retry g1b7q2k0m4z --failed")
class JobRetry(Action):
    """Ask again for what failed or was cancelled: a new job with the same arguments. Of a group, a new group."""

    id: str = arg(kinds.JOB, "the job or group, or the beginning of its id", subject=True, values_of="job")
    failed: bool = arg(kinds.BOOL, "of a group: those that did not succeed, although others did", default=False)


@action(
    where=Where.TERMINAL,
    role=OPERATOR,
    example="maglica job recover 1b7q2k0m4z --as=success --reason='the VM runs, I looked'",
)
class JobRecover(Action):
    """Decide what became of a job that is lost, after looking. Your verdict is kept in its record."""

    id: str = arg(kinds.JOB, "the lost job, or the beginning of its id", subject=True, values_of="job")
    as_: str = arg(
        kinds.choice("success", "failure", "retry"), "it was done; it was not; it was not and shall be tried again"
    )
    reason: str = arg(kinds.TEXT, "how you know")


@action(where=Where.CLIENT_WORKER, role=OPERATOR, hidden=True)
class JobSettle(Action):
    """Write down a person's verdict on a lost job."""

    id: str = arg(kinds.JOB, "the lost job", subject=True)
    as_: str = arg(kinds.choice("success", "failure"), "what became of it")
    reason: str = arg(kinds.TEXT, "how that is known")
    owner: str = arg(kinds.TEXT, "who says so")


@action(where=Where.CLIENT_WORKER, role=ADMIN, example="maglica job prune --older-than=7d")
class JobPrune(Action):
    """Forget ended jobs before [client] keep_jobs does. Open ones and lost ones without a verdict stay."""

    older_than: float = arg(kinds.DURATION, "those that ended longer ago than this")


@action(where=Where.CLIENT_WORKER, role=ADMIN, hidden=True)
class JobStore(Action):
    """Tell what a check-up wants to know of the client worker and its store."""
