"""What a VM may take of its host: limits and shares of memory, disks, networks and processors, and where it runs."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.tune import OF_A_DEVICE, VmPin, VmPinning, VmSetIoWeight, VmTune, VmTuning
from maglica.errors import MaglicaError, Refused
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import Shape
from maglica.host_worker.signs import sign
from maglica.host_worker.size import applying, pinning, tuning, vcpus
from maglica.host_worker.work import Work

Value = dict[str, Any]


def vm_tune(want: VmTune, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves what was set before, or what shall be."""
    return _tune(want.name, want.kind, want.device, want.set, want.apply, host, work)


def vm_set_io_weight(want: VmSetIoWeight, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old or the new weight."""
    return _tune(want.name, "blkiotune", None, [f"weight={want.weight}"], want.apply, host, work)


def vm_tuning(want: VmTuning, host: Host) -> dict[str, Any]:
    found = host.hypervisor.shape(want.name)
    device = _device(found, want.kind, want.device)
    config = host.hypervisor.tuning(want.name, want.kind, device, "config")
    live: Value | None = None
    if found.live is not None:
        try:
            live = host.hypervisor.tuning(want.name, want.kind, device, "live")
        except MaglicaError:
            pass  # the host has no controller for it: what runs is not limited
    return {"items": tuning.rows(want.kind, live, config)}


def _tune(
    name: str, kind: str, device: str | None, given: list[str], apply: str, host: Host, work: Work
) -> dict[str, Any]:
    hypervisor = host.hypervisor
    found = applying.shape(name, host)
    wheres = applying.wheres(found, apply)
    own = _device(found, kind, device)
    now = {where: hypervisor.tuning(name, kind, own, where) for where in wheres}
    values = tuning.wanted(kind, given, now[wheres[-1]])
    told: Value = {
        "name": name,
        "host": host.name,
        "state": found.state,
        "kind": kind,
        "device": device,
        "changed": True,
    }
    told |= {"set": {key: tuning.shown(kind, key, value) for key, value in values.items()}}
    told |= {"before": {key: tuning.shown(kind, key, now[wheres[-1]][key]) for key in values}}
    if all(now[where].get(key) == value for where in wheres for key, value in values.items()):
        return {**told, "changed": False}
    work.will({"tune": name, "kind": kind, "device": device, "set": told["set"], "apply": apply})
    args = {"kind": kind, "device": own, "values": values, "wheres": wheres}
    with work.step("tune", sign=sign("is_tuned", told, name=name, **args)):
        hypervisor.tune(name, kind, own, values, apply)
    return told


def _device(found: Shape, kind: str, device: str | None) -> str | None:
    """A device as libvirt finds it in what runs and in the definition alike: a network card by its MAC address."""
    if device is None:
        return None
    if kind not in OF_A_DEVICE:
        told = f"--kind={kind} is about the whole VM: --device={device} would do nothing"
        raise Refused("wrong_input", told, f"--device belongs to --kind={' and '.join(OF_A_DEVICE)}")
    domain = domain_xml.read(found.live or found.stored)
    known = [disk.target for disk in domain.disks]
    if kind == "iftune":
        names = {str(nic["device"]): nic["mac"] for nic in domain.nics if nic["device"]}
        device = names.get(device) or device.lower()
        known = [str(nic["mac"]) for nic in domain.nics]
    if device not in known:
        what = "network card" if kind == "iftune" else "disk"
        raise Refused("unknown_entity", f"{found.name} has no {what} {device}", f"it has {', '.join(known) or 'none'}")
    return device


def vm_pin(want: VmPin, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it pinned as it was, or as it shall be."""
    hypervisor = host.hypervisor
    found = applying.shape(want.name, host)
    if want.emulator and want.vcpus != "all":
        told = f"--emulator is about QEMU's own threads: --vcpus={want.vcpus} would do nothing"
        raise Refused("wrong_input", told, "leave out one or the other")
    wheres = applying.wheres(found, want.apply)
    cpus = pinning.chosen(want.cpus, hypervisor.online_cpus(), f"{host.name} has CPUs")
    stored = vcpus.read(found.stored)
    ones = [] if want.emulator else pinning.chosen(want.vcpus, range(stored.most), f"{want.name} has vCPUs")
    result: Value = {"name": want.name, "host": host.name, "state": found.state, "changed": True}
    result |= {"thread": "emulator" if want.emulator else f"vcpu {pinning.listed(ones)}", "cpus": want.cpus}
    todo: dict[str, Value] = {}
    for where in wheres:
        each, emulator, total = hypervisor.pins(want.name, where)
        goal = list(range(total)) if want.cpus == "all" else cpus
        # libvirt tells those that are in use; the definition may have more.
        known = dict(enumerate(each)) | (
            {n: list(range(total)) for n in ones[len(each) :]} if where == "config" else {}
        )
        mine = {number: known[number] for number in ones if number in known and sorted(known[number]) != sorted(goal)}
        if mine or (want.emulator and sorted(emulator) != sorted(goal)):
            todo[where] = {"old": mine, "emulator": emulator if want.emulator else None, "goal": goal}
    if not todo:
        return {**result, "changed": False}
    work.will({"pin": want.name, "thread": result["thread"], "cpus": want.cpus, "apply": want.apply})
    for where, one in todo.items():
        old = {str(number): pinned for number, pinned in one["old"].items()}
        work.undo("pin", name=want.name, where=where, vcpus=old, emulator=one["emulator"])
    wanted = {
        where: {"vcpus": dict.fromkeys(map(str, one["old"]), one["goal"]),
                "emulator": one["goal"] if want.emulator else None}
        for where, one in todo.items()
    }  # fmt: skip
    with work.step("pin", sign=sign("is_pinned", result, name=want.name, wanted=wanted)):
        for where, one in todo.items():
            aim: list[int] = one["goal"]
            hypervisor.pin(want.name, where, dict.fromkeys(one["old"], aim), aim if want.emulator else None)
    return result


def vm_pinning(want: VmPinning, host: Host) -> dict[str, Any]:
    found = host.hypervisor.shape(want.name)
    config = host.hypervisor.pins(want.name, "config")
    live = host.hypervisor.pins(want.name, "live") if found.live is not None else None
    threads = [f"vcpu {number}" for number in range(max(len(config[0]), len(live[0]) if live else 0))]

    def cells(pins: tuple[list[list[int]], list[int], int] | None) -> list[str | None]:
        if pins is None:
            return [None] * (len(threads) + 1)
        each, emulator, total = pins
        known = [pinning.shown(one, total) for one in each]
        return [*known, *[None] * (len(threads) - len(known)), pinning.shown(emulator, total)]

    rows = zip([*threads, "emulator"], cells(live), cells(config), strict=True)
    return {"items": [{"thread": thread, "live": now, "config": then} for thread, now, then in rows]}
