"""netplan: /etc/netplan/*.yaml, for either renderer. Facts from netplan's YAML reference."""

from __future__ import annotations

import re

from maglica.host_worker.guest.model import Absent, Edit, GuestFacts, GuestRequest, MakeDir, Remove
from maglica.host_worker.guest.net.common import MARK, Part, foreign, kept, write

DIRECTORY = "/etc/netplan"
PROGRAM = ("/usr/sbin/netplan", "/sbin/netplan")
READ = (f"{DIRECTORY}/*.yaml",)
SEE = PROGRAM


def edit(facts: GuestFacts, request: GuestRequest) -> Part:
    paths = facts.find(f"{DIRECTORY}/*.yaml")
    text = "\n".join(facts.text(path) for path in paths)
    if request.network.address is None and _works(text, request):
        return kept(facts, paths)
    own = f"{DIRECTORY}/50-maglica.yaml"
    edits: list[Edit] = [MakeDir(DIRECTORY), *(Remove(path) for path in paths if path != own)]
    writes, expected = write(own, _text(request, renderer_of(text)), 0o600)
    return [*edits, *writes], [*expected, *(Absent(path) for path in paths if path != own)]


def _works(text: str, request: GuestRequest) -> bool:
    """DHCP for some card, no address with a prefix, no foreign MAC. Read as text: no YAML library is needed."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    dhcp = any(re.search(r"\bdhcp4:\s*[\"']?(true|yes|on)\b", line, re.I) for line in lines)
    address = re.compile(r"[0-9a-f:.]*[0-9a-f][.:][0-9a-f:.]*/\d+", re.I)
    static = any(address.search(line) for line in lines if not re.search(r"\b(to|from|via):", line))
    return dhcp and not static and not foreign(text, request)


def renderer_of(text: str) -> str | None:
    found = re.search(r"^\s*renderer:\s*[\"']?(\w+)", text, re.MULTILINE)
    return found[1] if found else None


def _text(request: GuestRequest, renderer: str | None) -> str:
    lines = ["network:", "  version: 2"]
    if renderer:
        lines.append(f"  renderer: {renderer}")
    lines.append("  ethernets:" if request.macs else "  ethernets: {}")
    for at, mac in enumerate(request.macs):
        lines += [f"    net{at}:", "      match:", f'        macaddress: "{mac}"']
        if at:
            # A boot must not wait for a card that may have no cable.
            lines += ["      dhcp4: true", "      optional: true"]
        else:
            lines += [f"      {line}" for line in card_lines(request)]
    return MARK + "\n".join(lines) + "\n"


def card_lines(request: GuestRequest) -> list[str]:
    network = request.network
    if network.address is None:
        return ["dhcp4: true"]
    lines = ["dhcp4: false", "addresses:", f'  - "{network.address}"']
    if network.gateway:
        # `to: default` is too new for Ubuntu 18.04, and gateway4 is deprecated; this form is right everywhere.
        everywhere = "0.0.0.0/0" if network.interface.version == 4 else "::/0"
        lines += ["routes:", f'  - to: "{everywhere}"', f'    via: "{network.gateway}"']
    if network.dns or network.search:
        lines.append("nameservers:")
        lines += ["  addresses:", *(f'    - "{server}"' for server in network.dns)] if network.dns else []
        lines += ["  search:", *(f'    - "{domain}"' for domain in network.search)] if network.search else []
    return lines
