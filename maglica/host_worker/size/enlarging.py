"""`vm set-disk`: a larger disk, and what lies at its end.

Off, what lies at its end is grown in an overlay, which is merged into the disk when all went well: until then the disk
is as it was, and once the merge has begun it can always be brought to its end. While it runs, QEMU makes the disk
larger in one step, and the guest's agent does the rest.
"""

from __future__ import annotations

import os
from typing import Any

from maglica.actions.vm.size import VmSetDisk
from maglica.errors import MaglicaError, Refused
from maglica.host_worker.disk import dependants, durable, qcow2, volumes
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.domain import domain_xml, look, starting
from maglica.host_worker.guest import disk as guest_disk
from maglica.host_worker.guest.disk import Disk, Terms
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import Shape
from maglica.host_worker.signs import sign
from maglica.host_worker.size import applying, disks, growing
from maglica.host_worker.size.vcpus import ALIVE
from maglica.host_worker.work import Work, must

Value = dict[str, Any]


def enlarge(want: VmSetDisk, host: Host, work: Work) -> Value:
    """A crash in the middle leaves the disk as it was, or as large as it shall be."""
    found = applying.shape(want.name, host)
    source = _source(found, want.target, host)
    facts = _facts(found, source, host)
    size = disks.plan(want.size, facts)
    told = {
        "name": want.name, "host": host.name, "state": found.state, "changed": True, "target": facts.target,
        "path": facts.path, "size_bytes": size, "before_bytes": facts.capacity,
        "grown": False, "what": None, "file_system_bytes": None, "note": None,
    }  # fmt: skip
    if size == facts.capacity:
        return {**told, "changed": False}
    if not host.hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks to make larger")
    if found.live is not None:
        _refuse_live(found, facts)
    will = {"grow disk": facts.target, "path": facts.path, "size_bytes": size, "before_bytes": facts.capacity}
    work.will({**will, "state": found.state, "file system": want.grow})
    with host.storage.changing([facts.path], f"disk {facts.target} of {want.name} cannot grow"):
        starting.refuse_used_since(want.name, [facts.path], host, "cannot get a larger disk")
        if found.live is not None:
            return _running(facts, size, want.grow, host, work, told)
        return _off(facts, size, want.grow, host, work, told)


def _source(found: Shape, target: str | None, host: Host) -> Source:
    domain = domain_xml.read(found.stored)
    sources = look.sources(host.hypervisor, domain, host.storage)
    chosen = [one for one in sources if target in (None, one.disk.target)]
    if not chosen:
        raise disks.refusal(found.name, target, domain.disks)
    return chosen[0]


def _facts(found: Shape, source: Source, host: Host) -> disks.Facts:
    path = os.path.realpath(source.path) if source.file and host.hypervisor.has_files else source.path
    header = qcow2.header(path) if host.hypervisor.has_files and source.disk.format == "qcow2" else None
    users = dependants.of(host.hypervisor, [path])
    folder = os.path.dirname(source.path)
    pools: list[Value] = [
        pool for pool in look.pools(host.hypervisor, host.settings, host.storage) if pool["path"] == folder
    ]
    pool: Value = pools[0] if pools else {"name": folder, "room_bytes": _free(folder)}
    return disks.Facts(
        name=found.name,
        target=source.disk.target,
        path=path,
        format=source.disk.format,
        capacity=source.capacity_bytes,
        file=source.file or not host.hypervisor.has_files,
        volume=source.volume,
        snapshots=header.snapshots if header else 0,
        used_by=next((one.domain or one.path for one in users), ""),
        pool=str(pool["name"]),
        room=int(pool["room_bytes"]),
        limit=host.settings.disk_limit,
    )


def _free(folder: str) -> int:
    try:
        room = os.statvfs(folder)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def _refuse_live(found: Shape, facts: disks.Facts) -> None:
    if found.state not in ALIVE:
        raise Refused("wrong_state", f"{found.name} is {found.state}", "expected running, or shut-off")
    live = next((disk for disk in domain_xml.read(found.live or "").disks if disk.target == facts.target), None)
    if live is None or live.format != facts.format:
        raise Refused(
            "wrong_state",
            f"disk {facts.target} of {found.name} is another one, or none, in what runs",
            f"restart {found.name}, and try again",
        )


