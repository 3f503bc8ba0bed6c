"""A definition that comes from another host, made harmless. Text in, text out; `Refused` where that cannot be.

The host that has an image may have fallen to somebody. What it sends becomes a domain here, and libvirtd is root: a
definition can name any file of this host as a disk, a log, a firmware, or as the program to run. So only what is known
to name nothing of the host's passes; paths are taken out, or are made ours.

https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any, NamedTuple

from maglica import kinds
from maglica.errors import Refused
from maglica.host_worker.domain.domain_xml import MARK

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
MOST_BYTES = 1 << 60  # no disk takes as many
FILES_OF_MARKS = ("saved", "seed", "bases")  # what our mark says of a VM that names files of its host
SOURCES = ("/dev/urandom", "/dev/random", "/dev/hwrng")


def tamed(text: str, name: str, disks: frozenset[str], log: str) -> str:
    """The definition of the image `name`, whose disks at these targets come along. `log`: where its console goes."""
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise _nonsense(f"gave a definition of {name} that is no XML: {error}") from None
    if root.tag != "domain" or root.get("type") not in ("kvm", "qemu"):
        raise _refused(name, f"is of type {root.get('type')}")
    _refuse_unclear(root, name)
    for child in list(root):
        if child.tag == "seclabel":
            root.remove(child)
        if child.tag == "sysinfo" and child.get("type") != "smbios":
            raise _refused(name, f"has sysinfo of type {child.get('type')}")
    for mark in root.findall(f"./metadata/{MARK}"):
        for word in FILES_OF_MARKS:
            mark.attrib.pop(word, None)
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
        _refuse_path(device, name, log)
    return ET.tostring(root, encoding="unicode")


class Disk(NamedTuple):
    """A disk that another host has."""

    target: str
    format: str
    allocation_bytes: int


class Told(NamedTuple):
    """What another host says of its image. `nvram`: whether it has a file of firmware variables for it."""

    definition: str
    disks: list[Disk]
    nvram: bool


def told(answer: dict[str, Any]) -> Told:
    """What it says, of the types that it must be of and within all bounds."""
    definition, disks = answer.get("definition"), answer.get("disks")
    if not isinstance(definition, str) or not isinstance(disks, list):
        raise _nonsense("tells of an image without a definition or without disks")
    found = [_told_disk(one) for one in disks]
    targets = [one.target for one in found]
    if len(set(targets)) < len(targets):
        raise _nonsense(f"names a disk twice: {' '.join(targets)}")
    return Told(definition, found, answer.get("nvram") is True)


def _told_disk(one: object) -> Disk:
    if not isinstance(one, dict):
        raise _nonsense(f"tells of a disk in no words: {one!r}")
    where, size = target(one.get("target")), one.get("allocation_bytes")
    if type(size) is not int or not 0 <= size < MOST_BYTES:
        raise _nonsense(f"says that disk {where} takes {size!r} bytes; expected 0 to {MOST_BYTES - 1}")
    return Disk(where, "raw" if one.get("format") == "raw" else "qcow2", size)


def digest(answer: dict[str, Any]) -> str | None:
    """The checksum of a disk there; None while it is being read."""
    found = answer.get("digest")
    if found is not None and not (isinstance(found, str) and re.fullmatch(r"[0-9a-f]{64}", found)):
        raise _nonsense(f"gave a checksum that is none: {found!r}")
    return found


def _nonsense(what: str) -> Refused:
    return Refused("wrong_input", f"the other host {what}", "look at its log, and whether it is still yours")


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


def _refuse_unclear(root: ET.Element, name: str) -> None:
    """What libvirt may read otherwise than we do: it takes what it looks for from all elements of a name, and some of
    them by their names alone, whatever namespace they are in.
    """
    for tag in ("os", "devices", "metadata"):
        if len(root.findall(tag)) > 1:
            raise _refused(name, f"says {tag} more than once")
    for child in root:
        for element in child.iter() if child.tag != "metadata" else ():
            if element.tag.startswith("{"):
                raise _refused(name, f"has {element.tag.rpartition('}')[2]}, which goes past libvirt")


def _system(root: ET.Element, name: str) -> None:
    """Its NVRAM is taken out, whatever it says: where ours lies is said when there is one."""
    system = root.find("os")
    for child in list(system) if system is not None else ():
        if child.tag not in SYSTEM:
            raise _refused(name, f"boots by means of its host: {child.tag}")
        path = child.text or ""
        if child.tag == "loader" and path and (not path.startswith(FIRMWARE) or "/../" in path):
            raise _refused(name, f"has firmware at {path}, not below {FIRMWARE}")
        if child.tag == "nvram":
            if child.get("format", "raw") != "raw":  # it could rest on any file
                raise _refused(name, f"keeps its firmware's variables as {child.get('format')}, not raw")
            system.remove(child)  # type: ignore[union-attr]  # it was just found in it


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
    for entry in device.findall("rom"):
        device.remove(entry)  # a file that the guest could read
    backend = device.find("backend")
    if device.tag == "tpm" and (backend is None or backend.get("type") != "emulator"):
        raise _refused(name, "has its host's TPM")
    if device.tag == "rng":
        model, source = ("", "") if backend is None else (backend.get("model"), backend.text or SOURCES[0])
        if model not in ("random", "builtin") or source not in SOURCES:
            raise _refused(name, "takes its chance from something of its host's")


def _refuse_path(device: ET.Element, name: str, log: str) -> None:
    """The last look at a device: nothing in it is a path but those that are known to be harmless."""
    for element in device.iter():
        for word in (*element.attrib.values(), (element.text or "").strip()):
            if "/" in word and word != log and word not in SOURCES:
                raise _refused(name, f"has a device that names {word} of its host: {device.tag}")


def _disk(disk: ET.Element, name: str, disks: frozenset[str]) -> None:
    at = disk.find("target")
    where = at.get("dev", "") if at is not None else ""
    if where not in disks and disk.get("device") not in ("cdrom", "floppy"):
        raise _refused(name, f"has a disk that stays behind: {where}")
    disk.set("type", "file")
    for tag in ("source", "backingStore", "mirror"):
        for entry in disk.findall(tag):
            disk.remove(entry)
