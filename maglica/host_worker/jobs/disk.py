"""Disks of VMs: what there is, and how full."""

from __future__ import annotations

from typing import Any

from maglica.actions.disk import DiskInfo, DiskList
from maglica.errors import Refused
from maglica.host_worker.device import disks, elements, finding
from maglica.host_worker.disk import qcow2
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.domain.domain_xml import Disk
from maglica.host_worker.host import Host


def disk_list(want: DiskList, host: Host) -> dict[str, Any]:
    live, config = (elements.disks(text) for text in host.hypervisor.layout(want.name))
    found = dict.fromkeys([*live, *config])
    return {"items": [_told(want.name, target, live.get(target), config.get(target), host) for target in found]}


def disk_info(want: DiskInfo, host: Host) -> dict[str, Any]:
    live, config = host.hypervisor.layout(want.name)
    of_live, of_config = elements.disks(live), elements.disks(config)
    known = {**of_config, **of_live}
    if want.target not in known:
        hint = f"it has {', '.join(sorted(known)) or 'none'}"
        raise Refused("unknown_entity", f"{want.name} has no disk {want.target}", hint)
    told = _told(want.name, want.target, of_live.get(want.target), of_config.get(want.target), host)
    path = told["path"]
    header = qcow2.header(path) if path and host.hypervisor.has_files and told["format"] == "qcow2" else None
    users = finding.users(path, host) if path else []
    return {
        "item": {
            **told,
            "readonly": disks.facts(known[want.target])["readonly"],
            "internal_snapshots": header.snapshots if header else None,
            "used_by": sorted({user.name for user in users if user.name != want.name}),
        }
    }


def _told(name: str, target: str, live: str | None, config: str | None, host: Host) -> dict[str, Any]:
    facts = disks.facts(live or config or "")
    path = finding.path_of(facts, host)
    capacity, allocation = _sizes(name, live or config or "", host) if path else (None, None)
    followed = path and host.hypervisor.has_files and facts["device"] == "disk"
    chain = look.chain(path, facts["format"])[1:] if path and followed else []
    return {
        "name": name,
        "target": target,
        **{key: facts[key] for key in ("device", "bus", "format", "serial", "cache")},
        "capacity_bytes": capacity,
        "allocation_bytes": allocation,
        "path": path,
        "rests_on": chain,
        "live": live is not None,
        "config": config is not None,
    }


def _sizes(name: str, piece: str, host: Host) -> tuple[int | None, int | None]:
    disk: Disk = domain_xml.disk(piece)
    capacity, allocation = look.sizes(host.hypervisor, name, disk)
    return (capacity, allocation) if capacity or allocation else (None, None)
