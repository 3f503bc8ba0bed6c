"""A VM that is defined from words: those of a file, of QEMU's command line, or of what the host remembers."""

from __future__ import annotations

import os
import uuid as uuids
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.domain import domain_xml, look, qemu_options, remembering, renaming, saved
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work

CONSOLE_LOGS = "/var/log/libvirt/qemu"


def recalled(name: str, host: Host) -> str:
    """What is remembered of it; refused where that is nothing."""
    text = remembering.recall(name, host)
    if text is None:
        raise Refused("unknown_entity", f"{host.name} remembers no definition of {name}", "give one with --file")
    return text


def define(name: str, text: str, host: Host, work: Work) -> dict[str, Any]:
    """Define what is not there yet. A crash leaves it defined or not."""
    domain = read(name, text)
    _refuse_taken(domain, host)
    refuse_used(domain, host)
    text = text if domain.uuid else renaming.with_uuid(text, str(uuids.uuid4()))
    domain = domain_xml.read(text)
    missing = [path for path in paths(domain, host) if host.hypervisor.has_files and not os.path.exists(path)]
    told = {**_told(domain, host), "missing": missing, "changed": True}
    work.will({"define": name, "uuid": domain.uuid, "missing": missing})
    with work.step("define", sign=sign("defined", told, uuid=domain.uuid)):
        work.undo("forget", uuid=domain.uuid)
        _obey(text, host)
    return told


def redefine(name: str, text: str, host: Host, work: Work) -> dict[str, Any]:
    """Exchange the definition of what is there. A crash leaves the old one or the new one."""
    old_text = host.hypervisor.definition(name)
    old, new = domain_xml.read(old_text), read(name, text)
    if new.uuid not in ("", old.uuid):
        raise Refused("wrong_input", f"{name} has the UUID {old.uuid}, the file says {new.uuid}", "leave it out")
    runs = host.hypervisor.state(name) != "shut-off"
    if domain_xml.is_image(old, runs):
        raise Refused("protected", f"{name} is an image", "clones are made of it: what it is stays")
    refuse_used(new, host)
    text = text if new.uuid else renaming.with_uuid(text, old.uuid)
    changes = remembering.differences(old, domain_xml.read(text))
    told = {**_told(domain_xml.read(text), host), "changes": changes, "changed": True}
    if _same(old_text, text):
        return {**told, "changed": False}
    saved.refuse_change(old, host.hypervisor, runs=runs)
    work.will({"redefine": name, "changes": changes})
    with work.step("redefine"):
        work.undo("redefine", uuid=old.uuid, text=old_text)
        _obey(text, host)
    return told


def imported(name: str, text: str, network: str | None, host: Host) -> str:
    """The definition of what QEMU's options say."""
    guest = qemu_options.read(text)
    if guest.name != name:
        raise Refused("wrong_input", f"the options are those of {guest.name}, not of {name}", "use its own name")
    if network is not None and network not in (known := host.hypervisor.networks()):
        raise Refused(
            "unknown_entity", f"there is no network {network} on this host", f"there are {', '.join(known) or 'none'}"
        )
    mark = {"kind": "imported", "adopted": now()}
    uuid = guest.uuid or str(uuids.uuid4())
    log = os.path.join(CONSOLE_LOGS, f"{name}-console.log")
    kvm = host.acceleration == "kvm"
    kind = "test" if not host.hypervisor.has_files else ""
    made = qemu_options.definition(guest, uuid=uuid, network=network, kvm=kvm, mark=mark, console_log=log)
    return made.replace('<domain type="qemu"', '<domain type="test"', 1) if kind else made


def read(name: str, text: str) -> Domain:
    """What a file says; refused where it is no definition, or another VM's."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise Refused("wrong_input", f"the file is no XML: {error}", "`virsh dumpxml` prints a definition") from None
    if root.tag != "domain":
        raise Refused("wrong_input", f"the file holds a <{root.tag}>", "expected a <domain>")
    try:
        domain = domain_xml.read(text)
    except ValueError as error:
        raise Refused("wrong_input", f"the definition makes no sense: {error}") from None
    if domain.name != name:
        raise Refused("wrong_input", f"the file defines {domain.name or 'nothing'}, not {name}", "use its own name")
    return domain


def paths(domain: Domain, host: Host) -> list[str]:
    """Where its own disks lie; a volume that nobody knows has no place."""
    found = []
    for disk in domain.disks:
        if disk.copied:
            try:
                found.append(look.disk_path(host.hypervisor, disk))
            except MaglicaError:
                found.append(disk.path or "")
    return [path for path in found if path]


def _refuse_taken(domain: Domain, host: Host) -> None:
    for other, _ in host.hypervisor.domains():
        if other.name == domain.name:
            hint = f"`maglica vm redefine {other.name}` gives it another definition"
            raise Refused("already_exists", f"{other.name} exists on {host.name}", hint)
        if other.uuid == domain.uuid:
            hint = "take the <uuid> out of the file: it gets one of its own"
            raise Refused("already_exists", f"{other.name} has the UUID {domain.uuid}", hint)
        macs = {nic["mac"] for nic in other.nics} & {nic["mac"] for nic in domain.nics} - {None}
        if macs:
            hint = "take the <mac> out of the file: the card gets one of its own"
            raise Refused("already_exists", f"{other.name} has the MAC address {macs.pop()}", hint)


def refuse_used(domain: Domain, host: Host) -> None:
    """Two VMs that write to one disk destroy it."""
    _, used = look.users_of(host.hypervisor, domain.name, paths(domain, host))
    if used:
        path, user = next(iter(used.items()))
        hint = "give it disks of its own"
        raise Refused("protected", f"{domain.name} cannot be defined: {user} uses its disk {path}", hint)


def _obey(text: str, host: Host) -> None:
    """What libvirt does not like of a definition is the mistake of who wrote it."""
    try:
        host.hypervisor.define(text)
    except Failed as error:
        if error.code == "environment_error":
            raise Failed("wrong_input", error.message, "libvirt refuses the definition: mend the file") from None
        raise


def _same(one: str, two: str) -> bool:
    return ET.canonicalize(one, strip_text=True) == ET.canonicalize(two, strip_text=True)


def _told(domain: Domain, host: Host) -> dict[str, Any]:
    disks = [{"target": disk.target, "path": disk.path, "format": disk.format} for disk in domain.disks]
    return {"name": domain.name, "host": host.name, "uuid": domain.uuid, "disks": disks}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
