"""Removing VMs."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.removal import VmRemove
from maglica.errors import Refused
from maglica.host_worker.disk import dependants
from maglica.host_worker.domain import domain_xml, look, removing, saved
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.snapshot import files as snapshot_files
from maglica.host_worker.work import Work


def vm_remove(want: VmRemove, host: Host, work: Work) -> dict[str, Any]:
    """Set the disks aside, forget the definition, then delete the disks.

    A crash before the definition is gone puts the disks back; after that they are deleted at the next start.
    """
    hypervisor = host.hypervisor
    if want.uuid is not None and not hypervisor.has_domain(want.uuid):
        return {"name": want.name, "host": host.name, "changed": False, "deleted": []}  # that one is gone
    state = hypervisor.state(want.name)
    domain = domain_xml.read(hypervisor.definition(want.name))
    if want.uuid not in (None, domain.uuid):
        raise Refused(
            "wrong_state",
            f"{want.name} has another UUID than {want.uuid}",
            "it is not the one that was meant: look at both with `maglica vm info`",
        )
    if want.made_by not in (None, domain.mark.get("job")):
        raise Refused(
            "wrong_state",
            f"{want.name} was not made by job {want.made_by}",
            "it is not the one that was meant: `maglica vm info` tells what it is",
        )
    if domain_xml.is_image(domain, state in ACTIVE):
        raise Refused("protected", f"{want.name} is an image", "`maglica vm remove` removes VMs only")
    if state in ACTIVE and not want.force:
        raise Refused("wrong_state", f"{want.name} is {state}", "stop it first, or use --force to pull the plug")
    own = [] if want.keep_disks else [source.path for source in look.sources(hypervisor, domain, host.storage)]
    own += snapshot_files.own(want.name, own, host) if not want.keep_disks else []
    own += [domain.mark["seed"]] if "seed" in domain.mark and not want.keep_disks else []
    own += [domain.mark[saved.MARK]] if saved.MARK in domain.mark and not want.keep_disks else []
    doomed, kept = look.users_of(hypervisor, want.name, own)
    kept |= {one.base: one.domain or f"the overlay {one.path}" for one in dependants.of(hypervisor, own)}
    if kept:
        path, user = next(iter(kept.items()))
        raise Refused(
            "protected",
            f"{want.name} cannot be removed: {user} uses its disk {path}",
            f"remove {user} first, or use --keep-disks to delete the definition only",
            details={"used": kept},
        )
    if want.keep_disks:
        removing.refuse_loss(want.name, host)
    work.will({"remove": want.name, "delete": doomed})
    if state in ACTIVE:
        with work.step("destroy"):
            hypervisor.destroy(want.name)
    return removing.remove(domain, doomed, host, work, keep=want.keep_disks)
