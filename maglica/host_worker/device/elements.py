"""The devices of a definition as pieces of text: finding, adding, replacing, removing them. Text in, text out.

https://libvirt.org/formatdomain.html#devices
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from maglica.errors import Refused

# What can stand in <devices> and be plugged in by itself.
KNOWN = frozenset({
    "audio", "channel", "console", "controller", "crypto", "disk", "filesystem", "graphics", "hostdev", "hub", "input",
    "interface", "iommu", "lease", "memballoon", "memory", "panic", "parallel", "redirdev", "redirfilter", "rng",
    "serial", "shmem", "smartcard", "sound", "tpm", "video", "vsock", "watchdog",
})  # fmt: skip


def described(text: str, what: str) -> str:
    """The one device that somebody describes, checked; `what`: who asks. Its element's name."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise Refused(
            "wrong_input", f"{what}: --file is no XML: {error}", "expected one element of <devices>"
        ) from None
    if root.tag not in KNOWN:
        hint = "expected one element of libvirt's <devices>, such as <disk> or <hostdev>"
        raise Refused("wrong_input", f"{what}: --file holds <{root.tag}>, which is no device", hint)
    return str(root.tag)


def disks(text: str | None) -> dict[str, str]:
    """target -> the element of each disk of a definition; none where there is no definition."""
    return dict(_keyed(text, "disk", "target", "dev"))


def nics(text: str | None) -> dict[str, str]:
    """MAC -> the element of each network card of a definition."""
    return {mac.lower(): piece for mac, piece in _keyed(text, "interface", "mac", "address")}


def _keyed(text: str | None, tag: str, child: str, attribute: str) -> Iterable[tuple[str, str]]:
    for element in ET.fromstring(text).findall(f"./devices/{tag}") if text else ():
        found = element.find(child)
        if found is not None and found.get(attribute):
            yield found.get(attribute, ""), ET.tostring(element, encoding="unicode").strip()


def added(text: str, piece: str) -> str:
    """The definition with one more device."""
    root = ET.fromstring(text)
    devices = root.find("devices")
    (devices if devices is not None else ET.SubElement(root, "devices")).append(ET.fromstring(piece))
    return ET.tostring(root, encoding="unicode")


def replaced(text: str, old: str, new: str | None) -> str:
    """The definition with another device in the place of one (`disks`, `nics` give them), or without it."""
    root = ET.fromstring(text)
    devices = root.find("devices")
    for place, element in enumerate(devices if devices is not None else ()):
        if ET.tostring(element, encoding="unicode").strip() == old:
            devices.remove(element)  # type: ignore[union-attr]  # it was just found in it
            if new is not None:
                devices.insert(place, ET.fromstring(new))  # type: ignore[union-attr]
            return ET.tostring(root, encoding="unicode")
    raise LookupError("the device is not in this definition")


def count(text: str | None, piece: str) -> int:
    """How many devices there are of the kind of this one: a disk with its name, a card with its address; of other
    kinds, all."""
    tag = ET.fromstring(piece).tag
    if tag == "disk":
        return len(set(disks(text)) & set(_keys(piece, "target", "dev")))
    if tag == "interface" and _keys(piece, "mac", "address"):
        return len(set(nics(text)) & {mac.lower() for mac in _keys(piece, "mac", "address")})
    return len(ET.fromstring(text).findall(f"./devices/{tag}")) if text else 0


def like(text: str | None, piece: str) -> str | None:
    """The device of a definition that this one would take the place of: a disk by its name, a card by its address, the
    first of another kind."""
    tag = ET.fromstring(piece).tag
    if tag == "disk":
        return next((disks(text).get(target) for target in _keys(piece, "target", "dev")), None)
    if tag == "interface":
        return next((nics(text).get(mac.lower()) for mac in _keys(piece, "mac", "address")), None)
    found = ET.fromstring(text).find(f"./devices/{tag}") if text else None
    return ET.tostring(found, encoding="unicode").strip() if found is not None else None


def _keys(piece: str, child: str, attribute: str) -> list[str]:
    found = ET.fromstring(piece).find(child)
    return [found.get(attribute, "")] if found is not None and found.get(attribute) else []
