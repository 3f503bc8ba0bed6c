"""A guest that is written down as options of QEMU, one on a line: what it is, as a definition. Pure: text in, text out.

Everything that is written has to be understood: what cannot be carried over is refused with its line. qemu(1).

    -name web1
    -m 1024                                     # MiB, or 2G
    -smp 2
    -drive file=/srv/web1.qcow2,if=virtio,format=qcow2
    -net nic,model=virtio,macaddr=52:54:00:12:34:56
    -net bridge,br=br0
    -vnc :1
"""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from maglica.errors import Refused
from maglica.host_worker.domain.domain_xml import MARK

# What says nothing about the machine: how QEMU is run, watched and spoken to, which libvirt sees to.
IGNORED = frozenset({
    "-daemonize", "-nodefaults", "-no-user-config", "-enable-kvm", "-usb", "-nographic", "-no-fd-bootchk", "-no-hpet",
    "-S",
})  # fmt: skip
IGNORED_WITH_VALUE = frozenset({
    "-monitor", "-qmp", "-pidfile", "-runas", "-D", "-msg", "-sandbox", "-k", "-display", "-balloon", "-parallel",
    "-watchdog-action",
})  # fmt: skip
# The disk buses: prefix of the target's name, and libvirt's word.
BUSES = {
    "virtio": ("vd", "virtio"), "ide": ("hd", "ide"), "scsi": ("sd", "scsi"), "sata": ("sd", "sata"),
    "floppy": ("fd", "fdc"),
}  # fmt: skip
CARDS = {"virtio": "virtio", "virtio-net": "virtio", "virtio-net-pci": "virtio", "e1000": "e1000", "rtl8139": "rtl8139",
         "ne2k_pci": "ne2k_pci", "pcnet": "pcnet", "vmxnet3": "vmxnet3", "e1000e": "e1000e"}  # fmt: skip
DISK_DEVICES = {"virtio-blk-pci": "virtio", "virtio-blk": "virtio", "ide-hd": "ide", "scsi-hd": "scsi", "ide-cd": "ide"}
FORMATS = ("raw", "qcow2", "qed", "vmdk", "vdi", "vpc", "vhdx")


@dataclass
class Disk:
    path: str
    format: str
    bus: str
    cdrom: bool = False
    readonly: bool = False
    cache: str = ""
    io: str = ""
    id: str = ""


@dataclass
class Card:
    model: str = "virtio"
    mac: str = ""
    bridge: str = ""  # '' for what cannot be carried over: the network has to be said
    netdev: str = ""


@dataclass
class Guest:
    """The machine. Sizes in bytes."""

    name: str = ""
    uuid: str = ""
    memory_bytes: int = 128 << 20  # QEMU's own
    vcpus: int = 1
    topology: tuple[int, int, int] | None = None
    machine: str = "pc"
    cpu: str = ""
    boot: list[str] = field(default_factory=lambda: ["hd"])
    disks: list[Disk] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    vnc: str | None = None
    vga: str = "std"
    serial: bool = False
    tablet: bool = False
    utc: bool = True
    kernel: dict[str, str] = field(default_factory=dict)
    netdevs: dict[str, str] = field(default_factory=dict)  # id -> bridge, or ''


class _Line:
    """Where an option stands, for whoever has to complain."""

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text

    def refused(self, why: str, hint: str = "change or remove the line, and set it after the import") -> Refused:
        return Refused("wrong_input", f"line {self.number}, {self.text!r}: {why}", hint)


def read(text: str) -> Guest:
    """What the options say. Raises `Refused` for what is not understood, and without a name."""
    guest = Guest()
    for number, raw in enumerate(text.replace("\\\n", " \n").splitlines(), 1):
        try:
            words = shlex.split(raw, comments=True)
        except ValueError as error:
            raise _Line(number, raw.strip()).refused(str(error)) from None
        line = _Line(number, " ".join(words))
        while words:
            option = "-" + words.pop(0).lstrip("-") if words[0].startswith("-") else words.pop(0)
            words = _option(guest, option, words, line)
    if not guest.name:
        raise Refused("wrong_input", "there is no -name among the options", "expected a line such as `-name web1`")
    guest.cards = [_connected(card, guest) for card in guest.cards]
    return guest


