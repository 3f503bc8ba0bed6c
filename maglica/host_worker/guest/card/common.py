"""Which entry of a guest's files is the card that is meant, and what the writers of all network tools share. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from maglica.errors import Refused
from maglica.host_worker.guest.model import MAC, Edit, Expectation, FileIs, GuestFacts, GuestRequest, Network, WriteFile
from maglica.host_worker.guest.net.common import settings

MARK = "# Written by maglica for this card.\n"
BY_HAND = "set the address inside the guest"
UDEV = "/etc/udev/rules.d/*net*.rules"
LINKS = "/etc/systemd/network/*.link"


class Card(NamedTuple):
    """The card that is meant, by its address, by the name that the guest gives it, or by both. `others`: the addresses
    of the machine's other cards."""

    mac: str | None
    name: str | None
    others: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        return self.name or str(self.mac)


class Entry(NamedTuple):
    """What a guest's files say of a card: its name or its address, where they are known, and where it stands."""

    name: str | None
    mac: str | None
    path: str
    key: str = ""  # of several in one file


class Done(NamedTuple):
    """Edits, what must be true afterwards, and the addresses that stood there before."""

    edits: list[Edit]
    expected: list[Expectation]
    was: tuple[str, ...]


def of(request: GuestRequest) -> Card:
    """The card that a request is about."""
    return Card(request.card, request.interface, tuple(mac for mac in request.macs if mac != request.card))


def named(facts: GuestFacts, card: Card) -> dict[str, str]:
    """MAC -> the name that udev or systemd gives to that card. What is said of cards that the machine does not have is
    left out: it may stem from the machine that this one was copied from.
    """
    found: dict[str, str] = {}
    for path in facts.find(UDEV):
        for line in facts.text(path).splitlines():
            mac, name = MAC.search(line), re.search(r'\bNAME\s*:?=\s*"([^"]+)"', line)
            if mac and name and not line.lstrip().startswith("#"):
                found[mac[0].lower()] = name[1]
    for path in facts.find(LINKS):
        values = {(section, key): value for section, key, value in settings(facts.text(path))}
        mac, name_ = MAC.search(values.get(("match", "macaddress"), "")), values.get(("link", "name"))
        if mac and name_:
            found[mac[0].lower()] = name_
    return {mac: name for mac, name in found.items() if mac in (card.mac, *card.others)}


def chosen(entries: Sequence[Entry], card: Card, names: Mapping[str, str]) -> Entry | None:
    """The entry of that card; None where nothing is said of it. `Refused` where several could be it."""
    macs = {name: mac for mac, name in names.items()} | {one.name: one.mac for one in entries if one.name and one.mac}
    known = [one._replace(mac=one.mac or macs.get(one.name or "")) for one in entries]
    if card.name is not None:
        found = [one for one in known if one.name == card.name]
        wrong = next((one.mac for one in found if card.mac and one.mac and one.mac != card.mac), None)
        if wrong:
            raise Refused(
                "wrong_input", f"in the guest {card.name} is the card {wrong}, not {card.mac}",
                "leave out --mac or --interface",
            )  # fmt: skip
        return found[0] if found else None
    found = [one for one in known if one.mac == card.mac]
    if found:
        return found[0]
    loose = [one for one in known if one.mac is None]
    bound = {one.mac for one in known}
    if len({one.name for one in loose}) == 1 and set(card.others) <= bound:
        return loose[0]  # all other cards have their own
    if loose:
        listed = ", ".join(dict.fromkeys(str(one.name) for one in loose))
        raise Refused(
            "ambiguous_name", f"nothing in the guest says which of {listed} is the card {card.mac}",
            f"say it with --interface={loose[0].name}",
        )  # fmt: skip
    return None


def settled(network: Network, gateways: Sequence[str], servers: Sequence[str]) -> Network:
    """What was asked for, with what was not given as it was, where it fits."""
    if network.address is None:
        return network
    inside = network.interface.network
    fitting = [one for one in gateways if _address(one) in inside]
    gateway = network.gateway or next(iter(fitting), None)
    return replace(network, gateway=gateway, dns=network.dns or tuple(one for one in servers if _address(one)))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def refuse_part(card: str, of_what: str, path: str) -> Refused:
    """The error for a card of a bridge or bond: that has the address."""
    hint = f"--interface={of_what} changes the address of that"
    return Refused("environment_error", f"{card} is part of {of_what} ({path}), which has the address", hint)


def written(facts: GuestFacts, path: str, text: str, mode: int | None = None) -> tuple[list[Edit], list[Expectation]]:
    """A file with this text; nothing to do where it has that already."""
    if facts.files.get(path) == text:
        return [], [FileIs(path, text)]
    return [WriteFile(path, text, mode)], [FileIs(path, text, mode)]


def without_prefix(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.partition("/")[0] for one in addresses if one))
