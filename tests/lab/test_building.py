"""VMs that are built on real hypervisors: bare, from an image, from an archive; built anew; and what fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import HOME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

POOL = "/var/lib/libvirt/images"
MARK = "#!/bin/sh\necho hook on $MAGLICA_HOSTNAME; id -u\necho {} > /root/built\n"
BAD = "#!/bin/sh\nmkdir /root/half; echo the hook is not content >&2; exit 3\n"


def inode(lab: Lab, name: str) -> str:
    return lab.on("host1", f"stat -c %i {POOL}/{name}.qcow2").strip()


def built(lab: Lab, name: str) -> str:
    """What a script has left on the disk of a VM that is off."""
    command = f"virt-cat -a {POOL}/{name}.qcow2 /root/built"
    return lab.on("host1", f"LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg {command}").strip()


def test_a_bare_machine_is_made_and_made_anew(lab: Lab, cloud: Cloud, clean: object) -> None:
    made = cloud.vm.build(name="bare1", barebones=True, disk="2G", on="host1", tags=["lab"])
    assert (made["state"], made["rebuilt"], made["disks"][0]["capacity_bytes"]) == ("shut-off", False, 2 << 30)
    with pytest.raises(MaglicaError, match="bare1 exists on host1") as taken:
        cloud.vm.build(name="bare1", barebones=True, on="host2")
    assert (taken.value.code, taken.value.exit_status) == ("already_exists", 5)
    before = inode(lab, "bare1")
    again = cloud.vm.build(name="bare1", rebuild=True, memory="512M")
    assert (again["uuid"], again["macs"], again["rebuilt"]) == (made["uuid"], made["macs"], True)
    assert again["disks"][0]["capacity_bytes"] == 2 << 30, "as it was"
    assert inode(lab, "bare1") != before
    assert cloud.vm.info(name="bare1")["tags"] == ["lab"], "words of people stay"
    assert "<memory unit='KiB'>524288</memory>" in lab.on("host1", "virsh dumpxml bare1")

    cloud.vm.start(name="bare1")
    assert [one["type"] for one in cloud.vm.display(name="bare1")["displays"]] == ["vnc"], "to be installed by hand"
    with pytest.raises(MaglicaError, match="bare1 is running") as runs:
        cloud.vm.build(name="bare1", rebuild=True)
    assert runs.value.code == "wrong_state"
    cloud.vm.destroy(name="bare1")
    cloud.vm.protect(name="bare1")
    with pytest.raises(MaglicaError, match="bare1 is protected"):
        cloud.vm.build(name="bare1", rebuild=True)
    cloud.vm.unprotect(name="bare1")
    cloud.snapshot.create(name="bare1", label="one")
    with pytest.raises(MaglicaError, match="bare1 has 1 snapshots"):
        cloud.vm.build(name="bare1", rebuild=True)
    cloud.snapshot.remove(name="bare1", label="one")
    cloud.vm.set_state(name="bare1", state="retired")
    with pytest.raises(MaglicaError, match="bare1 is retired"):
        cloud.vm.build(name="bare1", rebuild=True)
    with pytest.raises(MaglicaError, match="there is no VM bare2"):
        cloud.vm.build(name="bare2", rebuild=True)
    cloud.vm.remove(name="bare1")


def test_a_failing_script_leaves_what_was_there(lab: Lab, cloud: Cloud, clean: object) -> None:
    """Nothing, of a VM that is new; the old one to the bit, of one that is built anew."""
    with pytest.raises(MaglicaError, match="hook 2 of 2 ended with status 3: the hook is not content") as failed:
        cloud.vm.build(name="web1", image="tiny.original", hook=[MARK.format("one"), BAD], on="host1")
    assert failed.value.details["exit_status"] == 3
    assert "web1" not in lab.domains("host1")
    assert [name for name in lab.files("host1") if name.startswith("web1")] == []

    made = cloud.vm.build(
        name="web1", image="tiny.original", hook=MARK.format("one"), on="host1", disk="384M", start=False
    )
    assert made["hooks"] == [{"exit_status": 0, "output": "hook on web1\n0\n"}]
    assert made["disks"][0]["capacity_bytes"] == 384 << 20
    text, disk = lab.on("host1", "virsh dumpxml web1"), inode(lab, "web1")

    with pytest.raises(MaglicaError, match="hook 1 of 1 ended with status 3"):
        cloud.vm.build(name="web1", rebuild=True, hook=BAD)
    assert (lab.on("host1", "virsh dumpxml web1"), inode(lab, "web1")) == (text, disk)

    # Killed when the new disk is in its place and the VM runs on it: all of that is taken back.
    waits = cloud.vm.build.submit(
        name="web1", rebuild=True, hook=MARK.format("two"), wait="console:never", wait_timeout="10m"
    )
    until(lambda: "wait" in str(cloud.job.show(id=waits.id)["step"]), 180, "it waits for the console")
    assert inode(lab, "web1") != disk
    assert cloud.vm.info(name="web1")["state"] == "running"
    lab.daemon("kill", "host1")
    lab.daemon("start", "host1")
    with pytest.raises(MaglicaError) as lost:
        waits.wait()
    assert lost.value.code == "lost"
    assert cloud.vm.info(name="web1")["state"] == "shut-off"
    assert (lab.on("host1", "virsh dumpxml web1"), inode(lab, "web1")) == (text, disk)
    assert [name for name in lab.files("host1") if waits.id in name] == []

    again = cloud.vm.build(name="web1", rebuild=True, hook=MARK.format("three"), start=False)
    assert (again["uuid"], again["macs"]) == (made["uuid"], made["macs"])
    assert built(lab, "web1") == "three"
    cloud.vm.remove(name="web1")


@pytest.fixture
def archive(lab: Lab) -> str:
    """The archive of a Debian in the import folder of host1."""
    argv = [str(HOME / "lab" / "build-image"), "archive"]
    path = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=800).stdout.strip()
    folder = Path(lab.config).parent / "host1" / "worker" / "import"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "base.tar.gz"
    target.unlink(missing_ok=True)
    subprocess.run(["cp", "--reflink=auto", path, target], check=True)
    return str(target)


def test_an_archive_becomes_a_guest_that_boots(
    lab: Lab, cloud: Cloud, debian: str, archive: str, clean: object
) -> None:
    wrong = Path(archive).with_name("wrong.tar")
    subprocess.run(["tar", "-C", str(HOME / "docs"), "-cf", str(wrong), "."], check=True)
    with pytest.raises(MaglicaError, match="holds no root file system"):
        cloud.vm.build(name="ar1", archive=str(wrong), on="host1", disk="1G")
    assert "ar1" not in lab.domains("host1")

    made = cloud.vm.build(
        name="ar1.example.jp", archive=archive, on="host1", disk="2G", memory="256M", hook=MARK.format("archive"),
        write=["/etc/motd:Built."], user="alice", postboot="hostname; cat /root/built /etc/motd; exit 0",
        wait_timeout="10m",
    )  # fmt: skip
    assert made["guest"]["verified"] is True
    assert made["hooks"][0]["output"] == "hook on ar1.example.jp\n0\n"
    assert made["postboot"]["stdout"] == "ar1.example.jp\narchive\nBuilt.\n"
    ran = cloud.vm.exec(
        name="ar1.example.jp", command="ls /root/.*maglica /buildvm* 2>/dev/null; id alice; df -k / | tail -1"
    )
    assert "alice" in ran["stdout"]
    assert "maglica" not in ran["stdout"], "the script is gone"

    # Built anew from an image, and its script fails: the guest of the archive is there again.
    text, disk = lab.on("host1", "virsh dumpxml --inactive ar1.example.jp"), inode(lab, "ar1.example.jp")
    cloud.vm.destroy(name="ar1.example.jp")
    with pytest.raises(MaglicaError, match="--postboot ended with status 7") as failed:
        cloud.vm.build(
            name="ar1.example.jp", rebuild=True, image=debian, postboot="test -e /root/built || exit 7",
            wait_timeout="10m",
        )  # fmt: skip
    assert failed.value.details["exit_status"] == 7
    assert (lab.on("host1", "virsh dumpxml --inactive ar1.example.jp"), inode(lab, "ar1.example.jp")) == (text, disk)
    assert built(lab, "ar1.example.jp") == "archive"
    cloud.vm.remove(name="ar1.example.jp")
