"""Starting and stopping VMs."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.power import VmAutostart, VmDestroy, VmRestart, VmStart, VmStop
from maglica.errors import Refused
from maglica.host_worker.domain import differing, domain_xml, guarding, readiness, saved, standing, starting, stopping
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def vm_start(want: VmStart, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM off or running; nothing else."""
    state = host.hypervisor.state(want.name)
    runs = state in ("running", "idle")
    if runs and want.wait is None:
        return _unchanged(want.name, state)
    if state in ACTIVE and not runs:
        raise Refused("wrong_state", f"{want.name} is {state}", "only a VM that is shut off can be started")
    _refuse_wait(want, host)
    if runs:
        work.will({"wait for": want.wait})
        wait = readiness.prepare(want.wait, want.wait_timeout, want.name, host)
        return {**_unchanged(want.name, state), **_waited(wait, host, work)}
    kept = host.hypervisor.has_managed_save(want.name)
    # What goes on does so with the devices that it had.
    text = host.hypervisor.saved_definition(want.name, None) if kept and not want.discard else None
    disks = starting.look(want.name, host, ignore_changed_base=want.ignore_changed_base, job=work.job, text=text)
    domain = domain_xml.read(host.hypervisor.definition(want.name))
    old = domain.mark.get(saved.MARK) if want.discard else saved.refuse(domain, disks)
    how: dict[str, Any] = {"restored": True} if kept and not want.discard else {}
    forgotten = {"forget": old} if old else {}
    work.will({"start": want.name, **how, **forgotten, **({"wait for": want.wait} if want.wait else {})})
    wait = readiness.prepare(want.wait, want.wait_timeout, want.name, host)
    shown = None if wait else _runs(want.name, host)
    with starting.to_be_written(want.name, disks, host, text), work.step("start", sign=shown):
        work.point_of_no_return()
        host.hypervisor.start(want.name, fresh=kept and want.discard)
    if old:  # a later start would forget it as well: what runs now has written to the disks
        saved.forget(host.hypervisor, want.name, old)
    return {**_changed(want.name, host), **how, **_waited(wait, host, work)}


def vm_stop(want: VmStop, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the guest asked to shut down, and perhaps off."""
    state = host.hypervisor.state(want.name)
    if state not in ACTIVE:
        return _unchanged(want.name, state)
    if not want.force:
        standing.refuse(want.name, state)
    work.will({"shut down": want.name, "force": want.force})
    stopping.shut_down(want.name, want.timeout, want.force, host, work, _is_off(want.name, host))
    return _changed(want.name, host)


def vm_restart(want: VmRestart, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM running, shutting down, or off."""
    state = host.hypervisor.state(want.name)
    if state not in ACTIVE:
        raise Refused("wrong_state", f"{want.name} is {state}", f"`maglica vm start {want.name}` starts it")
    if not want.force:
        standing.refuse(want.name, state)
    standing.refuse_transient(want.name, host)
    _refuse_wait(want, host)
    disks = starting.look(want.name, host, ignore_changed_base=want.ignore_changed_base, job=work.job)
    waited = {"wait for": want.wait} if want.wait else {}
    picked = {"redefined": differing.public(differing.of(want.name, host.hypervisor))} if want.redefine else {}
    work.will({"restart": want.name, "force": want.force, **picked, **waited})
    stopping.shut_down(want.name, want.timeout, want.force, host, work)
    wait = readiness.prepare(want.wait, want.wait_timeout, want.name, host)
    shown = None if wait else _runs(want.name, host)
    with starting.to_be_written(want.name, disks, host), work.step("start", sign=shown):
        host.hypervisor.start(want.name)
    return {**_changed(want.name, host), **picked, **_waited(wait, host, work)}


def vm_destroy(want: VmDestroy, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM running or off."""
    state = host.hypervisor.state(want.name)
    if state not in ACTIVE:
        return _unchanged(want.name, state)
    work.will({"pull the plug of": want.name})
    with work.step("destroy", sign=_is_off(want.name, host)):
        work.point_of_no_return()
        host.hypervisor.destroy(want.name)
    return _changed(want.name, host)


def vm_autostart(want: VmAutostart, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves it as it was or as it shall be."""
    told = {"name": want.name, "host": host.name, "autostart": not want.off}
    domain = domain_xml.read(host.hypervisor.definition(want.name))
    if not want.off:
        guarding.refuse_retired(domain)
    if host.hypervisor.autostarts(want.name) is not want.off:
        return {**told, "changed": False}
    if domain_xml.is_image(domain, False) and not want.off:
        raise Refused("protected", f"{want.name} is an image", "images are cloned, not started")
    standing.refuse_transient(want.name, host)
    work.will({"autostart": "off" if want.off else "on"})
    result = {**told, "changed": True}
    with work.step("autostart", sign=sign("autostarts", result, name=want.name, wanted=not want.off)):
        work.point_of_no_return()
        host.hypervisor.set_autostart(want.name, not want.off)
    return result


def _refuse_wait(want: VmStart | VmRestart, host: Host) -> None:
    if want.wait is not None:
        readiness.refuse(want.wait, domain_xml.read(host.hypervisor.definition(want.name)), host)


def _waited(wait: readiness.Wait | None, host: Host, work: Work) -> dict[str, Any]:
    return readiness.wait(wait, host, work) if wait else {}


def _runs(name: str, host: Host) -> dict[str, Any]:
    """What shows that a VM was started."""
    return sign("runs", {"name": name, "host": host.name, "state": "running", "changed": True}, name=name)


def _is_off(name: str, host: Host) -> dict[str, Any]:
    """What shows that a VM was stopped."""
    return sign("is_off", {"name": name, "host": host.name, "state": "shut-off", "changed": True}, name=name)


def _changed(name: str, host: Host) -> dict[str, Any]:
    state = host.hypervisor.state(name)
    return {"name": name, "host": host.name, "state": state, "changed": True}


def _unchanged(name: str, state: str) -> dict[str, Any]:
    return {"name": name, "state": state, "changed": False}
