"""Images from elsewhere, from host to host, and out again, on two real hypervisors; and their bad days."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from maglica.cloud import JobHandle
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import HOME, NAME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

POOL = "/var/lib/libvirt/images"
SERVER = "[q]emu-nbd.*tls-creds"  # the brackets keep pgrep from finding the shell that runs it


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Stalling(Quiet):
    """Sends some of a file, and then nothing for as long as anybody waits."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(8 << 20))
        self.end_headers()
        self.wfile.write(random.Random(7).randbytes(2 << 20))
        threading.Event().wait(30)


def client_address(lab: Lab) -> str:
    """Where the hosts of the lab reach this machine."""
    lines = Path(lab.config).read_text().splitlines()
    return next(line.split("=")[1].strip() for line in lines if line.startswith("address"))


def folder(lab: Lab, host: str, what: str = "import") -> Path:
    """A folder of a host's worker, as this machine sees it."""
    found = Path(lab.config).parent / host / "worker" / what
    found.mkdir(parents=True, exist_ok=True)
    return found


def removed(lab: Lab, *names: str) -> None:
    """Take images away from all hosts."""
    for host in ("host1", "host2"):
        for name in names:
            lab.on(host, f"virsh undefine --nvram {name}; rm -f {POOL}/{name.replace(':', '@')}*.qcow2", check=False)


def failure(job: JobHandle, timeout: float = 60.0) -> MaglicaError:
    with pytest.raises(MaglicaError) as failed:
        job.wait(timeout)
    return failed.value