def _running(facts: disks.Facts, size: int, grow: bool, host: Host, work: Work, told: Value) -> Value:
    left = {"note": growing.BY_HAND if grow else None}
    shown = sign("disk_holds", {**told, **left}, path=facts.path, format=facts.format, size_bytes=size)
    if facts.volume is not None:
        with work.step("extend"):
            must(work.run(volumes.extend(facts.volume, size)), f"volume {facts.volume.name}")
    # A volume is as large by now, whether QEMU was told or not.
    with work.step("resize", sign=None if facts.volume is not None else shown):
        host.hypervisor.resize_disk(facts.name, facts.target, size)
    if not grow:
        return told
    with work.step("grow", sign=shown) as step:
        try:
            done = growing.in_guest(facts.name, facts.target, host, work)
        except MaglicaError as error:
            work.check()  # cancelled, that is
            done = {"note": f"{growing.BY_HAND} ({error.message.removeprefix('libvirt: ')})"}
        step["note"] = done.get("note")
    return {**told, **done}


def _off(facts: disks.Facts, size: int, grow: bool, host: Host, work: Work, told: Value) -> Value:
    holds = {"path": facts.path, "format": facts.format, "size_bytes": size}
    if not grow:
        with work.step("resize", sign=sign("disk_holds", told, **holds)):
            _resize(facts, size, work)
        return told
    folder = os.path.dirname(facts.path) if facts.file else os.path.join(host.paths.state, f"host-{host.name}")
    part = os.path.join(folder, f"{os.path.basename(facts.path)}.{work.job}.part")
    with work.step("overlay"):
        work.undo("remove_part", path=part)
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", facts.format, "-b", facts.path, "--", part, str(size)]
        must(work.run(argv), f"overlay of {facts.path}")
    terms = Terms(
        kvm=host.acceleration == "kvm",
        deadline=min(work.left, host.settings.customize_timeout),
        on_step=work.substep,
        cancelled=work.cancelled,
        mark=work.mark,
    )
    with work.step("grow") as step:
        report = guest_disk.grow(Disk(part, "qcow2"), terms)
        step["note"] = report["note"] or report["what"]
    told |= {"grown": report["grown"], "what": report["what"], "file_system_bytes": report["bytes"]}
    told["note"] = report["note"]
    if facts.volume is not None:
        with work.step("extend"):
            _resize(facts, size, work)
    merging = f"{part.removesuffix('.part')}.merge.part"
    with work.step("merge", sign=sign("disk_holds", told, **holds, without=[part, merging])):
        work.point_of_no_return()
        merge(part, merging, facts.path, work)
    return told


def merge(part: str, merging: str, path: str, work: Work) -> None:
    """Write an overlay into its disk. From the first block on it is all that makes the disk whole: before that it gets
    another name, so that nothing throws it away as one that was not begun, whatever is left of the journal.
    """
    work.undo("merge_overlay", part=merging)
    os.rename(part, merging)
    durable.names(os.path.dirname(merging))  # a power cut must not give it the old name back
    try:
        must(work.run(qcow2.merge(merging)), f"merge into {path}")
    except MaglicaError as error:
        error.message += "; there is no way back: it is brought to its end, and the disk is larger then"
        error.details["stays"] = f"the disk {path} is larger"
        raise
    durable.content(path)
    os.unlink(merging)


def _resize(facts: disks.Facts, size: int, work: Work) -> None:
    if facts.volume is not None:
        must(work.run(volumes.extend(facts.volume, size)), f"volume {facts.volume.name}")
        return
    argv = ["qemu-img", "resize", "-q", "-f", facts.format, "--", facts.path, str(size)]
    must(work.run(argv), f"disk {facts.path}")