def _option(guest: Guest, option: str, words: list[str], line: _Line) -> list[str]:
    if not option.startswith("-"):
        if re.fullmatch(r"(\S*/)?(qemu-system-x86_64|qemu-kvm|kvm)", option) and not guest.name:
            return words
        raise line.refused(f"{option!r} is no option")
    if option == "-localtime":
        guest.utc = False
        return words
    if option in IGNORED:
        return words
    if not words:
        raise line.refused(f"{option} wants a value")
    value, rest = words[0], words[1:]
    if option == "-rtc":
        guest.utc = "localtime" not in value
    elif option == "-uuid":
        guest.uuid = value.lower()
    elif option in OPTIONS:
        OPTIONS[option](guest, value, line)
    elif option not in IGNORED_WITH_VALUE:
        raise line.refused(f"{option} is not known here")
    return rest


def _pairs(value: str, line: _Line, first: str = "", known: tuple[str, ...] = ()) -> dict[str, str]:
    """key=value,key=value; a first word without = gets the key `first`, the others are `on`. ,, is a comma."""
    found: dict[str, str] = {}
    for at, part in enumerate(re.split(r"(?<!,),(?!,)", value)):
        key, equals, text = part.partition("=")
        if not equals:
            key, text = (first, part) if at == 0 and first else (part, "on")
        found[key] = text.replace(",,", ",")
    unknown = [key for key in found if known and key not in known and key != first]
    if unknown:
        raise line.refused(f"{unknown[0]!r} cannot be carried over")
    return found


def _name(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "guest", ("guest", "process", "debug-threads"))
    guest.name = found["guest"]


def _memory(guest: Guest, value: str, line: _Line) -> None:
    text = _pairs(value, line, "size", ("size",))["size"]
    found = re.fullmatch(r"(\d+)([kKmMgGtT]?)[bB]?", text)
    if not found:
        raise line.refused(f"{text!r} is no size")
    guest.memory_bytes = int(found[1]) << {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}[found[2].lower()]


def _smp(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "cpus", ("cpus", "sockets", "cores", "threads", "maxcpus"))
    try:
        shape = tuple(int(found.get(key, 1)) for key in ("sockets", "cores", "threads"))
        guest.vcpus = int(found["cpus"]) if "cpus" in found else shape[0] * shape[1] * shape[2]
    except ValueError:
        raise line.refused("expected numbers") from None
    if shape[0] * shape[1] * shape[2] == guest.vcpus and shape != (1, 1, 1):
        guest.topology = (shape[0], shape[1], shape[2])
    if int(found.get("maxcpus", guest.vcpus)) != guest.vcpus:
        raise line.refused("maxcpus cannot be carried over")


def _machine(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "type", ("type", "accel", "usb", "dump-guest-core", "vmport", "kernel_irqchip"))
    guest.machine = found.get("type", guest.machine)
    if not re.fullmatch(r"(pc|q35|isapc|microvm)([.-]\S+)?", guest.machine):
        raise line.refused(f"the machine {guest.machine} is not known here")


def _cpu(guest: Guest, value: str, line: _Line) -> None:
    if "," in value:
        raise line.refused("features of the CPU cannot be carried over", "remove what follows the model")
    guest.cpu = value


def _boot(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "order", ("order", "menu", "strict", "once"))
    words = {"a": "fd", "c": "hd", "d": "cdrom", "n": "network"}
    try:
        guest.boot = [words[letter] for letter in found.get("order", "c")]
    except KeyError as letter:
        raise line.refused(f"{letter} is no device to boot from") from None


