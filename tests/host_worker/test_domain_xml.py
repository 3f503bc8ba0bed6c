"""Domain XML: what is read of it, and what a clone's definition looks like. libvirt itself says whether it is one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest

from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.domain_xml import Disk, Edits
from maglica.host_worker.hypervisor import Hypervisor

IMAGE_UUID = "11111111-1111-4111-8111-111111111111"
UUID = "22222222-2222-4222-8222-222222222222"
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"

# Everything that makes a difference, in one image.
IMAGE = f"""
<domain type='test' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>img.original</name>
  <uuid>{IMAGE_UUID}</uuid>
  <genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>
  <metadata>
    <maglica:domain xmlns:maglica='urn:maglica:1' kind='image' note='mine'/>
    <libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
      <libosinfo:os id='http://debian.org/debian/12'/>
    </libosinfo:libosinfo>
    <other:tag xmlns:other='http://example.jp/other'>kept</other:tag>
  </metadata>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='1'>4</vcpu>
  <vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/><vcpu id='1' enabled='no' hotpluggable='yes'/>
    <vcpu id='2' enabled='no' hotpluggable='yes'/><vcpu id='3' enabled='no' hotpluggable='yes'/></vcpus>
  <sysinfo type='smbios'><system>
    <entry name='manufacturer'>Example</entry><entry name='uuid'>{IMAGE_UUID}</entry>
  </system></sysinfo>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/img.original_VARS.fd</nvram>
    <smbios mode='sysinfo'/>
  </os>
  <cpu mode='host-passthrough' check='none'><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>
  <on_poweroff>destroy</on_poweroff>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap'/>
      <source file='/pool/img.qcow2' startupPolicy='optional'/>
      <backingStore type='file'><format type='raw'/><source file='/pool/base.img'/></backingStore>
      <target dev='vda' bus='virtio'/>
      <serial>ROOT</serial>
      <boot order='1'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/><source dev='/dev/vg/img'/><target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='volume' device='disk'>
      <driver name='qemu' type='raw'/><source pool='default-pool' volume='img-vdc'/><target dev='vdc' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/><source file='/iso/tools.iso'/><target dev='sda' bus='sata'/><readonly/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='/pool/ro.img'/><target dev='vdd' bus='virtio'/><readonly/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='/pool/sh.img'/><target dev='vde' bus='virtio'/><shareable/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/><source network='default'/><target dev='vnet7'/><model type='virtio'/>
    </interface>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:02'/><source bridge='br0'/><model type='e1000'/>
    </interface>
    <serial type='pty'>
      <source path='/dev/pts/7'/><log file='/var/log/img.original.log' append='on'/><target port='0'/>
    </serial>
    <serial type='file'><source path='/var/log/console.txt'/><target port='1'/></serial>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/img.original.agent'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <channel type='unix'>
      <source mode='connect' path='/run/shared.sock'/><target type='virtio' name='com.example.shared'/>
    </channel>
    <graphics type='vnc' port='5901' autoport='no' listen='127.0.0.1'/>
  </devices>
  <qemu:commandline><qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/x,string=y'/></qemu:commandline>
