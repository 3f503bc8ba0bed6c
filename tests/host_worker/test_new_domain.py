"""The definition of a machine for a disk from elsewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from maglica.host_worker.domain import domain_xml, new_domain
from maglica.host_worker.domain.new_domain import Machine, New

NEW = New(
    name="el9:1", uuid="22222222-2222-4222-8222-222222222222", machine=Machine("x86_64", "pc-q35-7.2", True), kvm=True,
    vcpus=2, memory_bytes=1 << 30, disk="/pool/el9@1.qcow2", mac="52:54:00:00:00:01", network="default", bridge=False,
    efi=False, console_log="/log/el9:1.console.log", mark={"kind": "image", "os": "el9"},
)  # fmt: skip


def test_it_says_what_was_asked_for() -> None:
    found = domain_xml.read(new_domain.definition(NEW))
    assert (found.name, found.uuid, found.type, found.machine) == ("el9:1", NEW.uuid, "kvm", "pc-q35-7.2")
    assert (found.vcpus, found.memory_bytes, found.console_log) == (2, 1 << 30, NEW.console_log)
    (disk,) = found.disks
    assert (disk.target, disk.bus, disk.path, disk.format, disk.copied) == ("vda", "virtio", NEW.disk, "qcow2", True)
    assert [(nic["mac"], nic["source"], nic["model"]) for nic in found.nics] == [(NEW.mac, "default", "virtio")]
    assert found.mark == NEW.mark
    assert domain_xml.is_image(found, False)


@pytest.mark.parametrize("bridge", [True, False])
def test_its_card_is_in_a_network_or_at_a_bridge_or_missing(bridge: bool) -> None:
    root = ET.fromstring(new_domain.definition(NEW._replace(bridge=bridge, network="br0")))
    card = root.find("./devices/interface")
    assert card is not None
    assert card.get("type") == ("bridge" if bridge else "network")
    assert "<interface" not in new_domain.definition(NEW._replace(mac=None))


def test_firmware_and_processor_follow_from_the_host() -> None:
    emulated = ET.fromstring(new_domain.definition(NEW._replace(kvm=False, efi=True)))
    assert (emulated.get("type"), emulated.find("cpu")) == ("qemu", None)
    system = emulated.find("os")
    assert system is not None
    assert system.get("firmware") == "efi"
    assert 'cpu mode="host-model"' in new_domain.definition(NEW)


def test_what_a_host_offers_is_read_from_its_capabilities() -> None:
    text = "<domainCapabilities><arch>x86_64</arch><machine>pc-q35-7.2</machine><os>{}</os></domainCapabilities>"
    firmware = "<enum name='firmware'><value>bios</value><value>efi</value></enum>"
    assert new_domain.machine(text.format(firmware)) == Machine("x86_64", "pc-q35-7.2", True)
    assert not new_domain.machine(text.format("<enum name='firmware'/>")).efi


def test_a_clone_of_it_has_a_console_log_of_its_own() -> None:
    edits = domain_xml.Edits(
        name="web1", uuid="u", macs=["52:54:00:00:00:02"], disks={}, nvram=None, vcpus=None, memory_bytes=None,
        emulated=False, mark={},
    )  # fmt: skip
    assert domain_xml.read(domain_xml.rewrite(new_domain.definition(NEW), edits)).console_log == "/log/web1.console.log"
