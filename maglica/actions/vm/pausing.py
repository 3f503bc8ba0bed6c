"""Holding VMs still, and letting them go on."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    aliases=("pause",),
    example="maglica vm suspend web1.example.jp",
)
class VmSuspend(Action):
    """Hold a VM still: its memory stays, its processors stop."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    aliases=("cont",),
    example="maglica vm resume web1.example.jp",
)
class VmResume(Action):
    """Let a VM go on that was held still."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    locks=("vm:{name}",),
    limit=900,
    example="maglica vm pmsuspend web1.example.jp --to=mem",
)
class VmPmsuspend(Action):
    """Have a guest put itself to sleep; its agent does that."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    to: str = arg(
        kinds.choice("mem", "disk", "hybrid"),
        "where it keeps its state: in memory, so that it wakes up at once, on its own disk, or both",
        default="mem",
    )
    timeout: float = arg(kinds.DURATION, "how long the guest may take", default=60.0)


@action(
    where=Where.OWNER,
    changes=True,
    whole_fleet=True,
    locks=("vm:{name}",),
    example="maglica vm pmwakeup web1.example.jp",
)
class VmPmwakeup(Action):
    """Wake a guest up that sleeps in memory."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)
