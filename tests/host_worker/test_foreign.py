"""A definition from a host that has fallen to somebody: it must name nothing of this host's."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from maglica.errors import Refused
from maglica.host_worker.domain import new_domain
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
    ],
)
def test_what_cannot_be_taken_out_is_refused(parent: str, xml: str) -> None:
    with pytest.raises(Refused, match=r"el9:1 .*; it cannot be copied"):
        tamed(with_(parent, xml))


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
