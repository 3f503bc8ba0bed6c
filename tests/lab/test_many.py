"""Many at once on real hypervisors: disks that fill up, a host worker that is killed, swap that a guest finds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

POOL = "/var/lib/libvirt/images"


@pytest.fixture
def small(lab: Lab, clean: object) -> Iterator[str]:
    """A pool on host1 that takes about 35 copies of an image whose disk takes next to nothing, compressed as it lies,
    beside the 256 MiB that every pool keeps free.
    """
    lab.on(
        "host1",
        f"""set -e
        mkdir -p /mnt/many && mount -t tmpfs -o size=332m tmpfs /mnt/many
        head -c 2000000 /dev/zero | tr '\\0' 'x' > /mnt/many.raw
        qemu-img convert -c -f raw -O qcow2 /mnt/many.raw {POOL}/many.qcow2 && rm /mnt/many.raw
        virsh dumpxml tiny.original | sed -e 's/tiny.original.qcow2/many.qcow2/' -e 's/tiny.original/many.original/' \\
            -e '/<uuid>/d' -e '/<mac /d' > /mnt/many.xml && virsh define /mnt/many.xml
        virsh pool-create-as many dir --target /mnt/many""",
    )
    yield "many"
    lab.on(
        "host1",
        f"virsh pool-destroy many; virsh undefine many.original; umount /mnt/many;"
        f" rm -f {POOL}/many.qcow2 /mnt/many.xml",
        check=False,
    )


def test_the_pool_is_full_at_the_37th_clone(lab: Lab, cloud: Cloud, small: str) -> None:
    words = ("vm", "clone", "--image=many.original", "--count=40", "--mode=full", "--customize=none", "--no-start",
             "--on=host1", f"--pool={small}", "--max-parallel=2", "--memory=64M")  # fmt: skip
    none = lab.cli(*words, "--hostname=a-{n}", "--all-or-nothing", timeout=120)
    assert none.returncode == 6, none.stderr
    assert "undone" in none.stdout
    assert "removed again because of" in none.stderr
    assert lab.on("host1", "ls /mnt/many") == ""
    assert cloud.vm.list() == []

    some = lab.cli(*words, "--hostname=b-{n}", "--min=30", "-o", "name", timeout=120)
    assert some.returncode == 0, some.stderr
    made = some.stdout.split()
    assert 30 <= len(made) < 40
    assert sorted(vm["name"] for vm in cloud.vm.list()) == sorted(made)
    assert len(lab.on("host1", "ls /mnt/many").split()) == len(made), "no part of what failed is left"
    assert "b-" in some.stderr, "those that have failed are told"

    lab.on("host1", "mount -o remount,size=600m /mnt/many")
    group = cloud.job.list(last=1)[0]["group"]
    again = lab.cli("job", "retry", group, "--failed", timeout=120)
    assert again.returncode == 0, again.stderr
    assert len(cloud.vm.list()) == 40
    gone = lab.cli("vm", "remove", "b-{1..40}", "--yes")
    assert gone.returncode == 0, gone.stderr


def test_a_host_worker_is_killed_in_the_middle_of_a_group(lab: Lab, cloud: Cloud, clean: object) -> None:
    """What it was at is taken back or done, and told so; what is told as done is there, and nothing else."""
    group = cloud.vm.clone.submit_many(
        image="tiny.original", hostname="ci-{n}", count=16, mode="full", customize="none", start=False, max_parallel=4
    )
    until(lambda: cloud.job.show(id=group.id)["states"].get("done", 0) >= 2, 60, "some are done")
    lab.daemon("kill", "host1")
    lab.daemon("start", "host1")
    until(lambda: not cloud.job.show(id=group.id)["open"], 90, "it ends")
    members = cloud.job.show(id=group.id)["members"]
    done = {(member["name"], member["host"]) for member in members if member["state"] == "done"}
    assert {(vm["name"], vm["host"]) for vm in cloud.vm.list()} == done
    assert {member["state"] for member in members} <= {"done", "failed"}
    for host in ("host1", "host2"):
        assert {name for name in lab.files(host) if name.startswith("ci-")} == {
            f"{name}.qcow2" for name, at in done if at == host
        }
    for name, _ in done:
        cloud.vm.remove(name=name)


def test_a_fleet_gets_swap_and_further_disks(lab: Lab, cloud: Cloud, clean: object) -> None:
    """That the guest's fstab names the swap is planned in tests/host_worker/test_extras.py."""
    with pytest.raises(MaglicaError) as refused:
        cloud.fleet.create(name="host1", image="tiny.original")
    assert refused.value.code == "protected"
    cloud.fleet.create(name="web", image="tiny.original", count=2, swap="64M", disks="1G", customize="none")
    for vm in cloud.vm.list():
        label = lab.on(vm["host"], f"blkid -p -s LABEL -s TYPE -o value {POOL}/{vm['name']}-swap.img").split()
        assert sorted(label) == ["maglica-swap", "swap"]
        disks = cloud.vm.info(name=vm["name"])["disks"]
        told = [(disk["target"], disk["format"], disk["capacity_bytes"]) for disk in disks]
        assert told[1:] == [("vdb", "qcow2", 1 << 30), ("vdc", "raw", 64 << 20)]
    cloud.fleet.start(name="web", count=1)
    assert [(row["vms"], row["running"], row["numbers"]) for row in cloud.fleet.list()] == [(2, 1, "1-2")]
    cloud.fleet.remove(name="web", all=True)
