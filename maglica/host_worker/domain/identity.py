"""What each VM of this host is known by: name, UUID, MAC and IP addresses, machine-id. Looking only."""

from __future__ import annotations

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from maglica.errors import MaglicaError
from maglica.host_worker.domain import look
from maglica.host_worker.domain.domain_xml import Domain, is_image
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.guest import disk as guest_disk
from maglica.host_worker.guest.disk import Terms
from maglica.host_worker.host import Host

Value = dict[str, Any]

SIDE_BY_SIDE = 8  # agents that are asked at a time
AGENT_WITHIN = 2  # seconds that an agent has for a word
DEEP_WITHIN = 180.0  # seconds for the disks of one VM
_ID = re.compile(r"[0-9a-f]{32}")


def all_of(host: Host, deep: tuple[str, ...]) -> list[Value]:
    """Every VM but images. `deep`: the names of those whose disks are to be read when they are off; `reading`
    is true of those that are not yet.
    """
    known = [(vm, state) for vm, state in host.hypervisor.domains() if not is_image(vm, state in ACTIVE)]
    local = host.hypervisor.private_networks()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        items = list(pool.map(lambda one: _one(one[0], one[1], local, host), known))
    for item, (domain, state) in zip(items, known, strict=True):
        if domain.name in deep and state not in ACTIVE and host.reading:
            item |= _in_the_disk(domain, host)
    return items


def _one(domain: Domain, state: str, local: set[str], host: Host) -> Value:
    machine_id = _of_the_agent(domain.name, host) if state in ("running", "idle") and domain.agent else None
    return {
        "name": domain.name,
        "state": state,
        "uuid": domain.uuid,
        "macs": [str(nic["mac"]).lower() for nic in domain.nics if nic["mac"]],
        "ips": _addresses(domain, state, local, host),
        "machine_id": machine_id,
        # Whence: its agent, its disk; or "anew": it was taken from the clone, which makes one of its own.
        "machine_id_from": "agent" if machine_id else "anew" if domain.mark.get("customize") == "guestfs" else None,
        "image": domain.mark.get("image"),
        "why": None,
        "reading": False,
    }


def _addresses(domain: Domain, state: str, local: set[str], host: Host) -> list[Value]:
    """`{"address", "private"}`: a private one belongs to a network that ends here; other hosts may have the same."""
    private = {nic["mac"]: nic["source"] in local for nic in domain.nics}
    found = host.hypervisor.addresses_by_mac(domain.name) if state in ACTIVE else []
    told = [{"address": address, "private": private.get(mac, False)} for mac, address in found]
    given = [{"address": ip, "private": any(list(private.values())[:1])} for ip in look.given(domain)]
    return told + [one for one in given if one not in told]


def _of_the_agent(name: str, host: Host) -> str | None:
    """The machine-id that a guest's agent reads for us; some distributions forbid it to open files."""
    agent = host.hypervisor.agent
    try:
        file = agent(name, "guest-file-open", AGENT_WITHIN, path="/etc/machine-id", mode="r")
        try:
            told = agent(name, "guest-file-read", AGENT_WITHIN, handle=file, count=64)
        finally:
            agent(name, "guest-file-close", AGENT_WITHIN, handle=file)
        text = base64.b64decode(told["buf-b64"]).decode("ascii", "replace").strip()
    except (MaglicaError, KeyError, TypeError, ValueError):
        return None
    return text if _ID.fullmatch(text) else None


def _in_the_disk(domain: Domain, host: Host) -> Value:
    """The machine-id on the disks of a VM that is off; nothing is written."""
    assert host.reading is not None
    sources = look.sources(host.hypervisor, domain, host.storage)
    disks = [guest_disk.Disk(source.path, source.disk.format) for source in sources]
    try:
        return host.reading.look([disk.path for disk in disks], lambda: _read(disks, host)) or {"reading": True}
    except OSError as error:
        return {"why": f"its disks cannot be read: {error}"}


def _read(disks: list[guest_disk.Disk], host: Host) -> Value:
    try:
        terms = Terms(host.acceleration == "kvm", DEEP_WITHIN, lambda step: None, lambda: False)
        report = guest_disk.inspect_disks(disks, terms)
    except MaglicaError as error:
        return {"why": f"its disks cannot be read: {error.message}"}
    text = str(report.get("machine_id") or "")
    if _ID.fullmatch(text):
        return {"machine_id": text, "machine_id_from": "disk"}
    return {"machine_id_from": "anew"}  # empty, missing or `uninitialized`: made at the next boot, machine-id(5)
