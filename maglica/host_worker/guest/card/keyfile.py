"""One card in NetworkManager's keyfiles. Facts from nm-settings-keyfile(5)."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace

from maglica.host_worker.guest.card import ini
from maglica.host_worker.guest.card.common import (
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
from maglica.host_worker.guest.model import MAC, GuestFacts, GuestRequest, Network
from maglica.host_worker.guest.net import keyfile

_MASTERS = ("master", "controller")


def edit(facts: GuestFacts, request: GuestRequest, card: Card) -> Done:
    files = {path: ini.read(facts.text(path)) for path in facts.find(f"{keyfile.DIRECTORY}/*")}
    entries = [one for path, sections in files.items() if (one := _entry(path, sections, card)) is not None]
    found = chosen(entries, card, named(facts, card))
    if found is None:
        return _new(facts, request, card)
    sections = files[found.path]
    connection = ini.section(sections, "connection", "[connection]")
    for key in _MASTERS:
        if connection.values(key):
            raise refuse_part(card.word, connection.values(key)[0], found.path)
    static = request.network.address is not None
    version = request.network.interface.version if static else 4
    own = ini.section(sections, f"ipv{version}", f"[ipv{version}]")
    other = ini.section(sections, f"ipv{10 - version}", f"[ipv{10 - version}]")
    was, gateways, servers, search = _old(own)
    if not static and other.values("method") == ["manual"]:  # no address is to be left
        was += _old(other)[0]
        _rewrite(other, ["method=auto"])
    wanted = settled(request.network, gateways, servers)
    wanted = replace(wanted, search=tuple(search)) if static else wanted
    _rewrite(own, _lines(wanted, version))
    edits, expected = written(facts, found.path, ini.written(sections))
    return Done(edits, expected, without_prefix(was))


def _lines(network: Network, version: int) -> list[str]:
    """What the section of that version says. Name servers of the other one belong to its section."""
    mine = tuple(one for one in network.dns if (":" in one) == (version == 6))
    return keyfile.addresses(replace(network, dns=mine) if network.address else network, version)


def _rewrite(section: Section, lines: list[str]) -> None:
    section.drop(lambda key: bool(re.match(r"(method|address(es)?\d*|gateway|dns|dns-search|may-fail)$", key)))
    section.lines[1:1] = lines


def _old(section: Section) -> tuple[list[str], list[str], list[str], list[str]]:
    """(addresses, gateways, name servers, search domains)"""
    values = [value for number in ("", *map(str, range(10))) for key in ("address", "addresses")
              for value in section.values(f"{key}{number}")]  # fmt: skip
    words = [re.split(r"[,;]", value) for value in values]
    gateways = [*section.values("gateway"), *(one[1].strip() for one in words if len(one) > 1)]
    servers = [word for value in section.values("dns") for word in value.split(";") if word]
    search = [word for value in section.values("dns-search") for word in value.split(";") if word]
    return [one[0].strip() for one in words], gateways, servers, search


def _entry(path: str, sections: list[Section], card: Card) -> Entry | None:
    """The one card that a profile is for; None where it is for any, or for something that is no card."""
    connection = [one for one in sections if one.name == "connection"]
    kinds = [value for one in connection for value in one.values("type")]
    name = next((value for one in connection for value in one.values("interface-name")), None)
    ethernet = [one for one in sections if one.name in ("ethernet", "802-3-ethernet")]
    mac = next((found[0].lower() for one in ethernet for value in one.values("mac-address")
                if (found := MAC.search(value))), None)  # fmt: skip
    is_card = bool({"ethernet", "802-3-ethernet"} & set(kinds))
    if (is_card and (name or mac)) or (name is not None and name == card.name):
        return Entry(name, mac, path)
    return None


def _new(facts: GuestFacts, request: GuestRequest, card: Card) -> Done:
    """A profile of its own, which goes before those that are for any card; by DHCP NetworkManager needs none."""
    if request.network.address is None:
        return Done([], [], ())
    path = f"{keyfile.DIRECTORY}/maglica-{card.word.replace(':', '')}.nmconnection"
    own_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{card.word}.{request.hostname}")
    lines = ["[connection]", f"id={card.word}", f"uuid={own_id}", "type=ethernet", "autoconnect-priority=10"]
    lines += [f"interface-name={card.name}"] if card.name else []
    lines += ["", "[ethernet]", *([f"mac-address={card.mac.upper()}"] if card.mac else []), ""]
    version = request.network.interface.version
    lines += [f"[ipv{version}]", *_lines(request.network, version), "", f"[ipv{10 - version}]", "method=auto"]
    edits, expected = written(facts, path, MARK + "\n".join(lines) + "\n", 0o600)
    return Done(edits, expected, ())
