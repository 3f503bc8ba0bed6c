"""`snapshot create`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from maglica.actions.snapshot import SnapshotCreate
from maglica.errors import MaglicaError, Refused
from maglica.host_worker.device import plugging
from maglica.host_worker.device.plugging import Subject
from maglica.host_worker.disk import dependants, modes
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.snapshot import files, model, planning
from maglica.host_worker.snapshot.planning import Kind, Part
from maglica.host_worker.work import Work

AGENT_WITHIN = 5  # seconds that the agent has for a word


def create(want: SnapshotCreate, host: Host, work: Work) -> dict[str, Any]:
    hypervisor = host.hypervisor
    subject = plugging.look(want.name, host)
    label = want.label or time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    known = {one.label: one for one in files.all_of(hypervisor, want.name)}
    if label in known:
        hint = f"choose another --label; it was made {known[label].created_at}"
        raise Refused("already_exists", f"{want.name} has a snapshot {label}", hint)
    domain = domain_xml.read(subject.live or subject.config)
    parts = [
        Part(disk.target, look.disk_path(hypervisor, disk), disk.format, disk.source == "file")
        for disk in domain.disks
        if disk.copied
    ]
    kind = planning.kind(
        want, parts, runs=subject.live is not None, firmware=domain.nvram is not None, agent=domain.agent
    )
    if why := planning.mixing(kind, known.get(hypervisor.current_snapshot(want.name) or "")):
        hint = "make an internal one, or remove that one first"
        raise Refused("wrong_state", f"{want.name} gets no external snapshot: {why}", hint)
    _refuse(want, kind, parts, subject, host)
    new = _new(want, label, kind, parts, subject, host)
    told = {
        "name": want.name,
        "host": host.name,
        "label": label,
        "kind": "external" if kind.external else "internal",
        "memory": kind.memory,
        "parent": hypervisor.current_snapshot(want.name),
        "overlays": [{"target": target, "path": path} for target, path in new.overlays.items()],
        "memory_file": new.memory_file,
    }
    told["no_way_back"] = _no_way_back(kind, host)
    work.will({"snapshot": told})
    result = {**told, "created_at": None, "changed": True}
    # libvirt lists a snapshot as soon as it begins; it becomes the current one at the end.
    with work.step("snapshot", sign=sign("is_current_snapshot", result, uuid=subject.uuid, label=label)):
        made = [*new.overlays.values(), *([new.memory_file] if new.memory_file else [])]
        if made:
            work.undo("settle_snapshot", name=want.name, uuid=subject.uuid, label=label, paths=made)
        hypervisor.create_snapshot(
            want.name, model.element(new), disk_only=kind.disk_only, quiesce=want.quiesce, within=work.left
        )
    with suppress(MaglicaError):  # it is made; a libvirt that falls silent now takes nothing of that back
        result["created_at"] = {one.label: one.created_at for one in files.all_of(hypervisor, want.name)}.get(label)
    return result


def _refuse(want: SnapshotCreate, kind: Kind, parts: list[Part], subject: Subject, host: Host) -> None:
    """What the disks and the guest do not allow."""
    if not kind.external:
        # An internal snapshot is written into the disks: whatever rests on them would find them changed.
        for one in dependants.of(host.hypervisor, [part.path for part in parts]):
            raise Refused(
                "protected", f"{want.name}: {one.domain or one.path} rests on its disk {one.base}, which would change",
                "use --disk-only: it leaves that file as it is",
            )  # fmt: skip
    if want.quiesce and (why := host.hypervisor.agent_ping(want.name, AGENT_WITHIN)):
        raise Refused(
            "wrong_state", f"{want.name}: its agent does not answer, which --quiesce needs: {why}",
            "leave it out: the disks are then as after a power cut",
        )  # fmt: skip


def _new(want: SnapshotCreate, label: str, kind: Kind, parts: list[Part], subject: Subject, host: Host) -> model.New:
    left_out = [disk.target for disk in domain_xml.read(subject.live or subject.config).disks if not disk.copied]
    if not kind.external:
        return model.New(
            label, want.description, kind.memory, None, {}, left_out, [part.target for part in parts]
        )  # fmt: skip
    overlays = {part.target: planning.overlay(want.name, part, label, _folder(part, host)) for part in parts}
    memory = None
    if kind.memory:
        folder = os.path.dirname(next(iter(overlays.values())))
        memory = f"{folder}/{want.name}.{label}{model.MEMORY}"
        _refuse_no_room(folder, subject.domain.memory_bytes, want.name)
    for path in (*overlays.values(), memory):
        if path is not None and os.path.lexists(path):
            raise Refused("already_exists", f"the file {path} exists", "remove it, or choose another --label")
    return model.New(label, want.description, kind.memory, memory, overlays, left_out, [])


def _folder(part: Part, host: Host) -> str:
    """Beside the disk, or in the pool with most room when the disk is no file."""
    if part.file:
        return os.path.dirname(part.path)
    pools = look.pools(host.hypervisor, host.settings, host.storage)
    return str(modes.roomiest(pools, host.settings.pool, modes.AT_ONCE)["path"])


def _refuse_no_room(folder: str, needed: int, name: str) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise Refused(
            "no_capacity", f"the memory of {name} takes {needed >> 20} MiB, {folder} has {free >> 20} MiB",
            "make room there, or use --disk-only",
        )  # fmt: skip


def _no_way_back(kind: Kind, host: Host) -> str | None:
    """Said before it is made, not when it is needed."""
    if not kind.external:
        return None
    some = model.Snapshot("", None, "", None, None, "external", kind.memory, None, {}, {})
    return planning.reverting(some, host.hypervisor.libvirt_release()) or None
