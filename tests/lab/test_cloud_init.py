"""A guest that cloud-init customises: a Debian with the kernel of its cloud images, on a q35 machine, booted with a
seed; what arrived, as seen from inside.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NAME = "ci1.example.jp"
SEEN = {
    "hostname": "hostname; cat /etc/hostname; getent hosts ci1 | tail -1",
    "files": "cat /etc/motd; stat -c %a,%u /etc/app.conf",
    "ran": "cat /srv/ran",
    "zone": "date +%Z",
    "network": "ip -4 -o addr show eth0 | awk '{print $4}'; ip -4 route show default | awk '{print $3}'",
    "dns": "resolvectl dns eth0",
    "users": "id -nG alice; sudo -l -U alice | tail -1; getent shadow bob | cut -d: -f2",
    "machine-id": "cat /etc/machine-id",
    "status": "cloud-init status || true",  # newer ones tell of mere warnings by their exit status
}
"""What is asked of the guest's agent."""

# Printed by the guest, and so in a job's record: not the one that another test must find nowhere.
HASH = "$6$otherothersalt$0lekpPWqO0j2BX9xlGaZWQV.i5yLVM7NrOUy3aLKFxTE9k0EEC.UOa0DUlG9mfVzm0hqJeAo/Rf1hryIUZteO0"


@pytest.fixture(scope="session")
def image(lab: Lab) -> str:
    """The name of the image with cloud-init, which host1 holds from now on."""
    before = lab.domains("host1")
    lab("add-image", "cloud", "host1", timeout=1200)
    return next(iter(lab.domains("host1") - before))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    return tmp_path / "key"


def test_what_was_asked_for_is_in_the_guest(lab: Lab, cloud: Cloud, image: str, key: Path, clean: object) -> None:
    net = lab.on("host1", "virsh net-dumpxml default | sed -n \"s/.*<ip address='\\([0-9.]*\\)\\.1'.*/\\1/p\"").strip()
    address = f"{net}.210"  # beside what the network gives out by DHCP
    public = key.with_suffix(".pub").read_text().strip()
    cloud.vm.clone(
        image=image, hostname=NAME, mode="linked", customize="cloud-init", ip=f"{address}/24", gateway=f"{net}.1",
        dns=["192.0.2.53"], ssh_key=public, timezone="Asia/Tokyo",
        user=[{"name": "alice", "sudo": True, "ssh_keys": [public], "groups": ["adm"]},
              {"name": "bob", "password_hash": HASH}],
        write={"/etc/motd": "Be kind."}, upload=[{"path": "/etc/app.conf", "data": b"a=1\n", "mode": 0o600}],
        run_at_first_boot=["echo first $(hostname) >> /srv/ran", "echo second >> /srv/ran"], wait="ssh",
        wait_timeout="5m",
    )  # fmt: skip
    lab.console("host1", NAME, "finished at", 240)
    seen = {what: cloud.vm.exec(name=NAME, command=script)["stdout"].splitlines() for what, script in SEEN.items()}
    machine_id = seen.pop("machine-id")
    assert seen == {
        "hostname": [NAME, NAME, f"127.0.1.1       {NAME} ci1"],
        "files": ["Be kind.", "600,0"],
        "ran": [f"first {NAME}", "second"],  # each once, in this order
        "zone": ["JST"],
        "network": [f"{address}/24", f"{net}.1"],
        "dns": ["Link 2 (eth0): 192.0.2.53"],
        "users": ["alice adm", "    (ALL) NOPASSWD: ALL", HASH],
        "status": ["status: done"],
    }
    assert re.fullmatch("[0-9a-f]{32}", machine_id[0]), "the image's is empty"
    for user in ("root", "alice"):
        assert ssh(lab, key, f"{user}@{address}", "id -un").strip() == user
    assert cloud.vm.info(name=NAME)["guest"]["hostname"] == NAME
    cloud.vm.remove(name=NAME, force=True)


def ssh(lab: Lab, key: Path, who: str, script: str) -> str:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=20 -q"
    return lab.on("host1", f"ssh -i {key} {options} {who} '{script}'")
