"""`vm flatten`: a linked clone's disks become its own. Off, they are copied and swapped; running, QEMU pulls them.

Either way the guest sees the same all the time, and what is interrupted leaves a disk that is as good as before.
"""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

from maglica.errors import Failed, Refused
from maglica.host_worker.disk import copying, dependants, durable, qcow2
from maglica.host_worker.domain import domain_xml, look, saved, starting
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must

POLL = 0.2  # seconds between two looks at what QEMU pulls


class Flat(NamedTuple):
    """A disk that is to rest on nothing."""

    target: str
    path: str
    format: str
    behind: list[str]
    allocation_bytes: int  # of all that it consists of


def flatten(name: str, host: Host, work: Work, *, bandwidth: int | None) -> dict[str, Any]:
    """`bandwidth`: bytes a second at most."""
    domain, state = domain_xml.read(host.hypervisor.definition(name)), host.hypervisor.state(name)
    saved.refuse_change(domain, host.hypervisor, runs=state in ACTIVE)
    todo = _look(domain, host)
    if not todo:
        return {"name": name, "host": host.name, "state": state, "changed": False}
    pool, needed = _room(todo, host)
    _refuse(domain, todo, host)
    disks = [{"target": disk.target, "path": disk.path, "rests_on": disk.behind[0]} for disk in todo]
    work.will({"flatten": name, "state": state, "disks": disks, "needed_bytes": needed})
    paths = [disk.path for disk in todo]
    told = {"name": name, "host": host.name, "state": state, "disks": disks, "changed": True}
    with (
        host.storage.changing(paths, f"{name} cannot be flattened"),
        host.storage.promise(str(pool["name"]), needed, int(pool["free_bytes"]) - int(pool["reserve_bytes"])),
    ):
        starting.refuse_used_since(name, paths, host, "cannot be flattened")
        if state in ACTIVE:
            with work.step("pull", sign=sign("is_flat", told, paths=paths)):
                _pull(domain, todo, host, work, bandwidth)
        else:
            parts = _copy(todo, work, bandwidth)
            with work.step("swap", sign=sign("is_flat", told, paths=paths)):
                _swap(name, todo, parts, host, work)
        mark = {key: value for key, value in domain.mark.items() if key != "bases"}
        if mark:
            host.hypervisor.set_mark(name, {**mark, "mode": "full"})
        dependants.release(host.hypervisor, [link for disk in todo for link in disk.behind])
    return {**told, "seconds": work.seconds()}


def _look(domain: Domain, host: Host) -> list[Flat]:
    if not host.hypervisor.has_files:
        return []
    found = []
    for source in look.sources(host.hypervisor, domain, host.storage):
        disk = source.disk
        behind = look.chain(source.path, disk.format)[1:]
        if behind:
            found.append(Flat(disk.target, source.path, disk.format, behind, source.allocation_bytes))
    return found


def _refuse(domain: Domain, todo: list[Flat], host: Host) -> None:
    """What would be lost, or damaged for good."""
    trouble = look.base_trouble(host.hypervisor, domain)
    if trouble:
        hint = (
            "bring the file back as it was when this was cloned; to copy another content would damage the disk for good"
        )
        raise Refused("wrong_state", f"{domain.name} cannot be flattened: {trouble}", hint)
    snapshots = int(host.hypervisor.details(domain.name)["snapshots"] or 0)
    for disk in todo:
        header = qcow2.header(disk.path)
        snapshots += header.snapshots if header else 0
    if snapshots:
        hint = f"`maglica snapshot list {domain.name}` shows them; remove them first"
        raise Refused("wrong_state", f"{domain.name} has snapshots, which would be lost", hint)
    for one in dependants.of(host.hypervisor, [disk.path for disk in todo]):
        raise Refused(
            "protected",
            f"{domain.name} cannot be flattened: {one.domain or one.path} rests on its disk {one.base}",
            "flatten that one first",
        )


def _room(todo: list[Flat], host: Host) -> tuple[dict[str, Any], int]:
    """(the pool, the bytes that are needed in it): where the disks lie, beside what they take already."""
    needed = sum(disk.allocation_bytes for disk in todo)
    folder = os.path.dirname(todo[0].path)
    free = os.statvfs(folder)
    other = {"name": folder, "free_bytes": free.f_bavail * free.f_frsize, "reserve_bytes": 0}
    pools = look.pools(host.hypervisor, host.settings, host.storage)
    pool = next((one for one in pools if one["path"] == folder), other)
    return pool, needed


def _copy(todo: list[Flat], work: Work, bandwidth: int | None) -> dict[str, str]:
    """Whole copies beside the disks, under names that hold the job's id."""
    parts = {}
    total, done = sum(disk.allocation_bytes for disk in todo), 0
    with work.step("copy"):
        for disk in todo:
            parts[disk.target] = part = f"{disk.path}.{work.job}.part"
            work.undo("remove_part", path=part)

            def tell(copied: int, before: int = done) -> None:
                work.progress(before + copied, total)

            slowly = ["-r", str(bandwidth)] if bandwidth else []
            formats = ["-f", disk.format, "-O", disk.format]
            argv = ["qemu-img", "convert", "-p", *slowly, *formats, "--", disk.path, part]
            must(work.run(argv, on_output=copying.in_bytes(disk.allocation_bytes, tell)), f"copy of {disk.path}")
            done += disk.allocation_bytes
    return parts


def _swap(name: str, todo: list[Flat], parts: dict[str, str], host: Host, work: Work) -> None:
    work.point_of_no_return()
    if host.hypervisor.state(name) in ACTIVE:
        raise Failed("wrong_state", f"{name} was started meanwhile", "flatten it again: it may run, or be off")
    for disk in todo:
        old = os.stat(disk.path)
        os.chown(parts[disk.target], old.st_uid, old.st_gid)
        os.chmod(parts[disk.target], old.st_mode & 0o7777)
        durable.content(parts[disk.target])  # the overlay in its place has what nothing else has
        os.rename(parts[disk.target], disk.path)
        durable.names(os.path.dirname(disk.path))


def _pull(domain: Domain, todo: list[Flat], host: Host, work: Work, bandwidth: int | None) -> None:
    total, done = sum(disk.allocation_bytes for disk in todo), 0
    for disk in todo:
        work.undo("abort_block_job", uuid=domain.uuid, target=disk.target)
        host.hypervisor.pull(domain.name, disk.target, bandwidth or 0)
        while (told := host.hypervisor.block_job(domain.name, disk.target)) is not None:
            work.check()  # its undo ends what QEMU does
            work.progress(done + disk.allocation_bytes * told[0] // max(1, told[1]), total)
            time.sleep(POLL)
        if len(look.chain(disk.path, disk.format)) > 1:
            free = os.statvfs(os.path.dirname(disk.path))
            full = free.f_bavail * free.f_frsize < 1 << 20
            raise Failed(
                "no_capacity" if full else "environment_error",
                f"{domain.name}: QEMU stopped copying into disk {disk.target} before its end",
                "make room in its pool" if full else "the host's log of that guest may tell why",
            )
        done += disk.allocation_bytes
