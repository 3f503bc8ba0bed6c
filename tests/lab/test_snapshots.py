"""Snapshots of real guests: what was there comes back, what is merged is whole, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NAME = "snap1.example.jp"
POOL = "/var/lib/libvirt/images"


@pytest.fixture
def guest(lab: Lab, cloud: Cloud, clean: object) -> Iterator[str]:
    """A linked clone on host1 that is off; the image's disk is behind its own."""
    cloud.vm.clone(image="tiny.original", hostname=NAME, on="host1", mode="linked", customize="none", start=False)
    try:
        yield NAME
    finally:
        if NAME in lab.domains("host1"):
            cloud.vm.remove(name=NAME, force=True)


def write(lab: Lab, path: str, word: str) -> None:
    """Leave a word at a place of the disk where no file system looks."""
    lab.on("host1", f"qemu-io -f qcow2 -c 'write -P {ord(word)} 1024 512' {path}")


def word(lab: Lab, path: str) -> str:
    script = f"qemu-io -U -r -f qcow2 -c 'read -v 1024 16' {path} | sed -n 1p"
    return lab.on("host1", script).split()[-1][:1]


def disk(lab: Lab) -> str:
    return lab.on("host1", f"virsh domblklist {NAME} | sed -n 3p").split()[1]


def test_an_internal_snapshot_brings_the_disk_back(lab: Lab, cloud: Cloud, guest: str) -> None:
    write(lab, disk(lab), "a")
    told = cloud.snapshot.create(name=guest, label="first", description="before all")
    assert (told["kind"], told["memory"], told["no_way_back"]) == ("internal", False, None)
    write(lab, disk(lab), "b")
    assert cloud.snapshot.revert(name=guest, label="first")["state"] == "shut-off"
    assert word(lab, disk(lab)) == "a"
    assert [(item["snapshot"], item["current"]) for item in cloud.snapshot.list(name=guest)] == [("first", True)]
    assert cloud.snapshot.remove(name=guest, label="first")["removed"] == ["first"]
    assert "first" not in lab.on("host1", f"qemu-img snapshot -l {disk(lab)}")
    assert word(lab, disk(lab)) == "a"


def test_a_guest_that_runs_comes_back_with_its_memory(lab: Lab, cloud: Cloud, guest: str) -> None:
    cloud.vm.start(name=guest)
    lab.console("host1", guest, "maglica-guest: hostname", 200)
    assert cloud.snapshot.create(name=guest, label="warm")["memory"] is True
    cloud.vm.destroy(name=guest)
    assert cloud.snapshot.revert(name=guest, label="warm")["state"] == "running"
    time.sleep(2.0)
    log = f"/var/log/libvirt/qemu/{guest}.console.log"
    assert "Linux version" not in lab.on("host1", f"cat {log}"), "it goes on, and does not boot"
    assert lab.on("host1", f"virsh domstate {guest}").strip() == "running"


def test_disks_are_frozen_and_merged_while_the_guest_runs(lab: Lab, cloud: Cloud, guest: str) -> None:
    own = disk(lab)
    cloud.vm.start(name=guest)
    lab.console("host1", guest, "maglica-guest: hostname", 200)
    told = cloud.snapshot.create(name=guest, label="cold", disk_only=True)
    assert told["overlays"] == [{"target": "vda", "path": f"{POOL}/{guest}-vda.cold.qcow2"}]
    overlay = told["overlays"][0]["path"]
    assert told["no_way_back"], "libvirt of these hosts is older than 9.9"
    assert disk(lab) == overlay
    info = cloud.disk.info(name=guest, target="vda")
    assert info["rests_on"][0] == own
    depends = cloud.image.dependents(name="tiny.original")
    assert [item["name"] for item in depends if guest in item["name"]] == [guest], "the frozen disk belongs to the VM"
    with pytest.raises(MaglicaError, match="cannot go back to an external snapshot"):
        cloud.snapshot.revert(name=guest, label="cold")
    assert cloud.snapshot.remove(name=guest, label="cold")["removed"] == ["cold"]
    assert disk(lab) == own
    assert overlay.rpartition("/")[2] not in lab.files("host1")
    assert lab.on("host1", f"virsh domstate {guest}").strip() == "running"


def test_frozen_disks_of_a_vm_that_is_off_are_merged(lab: Lab, cloud: Cloud, guest: str) -> None:
    own = disk(lab)
    write(lab, own, "a")
    cloud.snapshot.create(name=guest, label="one", disk_only=True)
    write(lab, disk(lab), "b")
    cloud.snapshot.create(name=guest, label="two", disk_only=True)
    write(lab, disk(lab), "c")
    assert [item["snapshot"] for item in cloud.snapshot.list(name=guest)] == ["one", "└ two"]
    told = cloud.snapshot.remove(name=guest, label="one", children=True)
    assert told["removed"] == ["two", "one"]
    assert disk(lab) == own
    assert word(lab, own) == "c"


def test_kept_memory_goes_with_its_snapshot(lab: Lab, cloud: Cloud, guest: str) -> None:
    cloud.vm.start(name=guest)
    told = cloud.snapshot.create(name=guest, label="one", external=True)
    name = told["memory_file"].rpartition("/")[2]
    assert name in lab.files("host1")
    cloud.snapshot.remove(name=guest, label="one")
    assert name not in lab.files("host1")


def test_a_vm_is_removed_with_its_snapshots(lab: Lab, cloud: Cloud, guest: str) -> None:
    """The image stays; `clean` sees that nothing else does."""
    cloud.snapshot.create(name=guest, label="inside")
    with pytest.raises(MaglicaError, match="inside is internal"):
        cloud.snapshot.create(name=guest, label="one", disk_only=True)
    cloud.snapshot.remove(name=guest, label="inside")
    cloud.vm.start(name=guest)
    cloud.snapshot.create(name=guest, label="one", disk_only=True)
    cloud.snapshot.create(name=guest, label="two", external=True)
    told = cloud.vm.remove(name=guest, force=True)
    assert len(told["deleted"]) == 4, "the disk, two overlays, the memory"
    assert "tiny.original.qcow2" in lab.files("host1")


def test_what_others_rest_on_is_not_merged_into(lab: Lab, cloud: Cloud, guest: str) -> None:
    cloud.snapshot.create(name=guest, label="one", disk_only=True)
    frozen = cloud.snapshot.info(name=guest, label="one")["disks"][0]["path"]
    lab.on("host1", f"qemu-img create -q -f qcow2 -b {frozen} -F qcow2 {POOL}/other.qcow2")
    try:
        with pytest.raises(MaglicaError, match="rests on"):
            cloud.snapshot.remove(name=guest, label="one")
        with pytest.raises(MaglicaError, match=r"other\.qcow2"):
            cloud.vm.remove(name=guest)
    finally:
        lab.on("host1", f"rm {POOL}/other.qcow2")


def test_refused_before_anything_starts(lab: Lab, cloud: Cloud, guest: str) -> None:
    cloud.vm.attach_disk(name=guest, size="16M", format="raw")
    for args, words in (
        ({}, "is raw: only qcow2 disks"),
        ({"disk_only": True, "quiesce": True}, "is off"),
    ):
        with pytest.raises(MaglicaError, match=words):
            cloud.snapshot.create(name=guest, label="a", **args)  # type: ignore[arg-type]
    assert cloud.snapshot.list(name=guest) == []
    assert "changed" in cloud.vm.detach_disk(name=guest, target="vdb", remove=True)
