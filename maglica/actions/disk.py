"""Disks of VMs: what there is, and how full."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.OWNER,
    columns=("target", "device", "bus", "format", "capacity_bytes", "allocation_bytes", "path"),
    wide=("serial", "cache", "live", "config", "rests_on"),
    example="maglica disk list web1.example.jp",
)
class DiskList(Action):
    """List the disks and CD-ROM drives of a VM, of what runs and of its definition."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, example="maglica disk info web1.example.jp --target=vda")
class DiskInfo(Action):
    """Show all about one disk of a VM: size, what it takes on its host, what it rests on, its snapshots."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    target: str = arg(kinds.TARGET, "which disk, such as vda")
