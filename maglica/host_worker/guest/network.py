"""The network of a clone, in the words of whichever tool its image uses. Pure: values in, values out.

The rules are the same for all tools (`net/`, one file for each): the first card gets what was asked for; a DHCP
configuration that works for any card is left alone; one that is bound to another machine's card or address is
replaced; further cards use DHCP.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from maglica.errors import Refused
from maglica.host_worker.guest import card
from maglica.host_worker.guest.card.common import LINKS, UDEV, Card, Done
from maglica.host_worker.guest.card.common import of as card_of
from maglica.host_worker.guest.model import (
    Absent,
    Expectation,
    FileIs,
    GuestFacts,
    GuestRequest,
    MakeDir,
    Remove,
    WriteFile,
)
from maglica.host_worker.guest.net import ifcfg, ifupdown, keyfile, netplan, networkd
from maglica.host_worker.guest.net.common import MARK, Part, foreign

RESOLV = "/etc/resolv.conf"
RESOLVED = "/etc/systemd/resolved.conf.d/maglica.conf"
RESOLVCONF = ("/sbin/resolvconf", "/usr/sbin/resolvconf")
DHCLIENT_CONF = ("/etc/dhcp/dhclient.conf", "/etc/dhcp3/dhclient.conf", "/etc/dhclient.conf")
NET_RULES = ("/etc/udev/rules.d/70-persistent-net.rules*", "/etc/udev/rules.d/z25_persistent-net.rules")

NETWORK_READ = (
    *ifupdown.READ,
    *netplan.READ,
    *networkd.READ,
    *keyfile.READ,
    *ifcfg.READ,
    UDEV,
    LINKS,
    RESOLV,
    *DHCLIENT_CONF,
)
NETWORK_SEE = (*NET_RULES, *ifupdown.SEE, *netplan.SEE, *networkd.SEE, *keyfile.SEE, *ifcfg.SEE, *RESOLVCONF, RESOLVED)

# The address of one card, where others are to stay as they are.
CARDS: dict[str, Callable[[GuestFacts, GuestRequest, Card], Done]] = {
    "ifupdown": card.ifupdown.edit,
    "netplan": card.netplan.edit,
    "systemd-networkd": card.networkd.edit,
    "networkmanager": card.keyfile.edit,
    "ifcfg": card.ifcfg.edit,
}

TOOLS: dict[str, Callable[[GuestFacts, GuestRequest], Part]] = {
    "ifupdown": ifupdown.edit,
    "netplan": netplan.edit,
    "systemd-networkd": networkd.edit,
    "networkmanager": keyfile.edit,
    "ifcfg": ifcfg.edit,
    "none": lambda facts, request: ([], []),
}


def plan_network(facts: GuestFacts, request: GuestRequest) -> tuple[str, Part]:
    """The tool, and its edits and what must be true afterwards.

    Raises `Refused("environment_error")` for a static address when no known tool is in the image. DHCP is then left
    to the image.
    """
    tool = network_tool(facts)
    _refuse_without(tool, request)
    # A machine without a card keeps what its image has: there is nothing to bind a configuration to.
    cards = TOOLS[tool](facts, request) if request.macs else ([], [])
    parts = (
        cards,
        _udev_rules(facts, request),
        _dhclient(facts),
        _resolver(facts, request, tool),
    )
    edits = [edit for some, _ in parts for edit in some]
    return tool, (edits, [one for _, some in parts for one in some])


def address_part(facts: GuestFacts, request: GuestRequest) -> Done:
    """The address alone, for a machine that keeps its cards and their names; of several, of the one that is meant."""
    tool = network_tool(facts)
    if tool == "none":
        raise _no_tool("cannot change its address")
    servers, more = _resolver(facts, request, tool)
    if facts.has(RESOLVED) and request.network.address is None:
        servers, more = [Remove(RESOLVED)], [Absent(RESOLVED)]
    if request.card or request.interface:
        done = CARDS[tool](facts, request, card_of(request))
    else:
        done = Done(*TOOLS[tool](facts, request), ())
    return Done([*done.edits, *servers], [*done.expected, *more], done.was)


def _refuse_without(tool: str, request: GuestRequest) -> None:
    if tool == "none" and request.network.address is not None:
        raise _no_tool("cannot set a static address", "; or leave --ip out")


def _no_tool(what: str, more: str = "") -> Refused:
    return Refused(
        "environment_error",
        f"the image has no known network configuration tool, {what}",
        f"known: ifupdown, netplan, systemd-networkd, NetworkManager, ifcfg files{more}",
    )


def network_tool(facts: GuestFacts) -> str:
    """Which tool rules the image's network: what has a configuration first, then what is installed."""
    choices = _rhel_choices(facts) if facts.system.family == "rhel" else _debian_choices(facts)
    return next((tool for tool, fits in choices if fits), "none")


