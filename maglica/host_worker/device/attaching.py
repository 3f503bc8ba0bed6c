"""`vm attach-disk`: a new disk in a pool, or an existing one, is plugged into a VM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from maglica.actions.vm.devices import VmAttachDisk
from maglica.errors import Failed, Refused
from maglica.host_worker.device import belongings, disks, elements, finding, plugging
from maglica.host_worker.device.plugging import Places, Subject
from maglica.host_worker.disk import bases, copying, modes, qcow2
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must


class Plan(NamedTuple):
    """A disk that is to be plugged in. `size_bytes` is None for an existing one."""

    target: str
    bus: str
    path: str
    format: str
    pool: str
    block: bool
    size_bytes: int | None
    free_bytes: int  # what its pool has to give


def attach(want: VmAttachDisk, host: Host, work: Work) -> dict[str, Any]:
    subject = plugging.look(want.name, host)
    where = plugging.places(subject, want.apply)
    if want.size is not None:
        todo = _new(want, want.size, subject, where, host)
    else:
        todo, where = _existing(want, subject, where, host)
        if not any(where):
            return plugging.unchanged(subject, host, **_shown(todo))
    work.will({"attach": want.name, **_shown(todo), **where.told()})
    return _do(want, todo, subject, where, host, work)


def _do(
    want: VmAttachDisk, todo: Plan, subject: Subject, where: Places, host: Host, work: Work
) -> dict[str, Any]:  # fmt: skip
    piece = disks.element(
        todo.path, todo.format, todo.target, todo.bus, block=todo.block, cache=want.cache, serial=want.serial
    )
    told = {"name": want.name, "host": host.name, **_shown(todo), **where.told(), "changed": True}
    held = {"target": todo.target, "path": todo.path}
    seen = sign("disk_is", told, uuid=subject.uuid, **held, **where.told())
    with _to_oneself(todo, want.name, subject, host):
        if todo.size_bytes is not None:
            with work.step("create", f"{todo.size_bytes >> 20} MiB in pool {todo.pool}"):
                _create(todo, host, work)
        if where.live:
            with work.step("plug in", sign=None if where.config else seen):
                plugging.attach_live(subject, piece, host, work)
        if where.config:
            with work.step("define", sign=seen):
                plugging.define(subject, elements.added(subject.config, piece), host, work)
    return told


def _shown(todo: Plan) -> dict[str, Any]:
    return {
        "target": todo.target,
        "bus": todo.bus,
        "path": todo.path,
        "format": todo.format,
        "pool": todo.pool,
        "size_bytes": todo.size_bytes,
        "new": todo.size_bytes is not None,
    }


def _place(want: VmAttachDisk, subject: Subject, where: Places) -> tuple[str, str]:
    """(target, bus): free in what runs and in the definition, whichever of them is changed."""
    known = subject.either(elements.disks)
    first = next((disk.bus for disk in subject.domain.disks if disk.device == "disk"), None)
    bus = disks.bus_for(want.bus, want.target, first, hot=where.live)
    return disks.target_for(want.target, bus, known, subject.name), bus


def _new(want: VmAttachDisk, size: int, subject: Subject, where: Places, host: Host) -> Plan:
    limit = host.settings.disk_limit
    if size > limit:
        raise Refused(
            "wrong_input",
            f"{want.name} cannot get a disk of {_words(size)}: the limit of {host.name} is {_words(limit)}",
            "[host_worker] disk_limit of that host says how large a disk may be",
        )
    target, bus = _place(want, subject, where)
    pool = modes.roomiest(finding.pools_of_files(host), want.pool or host.settings.pool, modes.AT_ONCE)
    format = want.format or ("qcow2" if host.hypervisor.has_files else "raw")
    extension = "img" if format == "raw" else format
    path = _free_name(os.path.join(str(pool["path"]), f"{want.name}-{target}"), extension, host)
    free = int(pool["free_bytes"]) - int(pool["reserve_bytes"])
    return Plan(target, bus, path, format, str(pool["name"]), False, size, free)


def _words(size: int) -> str:
    return f"{size >> 30} GiB" if size % (1 << 30) == 0 else f"{size / (1 << 30):.1f} GiB"


def _free_name(stem: str, extension: str, host: Host) -> str:
    """A name that no file has: disks that were detached keep theirs."""
    taken = set() if host.hypervisor.has_files else {path for _, path in _known_paths(host)}
    for number in range(1, 1000):
        path = f"{stem}{'' if number == 1 else f'-{number}'}.{extension}"
        if not os.path.lexists(path) and path not in taken:
            return path
    raise Refused("already_exists", f"there are {number} files called {stem}-….{extension}", "remove some of them")


def _known_paths(host: Host) -> Iterator[tuple[str, str]]:
    """(VM, path) of all disks; where there are no files nothing else can be looked at."""
    for name, live, config in host.hypervisor.layouts():
        for text in (live, config):
            for piece in elements.disks(text).values():
                yield name, str(disks.facts(piece)["path"])


def _existing(want: VmAttachDisk, subject: Subject, where: Places, host: Host) -> tuple[Plan, Places]:
    """The plan, and where it is not plugged in yet."""
    assert want.source is not None, "the action is checked: it has a size or a source"
    found = finding.volume(want.source, want.pool, host)
    belongings.refuse(found.path, want.name, host)
    format = finding.format_of(found, want.format)
    users = finding.users(found.path, host)
    own = [user for user in users if user.name == want.name and not user.behind]
    if own and want.target in (None, own[0].target):
        target = own[0].target
        bus = disks.facts(subject.either(elements.disks)[target])["bus"]
        has = [target in elements.disks(text) for text in (subject.live, subject.config)]
        where = Places(where.live and not has[0], where.config and not has[1])
    else:
        target, bus = _place(want, subject, where)
    todo = Plan(target, bus, found.path, format, found.pool, found.block, None, 0)
    finding.refuse_used(todo.path, f"{want.name} cannot get this disk", host, [(want.name, target)], users)
    finding.refuse_strange(found, format, want.name, host)
    return todo, where


@contextmanager
def _to_oneself(todo: Plan, name: str, subject: Subject, host: Host) -> Iterator[None]:
    """Meanwhile nobody copies the disk, nobody else plugs it in, and nobody takes the same room."""
    what = f"{name} cannot get {todo.path}"
    if todo.size_bytes is not None:
        with host.storage.promise(todo.pool, modes.AT_ONCE, todo.free_bytes):
            yield
        return
    with host.storage.pool(todo.path), host.storage.changing([todo.path], what):
        finding.refuse_used(todo.path, what, host, besides=[(name, todo.target)])
        if host.hypervisor.has_files:
            for link in [todo.path, *qcow2.chain(todo.path, todo.format)[1:]]:
                if not os.path.exists(link):
                    raise Failed("unknown_entity", f"{what}: {link} has just gone")
            bases.release(todo.path, unknown=True)
        yield


def _create(todo: Plan, host: Host, work: Work) -> None:
    name = os.path.basename(todo.path)
    if not host.hypervisor.has_files:
        work.undo("delete_volume", pool=todo.pool, name=name)
        with host.storage.pool(todo.pool):
            host.hypervisor.create_volume(todo.pool, name, int(todo.size_bytes or 0))
        return
    part = f"{todo.path}.{work.job}.part"
    work.undo("remove_part", path=part)
    must(work.run(["qemu-img", "create", "-q", "-f", todo.format, "--", part, str(todo.size_bytes)]), "the new disk")
    copying.link(part, todo.path, work)
