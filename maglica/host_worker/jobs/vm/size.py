"""How large a VM is: virtual CPUs, memory, disks."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.size import VmSetDisk, VmSetMaxMemory, VmSetMemory, VmSetVcpus
from maglica.host_worker.domain import look, starting
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import Shape
from maglica.host_worker.signs import sign
from maglica.host_worker.size import applying, enlarging, inside, memory, plugging, vcpus
from maglica.host_worker.work import Work

Value = dict[str, Any]


def vm_set_vcpus(want: VmSetVcpus, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM with the old or the new number; with `--offline` perhaps off."""
    found = applying.shape(want.name, host)
    live = vcpus.read(found.live) if found.live else None
    cpus = int(host.hypervisor.node()["vcpus"])
    cramped = found.live is not None and vcpus.cramped(found.live)
    facts = vcpus.Facts(want.name, found.state, vcpus.read(found.stored), live, host.name, cpus, cramped)
    todo = vcpus.plan(want.vcpus, facts, apply=want.apply, offline=want.offline, most=want.max)
    told = {**_told(found, host), "vcpus": todo.wanted, "before": todo.before, "max_vcpus": todo.most}
    told |= {"guest_vcpus": None, "note": None}
    if not (todo.live or todo.define or todo.restart):
        return {**told, "changed": False}
    text = vcpus.rewrite(found.stored, todo.wanted, want.max)
    if not todo.live:
        return _define(
            found, text, todo.restart, want, host, work, told, {"vcpus": todo.wanted, "most_vcpus": todo.most}
        )
    work.will({"plug in": want.name, "vcpus": todo.wanted, "before": todo.before})
    at_once = todo.define and todo.most == facts.stored.most
    shown = sign("is_sized", told, name=want.name, live=True, stored=at_once, vcpus=todo.wanted)
    with work.step("plug in", sign=None if todo.define and not at_once else shown):
        host.hypervisor.set_vcpus(want.name, todo.wanted, "both" if at_once else "live")
    if todo.define and not at_once:
        sizes = {"vcpus": todo.wanted, "most_vcpus": todo.most}
        stored = sign("is_sized", told, name=want.name, live=False, stored=True, **sizes)
        applying.redefine(found, text, host, work, stored)
    return {**told, **inside.take_vcpus(found, todo.wanted, host)}


def vm_set_memory(want: VmSetMemory, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM with the old or the new size; of several modules perhaps with some, and with
    `--offline` perhaps off."""
    found = applying.shape(want.name, host)
    facts = _memory_facts(found, host)
    todo = memory.plan(want.size, facts, apply=want.apply, offline=want.offline, shrink=want.shrink)
    sizes = {"memory_bytes": todo.size, "before_bytes": todo.before}
    told = {**_told(found, host), **sizes, "guest_bytes": None, "note": None}
    if not (todo.balloon or todo.modules or todo.define or todo.restart):
        return {**told, "changed": False}
    if not todo.balloon and not todo.modules:
        text = memory.rewrite(found.stored, todo.size)
        return _define(found, text, todo.restart, want, host, work, told, {"memory": todo.size})
    work.will({"change memory of": want.name, **sizes, "modules_bytes": list(todo.modules)})
    return {**told, **plugging.change(found, todo, facts, host, work, told)}


def vm_set_max_memory(want: VmSetMaxMemory, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old or the new definition; with `--offline` perhaps a VM that is off."""
    found = applying.shape(want.name, host)
    facts = _memory_facts(found, host)
    usable = int(host.hypervisor.node()["memory_bytes"]) - host.settings.memory_reserve
    most = memory.plan_most(want.size, want.slots, facts, usable)
    stored = facts.stored
    slots = stored.slots if want.slots is None else want.slots
    before = (stored.ceiling if stored.slots and stored.ceiling else stored.total, stored.slots)
    told = {**_told(found, host), "max_memory_bytes": most, "before_bytes": before[0], "slots": slots, "note": None}
    if (most, slots) == before:
        return {**told, "changed": False}
    text = memory.with_most(found.stored, most, want.slots, vcpus.read(found.stored).most)
    restart = want.offline and found.live is not None
    return _define(found, text, restart, want, host, work, told, {"most": most, "slots": slots})


def vm_set_disk(want: VmSetDisk, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the disk as it was, or as large as it shall be. What it rests on is not touched."""
    return enlarging.enlarge(want, host, work)


def _told(found: Shape, host: Host) -> Value:
    return {"name": found.name, "host": host.name, "state": found.state, "changed": True}


def _memory_facts(found: Shape, host: Host) -> memory.Facts:
    total = int(host.hypervisor.node()["memory_bytes"])
    free = look.memory_free(total, host.settings.memory_reserve, host.hypervisor.domains())
    live = memory.read(found.live) if found.live else None
    return memory.Facts(found.name, found.state, memory.read(found.stored), live, host.name, free)


def _define(
    found: Shape, text: str, restart: bool, want: applying.Offline, host: Host, work: Work, told: Value, sizes: Value
) -> Value:
    """Another definition, for its next start or by one. `sizes`: what the sign looks for."""
    if restart:
        disks = starting.look(found.name, host, ignore_changed_base=False, job=work.job)
        work.will({"restart": found.name, **sizes, "force": want.force})
        applying.restart(found, text, want, disks, host, work, told)
        return {**told, "state": host.hypervisor.state(found.name)}
    work.will({"define": found.name, **sizes})
    if found.live:
        told = {**told, "note": "it takes effect at its next start"}
    shown = sign("is_sized", told, name=found.name, live=False, stored=True, **sizes)
    applying.redefine(found, text, host, work, shown)
    return told
