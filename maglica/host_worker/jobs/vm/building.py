"""Definitions: made, forgotten, exchanged, taken over, and compared with what is remembered."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.building import VmAdopt, VmDefine, VmForget, VmImport, VmRedefine, VmSync, VmUndefine
from maglica.errors import Refused
from maglica.host_worker.domain import defining, domain_xml, guarding, record, remembering, removing, saved
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def vm_define(want: VmDefine, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it defined or not."""
    text = want.file if want.file is not None else defining.recalled(want.name, host)
    return defining.define(want.name, text, host, work)


def vm_import(want: VmImport, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it defined or not."""
    return defining.define(want.name, defining.imported(want.name, want.qemu_args, want.network, host), host, work)


def vm_redefine(want: VmRedefine, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old definition, or the new one."""
    host.hypervisor.state(want.name)
    text = want.file if want.file is not None else defining.recalled(want.name, host)
    return defining.redefine(want.name, text, host, work)


def vm_undefine(want: VmUndefine, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it defined or not; its disks stay in any case."""
    hypervisor = host.hypervisor
    state = hypervisor.state(want.name)
    text = hypervisor.definition(want.name)
    domain = domain_xml.read(text)
    if domain_xml.is_image(domain, state in ACTIVE):
        raise Refused("protected", f"{want.name} is an image", "`maglica image remove --keep-disks` forgets images")
    if state in ACTIVE:
        raise Refused("wrong_state", f"{want.name} is {state}", "stop it first")
    removing.refuse_loss(want.name, host)
    told = {
        "name": want.name, "host": host.name, "uuid": domain.uuid, "changed": True,
        "kept": [*defining.paths(domain, host), *filter(None, [domain.nvram])],
    }  # fmt: skip
    work.will({"undefine": want.name, "keep": told["kept"]})
    with work.step("undefine", sign=sign("is_gone", told, uuid=domain.uuid)):
        remembering.keep(want.name, text, host)
        work.point_of_no_return()
        hypervisor.forget(domain.uuid)
    return told


def vm_adopt(want: VmAdopt, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it adopted or not."""
    domain = domain_xml.read(host.hypervisor.definition(want.name))
    new = domain.mark
    if "kind" not in new:
        new = {**new, "kind": "adopted", "adopted": defining.now()}
    new = record.with_tags(new, more=want.tags or ())
    new = record.with_owner(new, want.owner) if want.owner is not None else new
    return _mark(want.name, domain, new, {"adopt": want.name}, host, work)


def vm_forget(want: VmForget, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it adopted or not."""
    domain = domain_xml.read(host.hypervisor.definition(want.name))
    if domain.mark.get("kind", "adopted") not in ("adopted", "imported"):
        raise Refused(
            "protected", f"{want.name} was made by maglica ({domain.mark['kind']}): its mark says what it rests on",
            "`maglica vm forget` is for VMs that were adopted",
        )  # fmt: skip
    guarding.refuse_protected(want.name, "vm forget", host)
    kept = {saved.MARK: domain.mark[saved.MARK]} if saved.MARK in domain.mark else {}  # where its memory lies
    return _mark(want.name, domain, kept, {"forget": want.name}, host, work)


def vm_sync(want: VmSync, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old memory or the new one."""
    text = host.hypervisor.definition(want.name)
    before = remembering.recall(want.name, host)
    changes = (
        remembering.differences(domain_xml.read(before), domain_xml.read(text)) if before else ["record: none -> made"]
    )
    told = {"name": want.name, "host": host.name, "changes": changes, "changed": bool(changes)}
    if not changes:
        return told
    work.will({"sync": want.name, "changes": changes})
    with work.step("sync"):
        remembering.keep(want.name, text, host)
    return told


def _mark(
    name: str, domain: domain_xml.Domain, new: dict[str, str], plan: dict[str, Any], host: Host, work: Work
) -> dict[str, Any]:
    told = {
        "name": name, "host": host.name, "kind": new.get("kind"), "adopted": new.get("adopted"), **record.told(new),
        "changed": new != domain.mark,
    }  # fmt: skip
    if new == domain.mark:
        return told
    work.will(plan)
    gone = sorted(domain.mark.keys() - new.keys())
    with work.step("mark", sign=sign("marked", told, uuid=domain.uuid, mark=new, gone=gone)):
        host.hypervisor.set_mark(name, new)
    return told
