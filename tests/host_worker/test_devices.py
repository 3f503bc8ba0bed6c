"""What is plugged into a VM: pure functions as lists of values, and jobs with libvirt's test driver, which can plug
nothing into what runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.errors import Refused
from maglica.host_worker import jobs, signs, undo
from maglica.host_worker.device import boot, disks, elements, finding, nics
from maglica.host_worker.device.finding import Found
from maglica.host_worker.work import Planned, Work
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, GiB, domain, world

MAC = "52:54:00:aa:bb:cc"


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    more = domain("web3", state=5, more="<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>")
    volumes = ["web1.img", "web2.img", "web3.img", "data.img", "cd.iso", f"{IMAGE}.img"]
    found = Ward(tmp_path, world(tmp_path, "web1", off=("web2", IMAGE), volumes=volumes, more=more))
    yield found
    found.close()


def shown(ward: Ward, name: str) -> dict[str, dict[str, Any]]:
    return {item["target"]: item for item in ward.read("disk list", name=name)["items"]}


# ------------------------------------------------------------------------------------------------ pure functions


@pytest.mark.parametrize(
    ("wanted", "target", "first", "hot", "bus"),
    [
        (None, None, "virtio", True, "virtio"),
        (None, None, "scsi", True, "scsi"),
        (None, None, "sata", True, "virtio"),  # nothing can be plugged into sata
        (None, None, "sata", False, "sata"),
        (None, None, None, False, "virtio"),
        (None, "sdb", "virtio", False, "scsi"),
        ("usb", None, "virtio", True, "usb"),
    ],
)
def test_the_bus_of_a_new_disk(wanted: str | None, target: str | None, first: str | None, hot: bool, bus: str) -> None:
    assert disks.bus_for(wanted, target, first, hot=hot) == bus


@pytest.mark.parametrize(
    ("wanted", "target", "hot", "words"),
    [("virtio", "sdb", False, "is not called sdb"), ("sata", None, True, "nothing can be plugged into the sata bus")],
)
def test_a_bus_that_does_not_do(wanted: str, target: str | None, hot: bool, words: str) -> None:
    with pytest.raises(Refused, match=words):
        disks.bus_for(wanted, target, "virtio", hot=hot)


def test_the_next_free_name() -> None:
    assert disks.target_for(None, "virtio", {"vda", "vdb", "sdc"}, "web1") == "vdc"
    assert disks.target_for(None, "virtio", {f"vd{letter}" for letter in disks.LETTERS}, "web1") == "vdaa"
    assert disks.target_for("vdx", "virtio", {"vda"}, "web1") == "vdx"
    with pytest.raises(Refused, match="web1 has a disk vda"):
        disks.target_for("vda", "virtio", {"vda"}, "web1")
    with pytest.raises(Refused, match="no free name"):
        disks.target_for(None, "virtio", set(disks.names("vd")), "web1")


def test_an_element_says_what_it_was_made_of() -> None:
    piece = disks.element("/p/a.qcow2", "qcow2", "vdb", "virtio", cache="none", serial="S1")
    facts = disks.facts(piece)
    assert (facts["path"], facts["format"], facts["bus"], facts["cache"], facts["serial"], facts["source"]) == (
        "/p/a.qcow2", "qcow2", "virtio", "none", "S1", "file",
    )  # fmt: skip
    assert "cache" not in disks.element("/p/a", "raw", "vdb", "virtio", cache="default")
    block = disks.facts(disks.element("/dev/vg/lv", "raw", "vdb", "virtio", block=True))
    assert (block["source"], block["path"]) == ("block", "/dev/vg/lv")


def test_a_medium_is_changed_and_taken_out() -> None:
    drive = disks.drive("sda", "sata", "/p/a.iso")
    other = disks.with_medium(drive, "/p/b.iso")
    empty = disks.with_medium(other, None)
    assert [disks.facts(piece)["path"] for piece in (drive, other, empty)] == ["/p/a.iso", "/p/b.iso", None]
    assert disks.facts(empty)["device"] == "cdrom"
    assert disks.facts(disks.with_medium(empty, "/p/c.iso"))["path"] == "/p/c.iso"


CONFIG = """<domain><name>web1</name><os><type>hvm</type>{os}</os><devices>
  <disk type='file' device='disk'><target dev='vda' bus='virtio'/>{disk}</disk>
  <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
  <interface type='network'><mac address='52:54:00:00:00:01'/>{nic}</interface>
