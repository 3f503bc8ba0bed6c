"""One card in /etc/netplan. Read and changed as text, line by line: no YAML library is needed on a host, and comments
stay. What is written in the short form of YAML, `{…}` around a card, is not read. Facts from netplan's YAML reference.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from maglica.errors import Refused
from maglica.host_worker.guest.card.common import (
    BY_HAND,
    MARK,
    Card,
    Done,
    Entry,
    chosen,
    named,
    refuse_part,
    settled,
    without_prefix,
    written,
)
from maglica.host_worker.guest.model import MAC, Edit, Expectation, GuestFacts, GuestRequest
from maglica.host_worker.guest.net import netplan

_ADDRESS = re.compile(r"[0-9a-f:.]*[0-9a-f][.:][0-9a-f:.]*(?:/\d+)?", re.IGNORECASE)
_GROUPS = ("ethernets", "bonds", "bridges", "vlans")
_EVERYWHERE = ("default", "0.0.0.0/0", "::/0")


class Block(NamedTuple):
    """Lines from `begin` up to `end` that belong to one key; `rest` stands behind its colon."""

    key: str
    rest: str
    indent: int
    begin: int
    end: int


def edit(facts: GuestFacts, request: GuestRequest, card: Card) -> Done:
    paths = facts.find(f"{netplan.DIRECTORY}/*.yaml")
    entry = chosen([one for path in paths for one in _entries(facts.text(path), path, card)], card, named(facts, card))
    key = entry.key if entry else card.name or f"net{str(card.mac).replace(':', '')}"
    _refuse_part(facts, paths, key)
    found = [(path, one) for path in paths for one in _cards(facts.text(path), path, card) if one.key == key]
    was: list[str] = []
    gateways: list[str] = []
    servers: list[str] = []
    search: list[str] = []
    doomed: dict[str, list[Block]] = {path: [] for path, _ in found}
    static = request.network.address is not None
    version = request.network.interface.version if static else 0
    for path, one in found:
        lines = facts.text(path).splitlines()
        for part in _blocks(lines, one.begin + 1, one.end):
            text = "\n".join([part.rest, *lines[part.begin + 1 : part.end]])
            if part.key == "addresses":
                was += _ADDRESS.findall(text)
            elif part.key in ("gateway4", "gateway6"):
                gateways += _ADDRESS.findall(text)
            elif part.key == "routes":
                gateways += _default_routes(text, key, path)
            elif part.key == "nameservers":
                servers += _ADDRESS.findall(re.sub(r"search:[^\n]*(\n\s*- [^\n]*)*", "", text))
                search += _search(text)
            if _goes(part.key, version):
                doomed[path].append(part)
    others = [one for one in was if static and _version(one) != version]
    network = settled(replace(request.network, search=tuple(search)) if static else request.network, gateways, servers)
    body = _body(replace(request, network=network), others)
    if not found:
        return _new(facts, request, card, key, body)
    edits: list[Edit] = []
    expected: list[Expectation] = []
    for path, one in found:
        lines = facts.text(path).splitlines()
        inner = next((part.indent for part in _blocks(lines, one.begin + 1, one.end)), one.indent + 2)
        if path == found[-1][0]:
            at = min([part.begin for part in doomed[path]], default=one.begin + 1)
            new = [" " * inner + line for line in body]
        else:
            at, new = one.end, []
        for part in sorted(doomed[path], reverse=True, key=lambda part: part.begin):
            del lines[part.begin : part.end]
        lines[at:at] = new
        more, wanted = written(facts, path, "\n".join(lines) + "\n")
        edits += more
        expected += wanted
    return Done(edits, expected, without_prefix([one for one in was if one not in others]))


def _goes(key: str, version: int) -> bool:
    """Whether a part of a card's entry is replaced; `version` 0: DHCP, and no static address is left."""
    if version == 0:
        return key in ("dhcp4", "addresses", "gateway4", "gateway6", "routes", "nameservers")
    return key in (f"dhcp{version}", "addresses", f"gateway{version}", "routes", "nameservers")


def _body(request: GuestRequest, others: list[str]) -> list[str]:
    network = request.network
    if network.address is None:
        return ["dhcp4: true"]
    lines = netplan.card_lines(request)
    lines[0] = f"dhcp{network.interface.version}: false"
    at = lines.index("addresses:") + 2
    lines[at:at] = [f'  - "{one}"' for one in others]
    return lines


