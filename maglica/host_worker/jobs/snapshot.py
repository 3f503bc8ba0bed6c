"""Snapshots of VMs: a state to come back to."""

from __future__ import annotations

from typing import Any

from maglica.actions.snapshot import (
    SnapshotCreate,
    SnapshotCurrent,
    SnapshotInfo,
    SnapshotList,
    SnapshotParent,
    SnapshotRemove,
    SnapshotRevert,
)
from maglica.errors import Refused
from maglica.host_worker.host import Host
from maglica.host_worker.snapshot import creating, files, model, planning, removing, reverting
from maglica.host_worker.snapshot.model import Snapshot
from maglica.host_worker.work import Work


def snapshot_create(want: SnapshotCreate, host: Host, work: Work) -> dict[str, Any]:
    """libvirt makes all of it or nothing. A crash of ours in the middle leaves the one or the other, and no file."""
    return creating.create(want, host, work)


def snapshot_revert(want: SnapshotRevert, host: Host, work: Work) -> dict[str, Any]:
    """A crash of ours in the middle leaves the VM as it was or as it was kept: libvirt finishes what it began."""
    return reverting.revert(want, host, work)


def snapshot_remove(want: SnapshotRemove, host: Host, work: Work) -> dict[str, Any]:
    """A crash of ours in the middle leaves each snapshot whole or gone; the VM's state is the same all the time."""
    return removing.remove(want, host, work)


def snapshot_list(want: SnapshotList, host: Host) -> dict[str, Any]:
    current = host.hypervisor.current_snapshot(want.name)
    found = model.tree(files.all_of(host.hypervisor, want.name))
    return {"items": [{"name": want.name, **model.told(one, depth, current)} for one, depth in found]}


def snapshot_info(want: SnapshotInfo, host: Host) -> dict[str, Any]:
    return {"item": _info(want.name, want.label, host)}


def snapshot_current(want: SnapshotCurrent, host: Host) -> dict[str, Any]:
    return {"item": _info(want.name, _current(want.name, host), host)}


def snapshot_parent(want: SnapshotParent, host: Host) -> dict[str, Any]:
    label = want.label or _current(want.name, host)
    parent = reverting.chosen(want.name, label, host).parent
    if parent is None:
        raise Refused("unknown_entity", f"snapshot {label} of {want.name} has no parent", "it was the first one")
    return {"item": _info(want.name, parent, host)}


def _current(name: str, host: Host) -> str:
    found = host.hypervisor.current_snapshot(name)
    if found is None:
        raise Refused("unknown_entity", f"{name} has no current snapshot", f"`maglica snapshot list {name}` shows all")
    return found


def _frozen(one: Snapshot, every: list[Snapshot]) -> str | None:
    since = planning.frozen(one, every)
    return f"its disks were frozen since, by {since}" if since else None


def _info(name: str, label: str, host: Host) -> dict[str, Any]:
    one = reverting.chosen(name, label, host)
    every, release = files.all_of(host.hypervisor, name), host.hypervisor.libvirt_release()
    told = model.told(one, 0, host.hypervisor.current_snapshot(name))
    del told["snapshot"]
    return {
        "name": name,
        **told,
        "children": sorted(other.label for other in every if other.parent == label),
        "disks": [
            {"target": target, "path": path, "overlay": one.overlays.get(target)}
            for target, path in sorted(one.disks.items())
        ],
        "memory_file": one.memory_file,
        "cannot_revert": planning.reverting(one, release) or _frozen(one, every),
        "cannot_remove": planning.removing(one, every, release) or None,
    }
