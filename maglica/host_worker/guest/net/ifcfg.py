"""ifcfg files of network-scripts and of NetworkManager's ifcfg-rh plugin. Facts from initscripts' sysconfig.txt."""

from __future__ import annotations

import re

from maglica.host_worker.guest.model import (
    Absent,
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    GuestRequest,
    MakeDir,
    Remove,
    WriteFile,
)
from maglica.host_worker.guest.net.common import VIRTUAL, Part

DIRECTORY = "/etc/sysconfig/network-scripts"
READ = (f"{DIRECTORY}/ifcfg-*", "/etc/default/grub")
SEE = (DIRECTORY, f"{DIRECTORY}/route*-*", f"{DIRECTORY}/rule*-*")

CARD_KEYS = re.compile(r"(HWADDR|MACADDR|UUID)$")
ADDRESS_KEYS = re.compile(
    r"(BOOTPROTO|IPADDR\d*|NETMASK\d*|PREFIX\d*|GATEWAY\d*|DNS\d+|NETWORK|BROADCAST|PEERDNS|DOMAIN|BRIDGE|MASTER|SLAVE"
    r"|IPV6ADDR|IPV6ADDR_SECONDARIES|IPV6_DEFAULTGW|IPV6INIT|IPV6_AUTOCONF|DHCPV6C|DHCP_HOSTNAME|DHCP_CLIENT_ID|ONBOOT)$"
)


def values_of(text: str) -> dict[str, str]:
    found = re.findall(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)$", text, re.MULTILINE)
    return {key: value.strip().strip("\"'") for key, value in found}


def cards(facts: GuestFacts) -> list[str]:
    """The files of cards, by name: ifcfg-eth0 before ifcfg-eth1."""
    found = []
    for path in facts.find(f"{DIRECTORY}/ifcfg-*"):
        name = path.rsplit("/ifcfg-", 1)[1]
        if path not in facts.files or name.endswith((".bak", ".old", ".orig", ".rpmsave", ".rpmnew", "~")):
            continue
        values = values_of(facts.text(path))
        kind = values.get("TYPE", "Ethernet").lower()
        if kind == "ethernet" and not VIRTUAL.match(values.get("DEVICE", name)):
            found.append(path)
    return sorted(found, key=lambda path: (len(path), path))


def edit(facts: GuestFacts, request: GuestRequest) -> Part:
    paths = cards(facts) or [_new_file(facts)]
    edits: list[Edit] = [MakeDir(DIRECTORY)]
    expected: list[Expectation] = []
    for at, path in enumerate(paths):
        old = facts.text(path)
        new = _text(path, old, facts, request, first=at == 0)
        expected.append(FileIs(path, new))
        if new != old:
            edits.append(WriteFile(path, new))
    stale = _stale(facts, paths, request)
    edits += [Remove(path) for path in stale]
    return edits, [*expected, *(Absent(path) for path in stale)]


def _stale(facts: GuestFacts, paths: list[str], request: GuestRequest) -> list[str]:
    """Bridges and the like that hold an address of the old machine, and the routes that went with an address."""
    others = [path for path in _others(facts, paths) if "IPADDR" in values_of(facts.text(path))]
    was_static = bool(others) or any("IPADDR" in values_of(facts.text(path)) for path in paths)
    if was_static or request.network.address is not None:
        return [*others, *facts.find(f"{DIRECTORY}/route*-*", f"{DIRECTORY}/rule*-*")]
    return []


def _others(facts: GuestFacts, paths: list[str]) -> list[str]:
    found = [path for path in facts.find(f"{DIRECTORY}/ifcfg-*") if path in facts.files and path not in paths]
    return [path for path in found if not path.endswith("/ifcfg-lo")]


def _new_file(facts: GuestFacts) -> str:
    """The file of the first card in an image that has none: eth0 where the kernel names cards, else by its MAC."""
    old_system = facts.system.distro != "fedora" and facts.system.major <= 6
    kernel_names = old_system or "net.ifnames=0" in facts.text("/etc/default/grub")
    return f"{DIRECTORY}/ifcfg-{'eth0' if kernel_names else 'net0'}"


def _text(path: str, old: str, facts: GuestFacts, request: GuestRequest, *, first: bool) -> str:
    """The file without what binds it to the old card; address settings replaced unless they are a working DHCP."""
    values = values_of(old)
    name = path.rsplit("/ifcfg-", 1)[1]
    static = first and request.network.address is not None
    keep = [line for line in old.splitlines() if not CARD_KEYS.match(key_of(line))]
    new: list[str] = []
    useless = first and (not _asks_dhcp(values, facts) or values.get("ONBOOT", "yes").lower() == "no")
    if static or useless or "IPADDR" in values:
        keep = [line for line in keep if not ADDRESS_KEYS.match(key_of(line))]
        new = [*(static_lines(request) if static else ["BOOTPROTO=dhcp"]), "ONBOOT=yes"]
    if not static and ("DHCP_HOSTNAME" in values or (facts.system.distro != "fedora" and facts.system.major <= 6)):
        # network-scripts send a name only when told so; NetworkManager always does.
        keep = [line for line in keep if key_of(line) != "DHCP_HOSTNAME"]
        new.append(f"DHCP_HOSTNAME={request.short_name}")
    if "DEVICE" not in values:
        new.insert(0, f"HWADDR={request.macs[0]}" if name == "net0" and request.macs else f"DEVICE={name}")
    if "TYPE" not in values:
        new.insert(0, "TYPE=Ethernet")
    return "\n".join([*keep, *new]) + "\n"


def _asks_dhcp(values: dict[str, str], facts: GuestFacts) -> bool:
    """By DHCP, itself or through the bridge or bond it belongs to."""
    above = values.get("BRIDGE") or values.get("MASTER")
    if above:
        values = values_of(facts.text(f"{DIRECTORY}/ifcfg-{above}"))
    return values.get("BOOTPROTO", "").lower() == "dhcp" and "IPADDR" not in values


def static_lines(request: GuestRequest) -> list[str]:
    network = request.network
    at = network.interface
    lines = ["BOOTPROTO=none"]
    if at.version == 4:
        # Both forms of the mask: RHEL 5 knows only the second.
        lines += [f"IPADDR={at.ip}", f"PREFIX={at.network.prefixlen}", f"NETMASK={at.netmask}"]
        lines += [f"GATEWAY={network.gateway}"] if network.gateway else []
    else:
        lines += ["IPV6INIT=yes", "IPV6_AUTOCONF=no", f"IPV6ADDR={network.address}"]
        lines += [f"IPV6_DEFAULTGW={network.gateway}"] if network.gateway else []
    lines += [f'DOMAIN="{" ".join(network.search)}"'] if network.search else []
    return lines + [f"DNS{at}={server}" for at, server in enumerate(network.dns, 1)]


def key_of(line: str) -> str:
    return line.split("=", 1)[0].removeprefix("export ").strip()