def _drive(guest: Guest, value: str, line: _Line) -> None:
    known = ("file", "if", "format", "media", "cache", "aio", "index", "bus", "unit", "readonly", "id", "boot",
             "discard", "detect-zeroes", "werror", "rerror", "snapshot")  # fmt: skip
    found = _pairs(value, line, "file", known)
    if found.get("snapshot", "off") != "off":
        raise line.refused("snapshot=on cannot be carried over")
    cdrom = found.get("media") == "cdrom"
    path = found.get("file", "")
    bus = found.get("if", "ide")
    if bus not in (*BUSES, "none"):
        raise line.refused(f"if={bus} is not known here")
    _add_disk(
        guest,
        Disk(path, found.get("format", ""), bus, cdrom, cdrom or found.get("readonly", "off") == "on",
             found.get("cache", ""), found.get("aio", ""), found.get("id", "")),
        line,
    )  # fmt: skip


def _plain_disk(bus: str, *, cdrom: bool = False) -> Callable[[Guest, str, _Line], None]:
    def add(guest: Guest, value: str, line: _Line) -> None:
        _add_disk(guest, Disk(value, "", bus, cdrom, cdrom), line)

    return add


def _add_disk(guest: Guest, disk: Disk, line: _Line) -> None:
    if disk.path and not disk.path.startswith("/"):
        raise line.refused(f"{disk.path!r} is no absolute path: disks are files and devices of the host")
    if not disk.path and not disk.cdrom:
        raise line.refused("a disk without a file")
    if not disk.format:
        if not disk.cdrom and not disk.path.endswith((".img", ".raw", ".qcow2")):
            raise line.refused(
                "the format of the disk is not said", "add format=raw or format=qcow2: it is never guessed"
            )
        disk.format = "qcow2" if disk.path.endswith(".qcow2") else "raw"
    if disk.format not in FORMATS:
        raise line.refused(f"format={disk.format} is not known here")
    guest.disks.append(disk)


def _net(guest: Guest, value: str, line: _Line) -> None:
    kind = value.partition(",")[0]
    if kind == "nic":
        found = _pairs(value, line, "kind", ("kind", "model", "macaddr", "vlan", "netdev", "name"))
        guest.cards.append(
            Card(_model(found.get("model", "e1000"), line), found.get("macaddr", ""), "", found.get("netdev", ""))
        )
    elif kind == "none":
        guest.cards.clear()
    elif kind in ("tap", "bridge", "user", "vde"):
        found = _pairs(value, line, "kind")
        guest.netdevs[f"#{len(guest.netdevs)}"] = found.get("br", "br0" if kind == "bridge" else "")
    else:
        raise line.refused(f"-net {kind} cannot be carried over")


def _netdev(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "kind")
    if found["kind"] not in ("tap", "bridge", "user", "vde") or "id" not in found:
        raise line.refused(f"-netdev {found['kind']} cannot be carried over")
    guest.netdevs[found["id"]] = found.get("br", "br0" if found["kind"] == "bridge" else "")


def _nic(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "kind", ("kind", "model", "mac", "br", "id", "script", "downscript", "ifname"))
    guest.cards.append(Card(_model(found.get("model", "e1000"), line), found.get("mac", ""), found.get("br", "")))


def _model(model: str, line: _Line) -> str:
    if model not in CARDS:
        raise line.refused(f"the network card {model} is not known here")
    return CARDS[model]


def _device(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "driver")
    driver = found["driver"]
    if driver in CARDS:
        guest.cards.append(Card(CARDS[driver], found.get("mac", ""), "", found.get("netdev", "")))
    elif driver in DISK_DEVICES:
        disk = next((one for one in guest.disks if one.id and one.id == found.get("drive")), None)
        if disk is None:
            raise line.refused(f"there is no drive {found.get('drive')!r} before it")
        disk.bus = DISK_DEVICES[driver]
    elif driver == "usb-tablet":
        guest.tablet = True
    elif driver.startswith(("virtio-balloon", "piix", "ich9-", "qemu-xhci", "nec-usb", "usb-ehci", "virtio-rng",
                            "virtio-scsi", "virtio-serial", "isa-serial", "usb-kbd", "usb-mouse")):  # fmt: skip
        pass  # libvirt adds what a machine needs of these
    else:
        raise line.refused(f"the device {driver} cannot be carried over")


