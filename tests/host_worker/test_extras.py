"""What a clone has and its image has not: further disks, swap, other networks, marks. libvirt's test driver."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.actions.vm.clone import VmClone
from maglica.errors import Refused
from maglica.host_worker.clone import extras
from maglica.host_worker.clone.plan import ClonePlan
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.guest.customize import plan as customisation
from maglica.host_worker.guest.model import FileIs
from maglica.host_worker.guest.request import request_of
from tests.host_worker.test_customize import MAC, facts, written
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, world


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    found = Ward(tmp_path, world(tmp_path, "web1", off=(IMAGE,)))
    yield found
    found.close()


CLONE: dict[str, Any] = {"image": IMAGE, "hostname": "new1", "customize": "none", "start": False}


def test_further_disks_are_made_defined_and_removed_with_the_vm(ward: Ward) -> None:
    before = ward.volumes()
    ward.do("vm clone", **CLONE, disks="1G,2G")
    disks = ward.domain("new1").disks
    assert [(disk.target, disk.bus, disk.path) for disk in disks[1:]] == [
        ("vdb", "virtio", "/default-pool/new1-vdb.img"), ("vdc", "virtio", "/default-pool/new1-vdc.img"),
    ]  # fmt: skip
    assert [step["name"] for step in ward.work.report()["steps"]] == ["copy", "disks", "define"]
    ward.do("vm remove", name="new1")
    assert ward.volumes() == before


def test_swap_needs_real_disks(ward: Ward) -> None:
    error = ward.refusal("vm clone", **{**CLONE, "swap": "1G"})
    assert error.hint == "--swap=off", "the test driver has no files"


def test_a_name_that_is_taken_is_seen_before_anything_is_made(ward: Ward) -> None:
    ward.do("vm clone", **CLONE, disks="1G")
    ward.do("vm remove", name="new1", keep_disks=True)
    ward.hypervisor.delete_volume("default-pool", "new1.img")
    assert "new1-vdb.img exists" in ward.refusal("vm clone", **CLONE, disks="1G").message


def test_networks_are_those_that_were_asked_for(ward: Ward) -> None:
    ward.do("vm clone", **CLONE, networks="default")
    assert ward.domain("new1").nics[0]["source"] == "default"
    error = ward.refusal("vm clone", **{**CLONE, "hostname": "new2"}, networks="lan")
    assert (error.message, error.hint) == ("there is no network lan on this host", "there are default")
    assert "has 1 network cards" in ward.refusal("vm clone", **{**CLONE, "hostname": "n"}, networks="lan,x").message


def test_fleet_template_and_tags_are_marks_that_a_survey_tells(ward: Ward) -> None:
    ward.do("vm clone", **{**CLONE, "hostname": "web-7"}, fleet="web", template="small", tags="ci,nightly")
    found = look.survey(ward.hypervisor, ward.host.settings, ward.host.storage)
    told = next(domain for domain in found["domains"] if domain["name"] == "web-7")
    assert (told["fleet"], told["template"], told["image_name"]) == ("web", "small", IMAGE)
    assert next(domain for domain in found["domains"] if domain["name"] == "web1")["fleet"] is None
    item = ward.read("vm info", name="web-7")["item"]
    assert (item["fleet"], item["tags"]) == ("web", ["ci", "nightly"])


def test_a_removal_of_the_very_one_spares_another_of_its_name(ward: Ward) -> None:
    ward.do("vm clone", **CLONE)
    other = str(uuid.uuid4())
    told = ward.do("vm remove", name="new1", uuid=other, force=True)
    assert told["changed"] is False, "that one is gone"
    ward.do("vm clone", **{**CLONE, "hostname": "new2"})
    wrong = ward.domain("new2").uuid
    assert "has another UUID" in ward.refusal("vm remove", name="new1", uuid=wrong, force=True).message
    assert ward.do("vm remove", name="new1", uuid=ward.domain("new1").uuid)["changed"]


# ------------------------------------------------------------------------------------------------- values


def todo(**more: Any) -> ClonePlan:
    usual: dict[str, Any] = {
        "image": IMAGE, "name": "new1", "uuid": "u", "macs": [], "mode": "full", "why": "", "needed_bytes": 0,
        "pool": "p", "free_bytes": 0, "copies": [], "nvram": None, "emulated": False, "job": "job1",
    }  # fmt: skip
    return ClonePlan(**{**usual, **more})


def image(*targets: tuple[str, str]) -> domain_xml.Domain:
    disks = "".join(
        f"<disk type='file' device='disk'><source file='/p/{target}'/><target dev='{target}' bus='{bus}'/></disk>"
        for target, bus in targets
    )
    return domain_xml.read(f"<domain><name>{IMAGE}</name><devices>{disks}</devices></domain>")


def test_where_they_lie_and_what_they_are_called() -> None:
    want = VmClone(image=IMAGE, hostname="new1", disks="1G", swap="512M")
    found = extras.plan(want, image(("vda", "virtio"), ("vdb", "virtio")), todo(), "/pool", True)
    assert [(one.target, one.bus, one.path, one.format, one.size_bytes, one.swap) for one in found] == [
        ("vdc", "virtio", "/pool/new1-vdc.qcow2", "qcow2", 1 << 30, False),
        ("vdd", "virtio", "/pool/new1-swap.img", "raw", 512 << 20, True),
    ]
    assert [one.part for one in found] == [f"{one.path}.job1.part" for one in found]
    (scsi,) = extras.plan(VmClone(image=IMAGE, hostname="new1", disks="1G"), image(("sda", "sata")), todo(), "/p", True)
    assert (scsi.target, scsi.bus) == ("sdb", "sata")
    off = VmClone(image=IMAGE, hostname="new1", swap="off")
    assert extras.plan(off, image(("vda", "virtio")), todo(), "/p", True) == []


def test_too_many_are_refused() -> None:
    targets = [(f"vd{letter}", "virtio") for letter in extras.LETTERS[:-1]]
    want = VmClone(image=IMAGE, hostname="new1", disks="1G,1G")
    with pytest.raises(Refused, match="has room for 1 more disks, not 2"):
        extras.plan(want, image(*targets), todo(), "/p", True)


def test_the_definition_has_them() -> None:
    text = f"""<domain><name>{IMAGE}</name><devices>
      <interface type='bridge'><mac address='{MAC}'/><source bridge='br0'/><virtualport type='openvswitch'/></interface>
    </devices></domain>"""
    edits = domain_xml.Edits(
        "new1", "u", [MAC], {}, None, None, None, False, {}, networks=("lan",),
        more=(domain_xml.NewDisk("vdb", "virtio", "/p/new1-vdb.qcow2", "qcow2"),),
    )  # fmt: skip
    root = ET.fromstring(domain_xml.rewrite(text, edits))
    disk, nic = root.find("./devices/disk"), root.find("./devices/interface")
    assert disk is not None
    assert nic is not None
    assert [(child.tag, child.attrib) for child in disk] == [
        ("driver", {"name": "qemu", "type": "qcow2"}),
        ("source", {"file": "/p/new1-vdb.qcow2"}),
        ("target", {"dev": "vdb", "bus": "virtio"}),
    ]
    assert (nic.get("type"), [child.tag for child in nic]) == ("network", ["mac", "source"])


def test_the_guest_finds_its_swap_by_label() -> None:
    values = VmClone(image=IMAGE, hostname="new1.example.jp", swap="1G").values()
    request = request_of(values, [MAC])
    line = "LABEL=maglica-swap none swap sw 0 0\n"
    for old in ("", "UUID=1 / ext4 defaults 0 1", "UUID=1 / ext4 defaults 0 1\n"):
        found = customisation(facts("debian-ifupdown", {"/etc/fstab": old}), request)
        text = old.rstrip("\n") + ("\n" if old else "") + line
        assert written(found)["/etc/fstab"] == text
        assert FileIs("/etc/fstab", text) in found.expectations
        again = customisation(facts("debian-ifupdown", {"/etc/fstab": text}), request)
        assert "/etc/fstab" not in written(again), "once is enough"
    without = customisation(facts("debian-ifupdown", {"/etc/fstab": ""}), request_of({**values, "swap": None}, [MAC]))
    assert "/etc/fstab" not in written(without)
