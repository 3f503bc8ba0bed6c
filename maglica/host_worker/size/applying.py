"""Giving a VM another definition: for its next start, or by a new start at once."""

from __future__ import annotations

from typing import Any, Protocol

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.domain import domain_xml, saved, starting, stopping
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import Shape
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work

Value = dict[str, Any]


class Offline(Protocol):
    """What every verb says of the new start that it may need."""

    @property
    def timeout(self) -> float: ...

    @property
    def force(self) -> bool: ...


def refuse_image(found: Shape) -> None:
    """An image is what others are made of: no verb of a VM changes it."""
    if domain_xml.is_image(domain_xml.read(found.stored), found.state in ACTIVE):
        raise Refused("protected", f"{found.name} is an image", "clone it, and change the clone")


def wheres(found: Shape, apply: str) -> list[str]:
    """Where something is to be changed: live, config, or both, the definition last."""
    if apply == "live" and found.live is None:
        raise Refused("wrong_state", f"{found.name} is off: nothing of it is live", "leave out --apply=live")
    if found.live is None or apply == "config":
        return ["config"]
    return ["live", "config"] if apply == "both" else ["live"]


def shape(name: str, host: Host) -> Shape:
    """What a VM is. Refused for an image, and for what would go on from saved memory, as it was."""
    found = host.hypervisor.shape(name)
    refuse_image(found)
    saved.refuse_change(domain_xml.read(found.stored), host.hypervisor, runs=found.live is not None)
    return found


def redefine(found: Shape, text: str, host: Host, work: Work, shown: dict[str, Any]) -> None:
    """The last step of a job: another definition. `shown`: its sign."""
    work.undo("redefine", uuid=found.uuid, text=found.stored)
    with work.step("define", sign=shown):
        host.hypervisor.redefine(found.uuid, text)


def restart(found: Shape, text: str, want: Offline, disks: list[str], host: Host, work: Work, result: Value) -> None:
    """Shut a VM down, give it another definition, and start it: the last steps of a job.

    When it cannot be started with that, it is started again as it was. A crash leaves it off, with the definition that
    it had, or started as it shall be. `disks`: what `starting.look` told before anything was touched.
    """
    name, hypervisor = found.name, host.hypervisor
    stopping.shut_down(name, want.timeout, want.force, host, work)
    try:
        work.undo("redefine", uuid=found.uuid, text=found.stored)
        with work.step("define"):
            hypervisor.redefine(found.uuid, text)
        shown = sign("runs", {**result, "state": "running"}, name=name)
        with starting.to_be_written(name, disks, host), work.step("start", sign=shown):
            hypervisor.start(name)
    except MaglicaError:
        if hypervisor.state(name) not in ACTIVE:
            hypervisor.redefine(found.uuid, found.stored)
            with starting.to_be_written(name, disks, host):
                hypervisor.start(name)
        raise
