"""Another name and another address on real hypervisors, as the guest itself says them, and after a kill -9."""

from __future__ import annotations

import json

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

POOL, NVRAM = "/var/lib/libvirt/images", "/var/lib/libvirt/qemu/nvram"
FIRMWARE = f"<loader readonly='yes' type='pflash'>/usr/share/x.fd</loader><nvram>{NVRAM}/web1_VARS.fd</nvram>"


def test_what_bears_the_name_follows_and_a_definition_comes_back(lab: Lab, cloud: Cloud, clean: object) -> None:
    cloud.vm.clone(image="tiny.original", hostname="web1", on="host1", start=False, customize="none")
    text = lab.on("host1", "virsh dumpxml web1").replace("</type>", f"</type>{FIRMWARE}", 1)
    lab.on("host1", f"mkdir -p {NVRAM}; echo vars > {NVRAM}/web1_VARS.fd; virsh autostart web1")
    assert cloud.vm.redefine(name="web1", file=text)["changes"] == [f"nvram: none -> {NVRAM}/web1_VARS.fd"]

    with pytest.raises(MaglicaError, match=r"tiny\.original exists on host"):
        cloud.vm.rename(name="web1", to="tiny.original")
    told = cloud.vm.rename(name="web1", to="db1", customize="none")
    assert [file["to"] for file in told["files"]][:1] == [f"{POOL}/db1.qcow2"]
    assert lab.files("host1") >= {"db1.qcow2"}
    assert not [name for name in lab.files("host1") if "web1" in name]
    assert lab.on("host1", f"cat {NVRAM}/db1_VARS.fd") == "vars\n"
    assert "enable" in lab.on("host1", "virsh dominfo db1 | grep Autostart")

    before = lab.on("host1", "virsh dumpxml db1")
    cloud.vm.undefine(name="db1")
    assert "db1" not in lab.domains("host1")
    assert lab.on("host1", f"ls {POOL}/db1.qcow2 {NVRAM}/db1_VARS.fd").split()
    cloud.vm.define(name="db1", on="host1")
    assert lab.on("host1", "virsh dumpxml db1") == before

    cloud.vm.protect(name="db1")
    with pytest.raises(MaglicaError, match="db1 is protected"):
        cloud.vm.remove(name="db1", force=True)
    cloud.vm.unprotect(name="db1")
    cloud.vm.remove(name="db1")
    assert not lab.on("host1", f"ls {NVRAM}").split()


def test_a_guest_that_was_renamed_and_readdressed_says_so(lab: Lab, cloud: Cloud, clean: object) -> None:
    cloud.vm.clone(image="tiny.original", hostname="web2", on="host1", start=False, customize="none")
    content = "qemu-img convert -O raw {} /tmp/content && sha256sum < /tmp/content; rm /tmp/content"
    before = lab.on("host1", content.format(f"{POOL}/web2.qcow2"))

    job = cloud.vm.rename.submit(name="web2", to="db2.example.jp")
    until(lambda: "customize:" in str(cloud.job.show(id=job.id)["step"]), 120, "in the middle of it")
    lab.daemon("kill", "host1")
    lab.daemon("start", "host1")
    with pytest.raises(MaglicaError) as lost:
        job.wait()
    assert lost.value.code == "lost"
    assert lab.on("host1", content.format(f"{POOL}/web2.qcow2")) == before, "to the bit"
    until(lambda: not [name for name in lab.files("host1") if job.id in name], 20, "nothing is left of it")

    told = cloud.vm.rename(name="web2", to="db2.example.jp")
    assert (told["was"], told["guest"]["verified"]) == ("web2", True)
    address = {"name": "db2.example.jp", "address": "192.168.101.77/24", "gateway": "192.168.101.1"}
    assert cloud.vm.change_address(**address)["changed"] is True
    assert cloud.vm.change_address(**address)["changed"] is False
    cloud.vm.start(name="db2.example.jp")
    console = lab.console("host1", "db2.example.jp", "maglica-guest:", 120)
    assert "hostname=db2.example.jp address=192.168.101.77" in console
    with pytest.raises(MaglicaError, match=r"db2\.example\.jp is running"):
        cloud.vm.rename(name="db2.example.jp", to="db3")
    assert json.loads(lab.cli("vm", "info", "db2", "-o", "json").stdout)["item"]["ips"]
    cloud.vm.remove(name="db2.example.jp", force=True)


def test_one_card_of_two_gets_an_address_and_gives_it_back(lab: Lab, cloud: Cloud, clean: object) -> None:
    """The other card asks by DHCP all the time."""
    cloud.vm.clone(image="tiny.original", hostname="web3", on="host1", start=False, customize="none")
    cloud.nic.attach(name="web3", network="default")
    first, second = [nic["mac"] for nic in cloud.vm.info(name="web3")["nics"]]
    with pytest.raises(MaglicaError, match=f"web3 has 2 network cards: {first}, {second}"):
        cloud.vm.change_address(name="web3", address="192.168.101.88/24")
    address = {"name": "web3", "interface": "eth1", "mac": second}
    told = cloud.vm.change_address(**address, address="192.168.101.88/24")
    assert (told["changed"], told["guest"]["verified"], told["guest"]["network"]) == (True, True, "ifupdown")

    def leases() -> str:
        return lab.on("host1", "virsh net-dhcp-leases default")

    cloud.vm.start(name="web3")
    lab.console("host1", "web3", "maglica-guest:", 120)
    until(lambda: first in leases(), 60, "the first card has its lease")
    knock = "timeout 2 bash -c '</dev/tcp/192.168.101.88/9' 2>&1"
    until(lambda: "refused" in lab.on("host1", knock, check=False), 30, "somebody is there who refuses")
    assert second not in leases()
    told = cloud.vm.change_address(**address, address="dhcp", offline=True)
    assert (told["was"], told["changed"], told["state"]) == ("192.168.101.88", True, "running")
    until(lambda: second in leases(), 90, "the second card has a lease")
    cloud.vm.remove(name="web3", force=True)
