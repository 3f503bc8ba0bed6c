"""A Debian made by debootstrap, with systemd and ssh, cloned and booted to its login prompt."""

from __future__ import annotations

import re

import pytest

from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NAME = "deb1.example.jp"


def read(lab: Lab, domain: str, *commands: str) -> list[str]:
    """What guestfish commands print about the first disk of a domain that is shut off."""
    disk = lab.on("host1", f"virsh domblklist {domain} | awk '$1 == \"vda\" {{print $2}}'").strip()
    settings = "LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg"
    script = f"{settings} guestfish --ro --format=qcow2 -a {disk} -i {' : '.join(commands)}"
    return [line for line in lab.on("host1", script).splitlines() if line]


def test_a_debian_clone_boots_to_its_login_prompt(lab: Lab, cloud: Cloud, debian: str, clean: object) -> None:
    result = cloud.vm.clone(image=debian, hostname=NAME)
    assert result["guest"]["os"]["family"] == "debian"
    assert result["guest"]["verified"] is True
    assert result["guest"]["host_keys"] in ("first-boot", "written")
    console = lab.console("host1", NAME, "login:", 240)
    assert re.search(r"\bdeb1(\.example\.jp)? login:", console)
    address = until(lambda: cloud.vm.info(name="deb1")["ips"], 90, "an address by DHCP")[0]
    greeting = f"timeout 5 bash -c 'head -c 7 < /dev/tcp/{address}/22'"
    until(lambda: lab.on("host1", greeting, check=False).startswith("SSH-2.0"), 180, "sshd, with keys of its own")
    assert cloud.vm.stop(name=NAME, timeout=120)["state"] == "shut-off"

    # Booted once, it has an identity that is not its image's.
    asked = ("cat /etc/hostname", "cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub")
    hostname, machine_id, key = read(lab, NAME, *asked)
    assert hostname == NAME
    assert re.fullmatch(r"[0-9a-f]{32}", machine_id)
    assert key.startswith("ssh-ed25519 ")
    _, image_machine_id, image_key = read(lab, debian, *asked)
    assert machine_id != image_machine_id
    assert key.split()[1] != image_key.split()[1]
    cloud.vm.remove(name=NAME)
