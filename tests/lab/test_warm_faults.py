"""What dies or hangs in the middle of a customisation, through the whole house: the host worker, the appliance's QEMU,
the storage daemon under it. The clone that is handed out is right, or the job says truthfully that there is none, and
nothing is left. A lab of its own, whose one host keeps one appliance.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import maglica
from maglica.cloud import JobHandle
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import NAME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
LONG = pytest.mark.skipif(not os.environ.get("MAGLICA_TEST_LONG"), reason="MAGLICA_TEST_LONG=1 runs it")

IMAGE = "tiny.original"
EDITING = ("read", "edit", "verify")
POOL = "/var/lib/libvirt/images"
QEMU, DAEMON = "/usr/bin/qemu-system-x86_64 .*guestfs.*", "qemu-storage-daemon .*"
"""Command lines, as pgrep(1) knows them."""

FILES = {f"/srv/file{number}": f"content {number}\n" for number in range(40)}
"""So many that an edit, and the second reading, take long enough to be hit in their middle."""

WARM_TIMEOUT = 30
"""Seconds that an edit may take here."""

ENDS_WITHIN = 800.0
"""Seconds: what bounds a job's customisation (`warm_timeout`, then `customize_timeout`), and the rest of the job."""


@pytest.fixture(scope="module")
def warm() -> Iterator[Lab]:
    found = Lab(f"{NAME[:8]}w")
    found("down")
    settings = ("warm_appliances=1", f"warm_timeout={WARM_TIMEOUT}s")
    found(
        "up", "--hosts=1", "--image=tiny", *(f"--set=host_worker.{setting}" for setting in settings), timeout=600
    )  # fmt: skip
    try:
        yield found
    finally:
        found("down")


@pytest.fixture
def cloud(warm: Lab) -> Iterator[Cloud]:
    """No appliance stands, and everything is as before afterwards."""
    warm.daemon("restart", "host1")
    with maglica.connect(config_file=warm.config) as cloud:
        until(lambda: all(host["state"] == "up" for host in cloud.host.list()), 30, "the host is up")
        had = (warm.files("host1"), warm.domains("host1"))
        assert (processes(warm), folders(warm)) == ("", [])
        yield cloud
        until(lambda: (warm.files("host1"), warm.domains("host1")) == had, 20, f"as before: {had}")


def submit(cloud: Cloud) -> JobHandle:
    return cloud.vm.clone.submit(image=IMAGE, hostname="victim", mode="linked", start=False, write=FILES)


def begin(cloud: Cloud) -> JobHandle:
    """A clone whose disk a warm appliance, which has served another one before, is writing to just now."""
    assert works(cloud, "before")["appliance"] == "warm"
    job = submit(cloud)
    reaches(job, *EDITING)
    assert not job.ended, job.record
    return job


def reaches(job: JobHandle, *steps: str) -> None:
    wanted = tuple(f"customize: {step}" for step in steps)
    until(lambda: job.ended or str(job.progress()["step"]) in wanted, 240, f"one of {wanted}")


def works(cloud: Cloud, name: str = "after") -> dict[str, object]:
    """The next clone is verified; what it was made by."""
    result = cloud.vm.clone(image=IMAGE, hostname=name, mode="linked", start=False)
    assert result["guest"]["verified"] is True
    cloud.vm.remove(name=name)
    return dict(result["guest"])


def processes(lab: Lab) -> str:
    """Appliances and what serves them."""
    words = "qemu-storage-daemon|guest.child|guestfs"
    return lab.on("host1", f"ps -eo pid,args | grep -E '{words}' | grep -v grep", check=False)


def folders(lab: Lab) -> list[str]:
    """What is left in /tmp of children of this host worker, which are known by the folder of its journal."""
    journal = Path(lab.config).parent / "host1" / "worker" / "state" / "host-host1"
    facts = journal.stat()
    return [str(path) for path in Path("/tmp").glob(f"maglica-guest-{facts.st_dev}-{facts.st_ino}-*")]


