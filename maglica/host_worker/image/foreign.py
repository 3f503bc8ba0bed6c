"""A definition that comes from another host, made harmless. Text in, text out; `Refused` where that cannot be.

The host that has an image may have fallen to somebody. What it sends becomes a domain here, and libvirtd is root: a
definition can name any file of this host as a disk, a log, a firmware, or as the program to run. So only what is known
to name nothing of the host's passes; paths are taken out, or are made ours.

https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from maglica import kinds
from maglica.errors import Refused

# What a machine may have, and the attribute `type` that it may have it of; None: any.
DEVICES: dict[str, frozenset[str] | None] = {
    "disk": None,
    "controller": None,
    "interface": frozenset({"network", "bridge", "user"}),
    "serial": frozenset({"pty"}),
    "console": frozenset({"pty"}),
    "channel": frozenset({"unix", "spicevmc"}),
    "input": frozenset({"mouse", "keyboard", "tablet"}),
    "graphics": frozenset({"vnc", "spice"}),
    "video": None,
    "sound": None,
    "memballoon": None,
    "rng": None,
    "tpm": None,
    "vsock": None,
    "watchdog": None,
    "panic": None,
}
DROPPED = ("emulator", "audio", "redirdev", "hub")  # the host's own choice, or nothing that an image needs
SYSTEM = frozenset({"type", "boot", "loader", "nvram", "bootmenu", "smbios", "bios", "firmware"})
FIRMWARE = "/usr/share/"
SOURCES = ("/dev/urandom", "/dev/random", "/dev/hwrng")


def tamed(text: str, name: str, disks: frozenset[str], log: str) -> str:
    """The definition of the image `name`, whose disks at these targets come along. `log`: where its console goes."""
    root = ET.fromstring(text)
    if root.tag != "domain" or root.get("type") not in ("kvm", "qemu"):
        raise _refused(name, f"is of type {root.get('type')}")
    for child in list(root):
        if child.tag.startswith("{"):
            raise _refused(name, f"has {child.tag.rpartition('}')[2]}, which goes past libvirt")
        if child.tag == "seclabel":
            root.remove(child)
        if child.tag == "sysinfo" and child.get("type") != "smbios":
            raise _refused(name, f"has sysinfo of type {child.get('type')}")
    _system(root, name)
    devices = root.find("devices")
    for device in list(devices) if devices is not None else ():
        assert devices is not None
        if device.tag in DROPPED:
            devices.remove(device)
            continue
        if device.tag not in DEVICES:
            raise _refused(name, f"has a device of its host: {device.tag}")
        kinds_of = DEVICES[device.tag]
        if kinds_of is not None and device.get("type") not in kinds_of:
            raise _refused(name, f"has a device that is tied to its host: {device.tag} of type {device.get('type')}")
        _device(device, name, disks, log)
    return ET.tostring(root, encoding="unicode")


def target(word: object) -> str:
    """A disk's target as it may be a part of a file's name."""
    try:
        return str(kinds.NAME.check(word))
    except ValueError as error:
        raise Refused("wrong_input", f"the other host names a disk {error}") from None


def server(told: dict[str, object]) -> tuple[str, int, str]:
    """(address, port, secret) of a server as they may be in options of qemu-img and in a file of keys."""
    address, port, secret = told.get("address"), told.get("port"), told.get("secret")
    try:
        found = str(kinds.ADDRESS.check(address)), int(kinds.PORT.check(port)), str(secret)
    except ValueError as error:
        raise Refused("wrong_input", f"the other host serves at {address}:{port}: {error}") from None
    if not re.fullmatch(r"[0-9a-f]{32,128}", found[2]):
        raise Refused("wrong_input", "the other host gave a key that is none")
    return found


def _refused(name: str, what: str) -> Refused:
    return Refused(
        "environment_error", f"{name} {what}; it cannot be copied", "copy an image that is a machine of its own"
    )


def _system(root: ET.Element, name: str) -> None:
    system = root.find("os")
    for child in list(system) if system is not None else ():
        if child.tag not in SYSTEM:
            raise _refused(name, f"boots by means of its host: {child.tag}")
        path = child.text or ""
        if child.tag == "loader" and path and (not path.startswith(FIRMWARE) or "/../" in path):
            raise _refused(name, f"has firmware at {path}, not below {FIRMWARE}")
        if child.tag == "nvram":
            child.attrib.pop("template", None)


def _device(device: ET.Element, name: str, disks: frozenset[str], log: str) -> None:
    for entry in device.findall("log"):
        entry.set("file", log)
    for tag in ("script", "downscript", "backend") if device.tag == "interface" else ():
        for entry in device.findall(tag):
            device.remove(entry)
    if device.tag == "disk":
        _disk(device, name, disks)
    if device.tag in ("serial", "console", "channel"):
        for entry in device.findall("source"):
            device.remove(entry)
    backend = device.find("backend")
    if device.tag == "tpm" and (backend is None or backend.get("type") != "emulator"):
        raise _refused(name, "has its host's TPM")
    if device.tag == "rng":
        model, source = ("", "") if backend is None else (backend.get("model"), backend.text or SOURCES[0])
        if model not in ("random", "builtin") or source not in SOURCES:
            raise _refused(name, "takes its chance from something of its host's")


def _disk(disk: ET.Element, name: str, disks: frozenset[str]) -> None:
    at = disk.find("target")
    where = at.get("dev", "") if at is not None else ""
    if where in disks:
        return  # its source is replaced
    if disk.get("device") not in ("cdrom", "floppy"):
        raise _refused(name, f"has a disk that stays behind: {where}")
    disk.set("type", "file")
    for tag in ("source", "backingStore", "mirror"):
        for entry in disk.findall(tag):
            disk.remove(entry)
