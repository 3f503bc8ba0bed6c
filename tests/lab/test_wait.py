"""`--wait=…` with real guests: what is waited for, what is told when it does not come, and what stays."""

from __future__ import annotations

import time

import pytest

from maglica.cloud import JobHandle
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

IMAGE = "tiny.original"


def waits(job: JobHandle) -> bool:
    """Whether a job is in the step in which it waits for its guest."""
    job.look(0.1)
    return str(job.record["step"]).startswith("wait")


# The firmware finds nothing to boot and starts anew, for ever.
LOOP = """<domain type="qemu"><name>loop1</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type><boot dev="hd"/><bios rebootTimeout="300"/></os>
<features><acpi/></features><on_reboot>restart</on_reboot><devices>
<disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="/var/lib/libvirt/images/loop1.img"/>
<target dev="vda" bus="virtio"/></disk><serial type="pty"/><memballoon model="none"/></devices></domain>"""


def test_a_clone_is_done_when_its_guest_is_that_far(lab: Lab, cloud: Cloud, clean: object) -> None:
    """By its console and by its address; a guest without an ssh server stays, and the error says how far it is."""
    result = cloud.vm.clone(
        image=IMAGE, hostname="w1", on="host1", mode="linked", customize="none",
        wait="console:maglica-guest: hostname=", wait_timeout="90s",
    )  # fmt: skip
    assert "its console has shown 'maglica-guest: hostname='" in result["seen"]
    assert "maglica-guest: hostname=" in lab.console("host1", "w1", "maglica-guest:", 5)

    found = cloud.vm.start(name="w1", wait="ip", wait_timeout="60s")
    assert (found["changed"], found["ips"]) == (False, cloud.vm.info(name="w1")["ips"])
    assert "port 22 refuses" in found["seen"]
    assert cloud.vm.start(name="w1", wait="running", wait_timeout="30s")["waited_for"] == "running"

    job = cloud.vm.start.submit(name="w1", wait="ssh", wait_timeout="3s")
    with pytest.raises(MaglicaError) as late:
        job.wait()
    assert late.value.code == "timeout"
    assert f"has address {found['ips'][0]}: port 22 refuses" in late.value.message
    assert any("maglica-guest: hostname=" in line for line in late.value.details["console"])
    told = lab.cli("job", "log", job.id).stdout
    assert "console of w1, the last lines:" in told
    assert "  | maglica-guest: hostname=" in told
    assert cloud.vm.info(name="w1")["state"] == "running"
    cloud.vm.remove(name="w1", force=True)


@pytest.mark.parametrize(("on_timeout", "stays"), [("keep", True), ("remove", False)])
def test_a_clone_that_is_too_slow(lab: Lab, cloud: Cloud, clean: object, on_timeout: str, stays: bool) -> None:
    with pytest.raises(MaglicaError) as late:
        cloud.vm.clone(
            image=IMAGE, hostname="w2", on="host1", mode="linked", customize="none",
            wait="console:never said", wait_timeout="1s", on_timeout=on_timeout,
        )  # fmt: skip
    assert late.value.code == "timeout"
    assert ("the VM stays on host1" in late.value.hint) is stays
    assert ("w2" in lab.domains("host1"), "w2.qcow2" in lab.files("host1")) == (stays, stays)
    if stays:
        cloud.vm.remove(name="w2", force=True)


def test_waiting_takes_no_slot_and_can_be_cancelled(lab: Lab, cloud: Cloud, clean: object) -> None:
    """Three clones wait on a host that copies two at a time, and a fourth is made meanwhile. All of them stay."""
    same = {"image": IMAGE, "on": "host2", "mode": "linked", "customize": "none"}
    jobs = [
        cloud.vm.clone.submit(hostname=f"w{number}", wait="console:never said", wait_timeout="4m", **same)
        for number in (1, 2, 3)
    ]
    until(lambda: all(waits(job) for job in jobs), 60, "three that wait")
    cloud.vm.clone(hostname="w4", start=False, **same)
    for job in jobs:
        cloud.job.cancel(id=job.id)
    began = time.monotonic()
    for job in jobs:
        with pytest.raises(MaglicaError) as cancelled:
            job.wait()
        assert cancelled.value.code == "cancelled"
        assert "stays on host2" in cancelled.value.hint
    assert time.monotonic() - began < 10
    assert {"w1", "w2", "w3", "w4"} <= lab.domains("host2")
    for name in ("w1", "w2", "w3", "w4"):
        cloud.vm.remove(name=name, force=True)


def test_a_host_worker_that_is_killed_while_it_waits_keeps_the_vm(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = cloud.vm.clone.submit(
        image=IMAGE, hostname="w5", on="host1", mode="linked", customize="none", wait="console:never said",
        wait_timeout="4m",
    )  # fmt: skip
    until(lambda: waits(job), 60, "that it waits")
    lab.daemon("kill", "host1")
    lab.daemon("start", "host1")
    with pytest.raises(MaglicaError) as lost:
        job.wait(timeout=60)
    assert lost.value.code == "lost"
    assert "Now w5 is running" in lost.value.message
    cloud.vm.remove(name="w5", force=True)


def test_a_guest_that_reboots_for_ever_does_not_run(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab.on(
        "host1",
        f"truncate -s 1M /var/lib/libvirt/images/loop1.img; cat >/run/l.xml <<'X'\n{LOOP}\nX\nvirsh define /run/l.xml",
    )
    with pytest.raises(MaglicaError) as late:
        cloud.vm.start(name="loop1", wait="running", wait_timeout="8s")
    assert late.value.code == "timeout"
    assert "rebooted" in late.value.message
    for condition, missing in (("agent", "no channel"), ("ip", "no network card"), ("console:x", "not kept in a file")):
        with pytest.raises(MaglicaError, match=missing):
            cloud.vm.start(name="loop1", wait=condition)
    lab.on("host1", "virsh destroy loop1; virsh undefine loop1; rm /var/lib/libvirt/images/loop1.img")


def test_a_guest_that_goes_off_is_not_waited_for(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = cloud.vm.clone.submit(
        image=IMAGE, hostname="w6", on="host1", mode="linked", customize="none", wait="console:never said",
        wait_timeout="4m",
    )  # fmt: skip
    until(lambda: waits(job), 60, "that it waits")
    lab.on("host1", "virsh destroy w6")
    with pytest.raises(MaglicaError) as off:
        job.wait(timeout=30)
    assert (off.value.code, off.value.message[:34]) == ("environment_error", "w6 was started and is shut-off: it")
    cloud.vm.remove(name="w6")


def test_a_static_address_is_known_without_a_lease(lab: Lab, cloud: Cloud, clean: object) -> None:
    """Nobody answers there as long as the VM is off; its definition says what it was given."""
    cloud.vm.clone(
        image=IMAGE, hostname="w7", on="host1", mode="linked", ip="192.168.101.77/24", start=False,
    )  # fmt: skip
    assert cloud.vm.info(name="w7")["ips"] == ["192.168.101.77"]
    assert [vm["ips"] for vm in cloud.vm.list() if vm["name"] == "w7"] == [["192.168.101.77"]]
    found = cloud.vm.start(name="w7", wait="ip", wait_timeout="60s")
    assert found["ips"] == ["192.168.101.77"]
    cloud.vm.remove(name="w7", force=True)
