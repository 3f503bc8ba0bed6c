"""Booting VMs anew without switching them off, and ringing at their kernels."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.reboot import VmNmi, VmReboot, VmReset
from maglica.errors import Failed
from maglica.host_worker.domain import domain_xml, readiness, rebooting, standing
from maglica.host_worker.domain.console import Follower
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def vm_reboot(want: VmReboot, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the guest asked to boot anew, and it will."""
    state = host.hypervisor.state(want.name)
    standing.refuse_off(want.name, state, ACTIVE)
    standing.refuse(want.name, state)
    rebooting.refuse(host)
    domain = domain_xml.read(host.hypervisor.definition(want.name))
    readiness.refuse(want.wait, domain, host)
    agent = rebooting.through_agent(want.name, want.through, host)
    through = "agent" if agent else "acpi"
    work.will({"reboot": want.name, "through": through, **({"wait for": want.wait} if want.wait else {})})
    wait = readiness.prepare(want.wait, want.wait_timeout, want.name, host)
    if wait and wait.follower and domain.console_log:  # the log goes on: what it holds is of the run before
        follower = Follower(domain.console_log, want.wait.partition(":")[2] if want.wait else "", all_of_it=False)
        wait = wait._replace(follower=follower)
    with work.step("reboot", note=f"asked through {through}"):
        obeyed = rebooting.obeys(want.name, want.timeout, agent, host, work)
    if not obeyed and not want.force:
        raise Failed(
            "environment_error",
            f"{want.name} has not come down {want.timeout:g} s after it was asked to",
            "give it more --timeout, or --force to reset it when it does not obey",
        )
    if not obeyed:
        with work.step("reset"):
            host.hypervisor.reset(want.name)
    told = {"name": want.name, "host": host.name, "state": host.hypervisor.state(want.name), "changed": True}
    told["through"] = through if obeyed else "reset"
    return {**told, **(readiness.wait(wait, host, work) if wait else {})}


def vm_reset(want: VmReset, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the guest as it was or booting."""
    standing.refuse_off(want.name, host.hypervisor.state(want.name), ACTIVE)
    work.will({"reset": want.name})
    with work.step("reset"):
        work.point_of_no_return()
        host.hypervisor.reset(want.name)
    return {"name": want.name, "host": host.name, "state": host.hypervisor.state(want.name), "changed": True}


def vm_nmi(want: VmNmi, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the interrupt sent or not."""
    state = host.hypervisor.state(want.name)
    standing.refuse_off(want.name, state, ACTIVE)
    work.will({"send an NMI to": want.name})
    with work.step("nmi"):
        work.point_of_no_return()
        host.hypervisor.nmi(want.name)
    return {"name": want.name, "host": host.name, "state": host.hypervisor.state(want.name), "changed": True}
