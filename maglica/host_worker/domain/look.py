"""Looking: what this host tells when it is asked. Nothing here changes anything."""

from __future__ import annotations

import json
import os
import stat
import time
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from maglica import VERSION, kinds
from maglica.config import HostWorkerSection
from maglica.errors import MaglicaError
from maglica.host_worker import commands
from maglica.host_worker.clone import plan
from maglica.host_worker.disk import bases, modes, qcow2
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.domain import domain_xml, finding, inward, record
from maglica.host_worker.domain.domain_xml import Disk, Domain
from maglica.host_worker.hypervisor import Hypervisor

Value = dict[str, Any]

AGENT_WITHIN = 2  # seconds that a guest's agent has for a word

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


def survey(hypervisor: Hypervisor, settings: HostWorkerSection, storage: Storage) -> Value:
    """What placement and look-up need to know; its shape stands in `client_worker/placement/place.py`."""
    node, domains = hypervisor.node(), hypervisor.domains()
    found = pools(hypervisor, settings, storage)
    return {
        "driver": hypervisor.driver,
        "active": sum(state in ACTIVE for _, state in domains),
        "vcpus": node["vcpus"],
        "memory_free_bytes": memory_free(node["memory_bytes"], settings.memory_reserve, domains),
        "domains": [_surveyed(hypervisor, settings, storage, found, *domain) for domain in domains],
        "pools": [
            {"name": pool["name"], "free_bytes": max(0, pool["room_bytes"]), "files": pool["type"] != "logical"}
            for pool in found
        ],
        "pool": settings.pool,
    }


def _surveyed(
    hypervisor: Hypervisor,
    settings: HostWorkerSection,
    storage: Storage,
    pools: list[Value],
    domain: Domain,
    state: str,
) -> Value:
    active = state in ACTIVE
    # Sizes cost a look into each disk: only what can be cloned needs them.
    copied = [] if active else sources(hypervisor, domain, storage)
    told = {
        "name": domain.name,
        "state": state,
        "image": domain_xml.is_image(domain, active),
        "content": domain.mark.get("content"),
        "vcpus": domain.vcpus,
        "memory_bytes": domain.memory_bytes,
        "macs": [nic["mac"] for nic in domain.nics],
        "fleet": domain.mark.get("fleet"),
        "template": domain.mark.get("template"),
        "image_name": domain.mark.get("image"),
        "disks": [
            {"target": source.disk.target, "allocation_bytes": source.allocation_bytes} for source in copied
        ],
        "modes": [],
    }  # fmt: skip
    if not active:
        original = domain_xml.is_image(domain, False)
        ways = modes.ways(
            copied,
            shared(copied, pools, storage),
            original=original,
            order=settings.clone_modes,
            files=hypervisor.has_files,
            thin_limit=settings.thin_limit,
        )
        told["modes"] = [way.told() for way in ways]
    return told


def pools(hypervisor: Hypervisor, settings: HostWorkerSection, storage: Storage) -> list[Value]:
    """The active pools that take disks, with the room that each has to give."""
    usable = plan.usable_pools(hypervisor.pools(), None, files=hypervisor.has_files)
    return plan.with_room(usable, settings.pool_reserve, kinds.reserves(settings.pool_reserves), storage.promised)


def shared(copied: list[Source], pools: list[Value], storage: Storage) -> list[Value]:
    """These pools with `unshared`: why files in them cannot share blocks with these disks, or ''."""
    of_files = domain_xml.FILE_POOLS
    return [
        {**pool, "unshared": storage.unshared(copied, str(pool["path"])) if pool["type"] in of_files else "no files"}
        for pool in pools
    ]


def sources(hypervisor: Hypervisor, domain: Domain, storage: Storage) -> list[Source]:
    """The disks that a clone of this domain copies, with their sizes."""
    return [_source(hypervisor, domain, disk, storage) for disk in domain.disks if disk.copied]


