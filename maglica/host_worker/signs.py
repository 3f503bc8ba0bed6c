"""Observe before anything is undone: what shows that a job's whole effect is there, though nobody could note its end.

A job names such a sign when it begins its last step. After a crash in that step the sign decides: seen, the job is
done; not seen, what it made is taken back. Each function looks and changes nothing. A sign is none that may be seen
before the step has done anything, or when it has done a part: such a step has none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.device import boot, disks, elements, nics
from maglica.host_worker.disk import qcow2
from maglica.host_worker.domain import saved
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.inside import files
from maglica.host_worker.size import memory, vcpus

RUNS = ("running", "idle", "paused")


def runs(hypervisor: Hypervisor, name: str, uuid: str | None = None) -> bool:
    """A domain runs; with a uuid, the very one."""
    if uuid is not None and not defined(hypervisor, uuid):
        return False
    try:
        return hypervisor.state(name) in RUNS
    except Refused:
        return False


def is_off(hypervisor: Hypervisor, name: str) -> bool:
    """A domain is shut off; one that was forgotten by then is no sign."""
    try:
        return hypervisor.state(name) == "shut-off"
    except Refused:
        return False


def is_in(hypervisor: Hypervisor, name: str, states: list[str]) -> bool:
    """A domain is in one of these states."""
    try:
        return hypervisor.state(name) in states
    except Refused:
        return False


def autostarts(hypervisor: Hypervisor, name: str, wanted: bool) -> bool:
    """A domain is started together with its host, or is not."""
    try:
        return hypervisor.autostarts(name) == wanted
    except Refused:
        return False


def is_saved(hypervisor: Hypervisor, name: str, path: str | None) -> bool:
    """A domain is off, and its memory is in a file; without a path, in libvirt's own."""
    if not is_off(hypervisor, name):
        return False
    return hypervisor.has_managed_save(name) if path is None else saved.is_whole(path)


def defined(hypervisor: Hypervisor, uuid: str) -> bool:
    """The very domain exists."""
    return hypervisor.has_domain(uuid)


def is_gone(hypervisor: Hypervisor, uuid: str) -> bool:
    """The very domain does not exist."""
    return not hypervisor.has_domain(uuid)


def has_name(hypervisor: Hypervisor, path: str, inode: int) -> bool:
    """The very file has got its final name."""
    try:
        return os.stat(path).st_ino == inode
    except FileNotFoundError:
        return False


def is_flat(hypervisor: Hypervisor, paths: list[str]) -> bool:
    """These disks are there and rest on nothing."""
    found = [qcow2.header(path) for path in paths if os.path.exists(path)]
    return len(found) == len(paths) and all(one is None or one.backing is None for one in found)


def marked(hypervisor: Hypervisor, uuid: str, mark: dict[str, str], gone: Sequence[str] = ()) -> bool:
    """The very domain's definition bears all of this in our mark, and none of what was to go."""
    found = hypervisor.mark_of(uuid)
    if found is None or any(name in found for name in gone):
        return False
    return all(found.get(name) == value for name, value in mark.items())


def is_sized(hypervisor: Hypervisor, name: str, live: bool, stored: bool, **wanted: int) -> bool:
    """What runs of a domain, its definition, or both have so many `vcpus` (`most_vcpus`), so much `memory` (`most`)."""
    try:
        found = hypervisor.shape(name)
    except Refused:
        return False
    texts = [found.live] * live + [found.stored] * stored
    return bool(texts) and all(text is not None and wanted.items() <= _sizes(text).items() for text in texts)


def _sizes(text: str) -> dict[str, int]:
    has, cpus = memory.read(text), vcpus.read(text)
    most = has.ceiling or has.total
    return {"vcpus": cpus.used, "most_vcpus": cpus.most, "memory": has.now, "most": most, "slots": has.slots}


def is_tuned(
    hypervisor: Hypervisor, name: str, kind: str, device: str | None, values: dict[str, Any], wheres: list[str]
) -> bool:
    """These parameters are set, in what runs and in the definition."""
    try:
        found = [hypervisor.tuning(name, kind, device, where) for where in wheres]
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        return False
    return all(values.items() <= one.items() for one in found)


