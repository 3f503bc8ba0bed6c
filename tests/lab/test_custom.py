"""Customised clones on real hypervisors: a Debian that boots with what it was given, is sealed and upgraded; a seed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

NAME = "cu1.example.jp"
HASH = "$6$saltsaltsalt$GDgDfh7sPYGrjwS0KdLF1VzXwU1RMpaXWVkY6HOCUdSQK3rnEDCCJ3wnSqg6iQhGWYjCVJDAK0v4jDfDzbwyR1"
PROFILE = """
[customize lab]
write =
    /etc/motd:From the profile.
    /etc/lab-secret:the secret of the profile
run_at_first_boot = echo profile $(hostname) >> /srv/ran
user = alice:groups=adm:key={key}
timezone = Etc/UTC

[customize lab debian]
run_at_first_boot = echo debian >> /srv/ran
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    return tmp_path / "key"


@pytest.fixture
def profile(lab: Lab, key: Path) -> Iterator[None]:
    """The profile in the settings of the client worker, which reads them again by a signal."""
    folder = Path(lab.config).parent
    settings = folder / "client" / "maglica.conf"
    before = settings.read_text()

    def change(text: str) -> None:
        seen = lab("log", "client").count("[customize lab]")
        settings.write_text(text)
        os.kill(json.loads((folder / "pids" / "client").read_text())[0], signal.SIGHUP)
        until(lambda: lab("log", "client").count("[customize lab]") > seen, 15, "other settings")

    change(before + PROFILE.format(key=f"{key}.pub"))
    yield
    change(before)


@pytest.fixture
def repository(tmp_path: Path) -> dict[str, bytes]:
    """Files of a package repository in which there is a newer version of what the image has."""
    tree = tmp_path / "deb"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share").mkdir(parents=True)
    (tree / "usr/share/upgraded").write_text("yes\n")
    fields = "Package: sensible-utils\nVersion: 9:1\nArchitecture: all\nMaintainer: lab <lab@example.jp>\n"
    (tree / "DEBIAN/control").write_text(f"{fields}Description: newer\n")
    package = tmp_path / "package.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True, capture_output=True)
    data = package.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    index = f"{fields}Filename: ./package.deb\nSize: {len(data)}\nSHA256: {digest}\nDescription: newer\n\n"
    return {"/srv/repo/package.deb": data, "/srv/repo/Packages": index.encode()}