def strike(lab: Lab, program: str, signal: str = "KILL") -> None:
    """Send a signal to the one process of that command line, as soon as there is one."""
    script = f'until pid=$(pgrep -xf "{program}"); do sleep 0.1; done; kill -{signal} $pid'
    lab.on("host1", f"timeout 60 sh -c '{script}'")


def is_right(lab: Lab, folder: Path, name: str = "victim") -> None:
    """The clone's disk, read without libguestfs and without us: whole, and with what was asked for."""
    assert lab.on("host1", f"qemu-img check -q {POOL}/{name}.qcow2; echo $?").strip() == "0"
    raw = folder / "disk.raw"
    lab.on("host1", f"qemu-img convert -f qcow2 -O raw {POOL}/{name}.qcow2 {raw}")
    with raw.open("rb") as whole:
        whole.seek(1 << 20)
        (bare := folder / "disk.ext4").write_bytes(whole.read())
    assert subprocess.run(["e2fsck", "-fn", bare], capture_output=True, check=False).returncode == 0
    assert _read(bare, "/etc/hostname") == f"{name}\n"
    assert _read(bare, "/etc/machine-id") == ""
    for path, text in FILES.items():
        assert _read(bare, path) == text


def _read(file_system: Path, path: str) -> str:
    return subprocess.run(
        ["debugfs", "-R", f"cat {path}", file_system], check=True, capture_output=True, text=True
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("program", "signal", "where"),
    [
        (QEMU, "KILL", "edit"),
        (DAEMON, "KILL", "launch"),
        pytest.param(QEMU, "KILL", "launch", marks=LONG),
        pytest.param(DAEMON, "KILL", "edit", marks=LONG),
        pytest.param(QEMU, "STOP", "edit", marks=LONG),
    ],
    ids=["qemu-edit", "daemon-launch", "qemu-launch", "daemon-edit", "qemu-hangs"],
)
def test_a_part_of_the_appliance_dies_or_hangs(
    program: str, signal: str, where: str, warm: Lab, cloud: Cloud, tmp_path: Path
) -> None:
    """The disk is thrown away and made anew, in an appliance of its own."""
    if where == "edit":
        job = begin(cloud)
    else:
        reaches(job := submit(cloud), "launch")
    strike(warm, program, signal)
    result = job.wait(timeout=ENDS_WITHIN)
    assert (result["guest"]["verified"], result["guest"]["appliance"]) == (True, "cold")
    assert str(result["guest"]["note"]).startswith("the warm one failed: ")
    assert [step["name"] for step in job.record["steps"]].count("copy") == 2
    assert (processes(warm), folders(warm)) == ("", [])
    is_right(warm, tmp_path)
    cloud.vm.remove(name="victim")


def test_qemu_dies_in_the_second_appliance_as_well(warm: Lab, cloud: Cloud) -> None:
    """There is no third try: the job says so, and has left nothing."""
    job = begin(cloud)
    strike(warm, QEMU)
    reaches(job, "launch")
    strike(warm, QEMU)
    with pytest.raises(MaglicaError, match="the libguestfs appliance did not start") as failed:
        job.wait(timeout=ENDS_WITHIN)
    assert failed.value.code == "environment_error"
    assert (processes(warm), folders(warm)) == ("", [])
    assert [vm["name"] for vm in cloud.vm.list()] == []
    assert not [name for name in warm.files("host1") if "victim" in name]
    assert works(cloud)["appliance"] == "warm", "an appliance that served is not held to be one that cannot be launched"


def test_the_host_worker_is_killed(warm: Lab, cloud: Cloud) -> None:
    job = begin(cloud)
    assert "qemu-storage-daemon" in processes(warm)
    assert folders(warm)
    warm.daemon("kill", "host1")
    warm.daemon("start", "host1")
    with pytest.raises(MaglicaError) as lost:
        job.wait(timeout=60)
    assert lost.value.code == "lost"
    assert "victim does not exist" in lost.value.message
    assert [vm["name"] for vm in cloud.vm.list()] == []
    assert not [name for name in warm.files("host1") if "victim" in name]
    until(lambda: (processes(warm), folders(warm)) == ("", []), 20, "nothing of the old one")
    assert works(cloud)["appliance"] == "warm"
