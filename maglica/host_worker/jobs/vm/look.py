"""Looking at VMs."""

from __future__ import annotations

import time
from typing import Any

from maglica.actions.vm.look import VmFind, VmIdentify, VmInfo, VmList, VmStats
from maglica.host_worker.domain import figures, identity, look
from maglica.host_worker.host import Host


def vm_list(want: VmList, host: Host) -> dict[str, Any]:
    if want.host not in (None, host.name):
        return {"items": []}
    which = look.Which(want.all, want.state, want.name, want.tag, want.owner)
    return {"items": look.machines(host.hypervisor, which)}


def vm_find(want: VmFind, host: Host) -> dict[str, Any]:
    return {"items": look.found(host.hypervisor, want.what)}


def vm_info(want: VmInfo, host: Host) -> dict[str, Any]:
    return {"item": look.machine(host.hypervisor, want.name)}


def vm_stats(want: VmStats, host: Host) -> dict[str, Any]:
    details = host.hypervisor.details(want.name)
    live = details["live"]
    disks = [disk.target for disk in live.disks if disk.path]
    cards = [str(nic["device"]) for nic in live.nics if nic["device"]]
    before = began = None
    if want.interval is not None:
        before, began = host.hypervisor.figures(want.name, disks, cards), time.monotonic()
        time.sleep(want.interval)
    now = host.hypervisor.figures(want.name, disks, cards)
    seconds = time.monotonic() - began if began is not None else None
    item = {"name": want.name, "host": host.name, "state": details["state"]}
    return {"item": {**item, **figures.told(live, now, before, seconds)}}


def vm_identify(want: VmIdentify, host: Host) -> dict[str, Any]:
    return {"items": identity.all_of(host, tuple(want.deep or ()))}
