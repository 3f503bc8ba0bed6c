"""Network cards of VMs."""

from __future__ import annotations

import os
import random
from typing import Any

from maglica.actions.nic import NicAttach, NicDetach, NicLink, NicList
from maglica.errors import Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.device import elements, nics, plugging
from maglica.host_worker.device.plugging import Places, Subject
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work


def nic_list(want: NicList, host: Host) -> dict[str, Any]:
    live, config = (elements.nics(text) for text in host.hypervisor.layout(want.name))
    items = [
        {"name": want.name, **nics.facts(live.get(mac) or config[mac]), "live": mac in live, "config": mac in config}
        for mac in dict.fromkeys([*live, *config])
    ]
    return {"items": items}


def nic_attach(want: NicAttach, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle takes the card out again."""
    subject = plugging.look(want.name, host)
    where = plugging.places(subject, want.apply)
    kind, source = ("network", want.network) if want.network else ("bridge", str(want.bridge))
    _refuse_no_such(kind, str(source), host)
    mac = want.mac or plan.random_mac(random.SystemRandom())
    _refuse_taken(mac, want.name, host)
    first = next((nic["model"] for nic in subject.domain.nics if nic["model"]), None)
    piece = nics.element(kind, str(source), mac, want.model or first or "virtio", want.link)
    facts = {key: value for key, value in nics.facts(piece).items() if key != "device"}
    work.will({"attach": facts, "vm": want.name, **where.told()})
    told = {"name": want.name, "host": host.name, **facts, **where.told(), "changed": True}
    seen = sign("nic_is", told, uuid=subject.uuid, mac=mac, link=want.link, **where.told())
    if where.live:
        with work.step("plug in", sign=None if where.config else seen):
            plugging.attach_live(subject, piece, host, work)
    if where.config:
        with work.step("define", sign=seen):
            plugging.define(subject, elements.added(subject.config, piece), host, work)
    return told


def nic_detach(want: NicDetach, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle plugs the card in again."""
    subject = plugging.look(want.name, host)
    live, config = _card(want.mac, subject)
    asked = plugging.places(subject, want.apply)
    where = Places(asked.live and live is not None, asked.config and config is not None)
    if not any(where):
        return plugging.unchanged(subject, host, mac=want.mac)
    work.will({"detach": want.mac, "vm": want.name, **where.told()})
    told = {"name": want.name, "host": host.name, "mac": want.mac, **where.told(), "changed": True}
    gone = sign("nic_is", told, uuid=subject.uuid, mac=want.mac, link=None, **where.told())
    if where.live:
        with work.step("unplug", sign=None if where.config else gone):
            plugging.detach_live(subject, str(live), f"network card {want.mac}", want.timeout, host, work)
    if where.config:
        with work.step("define", sign=gone):
            plugging.define(subject, elements.replaced(subject.config, str(config), None), host, work)
    return told


def nic_link(want: NicLink, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves the cable as it was or as it shall be, the same in both places."""
    subject = plugging.look(want.name, host)
    mac = want.mac or _only(subject)
    live, config = _card(mac, subject)
    asked = plugging.places(subject, want.apply)
    where = Places(asked.live and _differs(live, want.state), asked.config and _differs(config, want.state))
    if not any(where):
        return plugging.unchanged(subject, host, mac=mac, link=want.state)
    work.will({"link": want.state, "mac": mac, "vm": want.name, **where.told()})
    told = {"name": want.name, "host": host.name, "mac": mac, "link": want.state, **where.told(), "changed": True}
    seen = sign("nic_is", told, uuid=subject.uuid, mac=mac, link=want.state, **where.told())
    if where.live:
        with work.step("change", sign=None if where.config else seen):
            plugging.update_live(subject, str(live), nics.with_link(str(live), want.state), host, work)
    if where.config:
        with work.step("define", sign=seen):
            new = nics.with_link(str(config), want.state)
            plugging.define(subject, elements.replaced(subject.config, str(config), new), host, work)
    return told


def _differs(piece: str | None, state: str) -> bool:
    return piece is not None and nics.facts(piece)["link"] != state


def _card(mac: str, subject: Subject) -> tuple[str | None, str | None]:
    """The card of that address, of what runs and of the definition."""
    live, config = (elements.nics(text).get(mac) for text in (subject.live, subject.config))
    if live is None and config is None:
        hint = f"it has {', '.join(subject.either(elements.nics)) or 'none'}"
        raise Refused("unknown_entity", f"{subject.name} has no network card {mac}", hint)
    return live, config


def _only(subject: Subject) -> str:
    found = list(subject.either(elements.nics))
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("unknown_entity", f"{subject.name} has no network card", "`maglica nic attach` gives it one")
    raise Refused("ambiguous_name", f"{subject.name} has {len(found)} network cards: {', '.join(found)}", "add --mac")


def _refuse_no_such(kind: str, source: str, host: Host) -> None:
    if kind == "network":
        known = host.hypervisor.networks()
        if source not in known:
            hint = f"there are {', '.join(known) or 'none'}"
            raise Refused("unknown_entity", f"there is no network {source} on {host.name}", hint)
    elif host.hypervisor.has_files and not os.path.isdir(f"/sys/class/net/{source}/bridge"):
        raise Refused("unknown_entity", f"there is no bridge {source} on {host.name}", "`ip link` there shows them")


def _refuse_taken(mac: str, name: str, host: Host) -> None:
    """Two cards of one address on a network: each gets some of what is meant for the other."""
    for other, live, config in host.hypervisor.layouts():
        if mac in elements.nics(live) or mac in elements.nics(config):
            whose = "it has one" if other == name else f"{other} has one"
            raise Refused(
                "already_exists", f"{name} cannot get a network card {mac}: {whose} of that address",
                "leave out --mac for a random one",
            )  # fmt: skip
