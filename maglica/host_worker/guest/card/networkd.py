"""One card in /etc/systemd/network. Facts from systemd.network(5)."""

from __future__ import annotations

import re
from dataclasses import replace

from maglica.errors import Refused
from maglica.host_worker.guest.card import ini
from maglica.host_worker.guest.card.common import (
    BY_HAND,
    MARK,
    Card,
    Done,
    Entry,
    chosen,
    named,
    refuse_part,
    settled,
    without_prefix,
    written,
)
from maglica.host_worker.guest.card.ini import Section
from maglica.host_worker.guest.model import MAC, GuestFacts, GuestRequest
from maglica.host_worker.guest.net import networkd
from maglica.host_worker.guest.net.common import VIRTUAL

_EVERYWHERE = ("", "0.0.0.0/0", "::/0")


def edit(facts: GuestFacts, request: GuestRequest, card: Card) -> Done:
    paths = facts.find(f"{networkd.DIRECTORY}/*.network")
    files = {path: ini.read(facts.text(path)) for path in paths}
    entries = [
        one for path, sections in files.items()
        if (one := _entry(path, sections)) is not None and (not VIRTUAL.match(one.name or "") or one.name == card.name)
    ]  # fmt: skip
    found = chosen(entries, card, named(facts, card))
    if found is None:
        return _new(facts, request, card, files)
    if facts.find(f"{found.path}.d"):
        raise Refused("environment_error", f"{card.word} has more settings in {found.path}.d", BY_HAND)
    sections = files[found.path]
    network = ini.section(sections, "network", "[Network]")
    for key in ("bridge", "bond", "vrf"):
        if network.values(key):
            raise refuse_part(card.word, network.values(key)[0], found.path)
    doomed = [one for one in sections if one.name == "address" or (one.name == "route" and _is_default(one))]
    was = [*network.values("address"), *(value for one in doomed for value in one.values("address"))]
    gateways = [*network.values("gateway"), *(value for one in doomed for value in one.values("gateway"))]
    servers = [word for value in network.values("dns") for word in value.split()]
    search = network.values("domains")
    static = request.network.address is not None
    wanted = settled(request.network, gateways, servers)
    wanted = replace(wanted, search=tuple(word for value in search for word in value.split())) if static else wanted
    network.drop(lambda key: key in ("dhcp", "address", "gateway", "dns", "domains"))
    network.lines[1:1] = networkd.network_lines(wanted)
    edits, expected = written(facts, found.path, ini.written([one for one in sections if one not in doomed]))
    return Done(edits, expected, without_prefix(was))


def _entry(path: str, sections: list[Section]) -> Entry | None:
    """The one card that a file is for; None where it is for several."""
    matches = [one for one in sections if one.name == "match"]
    macs = [
        mac.lower() for one in matches for key in ("macaddress", "permanentmacaddress") for value in one.values(key)
        for mac in MAC.findall(value)
    ]  # fmt: skip
    names = [word for one in matches for key in ("name", "originalname") for value in one.values(key)
             for word in value.split()]  # fmt: skip
    if len(macs) == 1:
        return Entry(names[0] if len(names) == 1 else None, macs[0], path)
    if not macs and len(names) == 1 and not re.search(r"[*?\[!]", names[0]):
        return Entry(names[0], None, path)
    return None


def _is_default(route: Section) -> bool:
    return bool(route.values("gateway")) and set(route.values("destination")) <= set(_EVERYWHERE)


def _new(facts: GuestFacts, request: GuestRequest, card: Card, files: dict[str, list[Section]]) -> Done:
    """A file of its own, before the one that is for several cards: the first that fits is taken."""
    path = f"{networkd.DIRECTORY}/00-maglica-{card.word.replace(':', '')}.network"
    # What several have in common stays as it is for the others; by DHCP already, nothing is to be done.
    common = [one for sections in files.values() for one in sections if one.name == "network"]
    dhcp = any(value.lower() in networkd.YES for one in common for value in one.values("dhcp"))
    static = any(one.values("address") for one in common)
    if request.network.address is None and dhcp and not static:
        return Done([], [], ())
    match = f"MACAddress={card.mac}" if card.mac else f"Name={card.name}"
    lines = ["[Match]", match, "", "[Network]", *networkd.network_lines(request.network)]
    edits, expected = written(facts, path, MARK + "\n".join(lines) + "\n", 0o644)
    return Done(edits, expected, ())
