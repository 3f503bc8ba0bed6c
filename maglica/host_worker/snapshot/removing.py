"""`snapshot remove`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from maglica.actions.snapshot import SnapshotRemove
from maglica.errors import Refused
from maglica.host_worker.device import plugging
from maglica.host_worker.disk import dependants
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.snapshot import files, model, planning
from maglica.host_worker.snapshot.model import Snapshot
from maglica.host_worker.work import Work


def remove(want: SnapshotRemove, host: Host, work: Work) -> dict[str, Any]:
    hypervisor = host.hypervisor
    subject = plugging.look(want.name, host, record_only=want.metadata_only)
    known = {one.label: one for one in files.all_of(hypervisor, want.name)}
    told = {"name": want.name, "host": host.name, "label": want.label}
    if want.label not in known:
        return {**told, "removed": [], "changed": False}
    if want.created_at not in (None, known[want.label].created_at):
        found = f"snapshot {want.label} of {want.name} was made {known[want.label].created_at}, not {want.created_at}"
        raise Refused("wrong_state", found, "it is not the one that was meant: `maglica snapshot list` shows it")
    below = model.below(want.label, list(known.values()))
    doomed = [*(below if want.children else []), want.label]
    if not want.metadata_only:
        for label in doomed:
            _refuse(want, known[label], list(known.values()), doomed, host)
    work.will({"remove": doomed, "of": want.name, "metadata_only": want.metadata_only})
    result = {**told, "removed": doomed, "changed": True}
    for label in doomed:
        _one(known[label], subject.uuid, result if label == want.label else None, want, host, work)
    return result


def _one(one: Snapshot, uuid: str, told: dict[str, Any] | None, want: SnapshotRemove, host: Host, work: Work) -> None:
    """`told`: the result, where the job ends with this one."""
    memory = None if want.metadata_only else one.memory_file
    gone = sign("no_snapshot", told, uuid=uuid, label=one.label) if told and not memory else None
    if memory:
        work.undo("settle_memory", uuid=uuid, label=one.label, path=memory)
    with work.step(f"remove {one.label}", sign=gone):
        host.hypervisor.delete_snapshot(want.name, one.label, metadata_only=want.metadata_only, within=work.left)
    if memory:  # releases of libvirt differ in whether they delete it
        with work.step("delete memory", sign=sign("no_file", told, path=memory) if told else None), suppress(OSError):
            os.unlink(memory)


def _refuse(want: SnapshotRemove, one: Snapshot, every: list[Snapshot], doomed: list[str], host: Host) -> None:
    if why := planning.removing(one, every, host.hypervisor.libvirt_release(), doomed):
        hint = "--children takes those along that were made from it; --metadata-only forgets libvirt's record alone"
        raise Refused("wrong_state", f"{want.name}: {one.label} cannot be removed: {why}", hint)
    # Both kinds are written into the frozen disks.
    own = files.own(want.name, [*one.disks.values(), *one.overlays.values()], host)
    paths = [*one.disks.values(), *one.overlays.values(), *own]
    for other in dependants.of(host.hypervisor, paths):
        if other.domain != want.name and other.path not in paths:
            raise Refused(
                "protected",
                f"{want.name}: {one.label} cannot be removed: {other.domain or other.path} rests on {other.base}",
                "flatten or remove that one first",
            )
