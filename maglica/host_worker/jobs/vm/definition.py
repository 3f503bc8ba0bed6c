"""Definitions of VMs: what libvirt has written down of them."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.definition import VmConf, VmDiff
from maglica.host_worker.domain import differing, tree
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host


def vm_conf(want: VmConf, host: Host) -> dict[str, Any]:
    runs = host.hypervisor.state(want.name) in ACTIVE and not want.stored
    text = host.hypervisor.running_definition(want.name) if runs else host.hypervisor.definition(want.name)
    text = text if want.secrets else tree.masked(text)
    told = {"name": want.name, "which": "live" if runs else "stored", "format": want.format}
    return {"item": {**told, "conf": text if want.format == "xml" else tree.of(text)}}


def vm_diff(want: VmDiff, host: Host) -> dict[str, Any]:
    state = host.hypervisor.state(want.name)
    found = differing.of(want.name, host.hypervisor) if state in ACTIVE else []
    return {"item": {"name": want.name, "state": state, "differences": differing.public(found)}}
