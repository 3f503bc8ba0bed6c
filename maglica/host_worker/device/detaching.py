"""`vm detach-disk`: a disk is unplugged, and perhaps deleted."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from maglica.actions.vm.devices import VmDetachDisk
from maglica.errors import Refused
from maglica.host_worker.device import disks, elements, finding, plugging
from maglica.host_worker.device.plugging import Places, Subject
from maglica.host_worker.disk import dependants
from maglica.host_worker.domain import look
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def detach(want: VmDetachDisk, host: Host, work: Work) -> dict[str, Any]:
    subject = plugging.look(want.name, host)
    asked = plugging.places(subject, want.apply)
    known = subject.either(elements.disks)
    if want.target not in known:
        hint = f"it has {', '.join(sorted(known)) or 'none'}"
        raise Refused("unknown_entity", f"{want.name} has no disk {want.target}", hint)
    live, config = (elements.disks(text).get(want.target) for text in (subject.live, subject.config))
    where = Places(asked.live and live is not None, asked.config and config is not None)
    facts = disks.facts(known[want.target])
    path = finding.path_of(facts, host)
    if want.path is not None:
        _refuse_other(want, [piece for piece in (live, config) if piece is not None], host)
    told = {"target": want.target, "path": path}
    if not any(where):
        return {**plugging.unchanged(subject, host, **told), "deleted": []}
    if where.live and facts["bus"] in disks.COLD:
        hint = "use --apply=config: it is gone after the next start"
        raise Refused("wrong_state", f"nothing can be unplugged from the {facts['bus']} bus of a VM that runs", hint)
    if want.remove:
        _refuse_removal(want, path, facts, host)
    doomed = [path] if want.remove and path else []
    work.will({"detach": want.name, **told, **where.told(), "delete": doomed})
    result = {"name": want.name, "host": host.name, **told, **where.told(), "deleted": doomed, "changed": True}
    guard = host.storage.changing(doomed, f"{path} cannot be removed") if doomed else nullcontext()
    with guard:
        # That a drive holds nothing is no sign that it is gone.
        last = None if doomed or facts["path"] is None else result
        _unplug(want, subject, where, live or "", config or "", last, host, work)
        if doomed:
            with work.step("delete", sign=sign("no_file", result, path=path) if host.hypervisor.has_files else None):
                _delete(want, str(path), facts["format"], host, work)
    return result


def _unplug(
    want: VmDetachDisk, subject: Subject, where: Places, live: str, config: str, told: dict[str, Any] | None,
    host: Host, work: Work,
) -> None:  # fmt: skip
    """`told`: the result, where the job ends with this and that can be seen."""
    gone = None
    if told is not None:
        gone = sign("disk_is", told, uuid=subject.uuid, target=want.target, path=None, **where.told())
    if where.live:
        with work.step("unplug", sign=None if where.config else gone):
            plugging.detach_live(subject, live, f"disk {want.target}", want.timeout, host, work)
    if where.config:
        with work.step("define", sign=gone):
            plugging.define(subject, elements.replaced(subject.config, config, None), host, work)


def _refuse_other(want: VmDetachDisk, pieces: list[str], host: Host) -> None:
    """Refuse what has the name of the disk that was meant, in what runs or in the definition, and is another one."""
    for piece in pieces:
        found = finding.path_of(disks.facts(piece), host)
        if found is None or os.path.realpath(found) != os.path.realpath(str(want.path)):
            told = f"{want.target} of {want.name} is {found or 'empty'}, not {want.path}"
            raise Refused("wrong_state", told, "it is not the disk that was meant: leave out --path, or look for it")


def _refuse_removal(want: VmDetachDisk, path: str | None, facts: dict[str, Any], host: Host) -> None:
    what = f"disk {want.target} of {want.name} cannot be removed"
    if facts["device"] not in ("disk", "lun") or facts["readonly"] or path is None:
        raise Refused("wrong_input", f"{what}: it is not the VM's own", "leave out --remove")
    if host.hypervisor.has_files and not os.path.isfile(path):
        words = "is no file" if os.path.exists(path) else "is gone already"
        raise Refused("wrong_state", f"{what}: {path} {words}", "leave out --remove")
    finding.refuse_used(path, what, host, besides=[(want.name, want.target)])
    for label, text in host.hypervisor.snapshots(want.name):
        if path in text:
            raise Refused(
                "protected", f"{what}: its snapshot {label} needs {path}",
                f"`maglica snapshot remove {want.name} --label={label}` first, or leave out --remove",
            )  # fmt: skip


def _delete(want: VmDetachDisk, path: str, format: str, host: Host, work: Work) -> None:
    """Nobody may have taken it up meanwhile."""
    finding.refuse_used(path, f"{path} cannot be removed", host)
    behind = look.chain(path, format)[1:] if host.hypervisor.has_files else []
    work.point_of_no_return()
    if host.hypervisor.has_files:
        os.unlink(path)
        dependants.release(host.hypervisor, behind)
    else:
        host.hypervisor.delete_volume_at(path)