def _new(facts: GuestFacts, request: GuestRequest, card: Card, key: str, body: list[str]) -> Done:
    path = f"{netplan.DIRECTORY}/60-maglica-{key}.yaml"
    renderer = netplan.renderer_of("\n".join(facts.text(one) for one in facts.find(f"{netplan.DIRECTORY}/*.yaml")))
    lines = ["network:", "  version: 2", *([f"  renderer: {renderer}"] if renderer else []), "  ethernets:"]
    lines += [f"    {key}:", *(["      match:", f'        macaddress: "{card.mac}"'] if card.mac else [])]
    edits, expected = written(
        facts, path, MARK + "\n".join([*lines, *(f"      {line}" for line in body)]) + "\n", 0o600
    )
    return Done(edits, expected, ())


def _cards(text: str, path: str, card: Card) -> list[Block]:
    """The cards below `ethernets:`, and what else bears the name that is sought."""
    lines = text.splitlines()
    found = []
    for top in _blocks(lines, 0, len(lines)):
        for group in _blocks(lines, top.begin + 1, top.end):
            if group.key in _GROUPS:
                if group.rest not in ("", "{}"):
                    raise _short(group.key, path)
                every = _blocks(lines, group.begin + 1, group.end)
                found += [one for one in every if group.key == "ethernets" or one.key == card.name]
    for one in found:
        if one.rest not in ("", "{}"):
            raise _short(one.key, path)
    return found


def _short(key: str, path: str) -> Refused:
    return Refused("environment_error", f"{path} says `{key}:` in a form that is not read here", BY_HAND)


def _entries(text: str, path: str, card: Card) -> Iterator[Entry]:
    lines = text.splitlines()
    for one in _cards(text, path, card):
        parts = {part.key: part for part in _blocks(lines, one.begin + 1, one.end)}
        name: str | None = one.key
        mac = None
        if "match" in parts:
            told = "\n".join([parts["match"].rest, *lines[parts["match"].begin + 1 : parts["match"].end]])
            found, by_name = MAC.search(told), re.search(r"\bname:\s*[\"']?([^\s\"'}]+)", told)
            mac = found[0].lower() if found else None
            name = parts["set-name"].rest.strip("\"'") if "set-name" in parts else by_name[1] if by_name else None
            if not mac and (name is None or re.search(r"[*?\[]", name)):
                raise Refused("environment_error", f"{path} sets up several cards in one ({one.key})", BY_HAND)
        yield Entry(name, mac, path, one.key)


def _blocks(lines: list[str], begin: int, end: int) -> Iterator[Block]:
    """The keys of the first indentation that is met, with the lines that belong to each."""
    indent = None
    current: Block | None = None
    for number in range(begin, end):
        line = lines[number]
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped == "---":
            continue
        here = len(line) - len(line.lstrip())
        indent = here if indent is None else indent
        key = re.match(r"([\"']?)([^\"':]+)\1:(?:\s+(.*))?$", stripped)
        if here == indent and key and not stripped.startswith("- "):
            if current:
                yield current
            rest = re.sub(r"(^|\s)#.*$", "", key[3] or "").strip()
            current = Block(key[2], rest, indent, number, number + 1)
        elif current:  # deeper, or a list, which may stand as far left as its key
            current = current._replace(end=number + 1)
    if current:
        yield current


def _default_routes(text: str, key: str, path: str) -> list[str]:
    """The gateways of the routes to everywhere; other routes would lead to where they led from the old address."""
    if set(re.findall(r"\bto:\s*[\"']?([^\s\"',}]+)", text)) - set(_EVERYWHERE):
        raise Refused("environment_error", f"{key} has routes of its own ({path})", BY_HAND)
    return re.findall(r"\bvia:\s*[\"']?([^\s\"',}]+)", text)


def _search(text: str) -> list[str]:
    found = re.search(r"search:\s*(\[[^\]]*\]|(?:\n\s*- [^\n]*)+)", text)
    return re.findall(r"[\w.-]*\w[\w.-]*", found[1]) if found else []


def _version(address: str) -> int:
    try:
        return ipaddress.ip_interface(address).version
    except ValueError:
        return 0


def _refuse_part(facts: GuestFacts, paths: list[str], key: str) -> None:
    """A card that bridges or bonds name among their `interfaces`."""
    for path in paths:
        lines = facts.text(path).splitlines()
        for top in _blocks(lines, 0, len(lines)):
            for group in _blocks(lines, top.begin + 1, top.end):
                if group.key not in ("bridges", "bonds"):
                    continue
                for one in _blocks(lines, group.begin + 1, group.end):
                    told = "\n".join([one.rest, *lines[one.begin : one.end]])
                    members = re.search(r"interfaces:\s*(\[[^\]]*\]|(?:\n\s*- [^\n]*)+)", told)
                    if members and key in re.findall(r"[\w.-]+", members[1]):
                        raise refuse_part(key, one.key, path)