def _vnc(guest: Guest, value: str, line: _Line) -> None:
    found = _pairs(value, line, "display")
    if set(found) - {"display", "share", "lossy"}:
        raise line.refused("passwords and certificates of VNC cannot be carried over", "keep the display alone")
    guest.vnc = found["display"]


def _vga(guest: Guest, value: str, line: _Line) -> None:
    if value not in ("std", "cirrus", "vmware", "qxl", "virtio", "none"):
        raise line.refused(f"the video card {value} is not known here")
    guest.vga = value


def _serial(guest: Guest, value: str, line: _Line) -> None:
    guest.serial = value != "none"


def _usb(guest: Guest, value: str, line: _Line) -> None:
    if value not in ("tablet", "mouse", "keyboard"):
        raise line.refused(f"the USB device {value} cannot be carried over")
    guest.tablet |= value == "tablet"


def _kernel(key: str) -> Callable[[Guest, str, _Line], None]:
    def keep(guest: Guest, value: str, line: _Line) -> None:
        guest.kernel[key] = value

    return keep


def _soundless(guest: Guest, value: str, line: _Line) -> None:
    raise line.refused("sound cards cannot be carried over")


def _accelerated(guest: Guest, value: str, line: _Line) -> None:
    """Whether there is KVM is the host's to say."""


OPTIONS: Mapping[str, Callable[[Guest, str, _Line], None]] = {
    "-name": _name, "-m": _memory, "-smp": _smp, "-M": _machine, "-machine": _machine, "-cpu": _cpu, "-boot": _boot,
    "-drive": _drive, "-hda": _plain_disk("ide"), "-hdb": _plain_disk("ide"), "-hdc": _plain_disk("ide"),
    "-hdd": _plain_disk("ide"), "-cdrom": _plain_disk("ide", cdrom=True), "-net": _net, "-netdev": _netdev,
    "-nic": _nic,
    "-device": _device, "-vnc": _vnc, "-vga": _vga, "-serial": _serial, "-usbdevice": _usb,
    "-kernel": _kernel("kernel"),
    "-initrd": _kernel("initrd"), "-append": _kernel("cmdline"), "-soundhw": _soundless, "-accel": _accelerated,
}  # fmt: skip


def _connected(card: Card, guest: Guest) -> Card:
    """With -net, a card and a back end that follow one another belong together; with -netdev an id says it."""
    if not card.bridge:
        key = card.netdev or next((key for key in guest.netdevs if key.startswith("#")), "")
        card.bridge = guest.netdevs.get(key, "")
        if key.startswith("#") and len([key for key in guest.netdevs if key.startswith("#")]) > 1:
            del guest.netdevs[key]
    return card


# ---------------------------------------------------------------------------------------------- as a definition


