"""Keeping what VMs have in memory: while they are off, or to look into it."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from maglica.actions.vm.saving import VmDump, VmManagedsave, VmRestore, VmSave
from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml, look, saved, standing, starting
from maglica.host_worker.domain.domain_xml import FILE_POOLS, Domain
from maglica.host_worker.domain.look import ACTIVE, OVERHEAD
from maglica.host_worker.domain.transferring import transfer
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work

RUNS = ["running", "idle", "paused"]


def vm_save(want: VmSave, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM running, or off with its file: libvirt goes on by itself. What it did not
    finish is deleted."""
    hypervisor = host.hypervisor
    state = hypervisor.state(want.name)
    domain = domain_xml.read(hypervisor.definition(want.name))
    old = domain.mark.get(saved.MARK)
    if state == "shut-off" and old and saved.is_whole(old):
        return {"name": want.name, "host": host.name, "state": state, "changed": False, "file": old}
    _refuse_unsavable(want.name, state, host)
    needed = int(hypervisor.details(want.name)["max_memory_bytes"]) + OVERHEAD
    pool = _roomiest(want, needed, host)
    path = os.path.join(str(pool["path"]), f"{want.name}{saved.ENDING}")
    if path != old and os.path.lexists(path):
        raise Refused(
            "already_exists", f"{path} exists, and is not known to be of {want.name}", "move it, or use another --pool"
        )
    work.will({"save": want.name, "to": path, "needs_bytes": needed})
    result = {"name": want.name, "host": host.name, "state": "shut-off", "changed": True, "file": path}
    with host.storage.promise(str(pool["name"]), needed, int(pool["room_bytes"])):
        work.undo("settle_saved", name=want.name, uuid=domain.uuid, path=path)
        if old:  # what runs has made it worthless
            saved.forget(hypervisor, want.name, old)
        hypervisor.set_mark(want.name, {**domain.mark, saved.MARK: path})
        with work.step("save", sign=sign("is_saved", result, name=want.name, path=path)):
            transfer(partial(hypervisor.save, want.name, path, work.left), want.name, host, work)
    return {**result, "saved_bytes": os.stat(path).st_size}


