"""Holding VMs still, and letting them go on."""

from __future__ import annotations

import time
from typing import Any

from maglica.actions.vm.pausing import VmPmsuspend, VmPmwakeup, VmResume, VmSuspend
from maglica.errors import Failed, Refused
from maglica.host_worker.domain import inward, standing, starting
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work

POLL = 0.2  # seconds between two looks at a guest that falls asleep
RUNS = ["running", "idle"]
# What libvirt pauses a guest for, and lets it go on by itself.
BUSY = ("migration", "save", "dump", "shutting down", "snapshot", "starting up", "post-copy")


def vm_suspend(want: VmSuspend, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM running or paused."""
    state = host.hypervisor.state(want.name)
    if state == "paused":
        return _told(want.name, state, host, changed=False)
    if state not in RUNS:
        standing.refuse_off(want.name, state, ACTIVE)
        raise Refused("wrong_state", f"{want.name} is {state}", "only a VM that runs can be held still")
    work.will({"pause": want.name})
    result = _told(want.name, "paused", host, changed=True)
    with work.step("suspend", sign=sign("is_in", result, name=want.name, states=["paused"])):
        work.point_of_no_return()
        host.hypervisor.suspend(want.name)
    return result


def vm_resume(want: VmResume, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the VM paused or running."""
    state = host.hypervisor.state(want.name)
    if state in RUNS:
        return _told(want.name, state, host, changed=False)
    standing.refuse_off(want.name, state, ACTIVE)
    if state != "paused":
        hint = standing.WAKE.get(state, "only a VM that is paused can be let go on").format(name=want.name)
        raise Refused("wrong_state", f"{want.name} is {state}", hint)
    why = host.hypervisor.paused_for(want.name)
    if why in BUSY and host.hypervisor.transfer(want.name):
        raise Refused("locked", f"{want.name} is paused by libvirt: {why}", "it goes on by itself when that is done")
    starting.refuse_used(want.name, host)
    work.will({"let go on": want.name, "paused for": why})
    result = _told(want.name, "running", host, changed=True)
    with work.step("resume", sign=sign("is_in", result, name=want.name, states=RUNS)):
        work.point_of_no_return()
        host.hypervisor.resume(want.name)
    return {**result, "state": host.hypervisor.state(want.name)}


def vm_pmsuspend(want: VmPmsuspend, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the guest awake, falling asleep, or asleep."""
    state = host.hypervisor.state(want.name)
    end = "shut-off" if want.to == "disk" else "pm-suspended"
    if state == "pm-suspended" and want.to != "disk":
        return _told(want.name, state, host, changed=False)
    standing.refuse_off(want.name, state, ACTIVE)
    standing.refuse(want.name, state)
    inward.refuse_without_agent(want.name, "puts a guest to sleep", host)
    work.will({"put to sleep": want.name, "to": want.to})
    result = _told(want.name, end, host, changed=True)
    with work.step("pmsuspend", sign=sign("is_in", result, name=want.name, states=[end])):
        host.hypervisor.pm_suspend(want.name, want.to)
        until = time.monotonic() + want.timeout
        while host.hypervisor.state(want.name) not in ("pm-suspended", "shut-off"):
            work.check()
            if time.monotonic() > until:
                raise Failed(
                    "environment_error",
                    f"{want.name} is still awake {want.timeout:g} s after its agent was asked to put it to sleep",
                    "its kernel may not know that kind of sleep: /sys/power/state in the guest tells"
                    + ("; this one needs swap for what it has in memory" if want.to != "mem" else ""),
                )
            time.sleep(POLL)
    return {**result, "state": host.hypervisor.state(want.name)}


def vm_pmwakeup(want: VmPmwakeup, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the guest asleep or awake."""
    state = host.hypervisor.state(want.name)
    if state in RUNS:
        return _told(want.name, state, host, changed=False)
    if state != "pm-suspended":
        hint = {"paused": standing.WAKE["paused"], "shut-off": "`maglica vm start {name}` starts it"}.get(state, "")
        raise Refused("wrong_state", f"{want.name} is {state}: it does not sleep", hint.format(name=want.name))
    starting.refuse_used(want.name, host)
    work.will({"wake up": want.name})
    result = _told(want.name, "running", host, changed=True)
    with work.step("pmwakeup", sign=sign("is_in", result, name=want.name, states=RUNS)):
        work.point_of_no_return()
        host.hypervisor.pm_wakeup(want.name)
    return {**result, "state": host.hypervisor.state(want.name)}


def _told(name: str, state: str, host: Host, *, changed: bool) -> dict[str, Any]:
    return {"name": name, "host": host.name, "state": state, "changed": changed}