</domain>
"""

DISKS = {
    "vda": ("/pool/web1-vda.qcow2", "qcow2"),
    "vdb": ("/pool/web1-vdb.img", "raw"),
    "vdc": ("/pool/web1-vdc.img", "raw"),
}
MACS = ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]


def edits(**more: Any) -> Edits:
    usual: dict[str, Any] = {
        "name": "web1.example.jp",
        "uuid": UUID,
        "macs": MACS,
        "disks": DISKS,
        "nvram": "/var/lib/libvirt/qemu/nvram/web1.example.jp_VARS.fd",
        "vcpus": None,
        "memory_bytes": None,
        "emulated": False,
        "mark": {"kind": "clone", "image": "img.original", "job": "1b7q2k0m4z"},
    }
    return Edits(**{**usual, **more})


def clone(text: str = IMAGE, **more: Any) -> ET.Element:
    return ET.fromstring(domain_xml.rewrite(text, edits(**more)))


def only(root: ET.Element, path: str) -> ET.Element:
    (found,) = root.findall(path)
    return found


def disk(root: ET.Element, target: str) -> ET.Element:
    (found,) = (d for d in root.findall("./devices/disk") if only(d, "target").get("dev") == target)
    return found


# ---------------------------------------------------------------------------------------------- reading


def test_what_is_read_of_a_definition() -> None:
    found = domain_xml.read(IMAGE)
    assert (found.name, found.uuid, found.type) == ("img.original", IMAGE_UUID, "test")
    assert (found.vcpus, found.memory_bytes) == (1, 2 << 30)
    assert (found.machine, found.arch) == ("pc", "x86_64")
    assert found.disks == [
        Disk("vda", "virtio", "disk", "file", "/pool/img.qcow2", "qcow2", True),
        Disk("vdb", "virtio", "disk", "block", "/dev/vg/img", "raw", True),
        Disk("vdc", "virtio", "disk", "volume", "default-pool/img-vdc", "raw", True),
        Disk("sda", "sata", "cdrom", "file", "/iso/tools.iso", "raw", False),
        Disk("sdb", "sata", "cdrom", "file", None, "raw", False),
        Disk("vdd", "virtio", "disk", "file", "/pool/ro.img", "raw", False),
        Disk("vde", "virtio", "disk", "file", "/pool/sh.img", "raw", False),
    ]
    assert found.nics == [
        {"mac": "52:54:00:00:00:01", "type": "network", "source": "default", "model": "virtio", "device": "vnet7"},
        {"mac": "52:54:00:00:00:02", "type": "bridge", "source": "br0", "model": "e1000", "device": None},
    ]
    assert found.nvram == "/var/lib/libvirt/qemu/nvram/img.original_VARS.fd"
    assert found.console_log == "/var/log/img.original.log"
    assert found.mark == {"kind": "image", "note": "mine"}


@pytest.mark.parametrize(
    ("device", "foreign"),
    [
        ("<source protocol='rbd' name='pool/x'/>", True),
        ("<source protocol='rbd' name='pool/x'/><readonly/>", False),
        ("<source protocol='rbd' name='pool/x'/><shareable/>", False),
        ("", False),
    ],
)
def test_a_disk_on_a_network_is_told_apart(device: str, foreign: bool) -> None:
    """It can neither be copied nor be shared."""
    disks = f"<disk type='network' device='disk'><target dev='vda'/>{device}</disk>"
    (found,) = domain_xml.read(f"<domain><name>a</name><devices>{disks}</devices></domain>").disks
    assert (found.copied, found.foreign, found.path) == (False, foreign, None)


def test_what_is_read_of_hardly_anything() -> None:
    found = domain_xml.read("<domain type='kvm'><name>a</name></domain>")
    assert (found.name, found.uuid, found.vcpus, found.memory_bytes) == ("a", "", 1, 0)
    assert (found.disks, found.nics, found.mark, found.nvram, found.machine) == ([], [], {}, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<memory>1024</memory>", 1 << 20),
        ("<memory unit='KiB'>1024</memory>", 1 << 20),
        ("<memory unit='MiB'>2</memory>", 2 << 20),
        ("<memory unit='G'>3</memory>", 3 << 30),
        ("<memory unit='GB'>1</memory>", 10**9),
        ("<memory unit='bytes'>4096</memory>", 4096),
        ("<memory unit='TiB'>1</memory>", 1 << 40),
    ],
)
def test_units_of_memory(text: str, expected: int) -> None:
    assert domain_xml.read(f"<domain><name>a</name>{text}</domain>").memory_bytes == expected


@pytest.mark.parametrize(
    ("nvram", "expected"),
    [
        ("<nvram>/a/b.fd</nvram>", "/a/b.fd"),
        ("<nvram type='file'><source file='/a/b.fd'/></nvram>", "/a/b.fd"),
        ("<nvram/>", None),
        ("<nvram template='/t'/>", None),
        ("", None),
    ],
)
def test_both_ways_to_write_an_nvram(nvram: str, expected: str | None) -> None:
    text = f"<domain><name>a</name><os><type>hvm</type>{nvram}</os></domain>"
    assert domain_xml.read(text).nvram == expected
    if expected:
        root = ET.fromstring(domain_xml.rewrite(text, edits(macs=[], disks={}, nvram="/a/web1.fd")))
        again = domain_xml.read(ET.tostring(root, encoding="unicode"))
        assert again.nvram == "/a/web1.fd"
        assert expected not in ET.tostring(root, encoding="unicode")


@pytest.mark.parametrize(
    ("name", "mark", "active", "expected"),
    [
        ("el9.original", {}, False, True),
        ("el9_original", {}, False, True),
        ("el9-original", {}, False, True),
        ("el9.original", {}, True, False),
        ("el9", {"kind": "image"}, False, True),
        ("el9", {"kind": "image"}, True, False),
        ("el9", {"kind": "clone"}, False, False),
        ("original", {}, False, False),
        ("el9.original.example.jp", {}, False, False),
        ("el9", {}, False, False),
    ],
)
def test_what_an_image_is(name: str, mark: dict[str, str], active: bool, expected: bool) -> None:
    """D20: not every inactive domain is one."""
    found = domain_xml.read(f"<domain><name>{name}</name></domain>")._replace(mark=mark)
    assert domain_xml.is_image(found, active) == expected


# ---------------------------------------------------------------------------------------------- identity


def test_a_clone_has_a_name_a_uuid_and_addresses_of_its_own() -> None:
    root = clone()
    assert root.get("id") is None
    assert only(root, "name").text == "web1.example.jp"
    assert only(root, "uuid").text == UUID
    assert [mac.get("address") for mac in root.findall("./devices/interface/mac")] == MACS
    entries = {entry.get("name"): entry.text for entry in root.findall("./sysinfo/system/entry")}
    assert entries == {"manufacturer": "Example", "uuid": UUID}
    assert only(root, "genid").text is None, "libvirt makes a new one"


def test_nothing_in_it_is_still_the_images() -> None:
    text = domain_xml.rewrite(IMAGE, edits(mark={}))
    for word in (
        IMAGE_UUID,
        "52:54:00:00:00:0",
        "img.original",
        "/pool/img",
        "/dev/vg/img",
        "img-vdc",
        "vnet7",
        "43dc",
    ):
        assert word not in text, word


def test_what_the_cards_are_connected_to_stays() -> None:
    one, two = clone().findall("./devices/interface")
    assert (one.get("type"), only(one, "source").get("network"), only(one, "model").get("type")) == (
        "network",
        "default",
        "virtio",
    )
    assert (two.get("type"), only(two, "source").get("bridge")) == ("bridge", "br0")
    assert one.find("target") is None


@pytest.mark.parametrize("macs", [[], MACS[:1], [*MACS, "52:54:00:aa:00:03"]])
def test_an_address_too_many_or_too_few_is_a_mistake_of_ours(macs: list[str]) -> None:
    with pytest.raises(ValueError, match="zip"):
        clone(macs=macs)


def test_the_mark_says_where_it_came_from() -> None:
    root = clone()
    (mark,) = root.findall(f"./metadata/{domain_xml.MARK}")
    assert mark.attrib == {"kind": "clone", "image": "img.original", "job": "1b7q2k0m4z"}
    assert only(root, "./metadata/{http://example.jp/other}tag").text == "kept"
    osinfo = only(root, "./metadata/{http://libosinfo.org/xmlns/libvirt/domain/1.0}libosinfo")
    assert osinfo[0].get("id") == "http://debian.org/debian/12"
    bare = clone("<domain type='kvm'><name>a</name></domain>", macs=[], disks={}, nvram=None)
    assert only(bare, f"./metadata/{domain_xml.MARK}").get("kind") == "clone"


# ------------------------------------------------------------------------------------------------- disks


@pytest.mark.parametrize("target", DISKS)
def test_files_devices_and_volumes_become_files_of_its_own(target: str) -> None:
    found = disk(clone(), target)
    path, format = DISKS[target]
    assert found.get("type") == "file"
    assert found.get("device") == "disk"
    source = only(found, "source")
    assert source.get("file") == path
    assert set(source.attrib) <= {"file", "startupPolicy"}
    assert list(source) == []
    assert only(found, "driver").get("type") == format
    assert found.find("backingStore") is None, "the clone's chain is another one; libvirt finds it by itself"


def test_how_a_disk_is_driven_stays() -> None:
    found = disk(clone(), "vda")
    assert only(found, "driver").attrib == {
        "name": "qemu",
        "type": "qcow2",
        "cache": "none",
        "io": "native",
        "discard": "unmap",
    }
    assert only(found, "source").get("startupPolicy") == "optional"
    assert only(found, "serial").text == "ROOT"
    assert only(found, "boot").get("order") == "1"
    assert only(found, "target").attrib == {"dev": "vda", "bus": "virtio"}


def test_a_disk_without_a_driver_gets_one() -> None:
    disks = "<disk type='file'><source file='/a'/><target dev='vda'/></disk>"
    text = f"<domain><name>a</name><devices>{disks}</devices></domain>"
    found = disk(clone(text, macs=[], disks={"vda": ("/b", "raw")}, nvram=None), "vda")
    assert only(found, "driver").attrib == {"name": "qemu", "type": "raw"}


@pytest.mark.parametrize(
    ("target", "file"), [("sda", "/iso/tools.iso"), ("vdd", "/pool/ro.img"), ("vde", "/pool/sh.img"), ("sdb", None)]
)
def test_what_may_be_shared_stays_shared(target: str, file: str | None) -> None:
    found, before = disk(clone(), target), disk(ET.fromstring(IMAGE), target)
    assert ET.tostring(found).split() == ET.tostring(before).split()
    source = found.find("source")
    assert (source.get("file") if source is not None else None) == file


def test_a_passed_through_lun_becomes_a_disk() -> None:
    """libvirt takes `lun` for block devices only."""
    lun = (
        "<domain type='test'><name>a</name><memory>65536</memory><os><type>hvm</type></os><devices>"
        "<disk type='block' device='lun' rawio='yes' sgio='filtered'><driver name='qemu' type='raw'/>"
        "<source dev='/dev/sdx'/><target dev='sda' bus='scsi'/></disk></devices></domain>"
    )
    found = disk(clone(lun, macs=[], disks={"sda": ("/b.img", "raw")}, nvram=None), "sda")
    assert found.attrib == {"type": "file", "device": "disk"}


# ---------------------------------------------------------------------------------------- files, devices


def test_the_nvram_is_its_own() -> None:
    nvram = only(clone(), "./os/nvram")
    assert nvram.text == "/var/lib/libvirt/qemu/nvram/web1.example.jp_VARS.fd"
    assert nvram.get("template") == "/usr/share/OVMF/OVMF_VARS.fd"
    assert only(clone(), "./os/loader").text == "/usr/share/OVMF/OVMF_CODE.fd"


def test_logs_and_channels_are_its_own() -> None:
    root = clone()
    first, second = root.findall("./devices/serial")
    assert only(first, "log").attrib == {"file": "/var/log/web1.example.jp.log", "append": "on"}
    assert first.find("source") is None, "a terminal of the host's that belonged to the image"
    assert only(second, "source").get("path") == "/var/log/web1.example.jp-console.txt"
    bound, connected = root.findall("./devices/channel")
    assert bound.find("source") is None, "libvirt makes a path"
    assert only(bound, "target").get("name") == "org.qemu.guest_agent.0"
    assert only(connected, "source").get("path") == "/run/shared.sock"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/log/img.original.log", "/var/log/web1.log"),
        ("/nvram/img.original_VARS.fd", "/nvram/web1_VARS.fd"),
        ("/nvram/OVMF_VARS.fd", "/nvram/web1-OVMF_VARS.fd"),
        ("/img.original/x", "/img.original/web1-x"),
    ],
)
def test_the_name_of_a_file_of_its_own(path: str, expected: str) -> None:
    assert domain_xml.own_path(path, "img.original", "web1") == expected


def test_a_port_of_the_hosts_is_not_fixed_twice() -> None:
    graphics = only(clone(), "./devices/graphics")
    assert graphics.get("port") in (None, "-1")
    assert graphics.get("autoport") == "yes"
    assert graphics.get("listen") == "127.0.0.1"


# --------------------------------------------------------------------------------------------- resources


def test_resources_stay_as_they_are_unless_told() -> None:
    root = clone()
    assert (only(root, "vcpu").text, only(root, "vcpu").get("current")) == ("4", "1")
    assert (only(root, "memory").text, only(root, "currentMemory").text) == ("2097152", "1048576")
    assert len(root.findall("./vcpus/vcpu")) == 4
    assert only(root, "./cpu/topology").get("cores") == "2"


def test_other_processors() -> None:
    root = clone(vcpus=3)
    assert (only(root, "vcpu").text, only(root, "vcpu").get("current")) == ("3", None)
    assert root.find("vcpus") is None
    assert root.find("./cpu/topology") is None, "it would no longer add up"
    assert only(root, "cpu").get("mode") == "host-passthrough"


def test_other_memory() -> None:
    root = clone(memory_bytes=3 << 30)
    for tag in ("memory", "currentMemory"):
        assert (only(root, tag).text, only(root, tag).get("unit")) == (str(3 << 20), "KiB")


@pytest.mark.parametrize("asked", [{"vcpus": 3}, {"memory_bytes": 3 << 30}])
def test_another_size_is_in_one_piece(asked: dict[str, int]) -> None:
    """libvirt takes the sum of the cells for the memory, and refuses cells with more processors than there are."""
    cells = "<numa><cell id='0' cpus='0-3' memory='2097152' unit='KiB'/></numa></cpu>"
    pieces = IMAGE.replace("</cpu>", cells, 1).replace(
        "<devices>", "<maxMemory slots='16' unit='GiB'>8</maxMemory><devices><memory model='dimm'/>", 1
    )
    assert "<numa>" in pieces
    for root in (clone(pieces, **asked), ET.fromstring(domain_xml.refit(pieces, {}, asked.get("vcpus"),
                                                                        asked.get("memory_bytes"), {}))):  # fmt: skip
        assert [root.find(tag) for tag in ("./cpu/numa", "maxMemory", "./devices/memory")] == [None] * 3
    assert clone(pieces).find("./cpu/numa/cell") is not None, "as it is where nothing was said"


def test_without_kvm_a_guest_is_emulated() -> None:
    kvm = IMAGE.replace("type='test'", "type='kvm'", 1)
    root = clone(kvm, emulated=True)
    assert root.get("type") == "qemu"
    assert root.find("cpu") is None, "there is no host-passthrough without KVM"
    assert clone(kvm).get("type") == "kvm"
    assert only(clone(kvm), "cpu").get("mode") == "host-passthrough"
    named = kvm.replace("mode='host-passthrough'", "mode='custom'")
    assert only(clone(named, emulated=True), "cpu").get("mode") == "custom"
    assert clone(emulated=True).get("type") == "test", "only what needs KVM has to do without"


def test_arguments_for_qemu_survive() -> None:
    text = domain_xml.rewrite(IMAGE, edits())
    assert "xmlns:qemu=" in text
    arguments = only(ET.fromstring(text), f"./{QEMU}commandline").findall(f"{QEMU}arg")
    assert [argument.get("value") for argument in arguments] == ["-fw_cfg", "name=opt/x,string=y"]


def test_what_is_not_ours_to_change_stays() -> None:
    root = clone()
    assert only(root, "on_poweroff").text == "destroy"
    assert only(root, "./os/type").attrib == {"arch": "x86_64", "machine": "pc"}
    assert only(root, "./os/smbios").get("mode") == "sysinfo"
    before, after = ET.fromstring(IMAGE), root
    assert [element.tag for element in before] == [element.tag for element in after]
    assert [device.tag for device in only(before, "devices")] == [device.tag for device in only(after, "devices")]


# ---------------------------------------------------------------------------------------- libvirt's word


@pytest.fixture(scope="module")
def hypervisor() -> Iterator[Hypervisor]:
    found = Hypervisor("test:///default")
    yield found
    found.close()


@pytest.mark.parametrize("more", [{}, {"vcpus": 2}, {"memory_bytes": 512 << 20}, {"vcpus": 8, "memory_bytes": 1 << 30}])
def test_libvirt_takes_the_clones_definition(hypervisor: Hypervisor, more: dict[str, Any]) -> None:
    hypervisor.define(IMAGE)
    # what libvirt gives back, with all that it adds, is what a clone is made of
    definition = hypervisor.definition("img.original")
    hypervisor.define(domain_xml.rewrite(definition, edits(**more)))
    try:
        image = domain_xml.read(hypervisor.definition("img.original"))
        made = domain_xml.read(hypervisor.definition("web1.example.jp"))
        assert made.uuid == UUID
        assert [nic["mac"] for nic in made.nics] == MACS
        assert made.mark["kind"] == "clone"
        assert image.mark["kind"] == "image"
        assert {d.target: d.path for d in made.disks if d.copied} == {name: path for name, (path, _) in DISKS.items()}
        shared = [(d.target, d.path) for d in made.disks if not d.copied]
        assert shared == [(d.target, d.path) for d in image.disks if not d.copied]
        assert made.nvram == edits().nvram
        assert made.vcpus == more.get("vcpus", 1)
        assert made.memory_bytes == more.get("memory_bytes", 2 << 30)
        genids = [ET.fromstring(hypervisor.definition(name)).findtext("genid") for name in (image.name, made.name)]
        assert None not in genids
        assert genids[0] != genids[1]
        hypervisor.start("web1.example.jp")
        hypervisor.start("img.original")
    finally:
        hypervisor.discard(UUID)
        hypervisor.discard(IMAGE_UUID)


def test_libvirt_takes_a_clone_of_a_clone(hypervisor: Hypervisor) -> None:
    hypervisor.define(domain_xml.rewrite(IMAGE, edits()))
    other = "33333333-3333-4333-8333-333333333333"
    definition = hypervisor.definition("web1.example.jp")
    again = edits(name="web2", uuid=other, disks={"vda": ("/pool/web2.qcow2", "qcow2")}, nvram="/nvram/web2.fd")
    hypervisor.define(domain_xml.rewrite(definition, again))
    made = domain_xml.read(hypervisor.definition("web2"))
    assert (made.uuid, made.nvram, made.disks[0].path) == (other, "/nvram/web2.fd", "/pool/web2.qcow2")
    hypervisor.discard(other)
    hypervisor.discard(UUID)


# ------------------------------------------------------------------------------------------ pools, volumes


def test_a_pool() -> None:
    assert domain_xml.pool("<pool type='dir'><target><path>/p</path></target></pool>") == ("dir", "/p")
    assert domain_xml.pool("<pool type='rbd'><source/></pool>") == ("rbd", None)


def test_a_volume_like_another() -> None:
    original = (
        "<volume type='file'><name>a</name><key>/p/a</key><capacity unit='bytes'>4294967296</capacity>"
        "<allocation unit='bytes'>1048576</allocation><target><path>/p/a</path><format type='qcow2'/>"
        "<permissions><mode>0600</mode></permissions></target></volume>"
    )
    root = ET.fromstring(domain_xml.volume("b&c", original))
    assert only(root, "name").text == "b&c"
    assert (only(root, "capacity").text, only(root, "allocation").text) == ("4294967296", "1048576")
    assert only(root, "./target/format").get("type") == "qcow2"
    assert root.find("./target/path") is None
    assert root.find("key") is None


SEEDED = """<domain type='kvm'>
  <name>web1</name><uuid>22222222-2222-4222-8222-222222222222</uuid>
  <metadata>
    <maglica:domain xmlns:maglica='urn:maglica:1' kind='clone' owner='alice' seed='/p/web1-seed.iso'/>
  </metadata>
  <memory unit='KiB'>1024</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><source file='/p/web1.img'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><source file='/p/data.img'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/p/web1-seed.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='network'><mac address='52:54:00:12:34:56'/><source network='lan'/></interface>
    <graphics type='vnc' port='5901'/>
  </devices></domain>"""


def test_a_machine_that_is_built_anew_keeps_all_but_its_disk_and_its_seed() -> None:
    text = domain_xml.refit(SEEDED, {"vda": ("/p/web1.qcow2", "qcow2")}, 2, None, {"kind": "build", "job": "j"})
    found = domain_xml.read(text)
    assert [(disk.target, disk.path) for disk in found.disks] == [("vda", "/p/web1.qcow2"), ("vdb", "/p/data.img")]
    assert (found.vcpus, found.memory_bytes, found.uuid) == (2, 1 << 20, "22222222-2222-4222-8222-222222222222")
    assert [nic["mac"] for nic in found.nics] == ["52:54:00:12:34:56"]
    assert found.mark == {"kind": "build", "job": "j"}
    assert "5901" in text


@pytest.mark.parametrize(
    ("system", "uefi"),
    [
        ("<os><type>hvm</type></os>", False),
        ("<os firmware='efi'><type>hvm</type></os>", True),
        ("<os><type>hvm</type><loader readonly='yes' type='pflash'>/usr/share/x.fd</loader></os>", True),
        ("<os><type>hvm</type><loader type='rom'>/usr/share/bios.bin</loader></os>", False),
        ("", False),
    ],
)
def test_what_a_machine_boots_by(system: str, uefi: bool) -> None:
    assert domain_xml.boots_by_uefi(f"<domain><name>a</name>{system}</domain>") is uefi
