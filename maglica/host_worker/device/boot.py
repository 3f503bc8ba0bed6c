"""What a machine boots from, in the two ways that a definition can say it. Text in, text out.

<os><boot dev='hd'/></os> names kinds of devices, <boot order='1'/> in a device this very one; libvirt takes one of the
two ways in a definition, never both.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from maglica.errors import Refused


def order(text: str) -> list[str]:
    """hd, cdrom, network, in the order in which they are tried; hd when nothing is said."""
    root = ET.fromstring(text)
    numbered = sorted((int(boot.get("order", 0)), kind) for kind, _, boot in _numbered(root))
    if numbered:
        return list(dict.fromkeys(kind for _, kind in numbered if kind))
    return [boot.get("dev", "") for boot in root.findall("./os/boot")] or ["hd"]


def with_order(text: str, wanted: Sequence[str]) -> str:
    """The definition that boots from these, in the way in which it says so already. Of several devices of a kind the
    first one is meant; one that is not there is refused.
    """
    root = ET.fromstring(text)
    name = root.findtext("name", "")
    found = {}
    for kind in wanted:
        devices = _of(root, kind)
        if not devices:
            words = {"hd": "disk", "cdrom": "CD-ROM drive", "network": "network card"}
            hint = "`maglica vm attach-iso` gives it one" if kind == "cdrom" else "attach one first"
            raise Refused("unknown_entity", f"{name} has no {words[kind]} to boot from", hint)
        found[kind] = devices[0]
    numbered = _numbered(root)
    if numbered:
        for _, device, boot in numbered:
            device.remove(boot)
        for number, kind in enumerate(wanted, 1):
            ET.SubElement(found[kind], "boot", order=str(number))
        return ET.tostring(root, encoding="unicode")
    system = root.find("os")
    assert system is not None, "libvirt gives every definition one"
    for boot in system.findall("boot"):
        system.remove(boot)
    for kind in wanted:
        ET.SubElement(system, "boot", dev=kind)
    return ET.tostring(root, encoding="unicode")


def _of(root: ET.Element, kind: str) -> list[ET.Element]:
    if kind == "network":
        return root.findall("./devices/interface")
    device = "cdrom" if kind == "cdrom" else "disk"
    return [disk for disk in root.findall("./devices/disk") if disk.get("device", "disk") == device]


def _numbered(root: ET.Element) -> list[tuple[str, ET.Element, ET.Element]]:
    """(kind, device, its <boot>) of the devices that have a number; the kind is '' for others than ours."""
    found = []
    for device in root.findall("./devices/*"):
        boot = device.find("boot")
        if boot is not None:
            kinds = {"cdrom": "cdrom", "disk": "hd"}
            is_disk = device.tag == "disk"
            kind = kinds.get(device.get("device", "disk"), "") if is_disk else "network" * (device.tag == "interface")
            found.append((kind, device, boot))
    return found
