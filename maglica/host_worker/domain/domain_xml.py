"""Domain XML: reading what we need of it, and rewriting it for a clone. Text in, values or text out.

The elements and what they mean: https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from typing import NamedTuple

from maglica.host_worker.domain import seed_drive

NAMESPACE = "urn:maglica:1"

# The types of storage pools whose volumes are plain files.
FILE_POOLS = ("dir", "fs", "netfs")

# Prefixes that must survive a round trip: ElementTree would call them ns0 otherwise.
ET.register_namespace("maglica", NAMESPACE)
ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
ET.register_namespace("libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0")

MARK = f"{{{NAMESPACE}}}domain"

CHANNEL = "./devices/channel/target"

UNITS = {"b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20,
          "GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40}  # fmt: skip


class Disk(NamedTuple):
    """A disk as the definition has it. `path` is a file or device, or POOL/VOLUME when `source` is `volume`."""

    target: str
    bus: str | None
    device: str
    source: str
    path: str | None
    format: str
    copied: bool  # whether a clone gets its own: a writable disk with a medium that is not shared
    foreign: bool = False  # should be copied, and is neither a file nor a device nor a volume: on a network, say


class Domain(NamedTuple):
    """What we need of a definition. Sizes in bytes."""

    name: str
    uuid: str
    type: str
    vcpus: int
    memory_bytes: int
    machine: str | None
    arch: str | None
    disks: list[Disk]
    nics: list[dict[str, str | None]]
    nvram: str | None
    console_log: str | None
    mark: dict[str, str]
    console_appends: bool = True  # whether the console's log keeps what earlier runs wrote
    agent: bool = False  # whether there is a channel for QEMU's guest agent
    agent_connected: bool = False  # whether somebody listens at its other end; only what runs tells


def read(text: str) -> Domain:
    """What a definition says."""
    root = ET.fromstring(text)
    kind = root.find("./os/type")
    vcpu = root.find("vcpu")
    mark = root.find(f"./metadata/{MARK}")
    return Domain(
        name=root.findtext("name", ""),
        uuid=root.findtext("uuid", ""),
        type=root.get("type", ""),
        vcpus=int(vcpu.get("current") or vcpu.text or 1) if vcpu is not None else 1,
        memory_bytes=_memory(root),
        machine=kind.get("machine") if kind is not None else None,
        arch=kind.get("arch") if kind is not None else None,
        disks=[_disk(disk) for disk in root.findall("./devices/disk")],
        nics=[_nic(nic) for nic in root.findall("./devices/interface")],
        nvram=_nvram(root),
        console_log=next((log.get("file") for log in _logs(root)), None),
        mark=dict(mark.attrib) if mark is not None else {},
        console_appends=next((log.get("append") != "off" for log in _logs(root)), True),
        agent=root.find(f"{CHANNEL}[@name='org.qemu.guest_agent.0']") is not None,
        agent_connected=root.find(f"{CHANNEL}[@name='org.qemu.guest_agent.0'][@state='connected']") is not None,
    )


def boots_by_uefi(text: str) -> bool:
    """Whether a machine has UEFI firmware; otherwise it is a BIOS."""
    system = ET.fromstring(text).find("os")
    if system is None:
        return False
    return system.get("firmware") == "efi" or system.find("loader[@type='pflash']") is not None


def screens(text: str) -> int:
    """How many screens a definition has."""
    models = ET.fromstring(text).findall("./devices/video/model")
    return sum(model.get("type") != "none" for model in models)


def _logs(root: ET.Element) -> list[ET.Element]:
    """The files that libvirt keeps what the guest writes in: that of its serial console first."""
    return root.findall("./devices/serial/log") + root.findall("./devices/console/log")


def _nvram(root: ET.Element) -> str | None:
    """The file with the guest's firmware variables: libvirt writes it in one of two ways."""
    nvram = root.find("./os/nvram")
    if nvram is None:
        return None
    source = nvram.find("source")
    return (source.get("file") if source is not None else (nvram.text or "").strip()) or None


