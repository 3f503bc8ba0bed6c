"""A Debian made by debootstrap, with systemd and ssh, cloned and booted to its login prompt."""

from __future__ import annotations

import pytest

from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    """The name of the Debian image, which host1 holds from now on."""
    lab("add-image", "debian", "host1", timeout=800)
    return next(name for name in lab.domains("host1") if name.startswith("debian"))


def test_a_debian_clone_boots_to_its_login_prompt(lab: Lab, cloud: Cloud, image: str, clean: object) -> None:
    result = cloud.vm.clone(image=image, hostname="deb1.example.jp", start=False)
    assert result["guest"]["os"]["family"] == "debian"
    assert result["guest"]["verified"] is True
    assert result["guest"]["host_keys"] in ("first-boot", "written")

    read = "guestfish --ro --format=qcow2 -a {disk} -i"
    disks = {
        name: lab.on("host1", f"virsh domblklist {name} | awk '/vda/ {{print $2}}'").strip()
        for name in (image, "deb1.example.jp")
    }
    settings = "LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg"
    script = f"{settings} {read.format(disk=disks['deb1.example.jp'])} cat /etc/hostname : filesize /etc/machine-id : glob ls /etc/ssh"
    told = lab.on("host1", script).splitlines()
    assert told[0] == "deb1.example.jp"
    assert told[2] == "0" or told[1] == "0", "an empty machine-id"

    cloud.vm.start(name="deb1.example.jp")
    console = lab.console("host1", "deb1.example.jp", "login:", 240)
    assert "deb1 login:" in console or "deb1.example.jp login:" in console
    assert cloud.vm.stop(name="deb1.example.jp", timeout=120)["state"] == "shut-off"
    cloud.vm.remove(name="deb1.example.jp")
