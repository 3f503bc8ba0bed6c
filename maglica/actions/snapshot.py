"""Snapshots of VMs: a state to come back to. The VM is the object; a snapshot of it has a label."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg
from maglica.errors import Refused

LABEL = "which snapshot"


@action(
    where=Where.OWNER,
    changes=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=3600,
    undone_by="snapshot remove",
    undone_exactly=("label", "created_at"),
    example="maglica snapshot create web1.example.jp --label=before-upgrade",
)
class SnapshotCreate(Action):
    """Keep the state of a VM: its disks, and its memory when it runs."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    label: str | None = arg(kinds.NAME, "what the snapshot is called; the time by default", default=None)
    disk_only: bool = arg(
        kinds.BOOL, "freeze the disks as they are and write to overlays from now on: any format, no memory",
        default=False,
    )  # fmt: skip
    external: bool = arg(
        kinds.BOOL, "use overlays, and a file for the memory, instead of the qcow2 disks", default=False
    )
    memory: bool | None = arg(kinds.BOOL, "keep the memory; by default when it runs, unless --disk-only", default=None)
    quiesce: bool = arg(kinds.BOOL, "have the guest's agent freeze its file systems, with --disk-only", default=False)
    description: str | None = arg(kinds.TEXT, "a line to remember it by", default=None)

    def check(self) -> None:
        if self.disk_only and self.memory:
            raise Refused("wrong_input", "snapshot create: --disk-only keeps no --memory", "leave out one or the other")
        if self.quiesce and not (self.disk_only or self.memory is False):
            raise Refused(
                "wrong_input",
                "snapshot create: --quiesce belongs to --disk-only",
                "with the memory, all is kept as it is",
            )


@action(
    where=Where.OWNER,
    columns=("snapshot", "kind", "state", "created_at", "current"),
    wide=("label", "parent", "memory", "description"),
    example="maglica snapshot list web1.example.jp",
)
class SnapshotList(Action):
    """List the snapshots of a VM as a tree."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, example="maglica snapshot info web1.example.jp --label=before-upgrade")
class SnapshotInfo(Action):
    """Show all about one snapshot, and why it cannot be reverted to or removed where that is so."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    label: str = arg(kinds.NAME, LABEL)


@action(where=Where.OWNER, example="maglica snapshot current web1.example.jp")
class SnapshotCurrent(Action):
    """Show the snapshot that a VM's present state goes back to."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.OWNER, example="maglica snapshot parent web1.example.jp --label=before-upgrade")
class SnapshotParent(Action):
    """Show the snapshot from which another one was made."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    label: str | None = arg(kinds.NAME, f"{LABEL}; the current one by default", default=None)


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    whole_fleet=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=3600,
    example="maglica snapshot revert web1.example.jp --label=before-upgrade --yes",
)
class SnapshotRevert(Action):
    """Bring a VM back to a snapshot. What happened since is lost."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    label: str = arg(kinds.NAME, LABEL)
    state: str = arg(
        kinds.choice("same", "running", "paused"), "what the VM does afterwards; same = as it did in the snapshot",
        default="same",
    )  # fmt: skip
    force: bool = arg(kinds.BOOL, "even if libvirt finds it risky, such as with another definition", default=False)
    ignore_missing: bool = arg(kinds.BOOL, "go on although a host does not answer", default=False)


@action(
    where=Where.OWNER,
    changes=True,
    destructive=True,
    slot="disk",
    locks=("vm:{name}",),
    limit=6 * 3600,
    aliases=("delete",),
    example="maglica snapshot remove web1.example.jp --label=before-upgrade --yes",
)
class SnapshotRemove(Action):
    """Forget a snapshot. The VM keeps its present state."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    label: str = arg(kinds.NAME, LABEL)
    created_at: str | None = arg(kinds.TEXT, "only if it is the very one of that time", default=None)
    children: bool = arg(kinds.BOOL, "those that were made from it as well", default=False)
    metadata_only: bool = arg(kinds.BOOL, "only libvirt's record; what it kept stays in the disks", default=False)