def _source(hypervisor: Hypervisor, domain: Domain, disk: Disk, storage: Storage) -> Source:
    path = disk_path(hypervisor, disk)
    if not hypervisor.has_files:
        return Source(disk, path, *sizes(hypervisor, domain.name, disk), file=False)
    device = _is_device(path)
    links = [path] if device else chain(path, disk.format)
    capacity, allocation = sizes(hypervisor, domain.name, disk)
    allocation += sum(_allocated(link) for link in links[1:])  # a copy takes what is behind it as well
    volume = storage.volume(path) if device else None
    return Source(
        disk,
        path,
        capacity,
        allocation,
        file=not device,
        rests_on=links[1] if len(links) > 1 else None,
        volume=volume,
        fullness=storage.fullness(volume) if volume else None,
        elsewhere=disk.format == "qcow2" and any(_elsewhere(link) for link in links),
    )


def _elsewhere(path: str) -> bool:
    header = qcow2.header(path)
    return header is not None and header.elsewhere


def _is_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _allocated(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def sizes(hypervisor: Hypervisor, name: str, disk: Disk) -> tuple[int, int]:
    """(capacity, allocation): from the file itself where it tells, which is much quicker than libvirt."""
    path = disk.path or ""
    if hypervisor.has_files and disk.source == "file" and disk.format in ("qcow2", "raw"):
        header = qcow2.header(path) if disk.format == "qcow2" else None
        if header is not None:
            return header.capacity_bytes, _allocated(path)
        if disk.format == "raw" and os.path.isfile(path):
            return os.path.getsize(path), _allocated(path)
    try:
        return hypervisor.block_sizes(name, disk)
    except MaglicaError:
        return 0, 0  # a disk that is missing or broken; cloning it will say so


def disk_path(hypervisor: Hypervisor, disk: Disk) -> str:
    """Where a disk lies, also when the definition names a pool and a volume."""
    if disk.source == "volume" and disk.path:
        return hypervisor.volume_path(*disk.path.split("/", 1))
    return disk.path or ""


def images(hypervisor: Hypervisor, storage: Storage, *, every: bool) -> list[Value]:
    """Images, or every inactive domain."""
    items = []
    for domain, state in hypervisor.domains():
        original = domain_xml.is_image(domain, state in ACTIVE)
        if state in ACTIVE or not (every or original):
            continue
        copied = sources(hypervisor, domain, storage)
        items.append(
            {
                "name": domain.name,
                "vcpus": domain.vcpus,
                "memory_bytes": domain.memory_bytes,
                "capacity_bytes": sum(source.capacity_bytes for source in copied),
                "allocation_bytes": sum(source.allocation_bytes for source in copied),
                "disks": len(copied),
                "original": original,
                "uuid": domain.uuid,
            }
        )
    return items


class Which(NamedTuple):
    """Which VMs a list shall tell of. None: all. `name` may have * and ?."""

    images: bool = False
    state: str | None = None
    name: str | None = None
    tag: str | None = None
    owner: str | None = None

    def has(self, domain: Domain, state: str) -> bool:
        return (
            (self.images or not domain_xml.is_image(domain, state in ACTIVE))
            and self.state in (None, state)
            and (self.name is None or fnmatchcase(domain.name, self.name))
            and (self.tag is None or self.tag in record.tags(domain.mark))
            and (self.owner is None or self.owner == domain.mark.get("owner"))
        )


def machines(hypervisor: Hypervisor, which: Which) -> list[Value]:
    """VMs with their states."""
    items = []
    for domain, found in hypervisor.domains():
        active = found in ACTIVE
        if not which.has(domain, found):
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
                **record.told(domain.mark),
            }
        )
    return items


