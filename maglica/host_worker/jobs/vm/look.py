"""Looking at VMs."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.look import VmIdentify, VmInfo, VmList
from maglica.host_worker.domain import identity, look
from maglica.host_worker.host import Host


def vm_list(want: VmList, host: Host) -> dict[str, Any]:
    if want.host not in (None, host.name):
        return {"items": []}
    return {"items": look.machines(host.hypervisor, with_images=want.all, state=want.state)}


def vm_info(want: VmInfo, host: Host) -> dict[str, Any]:
    return {"item": look.machine(host.hypervisor, want.name)}


def vm_identify(want: VmIdentify, host: Host) -> dict[str, Any]:
    return {"items": identity.all_of(host, tuple(want.deep or ()))}
