"""Whether a VM is the one that has an address, a UUID or a file. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from maglica import kinds
from maglica.host_worker.domain.domain_xml import Domain

Found = tuple[str, str]  # by what, and what it is


def matches(
    what: str, domain: Domain, addresses: Callable[[], Sequence[str]], files: Callable[[], Sequence[Sequence[str]]]
) -> Found | None:
    """By what a VM is found. `files`: each disk's file with all that is behind it, or a device, or a POOL/VOLUME."""
    by, word = kinds.sought(what), what.lower()
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
            if fnmatchcase(path, what):
                return ("disk", path) if place == 0 else ("rests on", path)
    return None
