"""The host itself."""

from __future__ import annotations

import importlib.util
from typing import Any

from maglica import VERSION, machine
from maglica.actions.host import HostCheck, HostInfo, HostPing, HostSurvey
from maglica.errors import MaglicaError
from maglica.host_worker import commands
from maglica.host_worker.domain import contention, look
from maglica.host_worker.guest.child import HINT_GUESTFS
from maglica.host_worker.host import Host


def host_ping(want: HostPing, host: Host) -> dict[str, Any]:
    return {"items": [{"name": host.name, "version": VERSION}]}


def host_survey(want: HostSurvey, host: Host) -> dict[str, Any]:
    hypervisor = host.hypervisor
    told = look.survey(hypervisor, host.settings, host.storage) if want.room else look.roll(hypervisor)
    return contention.surveyed(told, hypervisor) if want.lives else told


def host_check(want: HostCheck, host: Host) -> dict[str, Any]:
    lacking = commands.lacking()
    if importlib.util.find_spec("guestfs") is None:
        lacking.append({"what": "libguestfs for Python", "cure": HINT_GUESTFS})
    item = {
        "name": host.name,
        "version": VERSION,
        "uri": host.hypervisor.uri,
        **_libvirt(host),
        "acceleration": host.acceleration,
        "acceleration_why": host.why,
        "lacking": lacking,
        "self": machine.name(host.name),
        "client": machine.name(host.client),
        "room": machine.room(host.paths.state),
        "folders": [machine.folder(host.paths.keys)],
    }
    return {"items": [item]}


def _libvirt(host: Host) -> dict[str, Any]:
    """Whether it answers, and the pools that it has; if not, what to do where that is known."""
    try:
        pools = [str(pool["name"]) for pool in host.hypervisor.pools()]
    except MaglicaError as error:
        return {"libvirt": error.message, "libvirt_cure": error.hint or None, "pools": None}
    return {"libvirt": "ok", "libvirt_cure": None, "pools": sorted(pools)}


def host_info(want: HostInfo, host: Host) -> dict[str, Any]:
    hypervisor = host.hypervisor
    facts = look.facts(hypervisor, host.settings.memory_reserve, host.acceleration)
    item = {
        "name": host.name,
        "version": VERSION,
        "uri": hypervisor.uri,
        **facts,
        "acceleration_why": host.why,
        **hypervisor.node(),
        "pools": hypervisor.pools(),
        "vms": sorted(look.machines(hypervisor, look.Which()), key=lambda vm: str(vm["name"])),
        "images": [image["name"] for image in look.images(hypervisor, host.storage, every=False)],
    }
    return {"item": item}