def definition(
    guest: Guest, *, uuid: str, network: str | None, kvm: bool, mark: Mapping[str, str], console_log: str
) -> str:
    """The same machine for libvirt. `network`: of cards whose own was a script, a user's, or not said."""
    root = ET.Element("domain", type="kvm" if kvm else "qemu")
    ET.SubElement(root, "name").text = guest.name
    ET.SubElement(root, "uuid").text = uuid
    ET.SubElement(ET.SubElement(root, "metadata"), MARK, dict(mark))
    ET.SubElement(root, "memory", unit="KiB").text = str(guest.memory_bytes // 1024)
    ET.SubElement(root, "vcpu").text = str(guest.vcpus)
    system = ET.SubElement(root, "os")
    ET.SubElement(system, "type", arch="x86_64", machine=guest.machine).text = "hvm"
    for key, value in guest.kernel.items():
        ET.SubElement(system, key).text = value
    for device in guest.boot:
        ET.SubElement(system, "boot", dev=device)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    _cpu_element(root, guest, kvm)
    ET.SubElement(root, "clock", offset="utc" if guest.utc else "localtime")
    devices = ET.SubElement(root, "devices")
    taken: dict[str, int] = {}
    for disk in guest.disks:
        modern = disk.bus == "ide" and "q35" in guest.machine  # which has no IDE; QEMU puts such disks on its SATA
        _disk_element(devices, replace(disk, bus="sata") if modern else disk, taken)
    for card in guest.cards:
        _card_element(devices, card, network)
    _others(devices, guest, console_log)
    return ET.tostring(root, encoding="unicode")


def _cpu_element(root: ET.Element, guest: Guest, kvm: bool) -> None:
    if not guest.cpu and not guest.topology:
        return
    cpu = ET.SubElement(root, "cpu")
    if guest.cpu in ("host", "max"):
        cpu.attrib.update({"mode": "host-passthrough"} if kvm else {"mode": "maximum"})
    elif guest.cpu and not guest.cpu.startswith(("qemu", "kvm")):
        cpu.attrib.update({"mode": "custom", "match": "exact"})
        ET.SubElement(cpu, "model", fallback="allow").text = guest.cpu
    if guest.topology:
        sockets, cores, threads = map(str, guest.topology)
        ET.SubElement(cpu, "topology", sockets=sockets, cores=cores, threads=threads)


def _disk_element(devices: ET.Element, disk: Disk, taken: dict[str, int]) -> None:
    prefix, bus = BUSES.get(disk.bus, BUSES["virtio"])
    at = taken[prefix] = taken.get(prefix, -1) + 1
    device = disk.path.startswith("/dev/")
    kind = "cdrom" if disk.cdrom else "floppy" if bus == "fdc" else "disk"
    element = ET.SubElement(devices, "disk", type="block" if device else "file", device=kind)
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format)
    if disk.cache:
        driver.set("cache", disk.cache)
    if disk.io in ("native", "threads"):
        driver.set("io", disk.io)
    if disk.path:
        ET.SubElement(element, "source", {"dev" if device else "file": disk.path})
    ET.SubElement(element, "target", dev=prefix + "abcdefghijklmnopqrstuvwxyz"[at], bus=bus)
    if disk.readonly:
        ET.SubElement(element, "readonly")


def _card_element(devices: ET.Element, card: Card, network: str | None) -> None:
    if not card.bridge and network is None:
        raise Refused(
            "wrong_input", f"the network of the card {card.mac or card.model} cannot be carried over",
            "say with --network in which one it shall be, or write `-net bridge,br=BRIDGE`",
        )  # fmt: skip
    kind = "bridge" if card.bridge else "network"
    element = ET.SubElement(devices, "interface", type=kind)
    if card.mac:
        ET.SubElement(element, "mac", address=card.mac.lower())
    ET.SubElement(element, "source", {kind: card.bridge or network or ""})
    ET.SubElement(element, "model", type=card.model)


def _others(devices: ET.Element, guest: Guest, console_log: str) -> None:
    if guest.serial:
        serial = ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(serial, "log", file=console_log, append="off")
        ET.SubElement(serial, "target", port="0")
    if guest.tablet:
        ET.SubElement(devices, "input", type="tablet", bus="usb")
    if guest.vnc is not None:
        # The display's number belonged to the host where it ran by hand: libvirt chooses one that is free.
        ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes")
        model = {"std": "vga", "vmware": "vmvga"}.get(guest.vga, guest.vga)
        video = ET.SubElement(devices, "video")
        ET.SubElement(video, "model", type=model)
    ET.SubElement(devices, "memballoon", model="virtio")
