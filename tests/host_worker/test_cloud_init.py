"""A request in the words of cloud-init, and the seed that is made of it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.domain_xml import Edits
from maglica.host_worker.guest import cloud_init
from maglica.host_worker.guest.customization import Customization
from maglica.host_worker.guest.model import GuestRequest, Network
from tests.host_worker.test_customize import HASH, KEY, MAC, MAC2, STATIC
from tests.host_worker.test_setup import FULL

UUID = "11111111-2222-4333-8444-555555555555"


def seed(**more: Any) -> dict[str, Any]:
    request = GuestRequest("vm0.example.jp", (MAC, MAC2), **more)
    files = cloud_init.seed(request, UUID)
    assert files["user-data"].startswith("#cloud-config\n")
    return {name: json.loads(text.removeprefix("#cloud-config\n")) for name, text in files.items()}


def test_identity() -> None:
    found = seed()
    assert found["meta-data"] == {"instance-id": UUID, "local-hostname": "vm0.example.jp"}
    data = found["user-data"]
    assert (data["hostname"], data["fqdn"], data["preserve_hostname"]) == ("vm0.example.jp", "vm0.example.jp", False)
    assert (data["ssh_deletekeys"], data["users"], data["ssh_pwauth"]) == (True, [], False)
    assert found["network-config"]["ethernets"] == {
        "eth0": {"match": {"macaddress": MAC}, "set-name": "eth0", "dhcp4": True},
        "eth1": {"match": {"macaddress": MAC2}, "set-name": "eth1", "dhcp4": True},
    }


def test_a_static_address() -> None:
    cards = seed(network=STATIC)["network-config"]["ethernets"]
    assert cards["eth0"] == {
        "match": {"macaddress": MAC}, "set-name": "eth0", "addresses": ["192.0.2.10/24"],
        "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}],
        "nameservers": {"addresses": ["192.0.2.53", "2001:db8::53"], "search": []},
    }  # fmt: skip
    six = seed(network=Network("2001:db8::5/64", "2001:db8::1"))["network-config"]["ethernets"]["eth0"]
    assert six["routes"] == [{"to": "::/0", "via": "2001:db8::1"}]


def test_all_of_a_customization() -> None:
    data = seed(ssh_keys=(KEY,), root_password_hash=HASH, custom=FULL)["user-data"]
    root, alice = data["users"]
    assert root == {"name": "root", "lock_passwd": False, "ssh_authorized_keys": [KEY], "hashed_passwd": HASH}
    assert (alice["name"], alice["groups"], alice["lock_passwd"]) == ("alice", "adm", False)
    assert (alice["sudo"], alice["hashed_passwd"]) == ("ALL=(ALL) NOPASSWD:ALL", HASH)
    files = {one["path"]: (base64.b64decode(one["content"]), one["permissions"]) for one in data["write_files"]}
    assert files == {"/etc/motd": (b"hello\n", "0644"), "/srv/app/conf.d/a.conf": (b"a=1\n", "0600")}
    assert (data["timezone"], data["keyboard"]) == ("Asia/Tokyo", {"layout": "jp"})
    assert data["runcmd"][2:] == [["/bin/sh", "-c", command] for command in FULL.commands]
    assert "ssh_pwauth" not in data


def test_lines_of_hosts_are_added_once(tmp_path: Path) -> None:
    commands = [one[2] for one in seed(custom=Customization(hosts=FULL.hosts))["user-data"]["runcmd"]]
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    for command in commands * 2:
        subprocess.run(["/bin/sh", "-c", command.replace("/etc/hosts", str(hosts))], check=True)
    assert hosts.read_text() == f"127.0.0.1 localhost\n127.0.1.1\tvm0.example.jp vm0\n{FULL.hosts[0]}\n"
    assert "runcmd" not in cloud_init.user_data(GuestRequest("vm0", (MAC,))), "a short name needs no other"


def test_what_differs_by_family_is_refused() -> None:
    with pytest.raises(Refused, match="rhel"):
        seed(custom=Customization(families={"rhel": Customization(commands=("x",))}))


# ---- the CD-ROM -------------------------------------------------------------------------------------------------

DOMAIN = """<domain type='kvm'><name>a.original</name><uuid>x</uuid><os><type machine='{machine}'>hvm</type></os>
<devices><disk type='file' device='disk'><source file='/a.qcow2'/><target dev='{target}' bus='{has}'/></disk>{more}
</devices></domain>"""


def original(machine: str = "pc", target: str = "vda", has: str = "virtio", more: str = "") -> str:
    """An image whose disk `target` is on the bus `has`; `more` devices."""
    return DOMAIN.format(machine=machine, target=target, has=has, more=more)


def rewritten(text: str, seed: str | None, name: str = "vm0") -> str:
    mark = {"kind": "clone", **({"seed": seed} if seed else {})}
    return domain_xml.rewrite(text, Edits(name, UUID, [], {}, None, None, None, False, mark, seed))


@pytest.mark.parametrize(
    ("machine", "target", "has", "bus", "name"),
    [
        ("pc-q35-7.2", "vda", "virtio", "scsi", "sda"),
        ("q35", "sda", "sata", "sata", "sdb"),
        ("q35", "sda", "scsi", "scsi", "sdb"),
        ("pc-i440fx-7.2", "hda", "ide", "ide", "hdb"),
        ("pc", "vda", "virtio", "ide", "hda"),
        ("virt", "vda", "virtio", "scsi", "sda"),
    ],
)
def test_the_seed_is_a_cdrom_of_the_clone(machine: str, target: str, has: str, bus: str, name: str) -> None:
    text = rewritten(original(machine, target, has), "/pool/vm0-seed.iso")
    domain = domain_xml.read(text)
    disk = domain.disks[-1]
    assert (disk.device, disk.path, disk.bus, disk.target) == ("cdrom", "/pool/vm0-seed.iso", bus, name)
    assert not disk.copied
    assert domain.mark["seed"] == "/pool/vm0-seed.iso"


@pytest.mark.parametrize(
    ("had", "used"),
    [
        ([], ("virtio-scsi", "0")),
        ([("virtio-scsi", "0")], ("virtio-scsi", "0")),
        ([("lsilogic", "0")], ("virtio-scsi", "1")),  # nothing is on it: nobody knows whether the guest has its driver
        ([("lsilogic", "0"), ("virtio-transitional", "3")], ("virtio-transitional", "3")),
    ],
)
def test_scsi_is_one_that_kernels_of_clouds_have(had: list[tuple[str, str]], used: tuple[str, str]) -> None:
    more = "".join(f"<controller type='scsi' index='{index}' model='{model}'/>" for model, index in had)
    root = ET.fromstring(rewritten(original("q35", more=more), "/pool/vm0-seed.iso"))
    place = root.find("./devices/disk[@device='cdrom']/address")
    assert place is not None
    found = {one.get("index"): one.get("model") for one in root.findall("./devices/controller[@type='scsi']")}
    assert (found[place.get("controller")], place.get("controller")) == used
    assert len(found) == len({index for _, index in had} | {used[1]})


def test_disks_on_scsi_show_which_the_guest_knows() -> None:
    more = "<controller type='scsi' index='0' model='lsilogic'/>"
    root = ET.fromstring(rewritten(original("q35", "sda", "scsi", more), "/pool/vm0-seed.iso"))
    assert root.find("./devices/disk[@device='cdrom']/address") is None, "libvirt finds a place beside the disk"
    assert len(root.findall("./devices/controller")) == 1


def test_a_clone_of_a_clone_has_not_its_seed() -> None:
    """It would take another machine's name, keys and instance-id."""
    first = rewritten(original(), "/pool/vm0-seed.iso")
    second = rewritten(first, None, "vm1")
    assert "seed" not in second
    third = rewritten(first, "/pool/vm1-seed.iso", "vm1")
    seeds = [source.get("file") for source in ET.fromstring(third).findall("./devices/disk[@device='cdrom']/source")]
    assert seeds == ["/pool/vm1-seed.iso"]


@pytest.mark.skipif(not shutil.which("cloud-init"), reason="cloud-init is not installed on this machine")
def test_cloud_init_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    request = GuestRequest("vm0.example.jp", (MAC,), STATIC, (KEY,), HASH, FULL)
    for name, kind in (("user-data", "cloud-config"), ("network-config", "network-config")):
        (tmp_path / name).write_text(cloud_init.seed(request, UUID)[name])
        argv = ["cloud-init", "schema", "-t", kind, "-c", str(tmp_path / name)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
