"""What is asked for, before it has a place."""

from __future__ import annotations

from typing import Any, NamedTuple

from maglica import policy
from maglica.client_worker.door.keyring import Who
from maglica.declare import Action
from maglica.errors import MaglicaError


class Submission(NamedTuple):
    """A request for a job, before it has a place."""

    key: str
    action: Action
    who: Who
    owner: str
    reason: str | None
    dry_run: bool = False
    group: str | None = None
    retry_of: str | None = None


class Member(NamedTuple):
    """One of many things that are asked for at once: an action, or why it cannot be one."""

    name: str
    args: dict[str, Any]  # what it has of its own
    action: Action | None
    error: MaglicaError | None = None
    retry_of: str | None = None


class GroupSubmission(NamedTuple):
    """A request for many jobs, before they have places."""

    key: str
    action: str
    args: dict[str, Any]  # what all of them have
    members: list[Member]
    who: Who
    owner: str
    reason: str | None
    retry_of: str | None = None
    policy: policy.Policy = policy.Policy()
    request: dict[str, Any] | None = None  # {"action", "args"}: what was asked for, where this follows from it
    note: str | None = None
    undo_of: str | None = None


def unusual(wanted: policy.Policy) -> dict[str, Any]:
    """What a policy says that is not as usual: what is kept with a group. Where VMs went is in their jobs."""
    return {
        name: value
        for name, value in wanted.values().items()
        if value != wanted.FIELDS[name].default and name != "spread"
    }