def test_a_customised_debian_is_booted_sealed_and_upgraded(
    lab: Lab, cloud: Cloud, debian: str, profile: None, key: Path, repository: dict[str, bytes], clean: object
) -> None:
    (key.parent / "doc").write_bytes(bytes(range(256)))
    words = [
        "vm", "clone", f"--image={debian}", f"--hostname={NAME}", "--mode=linked", "--customize-profile=lab",
        "-o", "json", "--write=/etc/motd:own", f"--upload={key.parent}/doc:/opt/files/", "--timezone=Asia/Tokyo",
        "--write=/etc/apt/sources.list:deb [trusted=yes] file:/srv/repo ./",
        "--run-at-first-boot=echo own >> /srv/ran",
        *(f"--upload={_file(key.parent, path, data)}:{path}" for path, data in repository.items()),
        f"--user=bob:password-hash={HASH}",
    ]  # fmt: skip
    done = lab.cli(*words, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["item"]
    assert (result["profile"], result["guest"]["verified"]) == ("lab", True)
    console = lab.console("host1", NAME, "maglica-first-boot: done", 240)
    assert [line.split()[-3:] for line in console.splitlines() if "maglica-first-boot: command 00" in line][1::2] == [
        ["with", "status", "0"]
    ] * 3

    address = until(lambda: cloud.vm.info(name=NAME)["ips"], 90, "an address by DHCP")[0]
    script = (
        'id -nG; date +%Z; cat /etc/motd; sha256sum < /opt/files/doc; tr "\\n" / < /srv/ran; echo;'
        " ls /etc/systemd/system /usr/local/sbin"
    )
    told = until(lambda: _ssh(lab, key, address, script), 120, "a login as alice")
    groups, zone, motd, digest, ran, *listed = told.splitlines()
    assert (groups, zone, motd) == ("alice adm", "JST", "own")
    assert ran == f"profile {NAME}/debian/own/", "each command ran once, in this order"
    assert digest.split()[0] == hashlib.sha256(bytes(range(256))).hexdigest()
    assert not [name for name in listed if "first-boot" in name], "the unit has removed itself"

    record = cloud.job.list(vm=NAME)[0]
    assert record["args"]["profile"] == {"name": "lab"}
    shown = json.dumps(cloud.job.list(last=100)) + lab("log", "client") + lab("log", "host1") + done.stdout
    assert HASH not in shown
    assert "the secret of the profile" not in shown

    cloud.vm.stop(name=NAME, timeout=120)
    sealed = cloud.image.seal(name=NAME, as_="cu:1")
    assert sealed["removed"] > 5
    assert (sealed["verified"], sealed["disks"][0]["path"]) == (True, "/var/lib/libvirt/images/cu@1.qcow2")
    before = lab.on("host1", "sha256sum /var/lib/libvirt/images/cu@1.qcow2")
    upgraded = cloud.image.upgrade(name="cu:1", as_="cu:2")
    assert [line.split()[0] for line in upgraded["upgraded"]] == ["sensible-utils:all"]
    assert upgraded["upgraded"][0].endswith("-> 9:1")
    # What the disk holds was read again by the job itself, and what dpkg says after the upgrade is from there as well.
    assert (upgraded["verified"], upgraded["os"]["family"]) == (True, "debian")
    assert lab.on("host1", "sha256sum /var/lib/libvirt/images/cu@1.qcow2") == before, "the old version stays as it was"
    assert cloud.image.info(name="cu:2")["cloud_init"] is False
    with pytest.raises(MaglicaError, match="cu:2 has no cloud-init"):
        cloud.vm.clone(image="cu:2", hostname="cu9", customize="cloud-init")
    with pytest.raises(MaglicaError, match="cu:1 exists"):
        cloud.image.upgrade(name="cu:2", as_="cu:1")
    cloud.vm.remove(name=NAME)
    for name in ("cu:1", "cu:2"):
        lab.on("host1", f"virsh undefine {name} && rm -f /var/lib/libvirt/images/{name.replace(':', '@')}.qcow2")


def _file(folder: Path, path: str, data: bytes) -> Path:
    target = folder / Path(path).name
    target.write_bytes(data)
    return target


def _ssh(lab: Lab, key: Path, address: str, script: str) -> str:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=20 -q"
    return lab.on("host1", f"ssh -i {key} {options} alice@{address} '{script}'", check=False)


def test_a_seed_for_cloud_init_comes_and_goes_with_its_vm(lab: Lab, cloud: Cloud, clean: object) -> None:
    """Whether cloud-init takes it, `cloud-init schema` says (test_cloud_init.py); here, that guests can read it."""
    result = cloud.vm.clone(
        image="tiny.original", hostname="cu2", on="host2", customize="cloud-init", start=False, timezone="Asia/Tokyo",
        write={"/etc/motd": "hello"}, root_password_hash=HASH,
    )  # fmt: skip
    seed = "/var/lib/libvirt/images/cu2-seed.iso"
    assert (result["guest"]["network"], result["guest"]["verified"]) == ("cloud-init", False)
    assert lab.on("host2", f"stat -c %a {seed}").strip() == "600"
    extract = f"xorriso -osirrox on -indev {seed} -extract /user-data $d/f > /dev/null 2>&1"
    script = f"d=$(mktemp -d); {extract}; cat $d/f; rm -rf $d"
    text = lab.on("host2", script)
    assert json.loads(text.removeprefix("#cloud-config\n"))["timezone"] == "Asia/Tokyo"
    assert lab.on("host2", f"blkid -o value -s LABEL {seed}").strip() == "cidata"
    cloud.vm.start(name="cu2")
    assert "cu2-seed.iso" in lab.on("host2", "virsh domblklist cu2")
    lab.on("host2", "touch /var/lib/libvirt/images/cu3-seed.iso")
    with pytest.raises(MaglicaError, match="cu3-seed"):
        cloud.vm.clone(image="tiny.original", hostname="cu3", on="host2", customize="cloud-init")
    lab.on("host2", "rm /var/lib/libvirt/images/cu3-seed.iso")
    removed = cloud.vm.remove(name="cu2", force=True)
    assert seed in removed["deleted"]
