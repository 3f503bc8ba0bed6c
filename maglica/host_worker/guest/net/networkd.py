"""systemd-networkd: /etc/systemd/network/*.network. Facts from systemd.network(5)."""

from __future__ import annotations

from collections.abc import Sequence

from maglica.host_worker.guest.model import Absent, Edit, GuestFacts, GuestRequest, Link, MakeDir, Network, Remove
from maglica.host_worker.guest.net.common import MARK, VIRTUAL, Part, foreign, kept, settings, write

DIRECTORY = "/etc/systemd/network"
WANTS = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
UNITS = ("/usr/lib/systemd/system/systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service")
READ = (f"{DIRECTORY}/*.network", f"{DIRECTORY}/*.link")
YES = ("yes", "true", "on", "1", "ipv4", "both", "v4")
SEE = (*UNITS, WANTS, f"{DIRECTORY}/*.network.d")


def edit(facts: GuestFacts, request: GuestRequest) -> Part:
    paths = facts.find(f"{DIRECTORY}/*.network")
    cards = [path for path in paths if _card(facts.text(path))]
    enable, expected = _enabled(facts)
    stale_links = [path for path in facts.find(f"{DIRECTORY}/*.link") if foreign(facts.text(path), request)]
    edits: list[Edit] = [*enable, *(Remove(path) for path in stale_links)]
    expected += [Absent(path) for path in stale_links]
    if request.network.address is None and _works(facts, cards, request):
        return edits, [*expected, *kept(facts, cards)[1]]
    own = [f"{DIRECTORY}/00-maglica-net{at}.network" for at in range(len(request.macs))]
    for path in cards:
        if path not in own:
            edits += [Remove(path), *(Remove(more) for more in facts.find(f"{path}.d"))]
            expected.append(Absent(path))
    edits.append(MakeDir(DIRECTORY))
    for at, (path, mac) in enumerate(zip(own, request.macs, strict=True)):
        writes, more = write(path, _text(mac, request, first=at == 0), 0o644)
        edits += writes
        expected += more
    return edits, expected


def _enabled(facts: GuestFacts) -> Part:
    if facts.has(WANTS):
        return [], []
    unit = next((path for path in UNITS if facts.has(path)), None)
    if unit is None:
        return [], []
    return [MakeDir(WANTS.rsplit("/", 1)[0]), Link(WANTS, unit)], []


def _card(text: str) -> bool:
    """Is this file for cards (by MAC, by their type, or by a name that a card can have)?"""
    match = [(key, value) for section, key, value in settings(text) if section == "match"]
    names = [word for key, value in match if key in ("name", "originalname") for word in value.split()]
    if any(key in ("macaddress", "permanentmacaddress", "path", "driver") for key, _ in match):
        return True
    return ("type", "ether") in match or any(not VIRTUAL.match(name) for name in names)


def _works(facts: GuestFacts, cards: Sequence[str], request: GuestRequest) -> bool:
    found = [one for path in cards for one in settings(facts.text(path))]
    dhcp = any((section, key) == ("network", "dhcp") and value.lower() in YES for section, key, value in found)
    static = any(section in ("network", "address") and key in ("address", "gateway") for section, key, _ in found)
    drop_ins = any(facts.find(f"{path}.d") for path in cards)
    bound = any(foreign(facts.text(path), request) for path in cards)
    return dhcp and not static and not drop_ins and not bound


def _text(mac: str, request: GuestRequest, *, first: bool) -> str:
    network = request.network
    lines = ["[Match]", f"MACAddress={mac}", ""]
    if not first:
        return MARK + "\n".join([*lines, "[Link]", "RequiredForOnline=no", "", "[Network]", "DHCP=yes"]) + "\n"
    lines += ["[Network]", *network_lines(network)]
    lines += ["", "[DHCP]", "SendHostname=yes"] if network.address is None else []
    return MARK + "\n".join(lines) + "\n"


def network_lines(network: Network) -> list[str]:
    """What [Network] says of an address."""
    if network.address is None:
        return ["DHCP=yes"]
    lines = [f"Address={network.address}"]
    lines += [f"Gateway={network.gateway}"] if network.gateway else []
    lines += [f"DNS={server}" for server in network.dns]
    return lines + ([f"Domains={' '.join(network.search)}"] if network.search else [])
