"""NetworkManager's keyfiles. Facts from nm-settings-keyfile(5)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from maglica.host_worker.guest.model import (
    Absent,
    Edit,
    Expectation,
    GuestFacts,
    GuestRequest,
    MakeDir,
    Network,
    Remove,
)
from maglica.host_worker.guest.net import ifcfg
from maglica.host_worker.guest.net.common import MARK, Part, foreign, kept, settings, write

DIRECTORY = "/etc/NetworkManager/system-connections"
PROGRAM = ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")
READ = (f"{DIRECTORY}/*",)
SEE = PROGRAM


def edit(facts: GuestFacts, request: GuestRequest) -> Part:
    profiles = [path for path in facts.find(f"{DIRECTORY}/*") if _is_ethernet_profile(facts.text(path))]
    old = [*profiles, *ifcfg.cards(facts)]
    if request.network.address is None and _profiles_work(facts, old, request):
        return kept(facts, old)
    own = [f"{DIRECTORY}/maglica-net{at}.nmconnection" for at in range(len(request.macs))]
    edits: list[Edit] = [Remove(path) for path in old if path not in own]
    expected: list[Expectation] = [Absent(path) for path in old if path not in own]
    edits.append(MakeDir(DIRECTORY, 0o700))
    for at, path in enumerate(own):
        # NetworkManager ignores a profile that others than root may read.
        writes, more = write(path, _profile(at, request), 0o600)
        edits += writes
        expected += more
    return edits, expected


def _is_ethernet_profile(text: str) -> bool:
    kinds = [value for section, key, value in settings(text) if (section, key) == ("connection", "type")]
    return bool({"ethernet", "802-3-ethernet"} & set(kinds))


def _profiles_work(facts: GuestFacts, paths: Sequence[str], request: GuestRequest) -> bool:
    """All of them ask by DHCP and are bound to no other machine's card, and there is at least one."""
    return bool(paths) and all(path in facts.files and _profile_works(facts.text(path), request) for path in paths)


def _profile_works(text: str, request: GuestRequest) -> bool:
    found = settings(text)
    values = {(section, key): value for section, key, value in found}
    static = any(section in ("ipv4", "ipv6") and re.match(r"address(es)?\d*$", key) for section, key, _ in found)
    starts = values.get(("connection", "autoconnect"), "true") != "false"
    named = values.get(("ipv4", "dhcp-hostname"), request.hostname) in (request.hostname, request.short_name)
    automatic = values.get(("ipv4", "method"), "auto") == "auto"
    return automatic and not static and starts and named and not foreign(text, request)


def _profile(at: int, request: GuestRequest) -> str:
    """The profile of card number `at`, bound to its MAC. Its uuid follows from name and MAC: same input, same file."""
    mac = request.macs[at]
    own_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{mac}.{request.hostname}")
    lines = ["[connection]", f"id=net{at}", f"uuid={own_id}", "type=ethernet", ""]
    lines += ["[ethernet]", f"mac-address={mac.upper()}", ""]
    network = None if at else request.network
    lines += ["[ipv4]", *addresses(network, 4), "", "[ipv6]", *addresses(network, 6)]
    return MARK + "\n".join(lines) + "\n"


def addresses(network: Network | None, version: int) -> list[str]:
    if network is None or network.address is None:
        return ["method=auto"]
    if network.interface.version == version:
        lines = ["method=manual", f"address1={','.join(filter(None, [network.address, network.gateway]))}"]
    elif version == 4:
        # A section without addresses must not name servers either.
        return ["method=disabled"]
    else:
        lines = ["method=auto"]
    servers = [server for server in network.dns if (":" in server) == (version == 6)]
    lines += [f"dns={''.join(f'{server};' for server in servers)}"] if servers else []
    own = network.address is not None and network.interface.version == version
    return [
        *lines,
        *([f"dns-search={''.join(f'{domain};' for domain in network.search)}"] if own and network.search else []),
    ]
