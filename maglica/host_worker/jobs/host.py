"""The host itself."""

from __future__ import annotations

from typing import Any

from maglica import VERSION, machine
from maglica.actions.host import HostCheck, HostInfo, HostPing, HostSurvey
from maglica.host_worker.domain import contention, look
from maglica.host_worker.host import Host


def host_ping(want: HostPing, host: Host) -> dict[str, Any]:
    return {"items": [{"name": host.name, "version": VERSION}]}


def host_survey(want: HostSurvey, host: Host) -> dict[str, Any]:
    hypervisor = host.hypervisor
    told = look.survey(hypervisor, host.settings, host.storage) if want.room else look.roll(hypervisor)
    return contention.surveyed(told, hypervisor) if want.lives else told


def host_check(want: HostCheck, host: Host) -> dict[str, Any]:
    item = {
        "name": host.name,
        "version": VERSION,
        "uri": host.hypervisor.uri,
        "libvirt": look.facts(host.hypervisor, host.settings.memory_reserve, host.acceleration)["libvirt"],
        "self": machine.name(host.name),
        "client": machine.name(host.client),
        "room": machine.room(host.paths.state),
        "folders": [machine.folder(host.paths.keys)],
    }
    return {"items": [item]}


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
