"""Limits of a guest that runs, as the kernel has them. A host of the lab has no control groups: here it gets some."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

FOLDER = "/sys/fs/cgroup"
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio")


@pytest.fixture
def guest(lab: Lab, cloud: Cloud) -> Iterator[str]:
    """A guest of host1, whose libvirtd sees this machine's control groups (of version 1) for as long as it is there.

    They are not the host's own, so that its name has to be one that no other lab has.
    """
    if not os.path.isdir(f"{FOLDER}/memory"):
        pytest.skip("this machine has no control groups of version 1")
    name = f"tuned-{lab.name}-{os.getpid()}"
    before = {one for one in CONTROLLERS if os.path.isdir(f"{FOLDER}/{one}/machine")}
    each = f"mkdir {FOLDER}/$c && mount -t cgroup -o $c cgroup {FOLDER}/$c || exit 1"
    lab.on("host1", f"mount -t tmpfs -o mode=0755 cg {FOLDER} && for c in {' '.join(CONTROLLERS)}; do {each}; done")
    try:
        anew(lab, cloud)
        cloud.vm.clone(image="tiny.original", hostname=name, on="host1", mode="linked", customize="none", memory="192M")
        yield name
        cloud.vm.remove(name=name, force=True)
    finally:
        lab.on("host1", f"umount --recursive --lazy {FOLDER}")
        anew(lab, cloud)
        for one in set(CONTROLLERS) - before:
            os.rmdir(f"{FOLDER}/{one}/machine")


def anew(lab: Lab, cloud: Cloud) -> None:
    """libvirtd looks for control groups when it starts."""
    lab.daemon("restart", "libvirtd:host1")
    until(lambda: all(host["libvirt"] == "ok" for host in cloud.host.list()), 30, "libvirt answers")


def test_limits_of_what_runs_are_the_kernels(lab: Lab, cloud: Cloud, guest: str) -> None:
    def kernel(file: str) -> str:
        controller, _, rest = file.partition("/")
        return lab.on("host1", f"cat {FOLDER}/{controller}/machine/qemu-*-{guest}.libvirt-qemu/{rest}").strip()

    unlimited = kernel("memory/memory.limit_in_bytes")
    cloud.vm.tune(name=guest, kind="memtune", set={"hard_limit": "1G", "soft_limit": "512M"})
    assert kernel("memory/memory.limit_in_bytes") == str(1 << 30)
    assert kernel("memory/memory.soft_limit_in_bytes") == str(1 << 29)
    cloud.vm.tune(name=guest, kind="schedinfo", set={"cpu_shares": "512", "vcpu_quota": "50000"})
    assert (kernel("cpu/cpu.shares"), kernel("cpu/vcpu0/cpu.cfs_quota_us")) == ("512", "50000")
    told = cloud.vm.tune(name=guest, kind="schedinfo", set={"vcpu_quota": "-1"}, apply="live")
    assert (told["before"], kernel("cpu/vcpu0/cpu.cfs_quota_us")) == ({"vcpu_quota": "50000"}, "-1")
    rows = {row["parameter"]: (row["live"], row["config"]) for row in cloud.vm.tuning(name=guest, kind="schedinfo")}
    assert rows["cpu_shares"] == ("512", "512")
    assert rows["vcpu_quota"] == ("-1", "50000"), "the definition was left alone"
    cloud.vm.set_io_weight(name=guest, weight=250)
    assert "250" in kernel("blkio/blkio*.weight")
    cloud.vm.pin(name=guest, cpus="1", vcpus="0")
    assert kernel("cpuset/vcpu0/cpuset.cpus") == "1"
    cloud.vm.tune(name=guest, kind="memtune", set={"hard_limit": "unlimited"})
    assert kernel("memory/memory.limit_in_bytes") == unlimited
