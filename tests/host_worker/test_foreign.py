"""A definition from a host that has fallen to somebody: it must name nothing of this host's."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml, new_domain
from maglica.host_worker.domain.domain_xml import Edits
from maglica.host_worker.image import foreign
from tests.host_worker.test_new_domain import NEW

OWN = new_domain.definition(NEW)
LOG = "/log/mine"


def with_(parent: str, xml: str, text: str = OWN) -> str:
    """The definition with something more in it."""
    root = ET.fromstring(text)
    found = root if parent == "." else root.find(parent)
    assert found is not None
    found.append(ET.fromstring(xml))
    return ET.tostring(root, encoding="unicode")


def tamed(text: str) -> str:
    return foreign.tamed(text, "el9:1", frozenset({"vda"}), LOG)


def test_what_we_make_ourselves_passes() -> None:
    root = ET.fromstring(tamed(OWN))
    assert [log.get("file") for log in root.iter("log")] == [LOG]
    assert {device.tag for device in root.findall("./devices/*")} == {
        "disk", "interface", "serial", "console", "channel", "memballoon", "rng",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parent", "xml", "left"),
    [
        ("./devices", "<emulator>/tmp/evil</emulator>", "evil"),
        ("./devices", "<audio id='1' type='file' path='/etc/evil'/>", "evil"),
        (".", "<seclabel type='none' model='evil'/>", "evil"),
        ("./devices/serial", "<log file='/etc/cron.d/evil' append='on'/>", "evil"),
        ("./devices/serial", "<source path='/dev/evil'/>", "evil"),
        ("./devices/channel", "<source mode='bind' path='/run/evil'/>", "evil"),
        ("./devices/interface", "<script path='/tmp/evil'/>", "evil"),
        ("./devices/interface", "<backend vhost='/dev/evil'/>", "evil"),
        (
            "./devices",
            "<disk type='file' device='cdrom'><source file='/etc/evil'/><target dev='sda'/><readonly/></disk>",
            "evil",
        ),
        ("./os", "<nvram template='/etc/evil'>/x</nvram>", "evil"),
        ("./os", "<nvram>/etc/evil</nvram>", "nvram"),
        ("./os", "<nvram type='file'><source file='/etc/evil'/></nvram>", "evil"),
        ("./os", "<nvram type='block'><source dev='/dev/evil'/></nvram>", "evil"),
        ("./os", "<nvram type='network'><source protocol='nbd'><host name='evil'/></source></nvram>", "evil"),
        ("./devices/interface", "<rom bar='on' file='/etc/evil'/>", "evil"),
        ("./devices/disk", "<source file='/etc/evil'/>", "evil"),
        ("./metadata/{urn:maglica:1}domain/..", "<domain xmlns='urn:maglica:1' saved='/evil'/>", "evil"),
        ("./metadata/{urn:maglica:1}domain/..", "<domain xmlns='urn:maglica:1' seed='/evil'/>", "evil"),
    ],
)
def test_what_names_something_of_the_host_is_taken_out(parent: str, xml: str, left: str) -> None:
    assert left not in tamed(with_(parent, xml))


@pytest.mark.parametrize(
    ("parent", "xml"),
    [
        (
            ".",
            "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'/>",
        ),
        (".", "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>"),
        ("./os", "<kernel>/etc/shadow</kernel>"),
        ("./os", "<acpi><table type='slic'>/etc/shadow</table></acpi>"),
        ("./os", "<loader readonly='yes' type='pflash'>/etc/shadow</loader>"),
        ("./os", "<loader readonly='yes' type='pflash'>/usr/share/../../etc/shadow</loader>"),
        (
            "./devices",
            "<disk type='file'><source file='/etc/shadow'/><target dev='vdb'/><readonly/></disk>",
        ),
        ("./devices", "<disk type='block' device='disk'><source dev='/dev/sda'/><target dev='vdb'/></disk>"),
        ("./devices", "<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem>"),
        ("./devices", "<hostdev mode='subsystem' type='usb'/>"),
        ("./devices", "<serial type='file'><source path='/etc/cron.d/x'/></serial>"),
        ("./devices", "<interface type='ethernet'><script path='/tmp/x'/></interface>"),
        ("./devices", "<input type='evdev'><source dev='/dev/input/event0'/></input>"),
        ("./devices", "<memory model='nvdimm'><source><path>/etc/shadow</path></source></memory>"),
        ("./devices", "<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>"),
        ("./devices", "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"),
        ("./devices", "<tpm><backend type='emulator'><source type='file' path='/etc/shadow'/></backend></tpm>"),
        ("./devices", "<graphics type='vnc' socket='/run/x'/>"),
        ("./devices", "<graphics type='spice'><listen type='socket' socket='/run/x'/></graphics>"),
        ("./devices/disk", "<x:source xmlns:x='u' file='/etc/shadow'/>"),
        (".", "<os><kernel>/etc/shadow</kernel></os>"),
        (".", "<devices><disk type='file'><source file='/etc/shadow'/><target dev='vdb'/></disk></devices>"),
        (".", "<metadata/>"),
        ("./os", "<nvram format='qcow2'>/x</nvram>"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(parent: str, xml: str) -> None:
    with pytest.raises(Refused, match=r"el9:1 .*; it cannot be copied"):
        tamed(with_(parent, xml))


def test_an_image_with_uefi_gets_firmware_variables_of_its_own() -> None:
    loader = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
    theirs = with_("./os", "<nvram template='/t'>/theirs</nvram>", with_("./os", loader))
    for path in ("/var/lib/libvirt/qemu/nvram/el9@1_VARS.fd", None):
        edits = Edits("el9:1", "u", ["52:54:00:00:00:01"], {"vda": ("/p", "qcow2")}, path, None, None, False, {})
        told = domain_xml.rewrite(tamed(theirs), edits)
        assert (domain_xml.read(told).nvram, domain_xml.boots_by_uefi(told)) == (path, True)
        assert "theirs" not in told


DISK = {"target": "vda", "format": "qcow2", "allocation_bytes": 1 << 20}
SIZES = [-1, -(1 << 63), 1 << 60, (1 << 64) - 1, True, 1.5, "1", b"1", None, [], {}]


def test_what_is_told_of_an_image() -> None:
    told = foreign.told({"definition": OWN, "disks": [DISK, {**DISK, "target": "vdb", "format": "raw"}], "nvram": True})
    assert told == foreign.Told(OWN, [foreign.Disk("vda", "qcow2", 1 << 20), foreign.Disk("vdb", "raw", 1 << 20)], True)
    largest = {"target": "vda", "format": b"\xff", "allocation_bytes": foreign.MOST_BYTES - 1}
    assert foreign.told({"definition": OWN, "disks": [largest]}).disks[0].format == "qcow2"


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"definition": b"x", "disks": [DISK]},
        {"definition": OWN},
        {"definition": OWN, "disks": {"vda": DISK}},
        {"definition": OWN, "disks": [None]},
        {"definition": OWN, "disks": ["vda"]},
        {"definition": OWN, "disks": [{}]},
        {"definition": OWN, "disks": [DISK, DISK]},
        {"definition": OWN, "disks": [{**DISK, "target": "../../x"}]},
        *({"definition": OWN, "disks": [{**DISK, "allocation_bytes": size}]} for size in SIZES),
    ],
)
def test_what_makes_no_sense_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(Refused, match="the other host") as refused:
        foreign.told(told)
    assert refused.value.code == "wrong_input"


@pytest.mark.parametrize("text", ["", "x", "<domain>", "<domain type='kvm'>&x;</domain>", "\0"])
def test_what_is_no_definition_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is no XML"):
        tamed(text)


@pytest.mark.parametrize("word", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", b"0" * 64, 0, True, [], {}])
def test_a_checksum_is_one_or_is_still_to_come(word: object) -> None:
    with pytest.raises(Refused, match="a checksum that is none"):
        foreign.digest({"digest": word})
    assert foreign.digest({"digest": "0a" * 32}) == "0a" * 32
    assert foreign.digest({"digest": None}) is foreign.digest({}) is None


def test_only_machines_are_taken() -> None:
    with pytest.raises(Refused, match="is of type lxc"):
        tamed(OWN.replace('type="kvm"', 'type="lxc"', 1))


@pytest.mark.parametrize(
    "told",
    [
        {"address": "10.0.0.1,tls-creds=x", "port": 5560, "secret": "0" * 64},
        {"address": "10.0.0.1", "port": "5560,server.type=unix", "secret": "0" * 64},
        {"address": "10.0.0.1", "port": 5560, "secret": "0" * 64 + "\nother:1"},
        {"address": None, "port": None, "secret": None},
    ],
)
def test_a_server_is_named_in_no_other_words_than_it_needs(told: dict[str, object]) -> None:
    with pytest.raises(Refused):
        foreign.server(told)
    assert foreign.server({"address": "10.0.0.1", "port": 5560, "secret": "a" * 64}) == ("10.0.0.1", 5560, "a" * 64)


@pytest.mark.parametrize("word", ["../../etc/cron.d/x", "", None, "a/b"])
def test_a_target_leaves_no_folder(word: object) -> None:
    with pytest.raises(Refused):
        foreign.target(word)
    assert foreign.target("vda") == "vda"
