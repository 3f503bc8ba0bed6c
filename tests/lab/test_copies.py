"""How a clone's disks are made, what they rest on, and what becomes of both: real images, a real libvirt."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from maglica.cloud import JobHandle
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

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
    assert cloud.vm.info(name="leaf1")["trouble"] is None
    assert cloud.vm.info(name="leaf1")["disks"][0]["rests_on"] == base

    lab.on("host1", f"cp -a {base} /mnt/saved; printf x | dd of={base} bs=1 seek=70000 conv=notrunc status=none")
    error = refusal(lambda: cloud.vm.start(name="leaf1"), f"it rests on {base}, which was written since")
    assert (error.code, "--ignore-changed-base" in error.hint) == ("wrong_state", True)
    refusal(lambda: cloud.vm.flatten(name="leaf1"), "which was written since")
    assert f"{base}, which was written since" in cloud.vm.info(name="leaf1")["trouble"]

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
    assert "is gone" in cloud.vm.info(name="leaf1")["trouble"]
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
        assert (info["mode"], info["trouble"], info["disks"][0]["rests_on"]) == ("full", None, None)
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


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_flatten_in_its_middle(lab: Lab, cloud: Cloud, clean: object, big: str, how: str) -> None:
    """The clone is as it was, and may be started."""
    linked(cloud, "leaf1", image="big.original")
    names = lab.files("host1")
    job = slowed(lab, cloud, how)
    with pytest.raises(MaglicaError) as ended:
        job.wait(60)
    assert ended.value.code == ("cancelled" if how == "cancel" else "lost")
    until(lambda: lab.files("host1") == names, 15, "only what was there before")
    assert behind(lab, f"{POOL}/leaf1.qcow2") == [big]
    assert cloud.vm.info(name="leaf1")["trouble"] is None
    cloud.vm.remove(name="leaf1")


def slowed(lab: Lab, cloud: Cloud, how: str) -> JobHandle:
    """Flatten with a qemu-img that stops at once, and end it so."""
    script = '#!/bin/sh\\n[ $1 = convert ] && sleep 60\\nexec /mnt/qemu-img "$@"\\n'
    lab.on(
        "host1",
        f"cp /usr/bin/qemu-img /mnt/qemu-img; printf '{script}' > /mnt/slow; chmod +x /mnt/slow;"
        " mount --bind /mnt/slow /usr/bin/qemu-img",
    )
    try:
        job = cloud.vm.flatten.submit(name="leaf1")
        until(lambda: job.progress()["step"] == "copy", 30, "the copy")
        time.sleep(0.3)
        if how == "cancel":
            job.cancel()
        else:
            lab.daemon("kill", "host1")
    finally:
        lab.on("host1", "umount -l /usr/bin/qemu-img; rm -f /mnt/slow /mnt/qemu-img")
        if how == "kill":
            lab.daemon("start", "host1")
    return job
