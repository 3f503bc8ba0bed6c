"""The CD-ROM drive that holds a clone's seed for cloud-init, on a bus whose driver its guest has.

Kernels made for clouds leave drivers out: that of Debian's genericcloud image, for one, has no SATA (CONFIG_SATA_AHCI),
and a guest that does not find its seed keeps its image's name and lets nobody in. What the image's own disks are on is
known to work; and a guest with virtio has virtio-scsi, on which clouds attach disks.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

VIRTIO_SCSI = ("virtio-scsi", "virtio-transitional", "virtio-non-transitional")
IDE_NAMES = ("hda", "hdb", "hdc", "hdd")
OTHER_NAMES = tuple(f"sd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")


def add(root: ET.Element, path: str) -> None:
    """Give a domain the drive, under a name that is free; `path` is the ISO image."""
    devices = root.find("devices")
    if devices is None:
        devices = ET.SubElement(root, "devices")
    bus = _bus(root)
    controller = _controller(devices) if bus == "scsi" else None
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "cdrom"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": "raw"})
    ET.SubElement(disk, "source", {"file": path})
    ET.SubElement(disk, "target", {"dev": _name(devices, bus), "bus": bus})
    ET.SubElement(disk, "readonly")
    if controller is not None:
        place = {"type": "drive", "controller": controller, "bus": "0", "target": "0", "unit": "0"}
        ET.SubElement(disk, "address", place)


def _bus(root: ET.Element) -> str:
    """IDE where the machine has it: whatever boots there knows it. Otherwise SATA only where a disk is on it."""
    kind = root.find("./os/type")
    machine = (kind.get("machine") or "") if kind is not None else ""
    if machine.startswith(("pc", "isapc")) and "q35" not in machine:
        return "ide"
    buses = {target.get("bus") for target in root.findall("./devices/disk[@device='disk']/target")}
    return "sata" if "q35" in machine and "sata" in buses else "scsi"


def _controller(devices: ET.Element) -> str | None:
    """The index of the virtio-scsi controller that shall have the drive, which is added where there is none; None: that
    of the disks that are on SCSI already, where libvirt finds a place.
    """
    if any(target.get("bus") == "scsi" for target in devices.findall("./disk/target")):
        return None
    known = devices.findall("./controller[@type='scsi']")
    for one in known:
        if one.get("model") in VIRTIO_SCSI:
            return one.get("index", "0")
    index = str(1 + max((int(one.get("index", "0")) for one in known), default=-1))
    ET.SubElement(devices, "controller", {"type": "scsi", "index": index, "model": "virtio-scsi"})
    return index


def _name(devices: ET.Element, bus: str) -> str:
    names = IDE_NAMES if bus == "ide" else OTHER_NAMES
    taken = {target.get("dev") for target in devices.findall("./disk/target")}
    return next((name for name in names if name not in taken), names[-1])
