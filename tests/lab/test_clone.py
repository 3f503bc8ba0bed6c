"""`vm clone` on real hypervisors: what comes out of it, as the guest itself says it."""

from __future__ import annotations

import json

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFmEh9BTZ4yTnQv7rUR2bRyHsB3UhWWSAvpbxFXkMRXe somebody@example.jp"
HASH = "$6$saltsaltsalt$GDgDfh7sPYGrjwS0KdLF1VzXwU1RMpaXWVkY6HOCUdSQK3rnEDCCJ3wnSqg6iQhGWYjCVJDAK0v4jDfDzbwyR1"


def test_a_clone_boots_and_says_its_own_name(lab: Lab, cloud: Cloud, clean: object) -> None:
    done = lab.cli("vm", "clone", "--image=tiny.original", "--hostname=vm1.example.jp", "-o", "json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["item"]
    assert (result["state"], result["mode"], result["guest"]["verified"]) == ("running", "linked", True)
    host = result["host"]
    console = lab.console(host, "vm1.example.jp", "maglica-guest:", 60)
    assert "maglica-guest: hostname=vm1.example.jp address=192.168." in console

    info = cloud.vm.info(name="vm1")
    assert info["uuid"] == result["uuid"]
    assert [nic["mac"] for nic in info["nics"]] == result["macs"]
    assert info["ips"], "the lease of a running guest is known"
    image = lab.on(host, "virsh domuuid tiny.original").strip()
    assert image != result["uuid"]

    listed = lab.cli("vm", "list", "-o", "name")
    assert listed.stdout.split() == ["vm1.example.jp"]
    stopped = lab.cli("vm", "stop", "vm1")
    assert stopped.returncode == 0, stopped.stderr
    assert cloud.vm.info(name="vm1")["state"] == "shut-off"
    assert lab.cli("vm", "remove", "vm1.example.jp").returncode == 2  # nobody to ask, and no --yes
    assert lab.cli("vm", "remove", "vm1.example.jp", "--yes").returncode == 0


def test_a_linked_clone_with_a_static_address_a_key_and_a_password(lab: Lab, cloud: Cloud, clean: object) -> None:
    result = cloud.vm.clone(
        image="tiny.original",
        hostname="vm2.example.jp",
        on="host2",
        mode="linked",
        ip="192.168.102.77/24",
        gateway="192.168.102.1",
        dns="192.168.102.1",
        ssh_key=KEY,
        root_password_hash=HASH,
        mac="52:54:00:00:be:ef",
        memory="160M",
    )
    assert (result["host"], result["macs"], result["ips"]) == ("host2", ["52:54:00:00:be:ef"], ["192.168.102.77"])
    console = lab.console("host2", "vm2.example.jp", "maglica-guest:", 60)
    assert "maglica-guest: hostname=vm2.example.jp address=192.168.102.77" in console
    info = cloud.vm.info(name="vm2.example.jp")
    assert info["memory_bytes"] == 160 << 20

    with pytest.raises(MaglicaError) as running:
        cloud.vm.remove(name="vm2.example.jp")
    assert running.value.code == "wrong_state"
    job = cloud.vm.destroy.submit(name="vm2.example.jp", reason="the test is over")
    job.wait()
    assert cloud.job.show(id=job.id)["reason"] == "the test is over"

    script = (
        "guestfish --ro --format=qcow2 -a /var/lib/libvirt/images/vm2.example.jp.qcow2 -i"
        " sh 'true' : cat /root/.ssh/authorized_keys : cat /etc/shadow : cat /etc/hostname"
    ).replace(" sh 'true' :", "")
    text = lab.on("host2", f"LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg {script}")
    assert KEY in text
    assert f"root:{HASH}:" in text
    assert "vm2.example.jp" in text

    record = cloud.job.list(vm="vm2.example.jp")[0]
    assert record["args"]["root_password_hash"] == "***"
    assert HASH not in json.dumps(cloud.job.list(last=100))
    for log in ("client", "host2"):
        assert HASH not in lab("log", log)
    cloud.vm.remove(name="vm2.example.jp")


def test_a_linked_clone_keeps_its_image_from_harm(lab: Lab, cloud: Cloud, clean: object) -> None:
    cloud.vm.clone(image="tiny.original", hostname="base1", on="host1", start=False, customize="none")
    cloud.vm.clone(image="base1", hostname="leaf1", on="host1", mode="linked", start=False, customize="none")
    with pytest.raises(MaglicaError) as protected:
        cloud.vm.start(name="base1")
    assert protected.value.code == "protected"
    assert "leaf1 uses its disk" in protected.value.message
    with pytest.raises(MaglicaError) as protected:
        cloud.vm.remove(name="base1")
    assert protected.value.code == "protected"
    assert list(protected.value.details["used"].values()) == ["leaf1"]
    assert cloud.vm.remove(name="leaf1")["deleted"] == ["/var/lib/libvirt/images/leaf1.qcow2"]
    assert cloud.vm.remove(name="base1")["deleted"] == ["/var/lib/libvirt/images/base1.qcow2"]


def test_an_export_is_a_vmdk_and_leaves_no_vm(lab: Lab, cloud: Cloud, clean: object) -> None:
    result = cloud.vm.clone(
        image="tiny.original", hostname="vm3.example.jp", on="host1", format="vmdk", customize="none"
    )
    facts = json.loads(lab.on("host1", f"qemu-img info --output=json {result['path']}"))
    assert facts["format"] == "vmdk"
    assert cloud.vm.list() == []
    lab.on("host1", f"rm {result['path']}")


def test_placement_spreads_and_says_why(lab: Lab, cloud: Cloud, clean: object) -> None:
    first = cloud.vm.clone(image="tiny.original", hostname="a1", customize="none")
    plan = cloud.vm.clone.plan(image="tiny.original", hostname="a2", customize="none")
    assert plan["host"] != first["host"]
    assert "least load" in plan["why"]
    assert cloud.vm.list()[0]["name"] == "a1"
    assert len(cloud.vm.list()) == 1
    cloud.vm.remove(name="a1", force=True)


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"image": "tiny.orignal"}, "unknown_entity", "no host holds an image tiny.orignal"),
        ({"on": "host9"}, "unknown_entity", "there is no host host9"),
        ({"memory": "1T"}, "no_capacity", "of memory"),
        ({"vcpus": 1000}, "no_capacity", "needs 1000 vCPUs"),
        ({"mac": "52:54:00:00:00:01,52:54:00:00:00:02"}, "wrong_input", "--mac names 2 addresses"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    lab: Lab, cloud: Cloud, clean: object, values: dict[str, object], code: str, words: str
) -> None:
    with pytest.raises(MaglicaError) as refused:
        cloud.vm.clone(**{"image": "tiny.original", "hostname": "vm9.example.jp", **values})  # type: ignore[arg-type]
    assert refused.value.code == code
    assert words in refused.value.message
