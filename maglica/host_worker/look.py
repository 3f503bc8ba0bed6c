"""Looking: what this host tells when it is asked. Nothing here changes anything."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from maglica import VERSION
from maglica.config import HostWorkerSection
from maglica.errors import MaglicaError
from maglica.host_worker import commands, domain_xml, plan
from maglica.host_worker.domain_xml import Disk, Domain
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.plan import Source

Value = dict[str, Any]

# What QEMU takes beside the guest's own memory; igvm's figure, rounded up.
OVERHEAD = 64 << 20

# The states in which there is a QEMU: in all but one. A crashed guest that is kept still has its disks open.
ACTIVE = ("running", "idle", "paused", "in-shutdown", "pm-suspended", "crashed", "unknown")


def memory_free(total: int, reserve: int, domains: list[tuple[Domain, str]]) -> int:
    """Memory that no defined VM has been promised; may be negative. VMs that are off count, images do not."""
    promised = sum(
        domain.memory_bytes + OVERHEAD for domain, state in domains if not domain_xml.is_image(domain, state in ACTIVE)
    )
    return total - reserve - promised


def facts(hypervisor: Hypervisor, reserve: int, acceleration: str) -> Value:
    """The few figures that a host reports by itself."""
    try:
        node, domains = hypervisor.node(), hypervisor.domains()
    except MaglicaError as error:
        return {"version": VERSION, "libvirt": error.message, "acceleration": acceleration}
    machines = [(d, state) for d, state in domains if not domain_xml.is_image(d, state in ACTIVE)]
    return {
        "version": VERSION,
        "libvirt": "ok",
        "acceleration": acceleration,
        "vms_running": sum(state in ACTIVE for _, state in machines),
        "vms_defined": len(machines),
        "vcpus": node["vcpus"],
        "memory_bytes": node["memory_bytes"],
        "memory_free_bytes": max(0, memory_free(node["memory_bytes"], reserve, domains)),
    }


def roll(hypervisor: Hypervisor) -> Value:
    """What look-up alone needs to know: a part of a survey that costs no look at definitions, disks and pools."""
    return {"domains": [{"name": name, "state": state} for name, state in hypervisor.states()]}


def survey(hypervisor: Hypervisor, settings: HostWorkerSection) -> Value:
    """What placement and look-up need to know; its shape stands in `client_worker/place.py`."""
    node, domains = hypervisor.node(), hypervisor.domains()
    pools = plan.usable_pools(hypervisor.pools(), settings.pool, files=hypervisor.has_files)
    return {
        "driver": hypervisor.driver,
        "active": sum(state in ACTIVE for _, state in domains),
        "vcpus": node["vcpus"],
        "memory_free_bytes": memory_free(node["memory_bytes"], settings.memory_reserve, domains),
        "domains": [_surveyed(hypervisor, domain, state) for domain, state in domains],
        "pools": [
            {"name": pool["name"], "free_bytes": max(0, pool["free_bytes"] - settings.pool_reserve)} for pool in pools
        ],
    }


def _surveyed(hypervisor: Hypervisor, domain: Domain, state: str) -> Value:
    image = domain_xml.is_image(domain, state in ACTIVE)
    return {
        "name": domain.name,
        "state": state,
        "image": image,
        "content": domain.mark.get("content"),
        "vcpus": domain.vcpus,
        "memory_bytes": domain.memory_bytes,
        "macs": [nic["mac"] for nic in domain.nics],
        "fleet": domain.mark.get("fleet"),
        "template": domain.mark.get("template"),
        "image_name": domain.mark.get("image"),
        # Sizes cost a look into each disk: only what can be cloned needs them.
        "disks": [
            {"target": source.disk.target, "allocation_bytes": source.allocation_bytes}
            for source in sources(hypervisor, domain)
        ]
        if state not in ACTIVE
        else [],
    }


def sources(hypervisor: Hypervisor, domain: Domain) -> list[Source]:
    """The disks that a clone of this domain copies, with their sizes."""
    found = []
    for disk in domain.disks:
        if disk.copied:
            capacity, allocation = _sizes(hypervisor, domain.name, disk)
            found.append(Source(disk, disk_path(hypervisor, disk), capacity, allocation))
    return found


def _sizes(hypervisor: Hypervisor, name: str, disk: Disk) -> tuple[int, int]:
    try:
        return hypervisor.block_sizes(name, disk)
    except MaglicaError:
        return 0, 0  # a disk that is missing or broken; cloning it will say so


def disk_path(hypervisor: Hypervisor, disk: Disk) -> str:
    """Where a disk lies, also when the definition names a pool and a volume."""
    if disk.source == "volume" and disk.path:
        return hypervisor.volume_path(*disk.path.split("/", 1))
    return disk.path or ""


def images(hypervisor: Hypervisor, *, every: bool) -> list[Value]:
    """Images, or every inactive domain."""
    items = []
    for domain, state in hypervisor.domains():
        if state in ACTIVE or not (every or domain_xml.is_image(domain, False)):
            continue
        copied = sources(hypervisor, domain)
        items.append(
            {
                "name": domain.name,
                "vcpus": domain.vcpus,
                "memory_bytes": domain.memory_bytes,
                "capacity_bytes": sum(source.capacity_bytes for source in copied),
                "allocation_bytes": sum(source.allocation_bytes for source in copied),
                "disks": len(copied),
                "uuid": domain.uuid,
            }
        )
    return items


def machines(hypervisor: Hypervisor, *, with_images: bool, state: str | None) -> list[Value]:
    """VMs with their states."""
    items = []
    for domain, found in hypervisor.domains():
        active = found in ACTIVE
        if (domain_xml.is_image(domain, active) and not with_images) or state not in (None, found):
            continue
        items.append(
            {
                "name": domain.name,
                "state": found,
                "vcpus": domain.vcpus,
                "memory_bytes": domain.memory_bytes,
                "uptime_seconds": uptime(domain.name) if active and hypervisor.has_files else None,
                "ips": (hypervisor.addresses(domain.name) if active else []) or given(domain),
                "image": domain.mark.get("image"),
                "uuid": domain.uuid,
            }
        )
    return items


def given(domain: Domain) -> list[str]:
    """The address that a clone was given when it was made: stands where nobody has seen one."""
    return [domain.mark["ip"]] if "ip" in domain.mark else []


def machine(hypervisor: Hypervisor, name: str) -> Value:
    """All about one VM."""
    details = hypervisor.details(name)
    live: Domain = details.pop("live")
    addresses = details.pop("addresses")
    return {
        "name": live.name,
        "uuid": live.uuid,
        **details,
        "uptime_seconds": uptime(name) if details["state"] in ACTIVE and hypervisor.has_files else None,
        "type": live.type,
        "arch": live.arch,
        "machine": live.machine,
        "image": live.mark.get("image"),
        "mode": live.mark.get("mode"),
        "fleet": live.mark.get("fleet"),
        "template": live.mark.get("template"),
        "tags": [tag for tag in live.mark.get("tags", "").split(",") if tag],
        "job": live.mark.get("job"),
        "ips": addresses or given(live),
        "nvram": live.nvram,
        "console_log": live.console_log,
        "disks": [_disk(hypervisor, name, disk) for disk in live.disks],
        "nics": live.nics,
    }


def _disk(hypervisor: Hypervisor, name: str, disk: Disk) -> Value:
    capacity, allocation = _sizes(hypervisor, name, disk) if disk.path and disk.device == "disk" else (None, None)
    return {
        "target": disk.target,
        "device": disk.device,
        "bus": disk.bus,
        "path": disk_path(hypervisor, disk) or None,
        "format": disk.format,
        "capacity_bytes": capacity,
        "allocation_bytes": allocation,
    }


def uptime(name: str) -> float | None:
    """Seconds since a domain's QEMU began; None where libvirt keeps no pid file."""
    try:
        with open(f"/run/libvirt/qemu/{name}.pid", encoding="ascii") as file:
            born = commands.birth(int(file.read()))
    except (OSError, ValueError):
        return None
    if born is None:
        return None
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - born / os.sysconf("SC_CLK_TCK"), 1)


