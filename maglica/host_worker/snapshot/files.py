"""The files that a VM's snapshots are made of: those that are frozen behind its disks, overlays, kept memory."""

from __future__ import annotations

import os
from collections.abc import Sequence

from maglica.host_worker.domain import look
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.snapshot import model
from maglica.host_worker.snapshot.model import Snapshot


def all_of(hypervisor: Hypervisor, name: str) -> list[Snapshot]:
    return [model.read(text) for _, text in hypervisor.snapshots(name)]


def own(name: str, disks: Sequence[str], host: Host) -> list[str]:
    """The files of a VM's external snapshots that are its own: to be deleted with its disks, which are `disks`.

    Of what is behind a disk only that is the VM's own which was its disk when a snapshot was made: not an image that a
    linked clone rests on. Of the overlays of a branch that it has left, those that rest on something of its own.
    """
    if not host.hypervisor.has_files:
        return []
    snapshots = [one for one in all_of(host.hypervisor, name) if one.kind == "external"]
    once = {os.path.realpath(path) for one in snapshots for path in (*one.disks.values(), *one.overlays.values())}
    mine = {os.path.realpath(path) for path in disks}
    found = [link for disk in disks for link in look.chain(disk, None)[1:] if link in once]
    mine |= set(found)
    for path in sorted(once - mine):
        if os.path.exists(path) and mine & set(look.chain(path, None)[1:]):
            found.append(path)
    memory = [one.memory_file for one in snapshots if one.memory_file and os.path.exists(one.memory_file)]
    return list(dict.fromkeys([*found, *memory]))
