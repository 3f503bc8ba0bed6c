"""XML of a definition for people and programs: passwords masked, and as a tree of maps. Text in, values out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from maglica.declare import MASK

# A message may have 16 levels; what lies deeper than this stays XML.
DEEPEST = 10

_SECRET = re.compile(r"pass|secret|token", re.IGNORECASE)


def masked(text: str) -> str:
    """The definition with *** for every password in it: attributes and QEMU's own arguments alike."""
    root = ET.fromstring(text)
    for element in root.iter():
        for name, value in element.attrib.items():
            if is_secret(name) and value:
                element.set(name, MASK)
        # <qemu:arg value='…,password=…'/>, <qemu:env name='PASSWORD' value='…'/>
        if element.tag.endswith(("}arg", "}env")) and _SECRET.search(" ".join(element.attrib.values())):
            element.set("value", MASK)
    return ET.tostring(root, encoding="unicode") + "\n"


def is_secret(name: str) -> bool:
    """`passwd`, `password`; not `passwdValidTo`, which is a date."""
    return name.rpartition("}")[2] in ("passwd", "password", "secret", "token")


def of(text: str) -> dict[str, Any]:
    """A tree: an element is a map of its `@attributes`, its children by their names (a list where there are several)
    and its `#text`; an element with nothing but text is that text."""
    root = ET.fromstring(text)
    return {_name(root.tag): _value(root, 1)}


def _value(element: ET.Element, depth: int) -> Any:
    text = (element.text or "").strip()
    if not element.attrib and not len(element):
        return text
    if depth >= DEEPEST and len(element):
        return ET.tostring(element, encoding="unicode").strip()
    found: dict[str, Any] = {f"@{_name(name)}": value for name, value in element.attrib.items()}
    names = [_name(child.tag) for child in element]
    for name, child in zip(names, element, strict=True):
        if names.count(name) > 1:
            found.setdefault(name, []).append(_value(child, depth + 2))
        else:
            found[name] = _value(child, depth + 1)
    return {**found, "#text": text} if text else found


def _name(tag: str) -> str:
    """Without its namespace, but for what is not libvirt's own."""
    space, _, name = tag.rpartition("}")
    prefix = {"{http://libvirt.org/schemas/domain/qemu/1.0": "qemu:", "{urn:maglica:1": "maglica:"}.get(space, "")
    return prefix + name
