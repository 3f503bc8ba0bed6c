"""Whether a VM is the one that has an address, a UUID or a file. Values in, values out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from maglica.errors import Refused
from maglica.host_worker.domain.domain_xml import Domain

Found = tuple[str, str]  # by what, and what it is

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){0,3}(-[0-9a-f]{0,12})?")


def kind(what: str) -> str:
    """What somebody looks for: `mac`, `uuid`, `ip` or `path`."""
    import ipaddress

    word = what.strip().lower()
    if "/" in word:
        return "path"
    if _MAC.fullmatch(word.replace("-", ":")) and word.count(":") + word.count("-") == 5:
        return "mac"
    if _UUID.fullmatch(word):
        return "uuid"
    try:
        ipaddress.ip_address(word)
    except ValueError:
        raise Refused(
            "wrong_input",
            f"vm find: {what!r} is none of the things that a VM is found by",
            "expected a MAC address, an IP address, a UUID (its first 8 digits will do) or a path with a slash;"
            " `maglica vm list --name='…*'` finds names",
        ) from None
    return "ip"


def matches(
    what: str, domain: Domain, addresses: Callable[[], Sequence[str]], files: Callable[[], Sequence[Sequence[str]]]
) -> Found | None:
    """By what a VM is found. `files`: each disk's file with all that is behind it, or a device, or a POOL/VOLUME."""
    by, word = kind(what), what.strip().lower()
    if by == "mac":
        mac = word.replace("-", ":")
        return (by, mac) if any((nic["mac"] or "").lower() == mac for nic in domain.nics) else None
    if by == "uuid":
        return (by, domain.uuid) if domain.uuid.lower().startswith(word) else None
    if by == "ip":
        import ipaddress

        wanted = ipaddress.ip_address(word)
        found = next((one for one in addresses() if ipaddress.ip_address(one.partition("/")[0]) == wanted), None)
        return (by, found.partition("/")[0]) if found else None
    for chain in files():
        for place, path in enumerate(chain):
            if fnmatchcase(path, what.strip()):
                return ("disk", path) if place == 0 else ("rests on", path)
    return None