def chain(path: str, timeout: float = 30.0) -> list[str]:
    """A disk's file and all files that it rests on. A file that cannot be read stands for itself alone."""
    if not _has_backing(path):
        return [path]
    argv = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", "--", path]
    ended = commands.run(argv, timeout=timeout)
    try:
        links = json.loads(ended.stdout)
    except ValueError:
        return [path]
    return [os.path.realpath(link["filename"]) for link in links]


def _has_backing(path: str) -> bool:
    """Whether a file is a qcow2 that rests on another: bytes 8 to 15 of its header, docs/interop/qcow2.txt of QEMU.

    Most disks rest on nothing, and asking qemu-img about each of them would take 15 ms.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(16)
    except OSError:
        return False
    return header[:4] == b"QFI\xfb" and header[8:16] != bytes(8)


def users_of(hypervisor: Hypervisor, name: str, disks: list[str]) -> tuple[list[str], dict[str, str]]:
    """(disks of a domain that nothing else uses, those that are part of another domain's disk and whose)."""
    others = {}
    for domain, _ in hypervisor.domains():
        if domain.name != name:
            paths = [disk_path(hypervisor, disk) for disk in domain.disks if disk.path]
            links = [link for path in paths for link in (chain(path) if hypervisor.has_files else [path])]
            others[domain.name] = [os.path.realpath(link) for link in links]
    return plan.removable([os.path.realpath(path) for path in disks], others)