def _debian_choices(facts: GuestFacts) -> list[tuple[str, bool]]:
    return [
        ("netplan", bool(facts.find(*netplan.READ))),
        ("ifupdown", bool(ifupdown.cards(facts))),
        ("systemd-networkd", bool(facts.find(f"{networkd.DIRECTORY}/*.network")) or facts.has(networkd.WANTS)),
        ("networkmanager", bool(facts.find(*keyfile.READ))),
        ("netplan", facts.has(*netplan.PROGRAM)),
        ("networkmanager", facts.has(*keyfile.PROGRAM)),
        ("ifupdown", facts.has(*ifupdown.IFUP, ifupdown.INTERFACES)),
        ("systemd-networkd", facts.has(*networkd.UNITS)),
    ]


def _rhel_choices(facts: GuestFacts) -> list[tuple[str, bool]]:
    system = facts.system
    # ifcfg files are no longer read from Fedora 41 and RHEL 10 on; new images since Fedora 33 and RHEL 9 have none.
    readable = system.major <= (40 if system.distro == "fedora" else 9)
    usual = system.major <= (32 if system.distro == "fedora" else 8)
    profiles = bool(facts.find(*keyfile.READ))
    return [
        ("networkmanager", profiles and not usual),
        ("ifcfg", readable and bool(ifcfg.cards(facts))),
        ("networkmanager", profiles),
        ("systemd-networkd", bool(facts.find(f"{networkd.DIRECTORY}/*.network"))),
        ("ifcfg", usual and facts.has(ifcfg.DIRECTORY)),
        ("networkmanager", facts.has(*keyfile.PROGRAM)),
        ("systemd-networkd", facts.has(networkd.WANTS)),
    ]


def _udev_rules(facts: GuestFacts, request: GuestRequest) -> Part:
    """Rules that give a name to another machine's card. 70-persistent-net.rules, written by udev itself, always is."""
    own = facts.find(*NET_RULES)
    stale = [path for path in facts.find(UDEV) if path not in own and foreign(facts.text(path), request)]
    return [Remove(path) for path in [*own, *stale]], [Absent(path) for path in [*NET_RULES, *stale]]


def _dhclient(facts: GuestFacts) -> Part:
    """dhclient sends the name that the machine has, never a fixed one, and no identifier of another machine."""
    edits: list[WriteFile] = []
    for path in DHCLIENT_CONF:
        old = facts.text(path)
        new = re.sub(r"^(\s*send\s+host-name)\s+\"[^\"]*\"\s*;", r"\1 = gethostname();", old, flags=re.MULTILINE)
        new = re.sub(r"^\s*send\s+(dhcp-client-identifier|fqdn\.fqdn)\b[^;\n]*;[^\n]*\n?", "", new, flags=re.MULTILINE)
        if new != old:
            edits.append(WriteFile(path, new))
    return list(edits), [FileIs(edit.path, edit.text) for edit in edits]


def _resolver(facts: GuestFacts, request: GuestRequest, tool: str) -> Part:
    """Name servers, where the network tool does not see to them itself.

    NetworkManager and ifcfg files carry them. ifupdown needs resolvconf for that, and networkd needs systemd-resolved,
    which is in use when /etc/resolv.conf is a link. Without them /etc/resolv.conf is a plain file that we write.
    """
    servers, search = request.network.dns, request.network.search
    if not (servers or search) or tool in ("networkmanager", "ifcfg", "none"):
        return [], []
    if RESOLV not in facts.links and not (tool == "ifupdown" and facts.has(*RESOLVCONF)):
        text = MARK + "".join(f"nameserver {server}\n" for server in servers)
        text += f"search {' '.join(search)}\n" if search else ""
        return [WriteFile(RESOLV, text)], [FileIs(RESOLV, text)]
    if tool == "ifupdown" and "systemd/resolve" in facts.links.get(RESOLV, ""):
        path = RESOLVED
        text = f"{MARK}[Resolve]\nDNS={' '.join(servers)}\n" + (f"Domains={' '.join(search)}\n" if search else "")
        expected: list[Expectation] = [FileIs(path, text)]
        return [MakeDir(path.rsplit("/", 1)[0]), WriteFile(path, text)], expected
    return [], []
