"""Devices of a guest that runs: what is plugged in is there, what is plugged out is gone, in QEMU and in libvirt."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NAME = "dev1.example.jp"
POOL = "/var/lib/libvirt/images"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[str]:
    """A guest on host1 that has booted; it has a CD-ROM drive."""
    clone = ("--image=tiny.original", f"--hostname={NAME}", "--on=host1", "--customize=none", "--no-start")
    try:
        assert lab.cli("vm", "clone", *clone).returncode == 0
        for name, size in (("one.iso", "1M"), ("two.iso", "2M")):
            mark = f"printf CD001 | dd of={POOL}/{name} bs=1 seek=32769 conv=notrunc status=none"
            lab.on("host1", f"truncate -s {size} {POOL}/{name}; {mark}")
        assert lab.cli("vm", "attach-iso", NAME, "--iso=one.iso").returncode == 0
        assert lab.cli("vm", "start", NAME).returncode == 0
        lab.console("host1", NAME, "maglica-guest: hostname", 200)
        yield NAME
    finally:
        lab.cli("vm", "remove", NAME, "--force", "--yes")
        lab.on("host1", f"rm -f {POOL}/one.iso {POOL}/two.iso {POOL}/{NAME}*")


def targets(lab: Lab, *options: str) -> dict[str, str]:
    """target -> source, as virsh tells."""
    lines = lab.on("host1", f"virsh domblklist {' '.join(options)} {NAME}").splitlines()[2:]
    return {words[0]: words[1] for words in (line.split() for line in lines) if words}


def in_qemu(lab: Lab) -> str:
    return lab.on("host1", f"virsh qemu-monitor-command --hmp {NAME} info block")


def refusal(call: object, **args: object) -> MaglicaError:
    with pytest.raises(MaglicaError) as refused:
        call(**args)  # type: ignore[operator]
    return refused.value


def test_a_disk_comes_and_goes_while_the_guest_runs(lab: Lab, cloud: Cloud, guest: str) -> None:
    plan = cloud.vm.attach_disk.plan(name=guest, size="1G")
    assert "vdb" not in targets(lab)
    told = cloud.vm.attach_disk(name=guest, size="1G", serial="S1", cache="writeback")
    assert (told["target"], told["live"], told["config"]) == (plan["would"]["target"], True, True)
    assert targets(lab)[told["target"]] == targets(lab, "--inactive")[told["target"]] == told["path"]
    assert told["path"] in in_qemu(lab)
    info = cloud.disk.info(name=guest, target=told["target"])
    assert (info["capacity_bytes"], info["serial"], info["cache"]) == (1 << 30, "S1", "writeback")
    gone = cloud.vm.detach_disk(name=guest, target=told["target"], remove=True)
    assert gone["deleted"] == [told["path"]]
    assert told["target"] not in targets(lab) | targets(lab, "--inactive")
    assert told["path"] not in in_qemu(lab)
    assert told["path"].rpartition("/")[2] not in lab.files("host1")


def test_the_next_free_name_is_free_in_both_places(lab: Lab, cloud: Cloud, guest: str) -> None:
    first = cloud.vm.attach_disk(name=guest, size="64M", apply="config")
    second = cloud.vm.attach_disk(name=guest, size="64M", apply="live")
    assert (first["live"], second["config"]) == (False, False)
    assert first["target"] != second["target"]
    assert refusal(cloud.vm.detach_disk, name=guest, target="vdz").code == "unknown_entity"
    for told in (first, second):
        assert cloud.vm.detach_disk(name=guest, target=told["target"], remove=True)["changed"] is True
    assert set(targets(lab)) == set(targets(lab, "--inactive"))


def test_a_disk_from_elsewhere(lab: Lab, cloud: Cloud, guest: str) -> None:
    lab.on(
        "host1",
        f"""cd {POOL}; qemu-img create -q -f raw spare.img 64M; qemu-img create -q -f raw /mnt/outside.img 64M
        qemu-img create -q -f qcow2 -b /mnt/outside.img -F raw strange.qcow2; ln -s /mnt/outside.img link.img
        qemu-img create -q -f qcow2 -b spare.img -F raw over.qcow2""",
    )
    try:
        for source, words in (
            ("/etc/shadow", "in a storage pool"),
            ("link.img", "in a storage pool"),
            ("strange.qcow2", "lies in no pool"),
            ("spare.img", "rests on it"),
            (f"{POOL}/{guest}.qcow2", "vda"),
        ):
            told = lab.cli("vm", "attach-disk", guest, f"--source={source}", "--target=vdx")
            assert told.returncode != 0, source
            assert words in told.stderr, (source, told.stderr)
        lab.on("host1", f"rm {POOL}/over.qcow2")
        told = cloud.vm.attach_disk(name=guest, source="spare.img")
        assert told["format"] == "raw"
        assert cloud.vm.attach_disk(name=guest, source="spare.img")["changed"] is False
        assert cloud.vm.detach_disk(name=guest, target=told["target"])["deleted"] == []
        assert "spare.img" in lab.files("host1")
    finally:
        lab.on("host1", f"cd {POOL}; rm -f spare.img strange.qcow2 link.img over.qcow2 /mnt/outside.img")


def test_a_guest_that_does_not_let_go(lab: Lab, cloud: Cloud, guest: str) -> None:
    """It stands still: the disk stays, in both places, and the words say why."""
    told = cloud.vm.attach_disk(name=guest, size="64M")
    lab.on("host1", f"virsh suspend {guest}")
    try:
        error = refusal(cloud.vm.detach_disk, name=guest, target=told["target"], timeout=2, remove=True)
    finally:
        lab.on("host1", f"virsh resume {guest}")
    assert "has not let go of disk" in error.message
    assert targets(lab, "--inactive")[told["target"]] == told["path"]
    assert told["path"].rpartition("/")[2] in lab.files("host1")
    until(lambda: cloud.vm.detach_disk(name=guest, target=told["target"], remove=True)["deleted"], 30, "gone")


def test_the_host_worker_is_killed_while_the_guest_lets_go(lab: Lab, cloud: Cloud, guest: str) -> None:
    """The old state: the disk is there, in both places."""
    told = cloud.vm.attach_disk(name=guest, size="64M")
    lab.on("host1", f"virsh suspend {guest}")
    job = cloud.vm.detach_disk.submit(name=guest, target=told["target"], remove=True)
    until(lambda: str(job.progress()["step"]).startswith("unplug"), 20, "step unplug")
    time.sleep(1.0)
    lab.daemon("kill", "host1")
    lab.on("host1", f"virsh resume {guest}")  # and now it lets go, unseen
    until(lambda: told["target"] not in targets(lab), 20, "gone from what runs")
    lab.daemon("start", "host1")
    with pytest.raises(MaglicaError) as lost:
        job.wait(60)
    assert lost.value.code == "lost"
    assert targets(lab)[told["target"]] == targets(lab, "--inactive")[told["target"]] == told["path"]
    cloud.vm.detach_disk(name=guest, target=told["target"], remove=True)


def test_media(lab: Lab, cloud: Cloud, guest: str) -> None:
    (drive,) = (item["target"] for item in cloud.disk.list(name=guest) if item["device"] == "cdrom")
    told = cloud.vm.attach_iso(name=guest, iso="two.iso", force=True)
    assert (told["target"], told["live"], told["config"]) == (drive, True, True)
    assert targets(lab)[drive] == targets(lab, "--inactive")[drive] == f"{POOL}/two.iso"
    assert cloud.vm.attach_iso(name=guest, iso="two.iso")["changed"] is False
    assert refusal(cloud.vm.attach_iso, name=guest, iso=f"{POOL}/{guest}.qcow2").code == "wrong_input"
    assert cloud.vm.eject(name=guest, force=True)["changed"] is True
    assert targets(lab)[drive] == targets(lab, "--inactive")[drive] == "-"
    assert cloud.vm.eject(name=guest)["changed"] is False


def test_a_medium_is_changed_by_its_description(lab: Lab, cloud: Cloud, guest: str) -> None:
    cloud.vm.attach_iso(name=guest, iso="one.iso", force=True)
    piece = lab.on("host1", f"virsh dumpxml --inactive {guest} | sed -n \"/device='cdrom'/,/<.disk>/p\"")
    told = cloud.vm.update_device(name=guest, file=piece.replace("one.iso", "two.iso"), force=True)
    assert (told["live"], told["config"], told["changed"]) == (True, True, True)
    assert "two.iso" in in_qemu(lab)
    assert "one.iso" not in in_qemu(lab)
    (drive,) = (item["target"] for item in cloud.disk.list(name=guest) if item["device"] == "cdrom")
    assert targets(lab, "--inactive")[drive] == f"{POOL}/two.iso"
    assert refusal(cloud.vm.update_device, name=guest, file=piece.replace("hda", "hdd")).code == "unknown_entity"


OPTIONS = f"""# a script of old
-name old1 -machine pc -m 192 -smp 1
-drive file={POOL}/old1.qcow2,if=virtio,format=qcow2
-netdev tap,id=n0,script=/etc/qemu-ifup
-device virtio-net-pci,netdev=n0,mac=52:54:00:0a:0b:0c
-serial mon:stdio -nographic
"""


def test_a_guest_that_qemus_options_describe_boots(lab: Lab, cloud: Cloud) -> None:
    lab.on("host1", f"qemu-img create -q -f qcow2 -F qcow2 -b {POOL}/tiny.original.qcow2 {POOL}/old1.qcow2")
    told = cloud.vm.import_(name="old1", qemu_args=OPTIONS, on="host1", network="default")
    try:
        assert (told["changed"], told["missing"]) == (True, [])
        started = cloud.vm.start(name="old1", wait="console:maglica-guest: hostname=", wait_timeout="4m")
        assert started["state"] == "running"
        assert [nic["mac"] for nic in cloud.nic.list(name="old1")] == ["52:54:00:0a:0b:0c"]
    finally:
        cloud.vm.remove(name="old1", force=True)


def test_boot_order(lab: Lab, cloud: Cloud, guest: str) -> None:
    told = cloud.vm.set_boot_device(name=guest, dev=["network", "hd"])
    assert (told["changed"], told["restart_needed"]) == (True, True)
    assert lab.on("host1", f"virsh dumpxml --inactive {guest} | grep -c '<boot '").strip() == "2"
    assert cloud.vm.set_boot_device(name=guest, dev=told["before"])["before"] == ["network", "hd"]


def test_a_network_card_comes_and_goes_while_the_guest_runs(lab: Lab, cloud: Cloud, guest: str) -> None:
    mac = cloud.nic.attach(name=guest, network="default")["mac"]
    listed = {item["mac"]: item for item in cloud.nic.list(name=guest)}
    assert (listed[mac]["live"], listed[mac]["config"], listed[mac]["link"]) == (True, True, "up")
    assert refusal(cloud.nic.attach, name=guest, network="default", mac=mac).code == "already_exists"
    assert refusal(cloud.nic.attach, name=guest, bridge="nosuch").code == "unknown_entity"
    assert cloud.nic.link(name=guest, mac=mac, state="down")["live"] is True
    assert "down" in lab.on("host1", f"virsh domif-getlink {guest} {mac}")
    assert "down" in lab.on("host1", f"virsh domif-getlink --config {guest} {mac}")
    assert cloud.nic.link(name=guest, mac=mac, state="down")["changed"] is False
    assert cloud.nic.detach(name=guest, mac=mac)["changed"] is True
    assert mac not in lab.on("host1", f"virsh dumpxml {guest}; virsh dumpxml --inactive {guest}")


def test_any_device(lab: Lab, cloud: Cloud, guest: str) -> None:
    rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    before = [
        lab.on("host1", f"virsh dumpxml {more} {guest} | grep -c '<rng'", check=False) for more in ("", "--inactive")
    ]
    assert cloud.vm.attach_device(name=guest, file=rng)["live"] is True
    now = [
        lab.on("host1", f"virsh dumpxml {more} {guest} | grep -c '<rng'", check=False) for more in ("", "--inactive")
    ]
    assert [int(count) for count in now] == [int(count) + 1 for count in before]
    assert cloud.vm.detach_device(name=guest, file=rng)["changed"] is True
    after = [
        lab.on("host1", f"virsh dumpxml {more} {guest} | grep -c '<rng'", check=False) for more in ("", "--inactive")
    ]
    assert after == before
    assert refusal(cloud.vm.attach_device, name=guest, file="<emulator>/bin/sh</emulator>").code == "wrong_input"
