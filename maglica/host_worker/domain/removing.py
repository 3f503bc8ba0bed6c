"""Deleting a domain with its disks: they are set aside, the definition is forgotten, then they are deleted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from maglica.errors import Refused
from maglica.host_worker.disk import dependants, qcow2
from maglica.host_worker.disk import volumes as lvm
from maglica.host_worker.domain import domain_xml, look, starting
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must


def remove(domain: Domain, doomed: Sequence[str], host: Host, work: Work, *, keep: bool = False) -> dict[str, Any]:
    """Delete it with those of its disks that are files, or volumes that its own job made; what was done.

    A crash before the definition is gone puts the disks back; after that they are deleted at the next start. `keep`:
    its disks stay, and so do the variables of its firmware.
    """
    volumes = _own_volumes(domain, doomed) if host.hypervisor.has_files else {}
    deleted = [path for path in doomed if not host.hypervisor.has_files or os.path.isfile(path) or path in volumes]
    told = {"name": domain.name, "host": host.name, "changed": True, "deleted": deleted}
    behind = [link for path in doomed for link in look.chain(path, None)[1:]] if host.hypervisor.has_files else []
    with (
        host.storage.changing(doomed, f"{domain.name} cannot be removed"),
        work.step("remove", sign=sign("is_gone", told, uuid=domain.uuid)),
    ):
        starting.refuse_used_since(domain.name, doomed, host, "cannot be removed")
        if keep:
            work.point_of_no_return()
            host.hypervisor.forget(domain.uuid)
        else:
            _remove(domain, deleted, volumes, host, work)
        dependants.release(host.hypervisor, behind)
    return told


def image(name: str, host: Host, work: Work, *, keep_disks: bool) -> dict[str, Any]:
    """Delete an image that nothing rests on."""
    domain = domain_xml.read(host.hypervisor.definition(name))
    state = host.hypervisor.state(name)
    if not domain_xml.is_image(domain, state in ACTIVE):
        what = f"is {state}" if state in ACTIVE else "is no image"
        raise Refused("wrong_state", f"{name} {what}", "`maglica image remove` removes images that are shut off")
    own = [] if keep_disks else [source.path for source in look.sources(host.hypervisor, domain, host.storage)]
    found = dependents(name, host) if not keep_disks else []
    doomed, used = look.users_of(host.hypervisor, name, own)
    found += [{"name": user, "path": path, "base": path} for path, user in used.items() if user not in _names(found)]
    if found:
        names = sorted(_names(found))
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise Refused(
            "protected",
            f"{name} cannot be removed: {shown} {'depends' if len(names) == 1 else 'depend'} on it",
            f"`maglica image dependents {name}` lists all; `maglica vm flatten` makes a clone independent",
            details={"dependents": names},
        )
    if keep_disks:
        refuse_loss(name, host)
    work.will({"remove": name, "delete": doomed})
    return remove(domain, doomed, host, work, keep=keep_disks)


def refuse_loss(name: str, host: Host) -> None:
    """Refuse to forget a definition alone with which more would be lost: libvirt keeps that by the domain."""
    details = host.hypervisor.details(name)
    if details["managed_save"] or details["snapshots"]:
        what = "its state was saved" if details["managed_save"] else f"it has {details['snapshots']} snapshots"
        hint = "what libvirt knows of that would be lost with the definition"
        raise Refused("wrong_state", f"{name} cannot be undefined: {what}", hint)


def _names(found: list[dict[str, Any]]) -> set[str]:
    return {str(one["name"]) for one in found}


def dependents(name: str, host: Host) -> list[dict[str, Any]]:
    """What rests on an image here: as the files say, and for a clone whose disk cannot be read as its definition does.

    `name` is the VM's, or the path of an overlay that belongs to none.
    """
    domains = {domain.name: (domain, state) for domain, state in host.hypervisor.domains()}
    own = []
    if name in domains:
        own = [source.path for source in look.sources(host.hypervisor, domains[name][0], host.storage)]
    found: dict[str, dict[str, Any]] = {}
    for one in dependants.of(host.hypervisor, own):
        state = domains[one.domain][1] if one.domain in domains else None
        key = one.domain or one.path
        found.setdefault(key, {"name": key, "state": state, "path": one.path, "base": one.base})
    for domain, state in domains.values():
        if domain.name not in found and domain.mark.get("image") == name and domain.mark.get("mode") == "linked":
            for disk in domain.disks:
                path = look.disk_path(host.hypervisor, disk)
                if disk.copied and qcow2.header(path) is None:
                    found[domain.name] = {"name": domain.name, "state": state, "path": path, "base": None}
    return sorted(found.values(), key=lambda one: str(one["name"]))


def _own_volumes(domain: Domain, doomed: Sequence[str]) -> dict[str, lvm.Made]:
    """Those of the disks that are volumes which this clone's job made: any other device may be anything."""
    job = domain.mark.get("job", "")
    made = lvm.made_by(job) if domain.mark.get("mode") == "thin" and job else []
    nodes = {os.path.realpath(lvm.in_mapper(one.group, one.name)): one for one in made}
    return {path: nodes[os.path.realpath(path)] for path in doomed if os.path.realpath(path) in nodes}


def _remove(domain: Domain, doomed: Sequence[str], volumes: dict[str, lvm.Made], host: Host, work: Work) -> None:
    if not host.hypervisor.has_files:
        work.point_of_no_return()
        host.hypervisor.undefine(domain.name)
        for path in doomed:
            host.hypervisor.delete_volume_at(path)
        return
    aside = []
    for path in doomed:
        if os.path.isfile(path):
            new = f"{path}.{work.job}.removed"
            work.undo("settle_removed", path=new, original=path, uuid=domain.uuid)
            os.rename(path, new)
            aside.append(new)
    known: dict[str, list[str]] = {}
    for one in volumes.values():
        known.setdefault(one.group, []).append(one.uuid)
    for group, uuids in known.items():
        job = domain.mark["job"]
        work.undo("settle_removed_volumes", group=group, job=job, uuid=domain.uuid, volumes=uuids)
    work.point_of_no_return()
    host.hypervisor.undefine(domain.name)
    for path in aside:
        os.unlink(path)
    for group, uuids in known.items():
        must(work.run(lvm.remove_known(group, uuids)), f"removal of volumes of {group}")
