"""One card in /etc/network/interfaces. Facts from interfaces(5)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from maglica.errors import Refused
from maglica.host_worker.guest.card.common import (
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
from maglica.host_worker.guest.model import MAC, Edit, Expectation, GuestFacts, GuestRequest
from maglica.host_worker.guest.net import ifupdown
from maglica.host_worker.guest.net.common import VIRTUAL

# What belongs to an address; every other option of a stanza stays.
_OPTIONS = (
    *("address", "netmask", "gateway", "broadcast", "network", "pointopoint", "scope"),
    *("dns-nameservers", "dns-nameserver", "dns-search", "dns-domain", "hostname", "client", "vendor"),
    *("leasehours", "leasetime", "preferred-lifetime"),
)
_SLAVES = ("bridge_ports", "bridge-ports", "bond-slaves", "bond_slaves", "slaves")


class Stanza(NamedTuple):
    """An `iface` stanza: its lines are those from `begin` up to `end`."""

    name: str
    family: str
    method: str
    begin: int
    end: int

    def options(self, lines: list[str]) -> list[tuple[str, list[str], str]]:
        """(option, its words, the line as it stands) of each."""
        found = []
        for line in lines[self.begin + 1 : self.end]:
            words = line.split()
            if words and not words[0].startswith("#"):
                found.append((words[0].lower(), words[1:], line))
        return found


def edit(facts: GuestFacts, request: GuestRequest, card: Card) -> Done:
    paths = ifupdown.interface_files(facts)
    name, start = _name(facts, paths, card)
    _refuse_part(facts, paths, name)
    static = request.network.address is not None
    family = "inet6" if static and request.network.interface.version == 6 else "inet"
    own = [(path, one) for path in paths for one in _stanzas(facts.text(path)) if one.name == name]
    replaced = [(path, one) for path, one in own if one.family == family]
    if not static:  # no address is to be left
        replaced += [(path, one) for path, one in own if one.family != family and one.method == "static"]
    was, gateways, servers, search, kept = _old(facts, replaced, family)
    network = settled(replace(request.network, search=tuple(search)) if static else request.network, gateways, servers)
    new = [*ifupdown.iface_text(name, replace(request, network=network)).splitlines(), *kept]
    place = next(iter(replaced or own), (ifupdown.INTERFACES, None))
    edits: list[Edit] = []
    expected: list[Expectation] = []
    for path in dict.fromkeys([*[path for path, _ in replaced], place[0]]):
        lines = facts.text(path).splitlines()
        gone = sorted((one.begin, one.end) for where, one in replaced if where == path)
        if path == place[0] and not (replaced and place[1]):
            at = place[1].end if place[1] else len(lines)
            lines[at:at] = ["", *([] if place[1] else [start]), *new]
        for begin, end in reversed(gone):
            first = path == place[0] and place[1] is not None and begin == place[1].begin
            lines[begin:end] = new if first else []
        more, wanted = written(facts, path, "\n".join(lines).rstrip("\n") + "\n")
        edits += more
        expected += wanted
    return Done(edits, expected, without_prefix(was))


def _name(facts: GuestFacts, paths: list[str], card: Card) -> tuple[str, str]:
    """(what the card is called: its stanza's name, or the one by which it was chosen; what starts it)."""
    starters = {
        word.split("=", 1)[1]: mac[0].lower()
        for path in paths
        for words in ifupdown.statements(facts.text(path))
        for word in words
        if "=" in word and (mac := MAC.search(word))
    }
    entries = []
    for path in paths:
        lines = facts.text(path).splitlines()
        for one in _stanzas(facts.text(path)):
            if one.name == "lo":
                continue
            bound = [words[-1].lower() for option, words, _ in one.options(lines) if option == "hwaddress" and words]
            own = next((word for word in bound if MAC.fullmatch(word)), starters.get(one.name))
            entries.append(Entry(one.name, own, path))
    names = named(facts, card)
    found = chosen([one for one in entries if not _is_more(one.name or "") or one.name == card.name], card, names)
    name = (found.name if found else None) or card.name or names.get(str(card.mac))
    if name is None:
        if not ifupdown.starts_by_mac(facts):
            raise Refused("ambiguous_name", f"nothing in the guest names the card {card.mac}", "say --interface=NAME")
        name = f"net{str(card.mac).replace(':', '')[-4:]}"
        return name, f"auto mac/{card.mac}={name}"
    return name, f"auto {name}"


def _is_more(name: str) -> bool:
    return bool(VIRTUAL.match(name))


def _stanzas(text: str) -> list[Stanza]:
    found: list[Stanza] = []
    lines = text.splitlines()
    inside = joined = False
    for number, line in enumerate(lines):
        words = line.split()
        if joined:  # the line before ends with a backslash
            if inside:
                found[-1] = found[-1]._replace(end=number + 1)
        elif words and not words[0].startswith("#"):
            if words[0] == "iface" and len(words) >= 4:
                found.append(Stanza(words[1], words[2], words[3], number, number + 1))
                inside = True
            elif ifupdown.starts_stanza(words[0]):
                inside = False
            elif inside:
                found[-1] = found[-1]._replace(end=number + 1)
        joined = line.endswith("\\")
    return found


def _old(
    facts: GuestFacts, stanzas: list[tuple[str, Stanza]], family: str
) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """(addresses, gateways, name servers, search domains, lines that stay) of these stanzas."""
    was: list[str] = []
    gateways: list[str] = []
    servers: list[str] = []
    search: list[str] = []
    kept: list[str] = []
    lists = {
        "address": was, "gateway": gateways, "dns-nameservers": servers, "dns-nameserver": servers,
        "dns-search": search,
    }  # fmt: skip
    for path, one in stanzas:
        for option, words, line in one.options(facts.text(path).splitlines()):
            lists.get(option, []).extend(words)
            if option not in _OPTIONS and one.family == family:
                kept.append(line)
    return was, gateways, servers, search, kept


def _refuse_part(facts: GuestFacts, paths: list[str], name: str) -> None:
    for path in paths:
        lines = facts.text(path).splitlines()
        for one in _stanzas(facts.text(path)):
            for option, words, _ in one.options(lines):
                master = one.name == name and option in ("bond-master", "bond_master")
                if master or (option in _SLAVES and name in words):
                    raise refuse_part(name, words[0] if master else one.name, path)
