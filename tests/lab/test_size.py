"""VMs that become larger and smaller: one Debian with QEMU's guest agent, which says what it sees of it."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import maglica
from maglica.errors import Failed, MaglicaError, Refused
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NAME = "size1.example.jp"
MiB, GiB = 1 << 20, 1 << 30
PIECE = 90 << 10  # bytes that are put into the guest at once
# Programs of this machine that the guest lacks; it runs the same release.
GIVEN = ("/usr/sbin/sfdisk", "/lib/x86_64-linux-gnu/libfdisk.so.1", "/lib/x86_64-linux-gnu/libreadline.so.8")


@pytest.fixture(scope="module")
def guest(lab: Lab, debian: str) -> Iterator[str]:
    """A Debian of 1 of 2 vCPUs and 256 MiB with slots for more; its disk grew by 1 GiB while it was off. A second,
    empty disk of 64 MiB.
    """
    with maglica.connect(config_file=lab.config) as cloud:
        cloud.vm.clone(
            image=debian, hostname=NAME, on="host1", mode="linked", customize="none", disks=["64M"], start=False
        )
        try:
            grown = cloud.vm.set_disk(name=NAME, size="+1G")
            assert (grown["grown"], grown["what"], grown["size_bytes"]) == (True, "partition 1 and its ext4", 4 * GiB)
            cloud.vm.set_vcpus(name=NAME, vcpus=1, max=2)
            cloud.vm.set_max_memory(name=NAME, size="1G", slots=4)
            # The lab's guests have a small cache for translated code: no processor is plugged into them.
            plain = "sed -e '/<tcg>/,/<.tcg>/d'"
            lab.on(
                "host1",
                f"virsh dumpxml --inactive {NAME} | {plain} > /mnt/x.xml; virsh define /mnt/x.xml; rm /mnt/x.xml",
            )
            cloud.vm.start(name=NAME, wait="agent", wait_timeout="10m")
            yield NAME
        finally:
            cloud.vm.remove(name=NAME, force=True)


def inside(cloud: Cloud, script: str) -> str:
    """Run a shell script in the guest; its stdout."""
    try:
        return str(cloud.vm.exec(name=NAME, command=["sh", "-c", script], timeout="2m")["stdout"]).strip()
    except Failed as failed:
        raise AssertionError(f"{failed.message}: {failed.details}") from failed


def file_system(cloud: Cloud, point: str) -> int:
    blocks, size = inside(cloud, f"stat -f -c '%b %S' {point}").split()
    return int(blocks) * int(size)


def memory(cloud: Cloud) -> int:
    """What the guest's kernel has to give, in bytes."""
    return int(inside(cloud, "awk '/^MemTotal/ {print $2}' /proc/meminfo")) << 10


