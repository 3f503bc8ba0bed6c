"""What the writers of all network tools share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from maglica.host_worker.guest.model import MAC, Edit, Expectation, FileIs, GuestFacts, GuestRequest, WriteFile

MARK = "# Written by maglica when this machine was cloned.\n"

VIRTUAL = re.compile(r"lo$|br|bond|team|vlan|virbr|docker|dummy|tun|tap|wg|veth|vxlan|.*[.:]")
"""Names of interfaces that are not cards."""

Part = tuple[list[Edit], list[Expectation]]


def foreign(text: str, request: GuestRequest) -> bool:
    """Does the text name a card that this machine does not have?"""
    return any(mac.lower() not in request.macs for mac in MAC.findall(text))


def settings(text: str) -> list[tuple[str, str, str]]:
    """(section, key, value) of an INI-like file, in order; sections and keys in lower case."""
    found = []
    section = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1].lower()
        elif "=" in stripped and stripped[0] not in "#;":
            key, value = stripped.split("=", 1)
            found.append((section, key.strip().lower(), value.strip()))
    return found


def write(path: str, text: str, mode: int | None = None) -> Part:
    return [WriteFile(path, text, mode)], [FileIs(path, text, mode)]


def kept(facts: GuestFacts, paths: Sequence[str]) -> Part:
    """Nothing to do; what was judged good must still be there afterwards."""
    return [], [FileIs(path, facts.text(path)) for path in paths]