def vm_restore(want: VmRestore, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM off with its file, or going on; a file that is left then is deleted by the
    next start or save."""
    hypervisor = host.hypervisor
    state = hypervisor.state(want.name)
    if state in RUNS:
        return {"name": want.name, "host": host.name, "state": state, "changed": False}
    if state in ACTIVE:
        raise Refused("wrong_state", f"{want.name} is {state}", "only a VM that is shut off can be restored")
    domain = domain_xml.read(hypervisor.definition(want.name))
    path = _file_of(domain, host)
    text = hypervisor.saved_definition(want.name, path)
    disks = starting.look(want.name, host, ignore_changed_base=False, job=work.job, text=text)
    written = saved.written_since(path, disks)
    if written:
        raise Refused(
            "wrong_state",
            f"{want.name} cannot be restored: its disk {written} was written after it was saved",
            f"its memory would damage what is there now; `maglica vm start {want.name} --discard` boots it",
        )
    work.will({"restore": want.name, "from": path})
    states = ["paused"] if want.paused else RUNS[:2]
    result = {"name": want.name, "host": host.name, "state": states[0], "changed": True}
    shown = sign("is_in", result, name=want.name, states=states)
    with starting.to_be_written(want.name, disks, host, text), work.step("restore", sign=shown):
        work.point_of_no_return()
        transfer(partial(hypervisor.restore, path, work.left, paused=want.paused), want.name, host, work)
    with work.step("forget the file", sign=sign("no_file", result, path=path)):
        saved.forget(hypervisor, want.name, path)
    return {**result, "state": hypervisor.state(want.name)}


def vm_managedsave(want: VmManagedsave, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM running, or off with its memory kept: libvirt goes on by itself."""
    hypervisor = host.hypervisor
    state = hypervisor.state(want.name)
    kept = hypervisor.has_managed_save(want.name)
    told = {"name": want.name, "host": host.name}
    if want.discard:
        if not kept:
            return {**told, "state": state, "changed": False}
        work.will({"forget the memory of": want.name})
        with work.step("discard"):
            work.point_of_no_return()
            hypervisor.discard_managed_save(want.name)
        return {**told, "state": state, "changed": True}
    if state == "shut-off" and kept:
        return {**told, "state": state, "changed": False}
    _refuse_unsavable(want.name, state, host)
    uuid = domain_xml.read(hypervisor.definition(want.name)).uuid
    work.will({"save": want.name, "to": "libvirt's own folder"})
    work.undo("await_transfer", name=want.name, uuid=uuid)
    result = {**told, "state": "shut-off", "changed": True}
    with work.step("save", sign=sign("is_saved", result, name=want.name, path=None)):
        transfer(partial(hypervisor.managed_save, want.name, work.left), want.name, host, work)
    return result


def vm_dump(want: VmDump, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM running, and no file: libvirt lets it go on by itself."""
    hypervisor = host.hypervisor
    state = hypervisor.state(want.name)
    standing.refuse_off(want.name, state, ACTIVE)
    if hypervisor.transfer(want.name):
        raise Refused("locked", f"libvirt saves, dumps or moves {want.name} just now", "try again when that is done")
    needed = int(hypervisor.details(want.name)["max_memory_bytes"]) + OVERHEAD
    pool = _roomiest(want, needed, host)
    path = os.path.join(str(pool["path"]), f"{want.name}.{work.job}{saved.DUMP}")
    part = f"{path}.part"
    work.will({"dump": want.name, "to": path, "needs_bytes": needed})
    with host.storage.promise(str(pool["name"]), needed, int(pool["room_bytes"])):
        work.undo("remove_part", path=part)
        work.undo("await_transfer", name=want.name, uuid=domain_xml.read(hypervisor.definition(want.name)).uuid)
        with work.step("dump"):
            order = partial(hypervisor.dump, want.name, part, work.left, memory_only=want.memory_only, live=want.live)
            transfer(order, want.name, host, work)
        os.chmod(part, 0o600)  # whatever the guest had in memory
        found = os.stat(part)
        result = {"name": want.name, "host": host.name, "state": hypervisor.state(want.name), "changed": True}
        result |= {"file": path, "size_bytes": found.st_size}
        with work.step("give it its name", sign=sign("has_name", result, path=path, inode=found.st_ino)):
            os.rename(part, path)
    return result


def _refuse_unsavable(name: str, state: str, host: Host) -> None:
    standing.refuse_off(name, state, ACTIVE)
    if state not in RUNS:
        hint = standing.WAKE.get(state, "wait until it is off, or runs").format(name=name)
        raise Refused("wrong_state", f"{name} is {state}: it cannot be saved", hint)
    standing.refuse_transient(name, host)
    if host.hypervisor.transfer(name):
        raise Refused("locked", f"libvirt saves, dumps or moves {name} just now", "try again when that is done")


def _roomiest(want: VmSave | VmDump, needed: int, host: Host) -> dict[str, Any]:
    """The pool for the file."""
    pools = [pool for pool in look.pools(host.hypervisor, host.settings, host.storage) if pool["type"] in FILE_POOLS]
    fitting = [pool for pool in pools if want.pool in (None, pool["name"])]
    if not fitting:
        known = ", ".join(str(pool["name"]) for pool in pools) or "none"
        what = f"has no active pool {want.pool} of files" if want.pool else "has no active pool of files"
        raise Refused("unknown_entity", f"{host.name} {what}", f"pools of files there: {known}")
    best = max(fitting, key=lambda pool: int(pool["room_bytes"]))
    if int(best["room_bytes"]) < needed:
        raise Refused(
            "no_capacity",
            f"the memory of {want.name} may take {needed >> 20} MiB, pool {best['name']} of {host.name} has"
            f" {max(0, int(best['room_bytes'])) >> 20} MiB to give",
            "make room in it, or name another --pool",
        )
    return best


def _file_of(domain: Domain, host: Host) -> str:
    path = domain.mark.get(saved.MARK)
    if path is None:
        kept = host.hypervisor.has_managed_save(domain.name)
        hint = f"`maglica vm start {domain.name}` {'lets it go on from its managed save' if kept else 'boots it'}"
        raise Refused("unknown_entity", f"nothing of {domain.name} was saved by `maglica vm save`", hint)
    if not saved.is_whole(path):
        what = "is not whole" if os.path.exists(path) else "is gone"
        raise Refused(
            "unknown_entity", f"{path}, which {domain.name} was saved to, {what}",
            f"bring it back, or `maglica vm start {domain.name} --discard` boots it",
        )  # fmt: skip
    return path
