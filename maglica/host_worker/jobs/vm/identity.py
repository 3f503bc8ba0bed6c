"""What a VM is called, how it is reached, and what people say of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maglica.actions.vm.identity import (
    VmChangeAddress,
    VmDescribe,
    VmOwner,
    VmProtect,
    VmRename,
    VmSetState,
    VmTag,
    VmUnprotect,
    VmUntag,
)
from maglica.errors import Refused
from maglica.host_worker.domain import another, domain_xml, record
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def vm_rename(want: VmRename, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it as it was, or wholly renamed; one that ran runs again in either case."""
    return another.rename(want, host, work)


def vm_change_address(want: VmChangeAddress, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old address or the new one; one that ran runs again in either case."""
    return another.change_address(want, host, work)


def vm_set_state(want: VmSetState, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old word or the new one, and the autostart that goes with it."""
    state = host.hypervisor.state(want.name)
    retires = want.state == record.RETIRED
    if retires and state in ACTIVE:
        hint = "stop it first: what is retired is kept, and does not run"
        raise Refused("wrong_state", f"{want.name} is {state}", hint)
    starts = host.hypervisor.autostarts(want.name)
    more = {"autostart": starts and not retires}
    ends = starts and retires
    return _say(want.name, lambda mark: record.with_state(mark, want.state), host, work, more, end_autostart=ends)


def vm_protect(want: VmProtect, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it as it was, or protected."""
    return _say(want.name, lambda mark: record.with_protection(mark, True), host, work)


def vm_unprotect(want: VmUnprotect, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it as it was, or not protected."""
    return _say(want.name, lambda mark: record.with_protection(mark, False), host, work)


def vm_tag(want: VmTag, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old tags or the new ones."""
    return _say(want.name, lambda mark: record.with_tags(mark, more=want.tags), host, work)


def vm_untag(want: VmUntag, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old tags or the new ones."""
    return _say(want.name, lambda mark: record.with_tags(mark, less=want.tags or record.tags(mark)), host, work)


def vm_describe(want: VmDescribe, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old line or the new one."""
    return _say(want.name, lambda mark: record.with_description(mark, want.text), host, work)


def vm_owner(want: VmOwner, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the old owner or the new one."""
    return _say(want.name, lambda mark: record.with_owner(mark, want.owner), host, work)


def _say(
    name: str, edit: Callable[[dict[str, str]], dict[str, str]], host: Host, work: Work,
    more: dict[str, Any] | None = None, *, end_autostart: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Change the mark, of what runs too: one order, which libvirt obeys wholly or not at all. `more`: for the result;
    `end_autostart`: the VM is not to come up with its host any more either.
    """
    domain = domain_xml.read(host.hypervisor.definition(name))
    new = edit(domain.mark)
    before, after = record.told(domain.mark), record.told(new)
    told = {"name": name, "host": host.name, **after, **(more or {}), "changed": new != domain.mark or end_autostart}
    if not told["changed"]:
        return told
    plan: dict[str, Any] = {"name": name, "record": {key: after[key] for key in after if after[key] != before[key]}}
    work.will({**plan, **({"autostart": "off"} if end_autostart else {})})
    if end_autostart:
        ended = sign("autostarts", told, name=name, wanted=False) if new == domain.mark else None
        with work.step("autostart", sign=ended):
            work.undo("autostart", name=name, wanted=True)
            host.hypervisor.set_autostart(name, False)
    if new != domain.mark:
        gone = sorted(domain.mark.keys() - new.keys())
        with work.step("record", sign=sign("marked", told, uuid=domain.uuid, mark=new, gone=gone)):
            host.hypervisor.set_mark(name, new)
    return told