def _memory(root: ET.Element) -> int:
    memory = root.find("memory")
    if memory is None:
        return 0
    return int(memory.text or 0) * UNITS.get(memory.get("unit", "KiB"), 1024)


def _disk(disk: ET.Element) -> Disk:
    source, driver, target = disk.find("source"), disk.find("driver"), disk.find("target")
    device = disk.get("device", "disk")
    path = None
    if source is not None:
        path = source.get("file") or source.get("dev")
        if disk.get("type") == "volume":
            path = f"{source.get('pool')}/{source.get('volume')}"
    shared = disk.find("readonly") is not None or disk.find("shareable") is not None
    return Disk(
        target=target.get("dev", "") if target is not None else "",
        bus=target.get("bus") if target is not None else None,
        device=device,
        source=disk.get("type", "file"),
        path=path,
        format=driver.get("type", "raw") if driver is not None else "raw",
        copied=device in ("disk", "lun") and path is not None and not shared,
        foreign=device in ("disk", "lun") and path is None and source is not None and not shared,
    )


def disk(piece: str) -> Disk:
    """What the element of one disk says."""
    return _disk(ET.fromstring(piece))


def _nic(nic: ET.Element) -> dict[str, str | None]:
    mac, source, model, target = (nic.find(tag) for tag in ("mac", "source", "model", "target"))
    return {
        "mac": mac.get("address") if mac is not None else None,
        "type": nic.get("type"),
        "source": (source.get("network") or source.get("bridge") or source.get("dev")) if source is not None else None,
        "model": model.get("type") if model is not None else None,
        "device": target.get("dev") if target is not None else None,
    }


class NewDisk(NamedTuple):
    """A disk that a clone has and its image has not."""

    target: str
    bus: str
    path: str
    format: str


class Edits(NamedTuple):
    """What makes a clone's definition out of its image's."""

    name: str
    uuid: str
    macs: list[str]
    disks: dict[str, tuple[str, str]]  # target -> (path, format)
    nvram: str | None
    vcpus: int | None
    memory_bytes: int | None
    emulated: bool  # no KVM on this host: the guest is emulated by TCG
    mark: dict[str, str]
    seed: str | None = None  # an image for cloud-init, as a CD-ROM
    devices: frozenset[str] = frozenset()  # targets whose disks are block devices
    more: tuple[NewDisk, ...] = ()
    networks: tuple[str, ...] = ()  # of the first network cards; the others stay as they are


def rewrite(text: str, edits: Edits) -> str:
    """The definition of a clone: everything as in the image but what must be its own."""
    root = ET.fromstring(text)
    image = root.findtext("name", "")
    _set(root, "name", edits.name)
    _set(root, "uuid", edits.uuid)
    root.attrib.pop("id", None)
    for entry in root.findall("./sysinfo/system/entry[@name='uuid']"):
        entry.text = edits.uuid  # libvirt refuses another one than the domain's
    for generation in root.findall("genid"):
        generation.text = None  # libvirt makes a new one: it tells Windows guests that they are a copy
    _resources(root, edits.vcpus, edits.memory_bytes)
    for nic, mac in zip(root.findall("./devices/interface"), edits.macs, strict=True):
        _child(nic, "mac").set("address", mac)
        _drop(nic, "target")  # the host's name of the tap device belongs to the image
    for disk in root.findall("./devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") in edits.disks:
            _redirect(disk, *edits.disks[target.get("dev", "")], device=target.get("dev") in edits.devices)
    if edits.nvram:
        _set_nvram(root, edits.nvram)
    for network, nic in zip(edits.networks, root.findall("./devices/interface"), strict=False):
        _connect(nic, network)
    for one in edits.more:
        _add_disk(root, one)
    drop_seed(root)
    if edits.seed:
        seed_drive.add(root, edits.seed)
    _own_files(root, image, edits.name)
    _free_ports(root)
    if edits.emulated and root.get("type") == "kvm":
        _emulate(root)
    _mark(root, edits.mark)
    return ET.tostring(root, encoding="unicode")


