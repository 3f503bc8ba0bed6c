"""Disks and definitions: beside what virt-clone makes of the same image, of several disks, of UEFI."""

from __future__ import annotations

import re
from difflib import unified_diff

import pytest

from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def normal(xml: str, name: str) -> str:
    """A definition without what has to differ: name, uuid, MAC addresses, and our own mark."""
    xml = xml.replace(name, "NAME")
    xml = re.sub(r"<uuid>.*?</uuid>", "<uuid/>", xml)
    xml = re.sub(r"<mac address='[^']*'/>", "<mac/>", xml)
    xml = re.sub(r"<maglica:domain[^>]*/>", "", xml)
    return re.sub(r"\s*<metadata[^>]*>\s*</metadata>", "", xml)


def test_the_same_definition_as_virt_clone(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab.on(
        "host1", "virt-clone --quiet --original tiny.original --name twin1 --file /var/lib/libvirt/images/twin1.qcow2"
    )
    cloud.vm.clone(image="tiny.original", hostname="twin2", on="host1", mode="full", customize="none", start=False)
    theirs, ours = (lab.on("host1", f"virsh dumpxml --inactive {name}") for name in ("twin1", "twin2"))
    # virt-clone leaves the image's own console log to both guests; ours has one of its own.
    theirs = theirs.replace("qemu/tiny.original.console.log", "qemu/twin1.console.log")
    different = list(
        unified_diff(normal(theirs, "twin1").splitlines(), normal(ours, "twin2").splitlines(), lineterm="")
    )
    assert different == [], "\n".join(different)
    lab.on("host1", "virsh undefine twin1 --remove-all-storage")
    cloud.vm.remove(name="twin2")


def test_every_disk_of_an_image_is_copied(lab: Lab, cloud: Cloud, clean: object) -> None:
    lab("add-image", "multi", "host1")
    result = cloud.vm.clone(image="multi.original", hostname="two.example.jp", on="host1", start=False)
    assert [disk["path"].rpartition("/")[2] for disk in result["disks"]] == [
        "two.example.jp-vda.qcow2",
        "two.example.jp-vdb.qcow2",
    ]
    assert result["guest"]["verified"] is True
    assert len(cloud.vm.remove(name="two.example.jp")["deleted"]) == 2
    lab.on("host1", "virsh undefine multi.original; rm -f /var/lib/libvirt/images/multi*")


def test_nvram_is_copied_and_removed_with_the_clone(lab: Lab, cloud: Cloud, clean: object) -> None:
    """A domain of UEFI, never booted: what matters here are its files."""
    nvram = "/var/lib/libvirt/qemu/nvram"
    lab.on(
        "host1",
        f"""set -e
        mkdir -p {nvram} && echo variables > {nvram}/efi.original_VARS.fd
        qemu-img create -q -f qcow2 /var/lib/libvirt/images/efi.original.qcow2 8M
        virsh dumpxml tiny.original | sed -e 's/tiny.original/efi.original/g' -e '/<uuid>/d' -e '/<mac /d' \\
            -e "s#</os>#<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>\\
               <nvram>{nvram}/efi.original_VARS.fd</nvram></os>#" > /mnt/efi.xml
        virsh define /mnt/efi.xml && rm /mnt/efi.xml""",
    )
    cloud.vm.clone(image="efi.original", hostname="efi1", on="host1", customize="none", start=False)
    assert cloud.vm.info(name="efi1")["nvram"] == f"{nvram}/efi1_VARS.fd"
    assert lab.on("host1", f"cat {nvram}/efi1_VARS.fd") == "variables\n"
    cloud.vm.remove(name="efi1")
    assert lab.on("host1", f"ls {nvram}").split() == ["efi.original_VARS.fd"]
    lab.on("host1", f"virsh undefine --nvram efi.original; rm -rf {nvram} /var/lib/libvirt/images/efi.original.qcow2")
