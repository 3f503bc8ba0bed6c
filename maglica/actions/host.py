"""Hosts: the hypervisors."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, Action, Where, action, arg


@action(
    where=Where.CLIENT_WORKER,
    columns=("name", "state", "heard_seconds", "vms_running", "memory_free_bytes", "why"),
    wide=("weight", "vcpus", "memory_bytes", "libvirt", "clock_skew_seconds", "incarnation", "version"),
    example="maglica host list",
)
class HostList(Action):
    """List the hosts: up, degraded, down or not heard of yet, why, and what their last message said."""


@action(where=Where.NAMED, example="maglica host info host0.example.jp")
class HostInfo(Action):
    """Show a host: processors, memory, pools, guests, versions, acceleration."""

    name: str = arg(kinds.HOST, "the host", subject=True, values_of="host")


@action(
    where=Where.CLIENT_WORKER,
    role=ADMIN,
    destructive=True,
    aliases=("delete",),
    example="maglica host remove host7 --yes",
)
class HostRemove(Action):
    """Forget a host that is down for good: nobody waits for its answers any more, and what it had begun is lost."""

    name: str = arg(kinds.HOST, "the host", subject=True, values_of="host")


@action(where=Where.CLIENT_WORKER, role=ADMIN, example="maglica host invite host0.example.jp")
class HostInvite(Action):
    """Let a host join: print the one command that is to be run there."""

    name: str = arg(kinds.HOST, "what the host is to be called", subject=True)
    expires: float = arg(kinds.duration(1.0), "for how long the invitation is good", default=3600.0)
    address: str | None = arg(
        kinds.ADDRESS, "where the host finds the client worker; [client] address by default", default=None
    )


@action(where=Where.CLIENT_WORKER, role=ADMIN, destructive=True, example="maglica host revoke host0.example.jp --yes")
class HostRevoke(Action):
    """Shut a host out: its key is good no more. Its VMs run on; `host invite` lets it in again."""

    name: str = arg(kinds.HOST, "the host", subject=True, values_of="host")


@action(where=Where.EVERY, role=ADMIN, hidden=True)
class HostSurvey(Action):
    """Tell what placement and look-up need to know: domains, images, memory, processors, pools."""

    room: bool = arg(kinds.BOOL, "tell it all; no = the names and states of domains, which is quick", default=True)
    lives: bool = arg(kinds.BOOL, "tell also what each VM has, or would have, for itself", default=False)


@action(where=Where.EVERY, hidden=True)
class HostPing(Action):
    """Answer at once, without asking libvirt."""


@action(where=Where.EVERY, role=ADMIN, hidden=True)
class HostCheck(Action):
    """Tell what a check-up wants to know of this host."""
