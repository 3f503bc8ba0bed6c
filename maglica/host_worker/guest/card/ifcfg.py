"""One card in ifcfg files. Facts from initscripts' sysconfig.txt."""

from __future__ import annotations

import re
from dataclasses import replace

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
from maglica.host_worker.guest.model import GuestFacts, GuestRequest
from maglica.host_worker.guest.net import ifcfg

_KEYS = {
    4: re.compile(r"(BOOTPROTO|IPADDR\d*|NETMASK\d*|PREFIX\d*|GATEWAY\d*|DNS\d+|NETWORK|BROADCAST|DOMAIN|ONBOOT)$"),
    6: re.compile(
        r"(IPV6ADDR|IPV6ADDR_SECONDARIES|IPV6_DEFAULTGW|IPV6INIT|IPV6_AUTOCONF|DHCPV6C|DNS\d+|DOMAIN|ONBOOT)$"
    ),
}
_MASTERS = ("BRIDGE", "MASTER", "TEAM_MASTER")


def edit(facts: GuestFacts, request: GuestRequest, card: Card) -> Done:
    paths = [path for path in facts.find(f"{ifcfg.DIRECTORY}/ifcfg-*") if path in facts.files]
    cards = set(ifcfg.cards(facts))
    entries = []
    for path in paths:
        values = ifcfg.values_of(facts.text(path))
        name = values.get("DEVICE") or path.rsplit("/ifcfg-", 1)[1]
        if path in cards or name == card.name:
            entries.append(Entry(name, (values.get("HWADDR") or values.get("MACADDR") or "").lower() or None, path))
    names = named(facts, card)
    found = chosen(entries, card, names)
    name = (found.name if found else None) or card.name or names.get(str(card.mac)) or _new_name(str(card.mac))
    path = found.path if found else f"{ifcfg.DIRECTORY}/ifcfg-{name}"
    old = facts.text(path)
    values = ifcfg.values_of(old)
    for key in _MASTERS:
        if values.get(key):
            raise refuse_part(card.word, values[key], path)
    static = request.network.address is not None
    version = request.network.interface.version if static else 4
    numbers = sorted(key for key in values if re.fullmatch(r"(IPADDR|GATEWAY|DNS)\d*", key))
    was = [values[key] for key in numbers if key.startswith("IPADDR")]
    gateways = [values[key] for key in numbers if key.startswith("GATEWAY")]
    if version == 6 or not static:
        was = [*([] if static else was), *values.get("IPV6ADDR", "").split()]
        gateways += values.get("IPV6_DEFAULTGW", "").split()
    servers = [values[key] for key in numbers if key.startswith("DNS")]
    wanted = settled(request.network, gateways, servers)
    if static:
        wanted = replace(wanted, search=tuple(values.get("DOMAIN", "").split()))
    doomed = [_KEYS[version]] if static else list(_KEYS.values())  # no address is to be left
    keep = [line for line in old.splitlines() if not any(one.match(ifcfg.key_of(line)) for one in doomed)]
    new = [*_head(values, name, found is None, card), *_address(replace(request, network=wanted)), "ONBOOT=yes"]
    edits, expected = written(facts, path, "\n".join([*keep, *new]) + "\n")
    return Done(edits, expected, without_prefix(was))


def _new_name(mac: str) -> str:
    return f"net{mac.replace(':', '')[-4:]}"


def _head(values: dict[str, str], name: str, new: bool, card: Card) -> list[str]:
    if not new:
        return []
    return ["TYPE=Ethernet", f"HWADDR={card.mac}" if card.mac and not card.name else f"DEVICE={name}"]


def _address(request: GuestRequest) -> list[str]:
    if request.network.address is None:
        return ["BOOTPROTO=dhcp"]
    lines = ifcfg.static_lines(request)
    return [line for line in lines if line != "BOOTPROTO=none"] if request.network.interface.version == 6 else lines
