"""Disks and media: which name is free, what an element says, and how it is written. Values in, values out."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from itertools import product
from typing import Any

from maglica.errors import Refused

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}
COLD = ("sata", "ide")  # buses that nothing can be plugged into while the machine runs


def names(prefix: str) -> Iterator[str]:
    """vda, vdb, … vdz, vdaa, … as Linux and libvirt count them."""
    for length in (1, 2):
        for letters in product(LETTERS, repeat=length):
            yield prefix + "".join(letters)


def bus_for(wanted: str | None, target: str | None, first: str | None, *, hot: bool) -> str:
    """The bus of a new disk: the one that was asked for, or that of the first disk where something can be plugged
    into it. `target`: the name that was asked for; `hot`: the VM runs.
    """
    bus = wanted or (first if first in PREFIX and not (hot and first in COLD) else "virtio")
    if wanted is None and target is not None and not target.startswith(PREFIX[bus]):
        bus = next((one for one, prefix in PREFIX.items() if target.startswith(prefix)), bus)
    if target is not None and not target.startswith(PREFIX[bus]):
        raise Refused(
            "wrong_input", f"a disk on the {bus} bus is not called {target}", f"expected a name such as {PREFIX[bus]}b"
        )
    if hot and bus in COLD:
        raise Refused(
            "wrong_state",
            f"nothing can be plugged into the {bus} bus of a VM that runs",
            "use --bus=virtio or scsi, or --apply=config for its next start",
        )
    return bus


def target_for(wanted: str | None, bus: str, taken: Collection[str], name: str) -> str:
    """The name of a new disk of the VM `name`: the one that was asked for, or the next that is free everywhere."""
    if wanted is not None:
        if wanted in taken:
            raise Refused(
                "already_exists", f"{name} has a disk {wanted}", f"it has {', '.join(sorted(taken))}: choose another"
            )
        return wanted
    found = next((target for target in names(PREFIX[bus]) if target not in taken), None)
    if found is None:
        raise Refused("no_capacity", f"{name} has no free name for another disk on its {bus} bus", "detach one")
    return found


def element(
    path: str, format: str, target: str, bus: str, *, block: bool = False, cache: str | None = None,
    serial: str | None = None,
) -> str:  # fmt: skip
    """A disk. `block`: the path is a device."""
    disk = ET.Element("disk", type="block" if block else "file", device="disk")
    driver = ET.SubElement(disk, "driver", name="qemu", type=format)
    if cache not in (None, "default"):
        driver.set("cache", str(cache))
    if format == "qcow2":
        driver.set("discard", "unmap")
    ET.SubElement(disk, "source", {"dev" if block else "file": path})
    ET.SubElement(disk, "target", dev=target, bus=bus)
    if serial:
        ET.SubElement(disk, "serial").text = serial
    return ET.tostring(disk, encoding="unicode")


def drive(target: str, bus: str, path: str) -> str:
    """A CD-ROM drive with a medium."""
    disk = ET.Element("disk", type="file", device="cdrom")
    ET.SubElement(disk, "driver", name="qemu", type="raw")
    ET.SubElement(disk, "source", file=path)
    ET.SubElement(disk, "target", dev=target, bus=bus)
    ET.SubElement(disk, "readonly")
    return ET.tostring(disk, encoding="unicode")


def with_medium(piece: str, path: str | None) -> str:
    """A CD-ROM drive with another medium, or empty."""
    disk = ET.fromstring(piece)
    for tag in ("source", "backingStore"):
        for found in disk.findall(tag):
            disk.remove(found)
    disk.set("type", "file")
    if path is not None:
        driver = disk.find("driver")
        if driver is not None:
            driver.set("type", "raw")
        disk.insert(1 if driver is not None else 0, ET.Element("source", file=path))
    return ET.tostring(disk, encoding="unicode")


def facts(piece: str) -> dict[str, Any]:
    """What an element says of its disk: `device`, `bus`, `path`, `format`, `serial`, `cache`, `readonly`. `path` is
    POOL/VOLUME for a volume of a pool; `source`: of which kind it is.
    """
    disk = ET.fromstring(piece)
    source, target, driver = disk.find("source"), disk.find("target"), disk.find("driver")
    path = None
    if source is not None:
        path = source.get("file") or source.get("dev")
        if disk.get("type") == "volume":
            path = f"{source.get('pool')}/{source.get('volume')}"
    return {
        "device": disk.get("device", "disk"),
        "bus": target.get("bus") if target is not None else None,
        "source": disk.get("type", "file"),
        "path": path,
        "format": driver.get("type", "raw") if driver is not None else "raw",
        "serial": disk.findtext("serial"),
        "cache": driver.get("cache", "default") if driver is not None else "default",
        "readonly": disk.find("readonly") is not None,
    }


def drive_bus(machine: str | None) -> str:
    """The bus that CD-ROM drives of such a machine are on."""
    kind = machine or ""
    return "sata" if "q35" in kind else "ide" if kind.startswith(("pc", "isapc")) else "scsi"