</devices></domain>"""


@pytest.mark.parametrize(
    ("os", "disk", "nic", "order"),
    [
        ("", "", "", ["hd"]),
        ("<boot dev='network'/><boot dev='hd'/>", "", "", ["network", "hd"]),
        ("", "<boot order='2'/>", "<boot order='1'/>", ["network", "hd"]),
        ("", "<boot order='1'/>", "", ["hd"]),
    ],
)
def test_a_boot_order_is_read_and_written_in_its_own_way(os: str, disk: str, nic: str, order: list[str]) -> None:
    text = CONFIG.format(os=os, disk=disk, nic=nic)
    assert boot.order(text) == order
    new = boot.with_order(text, ["cdrom", "hd"])
    assert boot.order(new) == ["cdrom", "hd"]
    assert ("order=" in new) == ("order=" in text), "libvirt takes one way in a definition, never both"
    assert ("<boot dev" in new) != ("order=" in new)


def test_nothing_boots_from_what_is_not_there() -> None:
    text = "<domain><name>web1</name><os/><devices><disk type='file'><target dev='vda'/></disk></devices></domain>"
    with pytest.raises(Refused, match="web1 has no CD-ROM drive"):
        boot.with_order(text, ["cdrom"])


def test_devices_are_found_added_replaced_and_counted() -> None:
    text = CONFIG.format(os="", disk="", nic="")
    new = elements.added(text, disks.element("/p/b", "raw", "vdb", "virtio"))
    assert sorted(elements.disks(new)) == ["sda", "vda", "vdb"]
    assert elements.disks(elements.replaced(new, elements.disks(new)["vdb"], None)) == elements.disks(text)
    card = elements.nics(text)["52:54:00:00:00:01"]
    down = elements.replaced(text, card, nics.with_link(card, "down"))
    assert nics.facts(elements.nics(down)["52:54:00:00:00:01"])["link"] == "down"
    assert elements.count(text, "<disk><target dev='vda'/></disk>") == 1
    assert elements.count(text, "<disk><target dev='vdz'/></disk>") == 0
    assert elements.count(text, "<rng model='virtio'/>") == 0
    assert elements.count(None, card) == 0
    with pytest.raises(LookupError):
        elements.replaced(text, "<disk/>", None)


@pytest.mark.parametrize(
    ("text", "words"), [("<disk", "no XML"), ("<domain/>", "<domain>, which is no device"), ("<a/>", "<a>, which")]
)
def test_what_is_no_device_is_refused(text: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        elements.described(text, "vm attach-device")


def test_a_format_comes_from_a_name_and_never_from_a_content() -> None:
    assert finding.format_of(Found("/p/a.qcow2", "p", False), None) == "qcow2"
    assert finding.format_of(Found("/p/a.img", "p", False), None) == "raw"
    assert finding.format_of(Found("/p/a.img", "p", False), "qcow2") == "qcow2"
    assert finding.format_of(Found("/dev/vg/lv", "p", True), None) == "raw"
    with pytest.raises(Refused, match="does not tell its format"):
        finding.format_of(Found("/p/a", "p", False), None)


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("vm attach-disk", {"name": "web1"}),
        ("vm attach-disk", {"name": "web1", "size": "1G", "source": "a.img"}),
        ("vm detach-disk", {"name": "web1", "target": "vdb", "remove": True, "apply": "config"}),
        ("vm detach-disk", {"name": "web1", "target": "../x"}),
        ("vm attach-disk", {"name": "web1", "source": "../../etc/shadow"}),
        ("vm attach-disk", {"name": "web1", "source": "/p/../etc/shadow"}),
        ("vm set-boot-device", {"name": "web1", "dev": "hd,hd"}),
        ("vm set-boot-device", {"name": "web1", "dev": "floppy"}),
        ("nic attach", {"name": "web1"}),
        ("nic attach", {"name": "web1", "network": "a", "bridge": "b"}),
        ("nic attach", {"name": "web1", "network": "a", "mac": "01:00:5e:00:00:01"}),
        ("vm attach-device", {"name": "web1", "file": "hello"}),
    ],
)
def test_what_makes_no_sense_is_no_action(action: str, args: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        declare.build(action, args)
    assert refused.value.code == "wrong_input"


# ------------------------------------------------------------------------------------------------------- disks


def test_a_new_disk(ward: Ward) -> None:
    told = ward.do("vm attach-disk", name="web2", size="2G")
    assert (told["target"], told["live"], told["config"], told["changed"]) == ("vdb", False, True, True)
    assert told["path"] == "/default-pool/web2-vdb.img"
    assert "web2-vdb.img" in ward.volumes()
    assert shown(ward, "web2")["vdb"]["path"] == told["path"]
    assert shown(ward, "web2")["vdb"]["capacity_bytes"] == 2 * GiB
    assert ward.do("vm attach-disk", name="web2", size="2G")["target"] == "vdc"


def test_a_disk_is_taken_away_and_comes_back_under_another_name(ward: Ward) -> None:
    told = ward.do("vm attach-disk", name="web2", source="data.img")
    assert (told["target"], told["new"], told["size_bytes"]) == ("vdb", False, None)
    again = ward.do("vm attach-disk", name="web2", source="data.img")
    assert (again["changed"], again["target"]) == (False, "vdb")
    gone = ward.do("vm detach-disk", name="web2", target="vdb")
    assert (gone["changed"], gone["deleted"]) == (True, [])
    assert "vdb" not in shown(ward, "web2")
    assert "data.img" in ward.volumes()
    assert ward.do("vm attach-disk", name="web3", source="data.img", target="vdx")["target"] == "vdx"


def test_a_disk_is_removed_when_it_is_off(ward: Ward) -> None:
    ward.do("vm attach-disk", name="web2", size="1G")
    assert "web2-vdb.img" in ward.volumes()
    told = ward.do("vm detach-disk", name="web2", target="vdb", remove=True)
    assert told["deleted"] == ["/default-pool/web2-vdb.img"]
    assert "web2-vdb.img" not in ward.volumes()


def test_another_disk_of_that_name_is_left_alone(ward: Ward) -> None:
    made = ward.do("vm attach-disk", name="web2", size="1G")
    ward.do("vm detach-disk", name="web2", target="vdb")
    ward.do("vm attach-disk", name="web2", source="data.img")
    error = ward.refusal("vm detach-disk", name="web2", target="vdb", path=made["path"], remove=True)
    assert (error.code, error.message) == (
        "wrong_state", "vdb of web2 is /default-pool/data.img, not /default-pool/web2-vdb.img",
    )  # fmt: skip
    assert {"data.img", "web2-vdb.img"} <= set(ward.volumes())
    assert ward.do("vm detach-disk", name="web2", target="vdb", path="/default-pool/data.img")["changed"] is True


@pytest.mark.parametrize(
    ("action", "args", "code", "words"),
    [
        ("vm attach-disk", {"name": "web2", "size": "17T"}, "wrong_input", "the limit of host1 is 16384 GiB"),
        ("vm attach-disk", {"name": "web2", "size": "1G", "target": "vda"}, "already_exists", "has a disk vda"),
        ("vm attach-disk", {"name": "web2", "size": "1G", "apply": "live"}, "wrong_state", "web2 is off"),
        ("vm attach-disk", {"name": "web1", "size": "1G", "bus": "sata"}, "wrong_state", "sata bus of a VM that runs"),
        ("vm attach-disk", {"name": IMAGE, "size": "1G"}, "protected", "is an image"),
        ("vm attach-disk", {"name": "web2", "size": "1G", "pool": "no"}, "environment_error", "no active pool called"),
        ("vm attach-disk", {"name": "web2", "source": "web1.img"}, "protected", "web1 has it as its disk vda"),
        ("vm attach-disk", {"name": "web2", "source": "no.img"}, "unknown_entity", "no.img"),
        ("vm detach-disk", {"name": "web2", "target": "vdz"}, "unknown_entity", "no disk vdz"),
        ("vm detach-disk", {"name": "web3", "target": "hdc", "remove": True}, "wrong_input", "not the VM's own"),
        ("vm attach-iso", {"name": "web1", "iso": "cd.iso"}, "wrong_state", "no CD-ROM drive"),
        ("vm attach-iso", {"name": "web3", "iso": "web1.img"}, "wrong_input", "is a disk of web1"),
        ("vm attach-iso", {"name": "web3", "iso": "cd.iso", "target": "hdd"}, "unknown_entity", "no CD-ROM drive hdd"),
        ("vm set-boot-device", {"name": "web2", "dev": "cdrom"}, "unknown_entity", "web2 has no CD-ROM drive"),
        ("nic attach", {"name": "web2", "network": "no"}, "unknown_entity", "there is no network no"),
        ("nic attach", {"name": "web2", "network": "default", "mac": "52:54:00:00:00:81"}, "already_exists", "web"),
        ("nic detach", {"name": "web2", "mac": MAC}, "unknown_entity", f"no network card {MAC}"),
    ],
)
def test_refusals(ward: Ward, action: str, args: dict[str, Any], code: str, words: str) -> None:
    if args.get("mac") == "52:54:00:00:00:81":
        args = {**args, "mac": str(ward.domain("web1").nics[0]["mac"])}
    if args.get("source") == "no.img":
        with pytest.raises(Exception, match=r"no\.img"):
            ward.do(action, **args)
        return
    error = ward.refusal(action, **args)
    assert (error.code, words in error.message) == (code, True), error.message
    assert error.hint


def test_a_dry_run_says_where_and_changes_nothing(ward: Ward) -> None:
    want = declare.build("vm attach-disk", {"name": "web2", "size": "2G"})
    before = ward.seen()
    with pytest.raises(Planned) as planned:
        jobs.function(want)(want, ward.host, Work("dry1", 60.0, None, lambda: None, dry_run=True))
    assert planned.value.plan["target"] == "vdb"
    assert ward.seen() == before
    assert "vdb" not in shown(ward, "web2")


def test_what_was_made_is_taken_back(ward: Ward) -> None:
    """The undos of a job that ended before its last step: the definition first, then the volume."""
    ward.do("vm attach-disk", name="web2", size="1G")
    notes = ward.journal.undos(ward.work.job)
    assert [note.what for note in notes] == ["redefine", "delete_volume"]
    assert undo.take_back(ward.work.job, ward.journal, ward.hypervisor) == []
    assert "vdb" not in shown(ward, "web2")
    assert "web2-vdb.img" not in ward.volumes()


def test_the_sign_of_a_disk(ward: Ward) -> None:
    uuid = ward.domain("web2").uuid
    told = ward.do("vm attach-disk", name="web2", source="data.img")
    held: dict[str, Any] = {"uuid": uuid, "target": "vdb", "live": False, "config": True}
    assert signs.disk_is(ward.hypervisor, path=told["path"], **held)
    assert not signs.disk_is(ward.hypervisor, path=None, **held)
    ward.do("vm detach-disk", name="web2", target="vdb")
    assert signs.disk_is(ward.hypervisor, path=None, **held)
    assert not signs.disk_is(ward.hypervisor, path=None, **{**held, "uuid": "no"})


# ------------------------------------------------------------------------------------------------ media, boot, cards


def test_media(ward: Ward) -> None:
    told = ward.do("vm attach-iso", name="web3", iso="cd.iso")
    assert (told["target"], told["path"], told["changed"]) == ("hdc", "/default-pool/cd.iso", True)
    assert ward.do("vm attach-iso", name="web3", iso="cd.iso")["changed"] is False
    assert shown(ward, "web3")["hdc"]["path"] == "/default-pool/cd.iso"
    assert ward.do("vm eject", name="web3", target="hdc", path="/default-pool/other.iso")["changed"] is False
    told = ward.do("vm eject", name="web3", path="/default-pool/cd.iso")
    assert told["ejected"] == [{"target": "hdc", "path": "/default-pool/cd.iso"}]
    assert shown(ward, "web3")["hdc"]["path"] is None
    assert ward.do("vm eject", name="web3")["changed"] is False
    assert ward.do("vm eject", name="web2")["changed"] is False


def test_a_drive_that_is_empty_is_taken_away(ward: Ward) -> None:
    """That it holds nothing is no sign of it."""
    assert ward.do("vm detach-disk", name="web3", target="hdc")["changed"] is True
    assert "hdc" not in shown(ward, "web3")


def test_a_vm_that_is_off_gets_a_drive(ward: Ward) -> None:
    told = ward.do("vm attach-iso", name="web2", iso="cd.iso")
    found = shown(ward, "web2")[told["target"]]
    assert (found["device"], found["path"]) == ("cdrom", "/default-pool/cd.iso")
    assert ward.do("vm set-boot-device", name="web2", dev="cdrom,hd")["boot"] == ["cdrom", "hd"]
    assert ward.do("vm set-boot-device", name="web2", dev="cdrom,hd")["changed"] is False
    told = ward.do("vm set-boot-device", name="web2", dev="hd")
    assert (told["before"], told["restart_needed"]) == (["cdrom", "hd"], False)
    assert signs.boots_from(ward.hypervisor, ward.domain("web2").uuid, ["hd"])


def test_network_cards(ward: Ward) -> None:
    told = ward.do("nic attach", name="web2", network="default", mac=MAC, model="e1000")
    assert (told["mac"], told["config"], told["live"]) == (MAC, True, False)
    found = {item["mac"]: item for item in ward.read("nic list", name="web2")["items"]}
    assert (found[MAC]["model"], found[MAC]["source"], found[MAC]["link"]) == ("e1000", "default", "up")
    assert len(found) == 2
    error = ward.refusal("nic link", name="web2", state="down")
    assert (error.code, MAC in error.message) == ("ambiguous_name", True)
    assert ward.do("nic link", name="web2", mac=MAC, state="down")["changed"] is True
    assert ward.do("nic link", name="web2", mac=MAC, state="down")["changed"] is False
    uuid = ward.domain("web2").uuid
    assert signs.nic_is(ward.hypervisor, uuid, MAC, "down", False, True)
    assert ward.do("nic detach", name="web2", mac=MAC)["changed"] is True
    assert signs.nic_is(ward.hypervisor, uuid, MAC, None, False, True)
    random = ward.do("nic attach", name="web2", network="default")["mac"]
    assert random.startswith("52:54:00:")


def test_a_card_of_a_vm_with_one(ward: Ward) -> None:
    told = ward.do("nic link", name="web2", state="down")
    assert told["mac"] == str(ward.domain("web2").nics[0]["mac"])
    assert [item["link"] for item in ward.read("nic list", name="web2")["items"]] == ["down"]


def test_info_of_a_disk(ward: Ward) -> None:
    item = ward.read("disk info", name="web1", target="vda")["item"]
    assert (item["path"], item["capacity_bytes"], item["used_by"]) == ("/default-pool/web1.img", 4 * GiB, [])
    with pytest.raises(Refused, match="web1 has no disk vdz"):
        ward.read("disk info", name="web1", target="vdz")