def is_pinned(hypervisor: Hypervisor, name: str, wanted: dict[str, dict[str, Any]]) -> bool:
    """Threads of a domain may run where they shall: for `live` and `config`, `vcpus` by their numbers, `emulator`."""
    try:
        found = {where: hypervisor.pins(name, where) for where in wanted}
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        return False
    for where, (each, emulator, _) in found.items():
        known = {str(number): sorted(cpus) for number, cpus in enumerate(each)}
        if any(known.get(number) != sorted(cpus) for number, cpus in wanted[where]["vcpus"].items()):
            return False
        if wanted[where]["emulator"] is not None and sorted(emulator) != sorted(wanted[where]["emulator"]):
            return False
    return True


def disk_holds(hypervisor: Hypervisor, path: str, format: str, size_bytes: int, without: Sequence[str] = ()) -> bool:
    """A disk is as large as that for its guest, or a little larger; `without`: what was to be merged into it, under the
    names that it has before and meanwhile."""
    found = qcow2.header(path) if format == "qcow2" else None
    with open(path, "rb") as file:
        capacity = found.capacity_bytes if found else file.seek(0, os.SEEK_END)
    return capacity >= size_bytes and not any(os.path.exists(name) for name in without)


def disk_is(hypervisor: Hypervisor, uuid: str, target: str, path: str | None, live: bool, config: bool) -> bool:
    """A disk or drive of that name holds that file (None: nothing, or is not there) where it was to be changed."""
    found = hypervisor.layout_of(uuid)
    if found is None:
        return False
    texts = [text for text, asked in zip(found, (live, config), strict=True) if asked]
    pieces = [elements.disks(text).get(target) for text in texts if text is not None]
    return all((disks.facts(piece)["path"] if piece else None) == path for piece in pieces)


def nic_is(hypervisor: Hypervisor, uuid: str, mac: str, link: str | None, live: bool, config: bool) -> bool:
    """A network card of that address is there with its cable so (None: it is not there) where it was to be changed."""
    found = hypervisor.layout_of(uuid)
    if found is None:
        return False
    texts = [text for text, asked in zip(found, (live, config), strict=True) if asked]
    pieces = [elements.nics(text).get(mac) for text in texts if text is not None]
    return all((nics.facts(piece)["link"] if piece else None) == link for piece in pieces)


def boots_from(hypervisor: Hypervisor, uuid: str, order: list[str]) -> bool:
    """The definition names these to boot from."""
    found = hypervisor.layout_of(uuid)
    return found is not None and boot.order(found[1]) == order


def no_snapshot(hypervisor: Hypervisor, uuid: str, label: str) -> bool:
    """The very domain is there and has no snapshot of that label."""
    return hypervisor.has_domain(uuid) and not hypervisor.has_snapshot(uuid, label)


def is_current_snapshot(hypervisor: Hypervisor, uuid: str, label: str) -> bool:
    """The very domain's present state goes back to that snapshot."""
    return hypervisor.is_current_snapshot(uuid, label)


def no_file(hypervisor: Hypervisor, path: str) -> bool:
    """A file was deleted."""
    return not os.path.lexists(path)


def holds(hypervisor: Hypervisor, name: str, path: str, sha256: str, mode: int, owner: str | None) -> bool:
    """A file of a guest has the content, mode and owner that it should have; a guest that cannot be spoken to shows
    nothing.
    """
    try:
        return files.placed(files.look(hypervisor, name, path), sha256, mode, owner)
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        return False


def was_seen(hypervisor: Hypervisor) -> bool:
    """Another sign was seen, at an earlier look: what has happened since is no part of the job."""
    return True


SIGNS: dict[str, Callable[..., bool]] = {
    function.__name__: function
    for function in (
        runs,
        is_off,
        is_in,
        autostarts,
        is_saved,
        defined,
        is_gone,
        has_name,
        is_flat,
        marked,
        is_sized,
        disk_is,
        nic_is,
        boots_from,
        no_file,
        no_snapshot,
        is_current_snapshot,
        holds,
        is_tuned,
        is_pinned,
        disk_holds,
        was_seen,
    )
}


def sign(what: str, result: dict[str, Any], **args: Any) -> dict[str, Any]:
    """A sign as the journal keeps it: a function of this file with its arguments, and the job's result when seen."""
    return {"what": what, "args": args, "result": result}


def seen(kept: dict[str, Any], hypervisor: Hypervisor) -> bool:
    """Whether a sign can be seen now. Raises `MaglicaError` when libvirt cannot be asked."""
    try:
        return SIGNS[kept["what"]](hypervisor, **kept["args"])
    except (LookupError, TypeError, ValueError, OSError):  # another release wrote it, or the file cannot be looked at
        return False
