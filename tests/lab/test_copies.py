"""How a clone's disks are made, what they rest on, and what becomes of both: real images, a real libvirt."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import HOME, NAME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

POOL = "/var/lib/libvirt/images"
BASE = f"{POOL}/tiny.original.qcow2"
SHARED = "/mnt/shared"  # a pool on a file system that shares blocks


def mode(lab: Lab, path: str) -> str:
    return lab.on("host1", f"stat -c %a {path}").strip()


def behind(lab: Lab, path: str) -> list[str]:
    told = json.loads(lab.on("host1", f"qemu-img info --force-share --backing-chain --output=json {path}"))
    return [link["filename"] for link in told[1:]]


def linked(cloud: Cloud, name: str, **more: object) -> dict[str, object]:
    usual = {"image": "tiny.original", "on": "host1", "mode": "linked", "customize": "none", "start": False}
    return dict(cloud.vm.clone(**{**usual, "hostname": name, **more}))  # type: ignore[arg-type]


def refusal(job: object, *words: str) -> MaglicaError:
    with pytest.raises(MaglicaError) as refused:
        job()  # type: ignore[operator]
    for word in words:
        assert word in refused.value.message
    return refused.value


# ------------------------------------------------------------------------------------ what is rested upon is kept


def test_what_a_clone_rests_on_is_kept_until_nothing_does(lab: Lab, cloud: Cloud, clean: object) -> None:
    before = mode(lab, BASE)
    result = linked(cloud, "leaf1", mode="auto")
    assert (result["mode"], result["pool"]) == ("linked", "default")
    assert str(result["why"]).startswith("not reflink: ")
    assert int(str(result["saved_bytes"])) > 5 << 20
    linked(cloud, "leaf2")
    assert mode(lab, BASE) == "444"
    assert [item["name"] for item in cloud.image.dependents(name="tiny.original")] == ["leaf1", "leaf2"]
    error = refusal(lambda: cloud.image.remove(name="tiny.original@host1"), "leaf1, leaf2 depend on it")
    assert (error.code, error.details["dependents"]) == ("protected", ["leaf1", "leaf2"])
    assert refusal(lambda: cloud.vm.start(name="tiny.original@host1"), "uses its disk").code == "protected"
    cloud.vm.remove(name="leaf1")
    assert mode(lab, BASE) == "444"
    cloud.vm.remove(name="leaf2")
    assert mode(lab, BASE) == before
    assert cloud.image.dependents(name="tiny.original") == []


def test_an_overlay_that_no_vm_has_counts_too(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab.on("host1", f"qemu-img create -q -f qcow2 -b {BASE} -F qcow2 {POOL}/mine.qcow2")
    try:
        assert [item["name"] for item in cloud.image.dependents(name="tiny.original")] == [f"{POOL}/mine.qcow2"]
        refusal(lambda: cloud.image.remove(name="tiny.original@host1"), f"{POOL}/mine.qcow2 depends on it")
    finally:
        lab.on("host1", f"rm {POOL}/mine.qcow2")


@pytest.fixture
def base(lab: Lab) -> Iterator[str]:
    """An image of its own, whose disk may be harmed."""
    lab.on(
        "host1",
        f"""set -e
        cp {BASE} {POOL}/own.original.qcow2; chmod 640 {POOL}/own.original.qcow2
        virsh dumpxml tiny.original | sed -e 's/tiny.original/own.original/g' -e '/<uuid>/d' -e '/<mac /d' \\
            > /mnt/own.xml
        virsh define /mnt/own.xml; rm /mnt/own.xml""",
    )
    yield f"{POOL}/own.original.qcow2"
    lab.on("host1", f"virsh undefine own.original; rm -f {POOL}/own.original.qcow2*", check=False)


def test_a_clone_whose_base_has_changed_is_not_started(lab: Lab, cloud: Cloud, clean: object, base: str) -> None:
    linked(cloud, "leaf1", image="own.original")
    assert mode(lab, base) == "440"
    assert cloud.vm.info(name="leaf1")["trouble"] == []
    assert cloud.vm.info(name="leaf1")["disks"][0]["rests_on"] == [base]

    lab.on("host1", f"cp -a {base} /mnt/saved; printf x | dd of={base} bs=1 seek=70000 conv=notrunc status=none")
    error = refusal(lambda: cloud.vm.start(name="leaf1"), f"it rests on {base}, which was written since")
    assert (error.code, "--ignore-changed-base" in error.hint) == ("wrong_state", True)
    refusal(lambda: cloud.vm.flatten(name="leaf1"), "which was written since")
    assert f"{base}, which was written since" in cloud.vm.info(name="leaf1")["trouble"][0]

    job = cloud.vm.start.submit(name="leaf1", ignore_changed_base=True)
    job.wait()
    assert f"job={job.id} vm=leaf1 starts although it rests on {base}" in lab("log", "host1")
    cloud.vm.destroy(name="leaf1")

    lab.on("host1", f"mv /mnt/saved {base}")  # as it came back from a backup: another inode, the same file
    cloud.vm.start(name="leaf1")
    cloud.vm.destroy(name="leaf1")

    lab.on("host1", f"mv {base} {base}.away")
    error = refusal(lambda: cloud.vm.start(name="leaf1"), f"rests on {base}, which is gone")
    assert error.code == "unknown_entity"
    assert "is gone" in cloud.vm.info(name="leaf1")["trouble"][0]
    refusal(lambda: linked(cloud, "leaf2", image="own.original"), f"disk vda of own.original is missing: {base}")
    lab.on("host1", f"mv {base}.away {base}")
    cloud.vm.remove(name="leaf1")
    assert mode(lab, base) == "640"
    assert cloud.image.remove(name="own.original")["deleted"] == [base]
    assert "own.original" not in lab.domains("host1")


# ------------------------------------------------------------------------------------------------------- flatten


def test_flatten_off_and_running(lab: Lab, cloud: Cloud, clean: object) -> None:
    linked(cloud, "leaf1")
    linked(cloud, "leaf2", start=True)
    for name in ("leaf1", "leaf2"):
        assert behind(lab, f"{POOL}/{name}.qcow2") == [BASE]
        assert cloud.vm.flatten(name=name)["changed"] is True
        assert behind(lab, f"{POOL}/{name}.qcow2") == []
        assert cloud.vm.flatten(name=name)["changed"] is False
        info = cloud.vm.info(name=name)
        assert (info["mode"], info["trouble"], info["disks"][0]["rests_on"]) == ("full", [], [])
    assert cloud.vm.info(name="leaf2")["state"] == "running"
    assert cloud.image.dependents(name="tiny.original") == []
    cloud.vm.destroy(name="leaf2")
    lab.on("host1", f"qemu-img compare -q {POOL}/leaf1.qcow2 {BASE}")
    lab.on("host1", f"qemu-img check -q {POOL}/leaf2.qcow2")
    for name in ("leaf1", "leaf2"):
        cloud.vm.remove(name=name)


@pytest.fixture
def big(lab: Lab) -> Iterator[str]:
    """An image whose copy takes a while."""
    lab.on(
        "host1",
        f"""set -e
        head -c 500000000 /dev/urandom > {POOL}/big.img
        virsh dumpxml tiny.original | sed -e 's/tiny.original.qcow2/big.img/' -e 's/tiny.original/big.original/g' \\
            -e "s/type='qcow2'/type='raw'/" -e '/<uuid>/d' -e '/<mac /d' > /mnt/big.xml
        virsh define /mnt/big.xml; rm /mnt/big.xml""",
    )
    yield f"{POOL}/big.img"
    lab.on("host1", f"virsh undefine big.original; rm -f {POOL}/big.img", check=False)


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_flatten_in_its_middle(lab: Lab, cloud: Cloud, clean: object, big: str, runs: bool, how: str) -> None:
    """The clone is as it was, and goes on, or may be started."""
    linked(cloud, "leaf1", image="big.original", start=runs)
    names = lab.files("host1")
    job = cloud.vm.flatten.submit(name="leaf1", bandwidth="4M")
    until(lambda: (job.progress() or {}).get("done_bytes"), 30, "some bytes")
    assert job.progress()["step"] == ("pull" if runs else "copy")
    if how == "cancel":
        job.cancel()
    else:
        lab.daemon("kill", "host1")
        lab.daemon("start", "host1")
    with pytest.raises(MaglicaError) as ended:
        job.wait(60)
    assert ended.value.code == ("cancelled" if how == "cancel" else "lost")
    until(lambda: lab.files("host1") == names, 15, "only what was there before")
    assert behind(lab, f"{POOL}/leaf1.qcow2") == [big]
    if runs:
        assert "No current block job" in lab.on("host1", "virsh blockjob leaf1 vda 2>&1")
    info = cloud.vm.info(name="leaf1")
    assert (info["trouble"], info["state"]) == ([], "running" if runs else "shut-off")
    cloud.vm.remove(name="leaf1", force=True)


@contextmanager
def slow_qemu_img(lab: Lab, seconds: int) -> Iterator[None]:
    """On host1 every copy by qemu-img begins so many seconds late."""
    script = f'#!/bin/sh\\n[ $1 = convert ] && sleep {seconds}\\nexec /mnt/qemu-img "$@"\\n'
    lab.on(
        "host1",
        f"cp /usr/bin/qemu-img /mnt/qemu-img; printf '{script}' > /mnt/slow; chmod +x /mnt/slow;"
        " mount --bind /mnt/slow /usr/bin/qemu-img",
    )
    try:
        yield
    finally:
        lab.on("host1", "umount -l /usr/bin/qemu-img; rm -f /mnt/slow")


# ------------------------------------------------------------------------------------------------------- reflink


@pytest.fixture(scope="module")
def shared(lab: Lab) -> Iterator[str]:
    """A second pool on host1, on a file system that shares blocks, with an image of two disks."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("there is no mkfs.btrfs here (package btrfs-progs)")
    made = lab.on(
        "host1",
        f"""mkdir -p {SHARED}; truncate -s 400M /mnt/shared.img; mkfs.btrfs -q /mnt/shared.img
        mount -o loop /mnt/shared.img {SHARED} && echo mounted""",
        check=False,
    )
    if "mounted" not in made:
        lab.on("host1", "rm -rf /mnt/shared.img /mnt/shared")
        pytest.skip("a loop device cannot be mounted here")
    second = f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{SHARED}/data.img'/>"
    second += "<target dev='vdb' bus='virtio'/></disk>"
    lab.on(
        "host1",
        f"""set -e
        virsh pool-create-as shared dir --target {SHARED}
        cp {BASE} {SHARED}/pair.original.qcow2
        truncate -s 20G {SHARED}/data.img; head -c 30000000 /dev/urandom | dd of={SHARED}/data.img conv=notrunc
        virsh dumpxml tiny.original | sed -e 's/tiny.original/pair.original/g' -e '/<uuid>/d' -e '/<mac /d' \\
            -e 's#{POOL}/pair#{SHARED}/pair#' -e '/address type=/d' -e "s#</disk>#</disk>{second}#" > /mnt/pair.xml
        virsh define /mnt/pair.xml; rm /mnt/pair.xml""",
    )
    yield SHARED
    lab.on("host1", f"virsh undefine pair.original; virsh pool-destroy shared; umount {SHARED}; rm /mnt/shared.img")


