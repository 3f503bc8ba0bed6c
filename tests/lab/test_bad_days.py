"""What dies in the middle of a clone, and what is left of it afterwards: nothing. Every cause is a real one."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from maglica.cloud import JobHandle
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import HOME, NAME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

WORKER = HOME / "bin" / "maglica_host_worker"
POOL = "/var/lib/libvirt/images"


def begin(cloud: Cloud, step: str, **values: object) -> JobHandle:
    """A clone on host1 that has come to a step."""
    job = cloud.vm.clone.submit(image="tiny.original", hostname="vm1.example.jp", on="host1", **values)  # type: ignore[arg-type]
    until(lambda: str(job.progress()["step"]).startswith(step) or job.ended, 60, f"step {step}")
    assert not job.ended, job.record
    return job


def failure(job: JobHandle, timeout: float = 60.0) -> MaglicaError:
    with pytest.raises(MaglicaError) as failed:
        job.wait(timeout)
    return failed.value


def test_cancelled_while_the_disk_is_copied(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab.on(
        "host1",
        f"""set -e
        head -c 1200000000 /dev/urandom > /mnt/big.raw
        qemu-img convert -f raw -O qcow2 /mnt/big.raw {POOL}/big.qcow2 && rm /mnt/big.raw
        virsh dumpxml tiny.original | sed -e 's/tiny.original.qcow2/big.qcow2/' -e 's/tiny.original/big.original/' \\
            -e '/<uuid>/d' -e '/<mac /d' > /mnt/big.xml && virsh define /mnt/big.xml""",
    )
    try:
        # The copy is held in its middle, however fast the disk is.
        hold = "until p=$(pgrep -f '[q]emu-img convert'); do :; done; sleep 0.1; kill -STOP $p"
        holding = subprocess.Popen([HOME / "lab" / "enter", f"--name={NAME}", "host1", "sh", "-c", hold])
        job = cloud.vm.clone.submit(
            image="big.original", hostname="vm1.example.jp", on="host1", mode="full", customize="none"
        )
        assert holding.wait(30) == 0
        seen = until(lambda: (told := job.progress())["total_bytes"] and told, 30, "bytes")
        assert seen["step"] == "copy"
        assert 0 <= seen["done_bytes"] <= seen["total_bytes"]
        job.cancel()
        assert failure(job).code == "cancelled"
    finally:
        lab.on("host1", f"virsh undefine big.original; rm -f {POOL}/big.qcow2 /mnt/big.xml /mnt/big.raw", check=False)


def test_cancelled_while_the_guest_is_customised(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = begin(cloud, "customize")
    asked = time.monotonic()
    job.cancel()
    assert failure(job).code == "cancelled"
    assert time.monotonic() - asked < 5.0
    assert job.record["state"] == "cancelled"


def test_the_appliance_is_killed(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = begin(cloud, "customize")
    appliance = "[q]emu-system.*guestfs"  # the brackets keep pgrep from finding the shell that runs it
    until(lambda: lab.on("host1", f"pgrep -f '{appliance}'", check=False), 30, "an appliance")
    time.sleep(1.0)
    lab.on("host1", f"kill -9 $(pgrep -f '{appliance}')")
    assert failure(job).code == "environment_error"


def test_the_child_is_killed(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = begin(cloud, "customize")
    lab.on("host1", "kill -9 $(pgrep -f '[g]uest.child')")
    assert failure(job).code == "environment_error"


def test_the_host_worker_is_killed(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = begin(cloud, "customize: launch")
    lab.daemon("kill", "host1")
    time.sleep(0.5)
    lab.daemon("start", "host1")
    error = failure(job)
    assert error.code == "lost"
    assert "in the middle of step customize" in error.message


def test_the_host_worker_is_restarted(lab: Lab, cloud: Cloud, clean: object) -> None:
    """A plain restart lets the running job end."""
    job = begin(cloud, "customize")
    lab.daemon("restart", "host1")
    assert job.wait(120)["name"] == "vm1.example.jp"
    cloud.vm.remove(name="vm1.example.jp", force=True)


def test_the_client_worker_is_killed(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = begin(cloud, "customize")
    lab.daemon("kill", "client")
    time.sleep(1.0)
    lab.daemon("start", "client")
    assert job.wait(120)["state"] == "running"
    again = cloud.vm.clone.submit(
        image="tiny.original", hostname="vm1.example.jp", on="host1", idempotency_key=job.record["key"]
    )
    assert again.id == job.id
    cloud.vm.remove(name="vm1.example.jp", force=True)


def test_a_job_waits_for_its_host_worker(lab: Lab, cloud: Cloud, clean: object) -> None:
    """Submitted while the host worker is away for a moment: it begins when the host is back."""
    lab.daemon("stop", "host1")
    job = cloud.vm.clone.submit(
        image="tiny.original", hostname="vm1.example.jp", customize="none", start=False, ignore_missing=True
    )
    lab.daemon("start", "host1")
    assert job.wait(60)["name"] == "vm1.example.jp"
    cloud.vm.remove(name="vm1.example.jp")


def test_the_copy_finds_no_room(lab: Lab, cloud: Cloud, clean: object) -> None:
    """A compressed image takes more as a copy than as an image; the pool is full before it is done."""
    lab.on(
        "host1",
        f"""set -e
        mkdir -p /mnt/small && mount -t tmpfs -o size=40m tmpfs /mnt/small
        head -c 100000000 /dev/zero | tr '\\0' 'x' > /mnt/big.raw
        qemu-img convert -c -f raw -O qcow2 /mnt/big.raw {POOL}/big.qcow2 && rm /mnt/big.raw
        virsh dumpxml tiny.original | sed -e 's/tiny.original.qcow2/big.qcow2/' -e 's/tiny.original/big.original/' \\
            -e '/<uuid>/d' -e '/<mac /d' > /mnt/big.xml && virsh define /mnt/big.xml
        virsh pool-create-as small dir --target /mnt/small
        virsh pool-destroy default""",
    )
    lab.on("host1", "true")
    try:
        with pytest.raises(MaglicaError) as full:
            cloud.vm.clone(image="big.original", hostname="vm1.example.jp", mode="full", customize="none", on="host1")
        assert full.value.code == "no_capacity"
        assert lab.on("host1", "ls /mnt/small") == ""
        assert "vm1.example.jp" not in lab.domains("host1")
    finally:
        lab.on(
            "host1",
            f"virsh pool-destroy small; virsh pool-start default; virsh undefine big.original; umount /mnt/small;"
            f" rm -f {POOL}/big.qcow2 /mnt/big.xml /mnt/big.raw",
            check=False,
        )


def test_a_tool_is_missing(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab.on("host1", "mount --bind /dev/null /usr/bin/qemu-img")
    try:
        with pytest.raises(MaglicaError) as missing:
            cloud.vm.clone(image="tiny.original", hostname="vm1.example.jp", on="host1", customize="none")
    finally:
        lab.on("host1", "umount /usr/bin/qemu-img")
    assert missing.value.code == "environment_error"
    assert "qemu-img" in missing.value.message
    assert "qemu-utils" in missing.value.hint


def test_libvirtd_goes_away_before_the_definition(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = begin(cloud, "customize")
    lab.daemon("stop", "libvirtd:host1")
    try:
        until(lambda: str(job.progress()["step"]).startswith("taking back: "), 90, "it says what it waits for")
        assert not job.ended, "the VM is its own until all of it is gone"
        listed = cloud.vm.list()
        assert [missing["host"] for missing in listed.missing_hosts] == ["host1"]
        assert "libvirt: unreachable" in listed.missing_hosts[0]["why"]
    finally:
        lab.daemon("start", "libvirtd:host1")
    assert failure(job, 60).code == "host_down"
    until(lambda: not cloud.vm.list().missing_hosts, 30, "libvirt reached again")


def test_the_start_fails(lab: Lab, cloud: Cloud, clean: object) -> None:
    """The network that the VM wants is not active: everything that was made goes away again."""
    lab.on("host1", "virsh net-destroy default")
    try:
        with pytest.raises(MaglicaError) as failed:
            cloud.vm.clone(image="tiny.original", hostname="vm1.example.jp", on="host1", customize="none")
    finally:
        lab.on("host1", "virsh net-start default")
    assert "network 'default' is not active" in failed.value.message
    assert failed.value.job is not None
    steps = cloud.job.show(id=failed.value.job)["steps"]
    assert [step["name"] for step in steps] == ["place", "copy", "define", "start"]


def test_a_file_of_that_name_appears_meanwhile(lab: Lab, cloud: Cloud, clean: object) -> None:
    """It is somebody else's: it stays, and the clone goes."""
    job = begin(cloud, "customize")
    lab.on("host1", f"echo precious > {POOL}/vm1.example.jp.qcow2")
    assert failure(job).code == "already_exists"
    assert lab.on("host1", f"cat {POOL}/vm1.example.jp.qcow2") == "precious\n"
    lab.on("host1", f"rm {POOL}/vm1.example.jp.qcow2")


