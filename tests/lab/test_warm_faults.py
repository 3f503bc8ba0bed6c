"""A host worker that dies in the middle of an edit by a warm appliance: no disk of it is handed out, nothing of it is
left, and the next clone is as good as any. A lab of its own, whose one host keeps one appliance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import maglica
from maglica.cloud import JobHandle
from maglica.errors import MaglicaError
from maglica.nouns import Cloud

from .conftest import NAME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

IMAGE = "tiny.original"
EDITING = ("read", "edit", "verify")


@pytest.fixture(scope="module")
def warm() -> Iterator[Lab]:
    found = Lab(f"{NAME[:8]}w")
    found("down")
    found("up", "--hosts=1", "--image=tiny", "--set=host_worker.warm_appliances=1", timeout=600)
    try:
        yield found
    finally:
        found("down")


@pytest.fixture
def cloud(warm: Lab) -> Iterator[Cloud]:
    """An appliance stands ready, and everything is as before afterwards."""
    with maglica.connect(config_file=warm.config) as cloud:
        until(lambda: all(host["state"] == "up" for host in cloud.host.list()), 30, "the host is up")
        cloud.vm.clone(image=IMAGE, hostname="before", mode="linked", start=False)
        cloud.vm.remove(name="before")
        had = (warm.files("host1"), warm.domains("host1"))
        yield cloud
        until(lambda: (warm.files("host1"), warm.domains("host1")) == had, 20, f"as before: {had}")


def begin(cloud: Cloud) -> JobHandle:
    """A clone whose disk the warm appliance is writing to just now."""
    job = cloud.vm.clone.submit(image=IMAGE, hostname="victim", mode="linked", start=False)
    steps = tuple(f"customize: {step}" for step in EDITING)
    until(lambda: job.ended or str(job.progress()["step"]) in steps, 90, f"one of {steps}")
    assert not job.ended, job.record
    return job


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
