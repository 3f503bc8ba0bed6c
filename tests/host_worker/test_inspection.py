"""What is recognised without libguestfs' own inspection, and what is left to it: texts in, values out.

`test_guest.py` compares the two on real file systems.
"""

from __future__ import annotations

import pytest

from maglica.host_worker.guest.inspection import Layout, mounts_of, system_of
from maglica.host_worker.guest.model import System
from tests.host_worker.guest_trees import TREES

DEVICES = ["/dev/sda1", "/dev/sda2", "/dev/sdb"]
IDS = {"/dev/sda1": "0000-AAAA", "/dev/sda2": "1111-bbbb", "/dev/sdb": "2222-cccc"}
LABELS = {"/dev/sda1": "EFI", "/dev/sda2": "root", "/dev/sdb": "data"}


def mounts(fstab: str) -> object:
    return mounts_of(fstab, DEVICES, IDS.__getitem__, LABELS.__getitem__)


@pytest.mark.parametrize(
    ("fstab", "found"),
    [
        ("", {}),
        ("# a comment\n/dev/vda2 / ext4 defaults 0 1\n/dev/vda1 /boot/efi vfat\n", {"/boot/efi": "/dev/sda1"}),
        ("/dev/vdb /var ext4", {"/var": "/dev/sdb"}),
        ("/dev/hda1 /boot/ ext2", {"/boot": "/dev/sda1"}),
        ("UUID=2222-CCCC /srv ext4", {"/srv": "/dev/sdb"}),
        ('UUID="2222-cccc" /srv ext4', {"/srv": "/dev/sdb"}),
        ("LABEL=data /srv ext4", {"/srv": "/dev/sdb"}),
        ("UUID=1 none swap sw 0 0\ntmpfs /tmp tmpfs\nproc /proc proc\nnas:/x /home nfs\n/dev/sr0 /media udf", {}),
        # Whatever is not clear is libguestfs' to find.
        ("LABEL=DATA /srv ext4", None),
        ("UUID=9999 /srv ext4", None),
        ("PARTUUID=1111-bbbb /srv ext4", None),
        ("/dev/mapper/vg-var /var ext4", None),
        ("/dev/vda7 /var ext4", None),
        ("/dev/disk/by-label/data /srv ext4", None),
    ],
)
def test_what_stands_in_an_fstab(fstab: str, found: object) -> None:
    assert mounts(fstab) == found


def test_two_file_systems_of_one_label_are_not_told_apart() -> None:
    assert mounts_of("LABEL=x /srv ext4 0 0", DEVICES, IDS.__getitem__, lambda device: "x") is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("debian-ifupdown", ("debian", 12, 5)),
        ("ubuntu-netplan", ("ubuntu", 22, 4)),
        ("rhel9-keyfile", ("almalinux", 9, 4)),
        ("centos7-ifcfg", None),
        ("rhel6", None),
        ("unknown", None),
    ],
)
def test_which_systems_are_known(name: str, known: tuple[str, int, int] | None) -> None:
    tree = TREES[name]
    found = system_of(tree.get("/etc/os-release", ""), tree.get("/etc/debian_version", ""))
    assert (found and (found.distro, found.major, found.minor)) == known


def test_a_debian_without_a_number_is_not_known() -> None:
    assert system_of(TREES["debian-ifupdown"]["/etc/os-release"], "trixie/sid\n") is None


@pytest.mark.parametrize(
    ("device", "volumes"),
    [("/dev/sda1", False), ("btrfsvol:/dev/sda1/@", False), ("/dev/vg/root", True), ("/dev/mapper/vg-root", True)],
)
def test_what_lies_on_volumes(device: str, volumes: bool) -> None:
    assert Layout(device, (("/", device),), System("debian", "Debian", 12), "direct").volumes is volumes