def found(hypervisor: Hypervisor, what: str) -> list[Value]:
    """The VMs, images among them, that have an address, a UUID or a file."""
    items = []
    for domain, state in hypervisor.domains():

        def addresses(domain: Domain = domain, state: str = state) -> list[str]:
            seen = hypervisor.addresses(domain.name) if state in ACTIVE else []
            told = hypervisor.agent_addresses(domain.name, AGENT_WITHIN) if domain.agent_connected else []
            return [*seen, *told, *given(domain)]

        def files(domain: Domain = domain) -> list[list[str]]:
            paths = [(disk_path(hypervisor, disk), disk.format) for disk in domain.disks if disk.path]
            return [[path, *chain(path, format)[1:]] if hypervisor.has_files else [path] for path, format in paths]

        match = finding.matches(what, domain, addresses, files)
        if match:
            own = {"name": domain.name, "state": state, "by": match[0], "found": match[1], "uuid": domain.uuid}
            items.append(own)
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
        **record.told(live.mark),
        "trouble": [trouble] if (trouble := base_trouble(hypervisor, live)) else [],
        "job": live.mark.get("job"),
        "ips": addresses or given(live),
        "guest": inward.look(hypervisor, live) if details["state"] in ("running", "idle") else None,
        "nvram": live.nvram,
        "console_log": live.console_log,
        "disks": [_disk(hypervisor, name, disk) for disk in live.disks],
        "nics": live.nics,
    }


def _disk(hypervisor: Hypervisor, name: str, disk: Disk) -> Value:
    capacity, allocation = sizes(hypervisor, name, disk) if disk.path and disk.device == "disk" else (None, None)
    return {
        "target": disk.target,
        "device": disk.device,
        "bus": disk.bus,
        "path": disk_path(hypervisor, disk) or None,
        "format": disk.format,
        "capacity_bytes": capacity,
        "allocation_bytes": allocation,
        "rests_on": _rests_on(hypervisor, disk),
    }


def _rests_on(hypervisor: Hypervisor, disk: Disk) -> list[str] | None:
    """All that is behind a disk; None where nobody can tell."""
    if not hypervisor.has_files or disk.device != "disk" or not disk.path:
        return None
    return chain(disk_path(hypervisor, disk), disk.format)[1:]


def base_trouble(hypervisor: Hypervisor, domain: Domain) -> str | None:
    """What is wrong with the files that a VM's disks rest on, in words; None when all is well.

    Those that the definition remembers are compared with what they were; what no disk rests on does not matter.
    """
    if not hypervisor.has_files:
        return None
    links: dict[str, str] = {}
    for disk in domain.disks:
        if disk.path and disk.device == "disk":
            path = disk_path(hypervisor, disk)
            links |= dict.fromkeys(chain(path, disk.format)[1:], path)
    then = {base.path: base for base in bases.from_mark(domain.mark.get("bases"))}
    wrong = []
    for link in links:
        what = bases.compare(then[link]) if link in then else "" if os.path.exists(link) else "is gone"
        if what:
            wrong.append(f"{link}, which {what}")
    return f"it rests on {', and on '.join(wrong)}" if wrong else None


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


def chain(path: str, format: str | None, timeout: float = 30.0) -> list[str]:
    """A disk's file and all files that it rests on, as far as they can be read; the last may be missing. `format`: as
    the definition says; None for a file that none names.
    """
    try:
        return qcow2.chain(path, format)
    except qcow2.Unreadable as unreadable:
        if not unreadable.asks:
            return unreadable.links
        links = unreadable.links
    argv = ["qemu-img", "info", "--force-share", "-f", "qcow2", "--backing-chain", "--output=json", "--", path]
    output: list[str] = []
    commands.run(argv, timeout=timeout, on_output=output.append)
    try:
        return [os.path.realpath(link["filename"]) for link in json.loads("".join(output))]
    except ValueError:
        return links


def users_of(hypervisor: Hypervisor, name: str, disks: list[str]) -> tuple[list[str], dict[str, str]]:
    """(disks of a domain that nothing else uses, those that are part of another domain's disk and whose).

    Files by their real paths. A device keeps its name: that which the kernel has for it, /dev/dm-5, says nothing.
    """
    others = {}
    for domain, _ in hypervisor.domains():
        if domain.name != name:
            paths = [(disk_path(hypervisor, disk), disk.format) for disk in domain.disks if disk.path]
            chains = [chain(path, format) if hypervisor.has_files else [path] for path, format in paths]
            others[domain.name] = [os.path.realpath(link) for links in chains for link in links]
    named = {os.path.realpath(path): path for path in disks}
    own, kept = plan.removable(list(named), others)
    return [named[path] if _is_device(path) else path for path in own], kept