def used(lab: Lab) -> int:
    """KiB of the pool that are in use."""
    return int(lab.on("host1", f"sync -f {SHARED}; df --output=used -k {SHARED} | tail -1"))


def pair(cloud: Cloud, name: str = "twin1", **more: object) -> dict[str, object]:
    usual = {"image": "pair.original", "on": "host1", "customize": "none", "start": False, "hostname": name}
    return dict(cloud.vm.clone(**{**usual, **more}))  # type: ignore[arg-type]


def test_reflinks_take_no_room_and_rest_on_nothing(lab: Lab, cloud: Cloud, clean: object, shared: str) -> None:
    before = used(lab)
    result = pair(cloud)
    assert (result["mode"], result["pool"]) == ("reflink", "shared")
    assert used(lab) - before < 2048
    assert int(str(result["saved_bytes"])) > 30_000_000
    info = cloud.vm.info(name="twin1")
    assert [disk["path"] for disk in info["disks"]] == [f"{SHARED}/twin1-vda.qcow2", f"{SHARED}/twin1-vdb.img"]
    assert [disk["rests_on"] for disk in info["disks"]] == [[], []]
    assert info["disks"][1]["capacity_bytes"] == 20 << 30
    lab.on("host1", f"cmp {SHARED}/twin1-vdb.img {SHARED}/data.img -n 40000000")
    assert mode(lab, f"{SHARED}/pair.original.qcow2") == "644"
    cloud.vm.remove(name="twin1")
    assert lab.on("host1", f"ls {SHARED}").split() == ["data.img", "pair.original.qcow2"]