def refit(
    text: str, disks: dict[str, tuple[str, str]], vcpus: int | None, memory_bytes: int | None, mark: dict[str, str]
) -> str:
    """The definition of a machine that gets other disks (target -> path, format), and stays what it is otherwise."""
    root = ET.fromstring(text)
    for disk in root.findall("./devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") in disks:
            _redirect(disk, *disks[target.get("dev", "")])
    drop_seed(root)
    _resources(root, vcpus, memory_bytes)
    _mark(root, mark)
    return ET.tostring(root, encoding="unicode")


def _set(root: ET.Element, tag: str, text: str) -> None:
    _child(root, tag).text = text


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return found if found is not None else ET.SubElement(parent, tag)


def _drop(parent: ET.Element, *tags: str) -> None:
    for tag in tags:
        for element in parent.findall(tag):
            parent.remove(element)


def _resources(root: ET.Element, vcpus: int | None, memory_bytes: int | None) -> None:
    if vcpus is not None:
        vcpu = _child(root, "vcpu")
        vcpu.text = str(vcpus)
        vcpu.attrib.pop("current", None)
        _drop(root, "vcpus")
        for topology in root.findall("./cpu/topology"):
            root.find("cpu").remove(topology)  # type: ignore[union-attr]  # it was just found in it
    if memory_bytes is not None:
        for tag in ("memory", "currentMemory"):
            element = _child(root, tag)
            element.set("unit", "KiB")
            element.text = str(memory_bytes // 1024)
    if vcpus is not None or memory_bytes is not None:
        _one_piece(root)


def _one_piece(root: ET.Element) -> None:
    """Take away how processors and memory of another size were divided: cells, modules, what may be plugged in. libvirt
    takes the sum of the cells for the memory, whatever else is said, and refuses cells with more processors than there
    are.
    """
    cpu = root.find("cpu")
    if cpu is not None:
        _drop(cpu, "numa")
    for numatune in root.findall("numatune"):
        _drop(numatune, "memnode")
    _drop(root, "maxMemory")
    _drop(_child(root, "devices"), "memory")


def _set_nvram(root: ET.Element, path: str) -> None:
    nvram = _child(_child(root, "os"), "nvram")
    source = nvram.find("source")
    if source is not None:
        source.set("file", path)
    else:
        nvram.text = path


def _redirect(disk: ET.Element, path: str, format: str, *, device: bool = False) -> None:
    disk.set("type", "block" if device else "file")
    if disk.get("device") == "lun" and not device:  # SCSI commands are passed through to block devices only
        disk.set("device", "disk")
        disk.attrib.pop("rawio", None)
        disk.attrib.pop("sgio", None)
    _drop(disk, "backingStore", "mirror")
    source = _child(disk, "source")
    attributes = {name: source.get(name, "") for name in ("startupPolicy",) if source.get(name)}
    source.clear()
    source.attrib.update({**attributes, "dev" if device else "file": path})
    driver = _child(disk, "driver")
    driver.set("name", driver.get("name", "qemu"))
    driver.set("type", format)


def drop_seed(root: ET.Element) -> None:
    """Take away the CD-ROM with the seed of the machine that this was: it is another machine's name and passwords."""
    mark = root.find(f"./metadata/{MARK}")
    path = mark.get("seed") if mark is not None else None
    devices = root.find("devices")
    for disk in root.findall("./devices/disk") if path and devices is not None else []:
        source = disk.find("source")
        if source is not None and source.get("file") == path:
            devices.remove(disk)  # type: ignore[union-attr]  # it was just found in it


def _add_disk(root: ET.Element, new: NewDisk) -> None:
    disk = ET.SubElement(_child(root, "devices"), "disk", {"type": "file", "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": new.format})
    ET.SubElement(disk, "source", {"file": new.path})
    ET.SubElement(disk, "target", {"dev": new.target, "bus": new.bus})


def _connect(nic: ET.Element, network: str) -> None:
    """Put a network card into a network of libvirt's."""
    nic.set("type", "network")
    _drop(nic, "source", "virtualport", "portForward", "ip", "backend")
    nic.insert(1, ET.Element("source", {"network": network}))


def own_path(path: str, image: str, name: str) -> str:
    """A file of the image's as the clone's own: its name in place of the image's, or put before."""
    folder, base = os.path.split(path)
    return os.path.join(folder, base.replace(image, name) if image in base else f"{name}-{base}")


def _own_files(root: ET.Element, image: str, name: str) -> None:
    devices = root.find("devices")
    for device in devices if devices is not None else ():
        log = device.find("log")
        if log is not None and log.get("file"):
            log.set("file", own_path(log.get("file", ""), image, name))
        source = device.find("source")
        if source is None or device.tag not in ("serial", "console", "channel", "parallel"):
            continue
        if device.get("type") == "file" and source.get("path"):
            source.set("path", own_path(source.get("path", ""), image, name))
        elif device.get("type") == "unix" and source.get("mode") == "bind":
            device.remove(source)  # libvirt makes a path of its own
        elif device.get("type") == "pty":
            device.remove(source)


def _free_ports(root: ET.Element) -> None:
    """A display's port can be fixed for one domain of a host only: libvirt chooses one for the clone."""
    for graphics in root.findall("./devices/graphics"):
        if graphics.get("port", "-1") != "-1" or graphics.get("tlsPort", "-1") != "-1":
            for name in ("port", "tlsPort", "websocket"):
                graphics.attrib.pop(name, None)
            graphics.set("autoport", "yes")


def _emulate(root: ET.Element) -> None:
    root.set("type", "qemu")
    for cpu in root.findall("cpu"):
        if cpu.get("mode") in ("host-passthrough", "host-model"):
            root.remove(cpu)  # neither exists without KVM; libvirt's default for TCG takes its place


def _mark(root: ET.Element, mark: dict[str, str]) -> None:
    metadata = _child(root, "metadata")
    _drop(metadata, MARK)
    ET.SubElement(metadata, MARK, mark)


def is_image(domain: Domain, active: bool) -> bool:
    """Whether a domain is an original image: inactive, and marked as one or named `….original`."""
    return not active and (
        domain.mark.get("kind") == "image" or domain.name.endswith((".original", "_original", "-original"))
    )


def marked(mark: dict[str, str]) -> str:
    """The element that holds our mark; libvirt adds the namespace when it puts it into a definition."""
    return ET.tostring(ET.Element("domain", mark), encoding="unicode")


def is_private(text: str) -> bool:
    """Whether a libvirt network ends at its host: isolated, or hidden behind the host's own address."""
    forward = ET.fromstring(text).find("forward")
    return forward is None or forward.get("mode", "nat") == "nat"


def discards(text: str) -> bool:
    """Whether a disk of a domain passes on which of its blocks are free."""
    drivers = ET.fromstring(text).findall("./devices/disk[@device='disk']/driver")
    return any(driver.get("discard") == "unmap" for driver in drivers)


def pool(text: str) -> tuple[str, str | None]:
    """(type, target path) of a storage pool's XML."""
    root = ET.fromstring(text)
    return root.get("type", ""), root.findtext("./target/path")


def empty_volume(name: str, size_bytes: int) -> str:
    """The XML of a new volume of that size."""
    new = ET.Element("volume")
    ET.SubElement(new, "name").text = name
    ET.SubElement(new, "capacity", {"unit": "bytes"}).text = str(size_bytes)
    ET.SubElement(new, "allocation", {"unit": "bytes"}).text = "0"
    return ET.tostring(new, encoding="unicode")


def volume(name: str, original: str) -> str:
    """The XML of a new volume as large as another and of its format."""
    root = ET.fromstring(original)
    new = ET.Element("volume")
    ET.SubElement(new, "name").text = name
    for tag in ("capacity", "allocation"):
        ET.SubElement(new, tag, {"unit": "bytes"}).text = root.findtext(tag, "0")
    format = root.find("./target/format")
    if format is not None:
        ET.SubElement(ET.SubElement(new, "target"), "format", dict(format.attrib))
    return ET.tostring(new, encoding="unicode")