def test_a_host_that_does_not_answer_is_a_maybe(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab.daemon("stop", "host2")
    try:
        until(lambda: any(host["state"] == "down" for host in cloud.host.list()), 20, "host2 down")
        listed = lab.cli("vm", "list")
        assert listed.returncode == 10  # a partial view is not passed off as a whole one
        assert "host2" in listed.stderr
        refused = lab.cli("vm", "clone", "--image=tiny.original", "--hostname=vm1.example.jp")
        assert refused.returncode == 1
        assert "vm1.example.jp may exist on a host that does not answer: host2" in refused.stderr
        assert cloud.vm.list() == []
    finally:
        lab.daemon("start", "host2")


def test_a_second_worker_of_one_name_is_refused_aloud(lab: Lab, cloud: Cloud, clean: object) -> None:
    settings = (
        f"[client]\\naddress = {cloud.settings.client.address}\\n[host_worker]\\nname = host1\\nacceleration = tcg\\n"
        f"[paths]\\nstate = /mnt/second\\nkeys = {Path(lab.config).parent}/host1/worker/keys\\n"
    )
    script = (
        f"printf '{settings}' > /mnt/second.conf; timeout 40 {WORKER} --config /mnt/second.conf 2>&1; echo status $?"
    )
    told = lab.on("host2", script)
    assert "another host worker called host1 is alive" in told
    assert "status 5" in told
    lab.on("host2", "rm -rf /mnt/second /mnt/second.conf")