def test_a_mode_that_is_impossible_there_is_refused(lab: Lab, cloud: Cloud, clean: object, shared: str) -> None:
    """From one file system to another, and where no file system shares blocks: nothing takes its place."""
    told = refusal(lambda: pair(cloud, mode="reflink", pool="default")).message
    assert "reflink" in told
    told = refusal(lambda: linked(cloud, "leaf1", mode="reflink")).message
    assert "the file system of the pool cannot share blocks (default)" in told
    assert "the image lies on another file system than the pool (shared)" in told
    assert "no logical volume" in refusal(lambda: pair(cloud, mode="thin")).message
    plan = cloud.vm.clone.plan(image="pair.original", hostname="twin1", on="host1", customize="none", pool="default")
    assert (plan["would"]["mode"], plan["would"]["pool"]) == ("linked", "default")


@pytest.mark.parametrize("how", ["reflink", "linked"])
@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_what_ends_in_its_middle_leaves_nothing(
    lab: Lab, cloud: Cloud, clean: object, shared: str, how: str, end: str
) -> None:
    job = cloud.vm.clone.submit(image="pair.original", hostname="twin1", on="host1", mode=how, pool="shared")
    until(lambda: str(job.progress()["step"]).startswith("customize") or job.ended, 60, "customising")
    assert not job.ended, job.record
    assert "twin1-vda.qcow2." in lab.on("host1", f"ls {SHARED}")
    if end == "cancel":
        job.cancel()
    else:
        lab.daemon("kill", "host1")
        lab.daemon("start", "host1")
    with pytest.raises(MaglicaError) as ended:
        job.wait(60)
    assert ended.value.code == ("cancelled" if end == "cancel" else "lost")
    until(lambda: lab.on("host1", f"ls {SHARED}").split() == ["data.img", "pair.original.qcow2"], 15, "nothing left")
    assert mode(lab, f"{SHARED}/pair.original.qcow2") == "644"
    assert cloud.image.dependents(name="pair.original") == []


