"""Clones that are thin snapshots of a logical volume, as whole jobs: client worker here, host worker, libvirtd and LVM
on a kernel that has device-mapper.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud
from tests.daemons import House
from tests.waiting import until

from .lvm_host import IMAGE, LvmHost

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not os.environ.get("MAGLICA_TEST_LONG"), reason="a host boots; MAGLICA_TEST_LONG=1 runs it"),
    pytest.mark.skipif(not list(Path("/boot").glob("vmlinuz-*")), reason="this machine has no kernel to boot"),
]

DIES_AFTER = """cat > /usr/local/sbin/{command} <<'END'
#!/bin/sh
/usr/sbin/{command} "$@"
status=$?
kill -9 $(cat /run/worker.pid)
exit $status
END
chmod 755 /usr/local/sbin/{command}
"""
"""The real command; the host worker dies right after it."""


DIES_INSTEAD_OF = """cat > /usr/local/sbin/lvremove <<'END'
#!/bin/sh
kill -9 $(cat /run/worker.pid)
END
chmod 755 /usr/local/sbin/lvremove
"""


def dies(host: LvmHost) -> None:
    lives = "kill -0 $(cat /run/worker.pid) 2> /dev/null && echo lives || true"
    until(lambda: host.run(lives) == "", 120, "the host worker dies", pause=1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    house.configure(beat="2s")
    house.start()
    yield house
    house.close()


@pytest.fixture(scope="module")
def host(house: House) -> Iterator[LvmHost]:
    found = LvmHost(house, house.folder / "lvm")
    try:
        found.boot()
        found.start_worker()
        yield found
    finally:
        found.close()


@pytest.fixture
def cloud(house: House, host: LvmHost) -> Iterator[Cloud]:
    """Volumes and domains are as before afterwards."""
    had = (host.volumes(), host.domains())
    with house.connect() as cloud:
        yield cloud
    assert (host.volumes(), host.domains()) == had


def test_a_thin_clone_is_made_and_removed(cloud: Cloud, host: LvmHost) -> None:
    result = cloud.vm.clone(image=IMAGE, hostname="web1", customize="none", start=False)
    assert (result["mode"], result["pool"]) == ("thin", "lvm")
    assert [disk["path"] for disk in result["disks"]] == ["/dev/vg0/web1"]
    told = host.run("lvs --noheadings --options origin,pool_lv,lv_tags vg0/web1").split()
    assert told == [IMAGE, "thin", f"maglica-{cloud.job.list(vm='web1')[0]['id']}"]
    assert host.run("head -c 20 /dev/vg0/web1") == "what is on the image"
    host.run("printf 'the clone' | dd of=/dev/vg0/web1 bs=1M conv=sync oflag=direct")
    assert host.run(f"head -c 20 /dev/vg0/{IMAGE}") == "what is on the image", "they share, and are two"
    assert "<source dev='/dev/vg0/web1'" in host.run("virsh dumpxml web1")
    assert cloud.vm.remove(name="web1")["deleted"] == ["/dev/vg0/web1"]
    assert "web1" not in host.volumes()


@pytest.mark.parametrize("command", ["lvcreate", "lvrename"])
def test_the_host_worker_is_killed(command: str, cloud: Cloud, host: LvmHost) -> None:
    """Right after the snapshot was made, and right after it got its name: what was made is taken back."""
    before = host.volumes()
    host.run(DIES_AFTER.format(command=command))
    job = cloud.vm.clone.submit(image=IMAGE, hostname="victim", mode="thin", customize="none", start=False)
    dies(host)
    assert len(host.volumes() - before) == 1, "what it made is there"
    host.run(f"rm /usr/local/sbin/{command}")
    host.start_worker()
    with pytest.raises(MaglicaError) as lost:
        job.wait(timeout=120)
    assert lost.value.code == "lost"
    assert host.volumes() == before
    cloud.vm.clone(image=IMAGE, hostname="victim", mode="thin", customize="none", start=False)
    cloud.vm.remove(name="victim")


def test_the_host_worker_is_killed_amid_a_removal(cloud: Cloud, host: LvmHost) -> None:
    """The definition is gone and the volume is not: it goes with the next start."""
    cloud.vm.clone(image=IMAGE, hostname="web3", mode="thin", customize="none", start=False)
    host.run(DIES_INSTEAD_OF)
    job = cloud.vm.remove.submit(name="web3")
    dies(host)
    assert "web3" in host.volumes() - host.domains()
    host.run("rm /usr/local/sbin/lvremove")
    host.start_worker()
    assert job.wait(timeout=120)["changed"] is True, "its whole effect is seen"
    until(lambda: "web3" not in host.volumes(), 60, "the volume is gone", pause=1)


def test_a_thin_pool_that_is_nearly_full_is_passed_over(cloud: Cloud, host: LvmHost) -> None:
    host.run("lvcreate --yes --virtualsize 192M --thinpool thin --name rubbish vg0")
    host.run("dd if=/dev/zero of=/dev/vg0/rubbish bs=1M count=190 oflag=direct")
    try:
        with pytest.raises(MaglicaError, match="thin pool vg0/thin is full to 9") as refused:
            cloud.vm.clone(image=IMAGE, hostname="web2", mode="thin", customize="none", start=False)
        assert refused.value.code == "no_capacity"
        assert "lvextend" in refused.value.hint
    finally:
        host.run("lvremove --yes vg0/rubbish; sleep 2")
    cloud.vm.clone(image=IMAGE, hostname="web2", mode="thin", customize="none", start=False)
    cloud.vm.remove(name="web2")