def test_a_disk_that_grew_while_it_was_off(cloud: Cloud, guest: str) -> None:
    assert inside(cloud, "cat /sys/block/vda/size") == str(4 * GiB // 512)
    assert file_system(cloud, "/") > 3.8 * GiB
    assert inside(cloud, "dmesg | grep -ci 'ext4-fs error' || true") == "0"


def test_a_processor_is_plugged_in(lab: Lab, cloud: Cloud, guest: str) -> None:
    assert inside(cloud, "nproc") == "1"
    result = cloud.vm.set_vcpus(name=NAME, vcpus="+1")
    assert result["vcpus"] == 2
    assert result["guest_vcpus"] == 2 or "does not use them" in result["note"], "a busy machine's guest is slow"
    until(lambda: inside(cloud, "nproc") == "2", 120, "the guest uses it")
    counts = lab.on("host1", f"virsh vcpucount {NAME} --live --active; virsh vcpucount {NAME} --config").split()
    assert counts == ["2", "2"]
    for vcpus, words in ((1, "runs with 2 vCPUs"), (9001, "host1 has"), ("-5", "cannot have -3")):
        with pytest.raises(Refused, match=words):
            cloud.vm.set_vcpus(name=NAME, vcpus=vcpus)
    assert cloud.vm.set_vcpus(name=NAME, vcpus=2)["changed"] is False


def test_memory_is_plugged_in_and_taken_back(lab: Lab, cloud: Cloud, guest: str) -> None:
    before = memory(cloud)
    result = cloud.vm.set_memory(name=NAME, size="+128M")
    assert (result["memory_bytes"], result["note"]) == (384 * MiB, None)
    more = memory(cloud)
    assert more - before > 100 * MiB
    assert "dimm" in lab.on("host1", f"virsh dumpxml --inactive {NAME}")
    for size, words in (("256M", "kills its processes"), ("1000G", "at most 1G"), ("385M", "multiple of 128M")):
        with pytest.raises(Refused, match=words):
            cloud.vm.set_memory(name=NAME, size=size)
    cloud.vm.set_memory(name=NAME, size="256M", shrink=True)
    until(lambda: memory(cloud) < more - 100 * MiB, 120, "the balloon has taken it")
    cloud.vm.set_memory(name=NAME, size="384M")
    until(lambda: memory(cloud) > more - 10 * MiB, 120, "the balloon has given it back")


def test_disks_grow_under_a_running_guest(lab: Lab, cloud: Cloud, guest: str) -> None:
    result = cloud.vm.set_disk(name=NAME, size="80M", target="vdb")
    assert "no file system of disk vdb is mounted" in result["note"]
    inside(cloud, "mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt")
    before = file_system(cloud, "/mnt")
    result = cloud.vm.set_disk(name=NAME, size="+64M", target="vdb")
    assert (result["grown"], result["what"], result["note"]) == (True, "ext4 on vdb at /mnt", None)
    assert result["file_system_bytes"] == file_system(cloud, "/mnt") > before + 50 * MiB
    assert cloud.vm.set_disk(name=NAME, size="144M", target="vdb")["changed"] is False
    for size, words in (("64M", "cannot shrink to 64M"), ("17T", "the limit is 16T"), ("15T", "to give")):
        with pytest.raises(Refused, match=words):
            cloud.vm.set_disk(name=NAME, size=size, target="vdb")


def test_a_partition_grows_under_a_running_guest(lab: Lab, cloud: Cloud, guest: str) -> None:
    """What the guest lacks for it is said, and the disk is larger all the same; then it has it."""
    before = file_system(cloud, "/")
    result = cloud.vm.set_disk(name=NAME, size="+64M")
    assert result["grown"] is False
    assert "neither growpart (cloud-guest-utils) nor sfdisk" in result["note"]
    assert inside(cloud, "cat /sys/block/vda/size") == str((4 * GiB + 64 * MiB) // 512)
    assert file_system(cloud, "/") == before
    for path in GIVEN:
        hand_in(cloud, path)
    result = cloud.vm.set_disk(name=NAME, size="+64M")
    assert (result["grown"], result["what"], result["note"]) == (True, "ext4 on vda1 at /", None)
    assert result["file_system_bytes"] == file_system(cloud, "/") > before + 100 * MiB


def hand_in(cloud: Cloud, path: str) -> None:
    """Give the guest a program of this machine, in pieces: it has no network to fetch it by."""
    data = gzip.compress(Path(path).read_bytes())
    for number in range(0, len(data), PIECE):
        cloud.vm.put(name=NAME, file=data[number : number + PIECE], to=f"/var/tmp/piece{number:09}")
    inside(cloud, f"cat /var/tmp/piece* | gunzip > {path} && chmod 755 {path} && rm /var/tmp/piece*")


def test_limits_and_pins_are_libvirts(lab: Lab, cloud: Cloud, guest: str) -> None:
    values = {"total_iops_sec": "5000", "total_bytes_sec": "500M"}
    cloud.vm.tune(name=NAME, kind="blkdeviotune", device="vdb", set=values)
    for where in ("--live", "--config"):
        told = lab.on("host1", f"virsh blkdeviotune {NAME} vdb {where}")
        figures = {
            name.strip(): value.strip() for name, _, value in (line.partition(":") for line in told.splitlines())
        }
        assert (figures["total_iops_sec"], figures["total_bytes_sec"]) == ("5000", "524288000")
    assert cloud.vm.pin(name=NAME, cpus="1", vcpus="0")["changed"] is True
    for where in ("--live", "--config"):
        assert lab.on("host1", f"virsh vcpupin {NAME} --vcpu 0 {where}").split()[-1] == "1"
    cloud.vm.pin(name=NAME, cpus="0", emulator=True, apply="config")
    assert lab.on("host1", f"virsh emulatorpin {NAME} --config").split()[-1] == "0"
    cloud.vm.pin(name=NAME, cpus="all")
    with pytest.raises(Refused, match="host1 has CPUs"):
        cloud.vm.pin(name=NAME, cpus="4000")


def test_a_new_start_for_what_cannot_be_done_otherwise(lab: Lab, cloud: Cloud, guest: str) -> None:
    result = cloud.vm.set_vcpus(name=NAME, vcpus=1, offline=True, timeout="2m", force=True)
    assert (result["state"], result["vcpus"], result["before"]) == ("running", 1, 2)
    assert (
        lab.on("host1", f"virsh vcpucount {NAME} --live --active; virsh vcpucount {NAME} --config").split() == ["1"] * 2
    )
    result = cloud.vm.set_memory(name=NAME, size="512M", offline=True, timeout="1s", force=True)
    assert result["state"] == "running"
    assert "dimm" not in lab.on("host1", f"virsh dumpxml {NAME}")


def test_a_host_worker_that_is_killed_leaves_the_old_disk(lab: Lab, cloud: Cloud) -> None:
    """In the middle of the work in the appliance: the overlay goes, the disk is as it was."""
    cloud.vm.clone(image="tiny.original", hostname="cut1", on="host1", mode="full", customize="none", start=False)
    try:
        job = cloud.vm.set_disk.submit(name="cut1", size="+64M")
        until(lambda: any("part" in name for name in lab.files("host1")), 30, "the overlay")
        time.sleep(1)
        lab.daemon("kill", "host1")
        lab.daemon("start", "host1")
        with pytest.raises(MaglicaError):
            job.wait(timeout=120)
        assert not any("part" in name for name in lab.files("host1"))
        assert cloud.vm.info(name="cut1")["disks"][0]["capacity_bytes"] == 256 * MiB
        result = cloud.vm.set_disk(name="cut1", size="320M")
        assert (result["grown"], result["size_bytes"]) == (True, 320 * MiB)
        assert "No errors" in lab.on("host1", f"qemu-img check {result['path']}")
    finally:
        cloud.vm.remove(name="cut1", force=True)