# ------------------------------------------------------------------------------------------- libvirt's own pools


def test_a_pool_that_libvirt_is_busy_with_is_waited_for(lab: Lab, cloud: Cloud, clean: object) -> None:
    """A volume that libvirt has not seen yet is looked for, while it makes another one there, which forbids that."""
    lab.on(
        "host1",
        f"""set -e
        cp {BASE} {POOL}/late.qcow2
        virsh dumpxml tiny.original | sed -e 's/tiny.original/late.original/g' -e '/<uuid>/d' -e '/<mac /d' \\
            -e "s#<disk type='file'#<disk type='volume'#" \\
            -e "s#<source file='[^']*.qcow2'/>#<source pool='default' volume='late.qcow2'/>#" > /mnt/late.xml
        virsh define /mnt/late.xml; rm /mnt/late.xml""",
    )
    making = None
    try:
        with slow_qemu_img(lab, 4):
            argv = [HOME / "lab" / "enter", f"--name={NAME}", "host1", "virsh"]
            making = subprocess.Popen([*argv, "vol-clone", "tiny.original.qcow2", "other.qcow2", "default"])
            until(lambda: lab.on("host1", "pgrep -f '[s]leep 4'", check=False), 20, "libvirt at work")
            busy = lab.on("host1", "virsh pool-refresh default 2>&1", check=False)
            assert "has asynchronous jobs running" in busy
            result = cloud.vm.clone(image="late.original", hostname="leaf1", on="host1", customize="none", start=False)
        assert result["mode"] == "linked"
        assert making.wait(30) == 0
        cloud.vm.remove(name="leaf1")
    finally:
        if making:
            making.wait(30)
        lab.on("host1", f"virsh undefine late.original; rm -f {POOL}/late.qcow2 {POOL}/other.qcow2", check=False)
        lab.on("host1", "virsh pool-refresh default")
