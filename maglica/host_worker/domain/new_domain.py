"""The definition of a machine that is made for a disk from elsewhere. Values in, text out.

https://libvirt.org/formatdomain.html, https://libvirt.org/formatdomaincaps.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

from maglica.host_worker.domain.domain_xml import MARK


class Machine(NamedTuple):
    """What a host's QEMU offers: architecture, machine type, and whether it has UEFI firmware for it."""

    arch: str
    machine: str
    efi: bool


class New(NamedTuple):
    """What the definition is made from. Sizes in bytes."""

    name: str
    uuid: str
    machine: Machine
    kvm: bool
    vcpus: int
    memory_bytes: int
    disk: str  # a qcow2 file
    mac: str | None  # None: no network card
    network: str
    bridge: bool  # whether `network` is a bridge of the host's own
    efi: bool
    console_log: str
    mark: dict[str, str]
    screen: bool = False  # whether it has a display (VNC, on the host's loopback): somebody will install it by hand


def machine(capabilities: str) -> Machine:
    """What the domain capabilities of a host say."""
    root = ET.fromstring(capabilities)
    firmwares = [value.text for value in root.findall("./os/enum[@name='firmware']/value")]
    return Machine(root.findtext("arch", ""), root.findtext("machine", ""), "efi" in firmwares)


def definition(new: New) -> str:
    """A machine with a virtio disk and network card, a serial console that is logged, and a channel for an agent."""
    root = ET.Element("domain", type="kvm" if new.kvm else "qemu")
    ET.SubElement(root, "name").text = new.name
    ET.SubElement(root, "uuid").text = new.uuid
    ET.SubElement(ET.SubElement(root, "metadata"), MARK, new.mark)
    ET.SubElement(root, "memory", unit="KiB").text = str(new.memory_bytes // 1024)
    ET.SubElement(root, "vcpu").text = str(new.vcpus)
    system = ET.SubElement(root, "os", {"firmware": "efi"} if new.efi else {})
    ET.SubElement(system, "type", arch=new.machine.arch, machine=new.machine.machine).text = "hvm"
    ET.SubElement(system, "boot", dev="hd")
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    if new.machine.arch == "x86_64":
        ET.SubElement(features, "apic")
    if new.kvm:
        ET.SubElement(root, "cpu", mode="host-model")
    ET.SubElement(root, "clock", offset="utc")
    for event, what in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        ET.SubElement(root, event).text = what
    _devices(ET.SubElement(root, "devices"), new)
    return ET.tostring(root, encoding="unicode")


def _devices(devices: ET.Element, new: New) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    ET.SubElement(disk, "source", file=new.disk)
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    if new.mac:
        kind = "bridge" if new.bridge else "network"
        nic = ET.SubElement(devices, "interface", type=kind)
        ET.SubElement(nic, "mac", address=new.mac)
        ET.SubElement(nic, "source", {kind: new.network})
        ET.SubElement(nic, "model", type="virtio")
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=new.console_log, append="off")
    ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if new.screen:
        ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
        ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
    ET.SubElement(devices, "memballoon", model="virtio")
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"