@pytest.fixture(scope="module")
def tiny(lab: Lab) -> Iterator[str]:
    """`tiny:1`, imported to host1 from a web server that this machine is for the lab."""
    address = client_address(lab)
    source = folder(lab, "host1") / "web"
    source.mkdir(exist_ok=True)
    lab.on(
        "host1", f"qemu-img convert -O vmdk -o subformat=streamOptimized {POOL}/tiny.original.qcow2 {source}/tiny.vmdk"
    )
    digest = hashlib.sha256((source / "tiny.vmdk").read_bytes()).hexdigest()
    with ThreadingHTTPServer((address, 0), partial(Quiet, directory=str(source))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{address}:{server.server_port}/tiny.vmdk"
        done = lab.cli(
            "image", "import", url, "--name=tiny:1", "--on=host1", "--memory=192M", f"--checksum=sha256:{digest}",
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 0, done.stderr
    try:
        yield "tiny:1"
    finally:
        removed(lab, "tiny:1")


@pytest.fixture(scope="module")
def big(lab: Lab) -> Iterator[str]:
    """An image on host1 that takes a while to copy."""
    path = folder(lab, "host1") / "big.raw"
    path.write_bytes(random.Random(5).randbytes(1 << 20) * 96)
    done = lab.cli("image", "import", str(path), "--name=big:1", "--on=host1", "--format=raw", "--network=none")
    assert done.returncode == 0, done.stderr
    path.unlink()
    try:
        yield "big:1"
    finally:
        removed(lab, "big:1")


def test_an_image_goes_to_another_host_and_boots_there(
    lab: Lab, cloud: Cloud, tiny: str, clean: dict[str, tuple[set[str], set[str]]]
) -> None:
    plan = cloud.image.copy.plan(name=tiny, dest="host2")
    assert plan["would"] == {"copy": tiny, "from": "host1", "to": "host2", "as": tiny}
    try:
        told = cloud.image.copy(name=tiny, dest="host2")
        assert told["from"] == "host1"
        lab.on("host2", f"qemu-img check {POOL}/tiny@1.qcow2")
        info = cloud.image.info(name=tiny)
        assert (info["same"], [host["host"] for host in info["hosts"]]) == (True, ["host1", "host2"])
        assert info["content"] == told["content"]
        assert len({host["uuid"] for host in info["hosts"]}) == 2
        # Nobody on either host can read the key from a list of processes, and nothing of it is left.
        secrets = [*folder(lab, "host1", "state").rglob("keys.psk"), *folder(lab, "host2", "state").rglob("keys.psk")]
        until(lambda: not [one for one in secrets if one.exists()], 5, "no keys are left")
        with pytest.raises(MaglicaError, match="tiny:1 exists on host2"):
            cloud.image.copy(name=tiny, dest="host2")
        cloud.image.promote(name=tiny)
        cloud.vm.clone(image="tiny:stable", hostname="vm1.example.jp", on="host2", customize="none")
        lab.console("host2", "vm1.example.jp", "maglica-guest:", 200)
    finally:
        lab.cli("vm", "remove", "vm1.example.jp", "--force", "--yes")
        lab.on("host2", f"virsh undefine {tiny}; rm -f {POOL}/tiny@1.qcow2", check=False)
        cloud.image.label(name=tiny, as_="stable", remove=True)


def test_a_clone_gets_its_image_first(lab: Lab, cloud: Cloud, tiny: str, clean: object) -> None:
    wanted = {"image": tiny, "hostname": "vm1.example.jp", "on": "host2", "customize": "none", "start": False}
    try:
        with pytest.raises(MaglicaError, match="host2 does not hold an image tiny:1"):
            cloud.vm.clone(**wanted)
        assert "gets tiny:1 from host1 first" in cloud.vm.clone.plan(**wanted, copy_image="auto")["why"]
        told = cloud.vm.clone(**wanted, copy_image="auto")
        assert (told["host"], told["image"]) == ("host2", tiny)
    finally:
        lab.cli("vm", "remove", "vm1.example.jp", "--yes")
        lab.on("host2", f"virsh undefine {tiny}; rm -f {POOL}/tiny@1.qcow2", check=False)


def test_an_image_is_exported(lab: Lab, cloud: Cloud, tiny: str, clean: object) -> None:
    told = cloud.image.export(name=tiny, format="vmdk", compress=True)
    (file,) = told["files"]
    try:
        assert file["path"] == str(folder(lab, "host1", "export") / "tiny@1.vmdk")
        compared = f"qemu-img compare -f vmdk -F qcow2 {file['path']} {POOL}/tiny@1.qcow2"
        assert "identical" in lab.on("host1", compared)
        with pytest.raises(MaglicaError, match="exists on host1"):
            cloud.image.export(name=tiny, format="vmdk")
    finally:
        Path(file["path"]).unlink(missing_ok=True)


def test_a_disk_that_names_a_file_of_the_host_is_refused(lab: Lab, cloud: Cloud, clean: object) -> None:
    path = folder(lab, "host1") / "bad.raw"
    lab.on("host1", f"qemu-img create -q -f qcow2 -b /etc/shadow -F raw {path} 1M")
    try:
        for format in ("raw", "qcow2", None):
            with pytest.raises(MaglicaError, match="rests on a backing file"):
                cloud.image.import_(source=str(path), name="bad:1", on="host1", format=format)
    finally:
        path.unlink()


def test_an_import_finds_no_room(lab: Lab, cloud: Cloud, clean: object) -> None:
    """A small packed file that becomes a big one: what it takes is known only when it is too late."""
    path = folder(lab, "host1") / "bomb.gz"
    path.write_bytes(gzip.compress(random.Random(6).randbytes(1 << 15) * 3200, 1))
    small = "mkdir /mnt/images-small && mount -t tmpfs -o size=340m small /mnt/images-small"
    lab.on("host1", f"{small} && virsh pool-create-as small dir --target /mnt/images-small")
    try:
        with pytest.raises(MaglicaError) as failed:
            cloud.image.import_(source=str(path), name="bomb:1", on="host1", format="raw", pool="small")
        assert failed.value.code == "no_capacity"
        assert lab.on("host1", "ls -A /mnt/images-small") == ""
    finally:
        path.unlink()
        lab.on("host1", "virsh pool-destroy small; umount /mnt/images-small; rmdir /mnt/images-small", check=False)


# ---------------------------------------------------------------------- what dies in the middle


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_an_import_ends_in_the_middle(lab: Lab, cloud: Cloud, clean: object, how: str) -> None:
    with ThreadingHTTPServer((client_address(lab), 0), Stalling) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{client_address(lab)}:{server.server_port}/x.raw"
        job = cloud.image.import_.submit(source=url, name="half:1", on="host1", format="raw")
        until(lambda: (job.progress()["done_bytes"] or 0) >= 1 << 20 or job.ended, 30, "some of it is here")
        if how == "cancel":
            job.cancel()
            assert failure(job).code == "cancelled"
        else:
            lab.daemon("kill", "host1")
            lab.daemon("start", "host1")
            assert failure(job).code == "lost"
        server.shutdown()


def held(lab: Lab, cloud: Cloud, name: str) -> JobHandle:
    """A copy to host2 whose server is held in its middle."""
    # Not before some of it has come: a server that nobody has spoken with yet waits for its lease to end.
    parts = Path(lab.config).parent / "host2" / "lib" / "images"
    hold = f"""until p=$(pgrep -f '{SERVER}') && [ -n "$(find {parts} -name '*.part' -size +999k)" ]; do :; done
        kill -STOP $p"""
    holding = subprocess.Popen([HOME / "lab" / "enter", f"--name={NAME}", "host1", "sh", "-c", hold])
    job = cloud.image.copy.submit(name=name, dest="host2")
    assert holding.wait(30) == 0
    until(lambda: job.progress()["step"] == "copy" or job.ended, 20, "it copies")
    assert not job.ended, job.record
    return job


def nobody_serves(lab: Lab) -> None:
    until(lambda: not lab.on("host1", "pgrep qemu-nbd", check=False), 15, "no qemu-nbd is left")
    for host in ("host1", "host2"):
        until(lambda host=host: not list((folder(lab, host, "state") / f"host-{host}" / "t").iterdir()), 10, "no keys")


def test_a_copy_is_cancelled(lab: Lab, cloud: Cloud, big: str, clean: object) -> None:
    job = held(lab, cloud, big)
    job.cancel()
    assert failure(job).code == "cancelled"
    nobody_serves(lab)


def test_the_host_that_gets_a_copy_dies(lab: Lab, cloud: Cloud, big: str, clean: object) -> None:
    job = held(lab, cloud, big)
    lab.daemon("kill", "host2")
    lab.daemon("start", "host2")
    assert failure(job).code == "lost"
    lab.on("host1", f"kill -CONT $(pgrep -f '{SERVER}')")
    # The one that was served has hung up; the checksum that was under way ends with the lease, or with the worker.
    until(lambda: not lab.on("host1", f"pgrep -f '{SERVER}'", check=False), 15, "the server has ended")
    lab.daemon("restart", "host1")
    nobody_serves(lab)


def test_the_host_that_serves_a_copy_dies(lab: Lab, cloud: Cloud, big: str, clean: object) -> None:
    job = held(lab, cloud, big)
    lab.daemon("kill", "host1")
    lab.daemon("start", "host1")
    assert failure(job).code in ("environment_error", "host_down")
    nobody_serves(lab)


def test_a_copy_goes_to_all_that_lack_it(lab: Lab, cloud: Cloud, big: str, clean: object) -> None:
    try:
        done = lab.cli("image", "copy", big, "--dest=all", "-o", "json")
        assert done.returncode == 0, done.stderr
        (item,) = json.loads(done.stdout)["items"]
        assert (item["name"], item["state"], item["host"]) == ("big:1@host2", "done", "host2")
        again = lab.cli("image", "copy", big, "--dest=all")
        assert again.returncode == 5
        assert "every host has an image big:1" in again.stderr
    finally:
        lab.on("host2", f"virsh undefine {big}; rm -f {POOL}/big@1.qcow2", check=False)
