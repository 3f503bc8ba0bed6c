"""A machine that stays itself and gets another name, or another address. Pure: values in, values out.

Less than what makes a clone of it: keys, machine-id and everything else stay. What changes nothing is left out, so that
a plan without edits says that all is as it was wished.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from maglica.errors import Refused
from maglica.host_worker.guest import customize, network, selinux
from maglica.host_worker.guest.model import (
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    GuestRequest,
    Link,
    Plan,
    Remove,
    WriteFile,
)

HINT = "set it inside the guest, or use --customize=none where only the VM is meant"
HOSTS = "/etc/hosts"
SYSCONFIG = "/etc/sysconfig/network"

# The words of network tools for what is more than a card: to rewrite their files would take it away.
_MORE = re.compile(
    r"^\s*(bridges|bonds|vlans|tunnels|vrfs|modems|wifis)\s*:"
    r"|^\s*(bridge[_-]ports|bond-|vlan-raw-device|vlan_raw_device)"
    r"|^\s*(BRIDGE|MASTER|VLAN|TEAM_MASTER)=|^\s*Kind\s*="
    r"|^\s*type=(bridge|bond|team|vlan)\s*$",
    re.MULTILINE | re.IGNORECASE,
)


def rename(facts: GuestFacts, request: GuestRequest) -> Plan:
    """Another host name: where the system reads it, in /etc/hosts, and what is sent to DHCP servers."""
    _refuse_unknown(facts)
    old = customize.old_names(facts)
    edits = [one for one in customize.hostname(facts, request)[0] if getattr(one, "path", "") != SYSCONFIG]
    text = re.sub(r"^(\s*HOSTNAME=).*$", rf"\g<1>{request.hostname}", facts.text(SYSCONFIG), flags=re.MULTILINE)
    edits += [WriteFile(SYSCONFIG, text)] if text else []  # a gateway may stand there, which stays
    hosts = renamed_hosts(facts.text(HOSTS), old, request)
    edits += [WriteFile(HOSTS, hosts)] if hosts else []
    for path in facts.find(*network.NETWORK_READ):
        edits.append(WriteFile(path, _sent_name(facts.text(path), old, request)))
    return _plan(facts, edits)


def readdress(facts: GuestFacts, request: GuestRequest) -> Plan:
    """Another address of a card, or DHCP. The machine keeps the name that it has: the request's is none of it."""
    _refuse_unknown(facts)
    names = facts.text("/etc/hostname").split() or re.findall(
        r"^\s*HOSTNAME=[\"']?([^\s\"']+)", facts.text(SYSCONFIG), re.MULTILINE
    )
    request = replace(request, hostname=names[0]) if names else request
    one_of_several = bool(request.card or request.interface)
    if not one_of_several:
        _refuse_intricate(facts, request)
    done = network.address_part(facts, request)
    static = request.network.address is not None
    address = str(request.network.interface.ip) if static else "127.0.1.1"  # Debian's custom
    old = set(done.was) if one_of_several else None
    hosts = readdressed_hosts(facts.text(HOSTS), customize.old_names(facts), address, old)
    edits = [*done.edits, *([WriteFile(HOSTS, hosts)] if hosts else [])]
    plan = _plan(facts, edits, done.expected, network.network_tool(facts))
    return replace(plan, was=done.was)


def _plan(facts: GuestFacts, edits: list[Edit], expected: list[Expectation] | None = None, tool: str = "none") -> Plan:
    needed = [one for one in edits if not _is_so(facts, one)]
    if not any(isinstance(one, WriteFile | Remove | Link) for one in needed):
        return Plan((), (), tool, "none")  # directories that are there already
    wanted = [FileIs(one.path, one.text, one.mode) for one in needed if isinstance(one, WriteFile)]
    labels, labelled = selinux.part(facts, needed)
    return Plan((*needed, *labels), (*(expected or []), *wanted, *labelled), tool, "none")


def _is_so(facts: GuestFacts, edit: Edit) -> bool:
    return isinstance(edit, WriteFile) and facts.files.get(edit.path) == edit.text


def _refuse_unknown(facts: GuestFacts) -> None:
    if facts.system.family is None:
        what = facts.system.product or "this system"
        raise Refused("wrong_input", f"do not know how to change {what} (distro {facts.system.distro!r})", HINT)


def _refuse_intricate(facts: GuestFacts, request: GuestRequest) -> None:
    """What rewrites a clone's network would take away what a grown machine has beside its first card."""
    if len(request.macs) > 1:
        told = f"it has {len(request.macs)} network cards"
        raise Refused("ambiguous_name", told, "say which with --mac, or with --interface as the guest calls it")
    for path in facts.find(*network.NETWORK_READ):
        if _MORE.search(facts.text(path)):
            told = f"its network is more than a card ({path}), which would be lost"
            raise Refused("environment_error", told, "--interface=NAME changes that one alone, as the guest calls it")


def renamed_hosts(text: str, old: set[str], request: GuestRequest) -> str:
    """/etc/hosts in which the new names stand wherever the machine's old ones stood."""
    gone = {name for name in old if not name.startswith("localhost")}
    own = list(dict.fromkeys([request.hostname, request.short_name]))
    return _lines(text, lambda words: [words[0], *_exchanged(words[1:], gone, own)])


def readdressed_hosts(text: str, names: set[str], address: str, old: set[str] | None = None) -> str:
    """/etc/hosts with the new address in front of the machine's own names; a loopback address stays. `old`: the
    addresses that are replaced, where others of the machine stay.
    """
    own = {name for name in names if not name.startswith("localhost")}

    def line(words: list[str]) -> list[str]:
        mine = any(word.lower() in own for word in words[1:]) and not words[0].startswith(("127.", "::1"))
        mine = mine and (old is None or words[0] in old)
        return [address, *words[1:]] if mine and (":" in words[0]) == (":" in address) else words

    return _lines(text, line)


def _exchanged(words: list[str], gone: set[str], own: list[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        found += own if word.lower() in gone else [word]
    return list(dict.fromkeys(found))


def _lines(text: str, change: Callable[[list[str]], list[str]]) -> str:
    out = []
    for line in text.splitlines():
        body, mark, comment = line.partition("#")
        words = body.split()
        new = change(words) if words else words
        out.append(line if new == words else f"{new[0]}\t{' '.join(new[1:])}" + (f" {mark}{comment}" if mark else ""))
    return "\n".join(out) + "\n" if out else ""


def _sent_name(text: str, old: set[str], request: GuestRequest) -> str:
    """What a network tool sends to DHCP servers as the machine's name, where that is the old one."""
    if not old:
        return text
    words = "|".join(sorted(map(re.escape, old), key=len, reverse=True))
    key = r"^(\s*hostname\s+|\s*dhcp-hostname=|\s*DHCP_HOSTNAME=[\"']?)"
    return re.sub(rf"{key}(?:{words})(?=[\"'\s]|$)", rf"\g<1>{request.short_name}", text, flags=re.M | re.I)
