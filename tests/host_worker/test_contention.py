"""What a VM that lives has for itself: nothing else comes to life with it (libvirt's test driver; pure functions)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed, Refused
from maglica.host_worker import undo
from maglica.host_worker.domain import contention, starting
from maglica.host_worker.domain.contention import Hold, Mount
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, domain, world

MAC, OTHER_MAC = "52:54:00:00:00:99", "52:54:00:00:00:98"
PAUSED, SUSPENDED = 3, 7
READS = "<disk type='file' device='disk'><source file='/default-pool/web1.img'/><target dev='vdb'/><readonly/></disk>"
RBD = """<disk type='network' device='disk'><target dev='vdc'/>
<source protocol='rbd' name='vms/shop'><host name='mon1' port='6789'/></source></disk>"""
SHARED = RBD.replace("<target", "<shareable/><target")


def taken(folder: Path, mine: dict[str, Any], theirs: dict[str, Any]) -> Ward:
    """web1 and web2, each with a disk and a card of its own, and what is given besides; web2 runs."""
    one = domain("web1", **{"mac": OTHER_MAC, "state": 5, **mine})
    two = domain("web2", **{"mac": MAC, "state": 1, **theirs})
    names = ["web1.img", "web2.img", f"{IMAGE}.img"]
    return Ward(folder, world(folder, off=(IMAGE,), volumes=names, more=one + two))


# Brings web1 to life: the state that it is in before, and the job.
TO_LIFE: dict[str, tuple[int, Callable[[Ward], None], str, dict[str, Any]]] = {
    "start": (5, lambda ward: None, "vm start", {}),
    "resume": (PAUSED, lambda ward: None, "vm resume", {}),
    "pmwakeup": (SUSPENDED, lambda ward: None, "vm pmwakeup", {}),
    "restart": (1, lambda ward: None, "vm restart", {}),
    "start from a managed save": (1, lambda ward: _do(ward, "vm managedsave"), "vm start", {}),
    "set-vcpus --offline": (1, lambda ward: None, "vm set-vcpus", {"vcpus": 2, "offline": True}),
    "rename --offline": (1, lambda ward: None, "vm rename", {"to": "web9", "customize": "none", "offline": True}),
    "revert": (5, lambda ward: _snapshot(ward), "snapshot revert", {"label": "a", "state": "running"}),
}


def _do(ward: Ward, verb: str) -> None:
    ward.do(verb, name="web1")


def _snapshot(ward: Ward) -> None:
    text = "<domainsnapshot><name>a</name></domainsnapshot>"
    ward.hypervisor._connect().lookupByName("web1").snapshotCreateXML(text)


@pytest.mark.parametrize("way", TO_LIFE)
def test_a_vm_does_not_come_to_life_with_the_mac_address_of_one_that_runs(tmp_path: Path, way: str) -> None:
    state, before, verb, args = TO_LIFE[way]
    ward = taken(tmp_path, {"mac": MAC, "state": state}, {})
    before(ward)
    error = ward.refusal(verb, name="web1", **args)
    assert (error.code, f"web2 runs, and has the MAC address {MAC}" in error.message) == ("wrong_state", True)
    assert "stop that one first" in error.hint
    ward.do("vm stop", name="web2")
    if verb == "vm pmwakeup":
        with pytest.raises(Failed, match="not supported by the connection driver"):
            ward.do(verb, name="web1")
    else:
        assert ward.do(verb, name="web1", **args)["changed"] is True
    ward.close()


@pytest.mark.parametrize(
    ("mine", "theirs", "path"),
    [
        (READS.replace("web1", "web2"), "", "/default-pool/web2.img"),  # one reads what the other one writes
        (RBD, RBD, "rbd:vms/shop@mon1:6789"),
        (RBD, SHARED, "rbd:vms/shop@mon1:6789"),
        (RBD, RBD.replace("mon1", "mon2"), None),
        (SHARED, SHARED, None),
        ("", "", None),
    ],
)
def test_disks(tmp_path: Path, mine: str, theirs: str, path: str | None) -> None:
    ward = taken(tmp_path, {"more": mine}, {"more": theirs})
    if path:
        assert f"web2 runs, and has its disk {path}" in ward.refusal("vm start", name="web1").message
    else:
        assert ward.do("vm start", name="web1")["state"] == "running"
    ward.close()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Ward]:
    """A ward whose pool is a folder that exists: memory can be saved to a file in it."""
    pool = tmp_path / "pool"
    pool.mkdir()
    one, two = domain("web1", mac=MAC, state=1), domain("web2", mac=OTHER_MAC, state=5)
    uri = world(tmp_path, volumes=["web1.img", "web2.img"], more=one + two)
    text = (tmp_path / "world.xml").read_text()
    (tmp_path / "world.xml").write_text(text.replace("/default-pool", str(pool)))
    ward = Ward(tmp_path, uri, pool_reserve=1 << 20)
    yield ward
    ward.close()


def test_saved_memory_goes_on_with_the_devices_that_it_had(real: Ward) -> None:
    """The definition is changed behind our back meanwhile, and the other VM gets that address."""
    real.do("vm save", name="web1")
    mark = real.domain("web1").mark
    text = real.hypervisor.definition("web1")
    real.hypervisor.define(text.replace(MAC, "52:54:00:00:00:97"))
    real.hypervisor.define(real.hypervisor.definition("web2").replace(OTHER_MAC, MAC))
    real.do("vm start", name="web2")
    assert real.domain("web1").mark == mark
    assert f"web2 runs, and has the MAC address {MAC}" in real.refusal("vm restore", name="web1").message
    real.do("vm stop", name="web2")
    assert real.do("vm restore", name="web1")["state"] == "running"


@pytest.mark.parametrize(("verb", "args"), [("vm restart", {}), ("vm set-vcpus", {"vcpus": 2, "offline": True})])
def test_it_is_looked_at_again_right_before_the_start(tmp_path: Path, verb: str, args: dict[str, Any]) -> None:
    """Somebody starts the other one while the first one shuts down."""
    ward = taken(tmp_path, {"mac": MAC, "state": 1}, {"state": 5})

    def meddle() -> None:
        if ward.hypervisor.state("web1") == "shut-off" and ward.hypervisor.state("web2") == "shut-off":
            ward.hypervisor.start("web2")

    with pytest.raises(Failed, match=f"web2 runs, and has the MAC address {MAC}"):
        ward.do(verb, name="web1", changed=meddle, **args)
    assert ward.hypervisor.state("web1") == "shut-off"
    assert ward.domain("web1").vcpus == 1
    ward.close()


def test_two_are_not_started_side_by_side(tmp_path: Path) -> None:
    ward = taken(tmp_path, {"mac": MAC}, {"state": 5})
    told = "web2 cannot be started: another VM that has a disk or a MAC"
    with starting.to_be_written("web1", [], ward.host), pytest.raises(Refused, match=told):
        ward.do("vm start", name="web2")
    assert ward.do("vm start", name="web2")["changed"] is True
    ward.close()


def test_what_ran_is_not_started_again_beside_one_that_took_its_place(tmp_path: Path) -> None:
    ward = taken(tmp_path, {"mac": MAC}, {})
    undo.start_again(ward.hypervisor, ward.domain("web1").uuid)
    assert ward.hypervisor.state("web1") == "shut-off"
    ward.hypervisor.destroy("web2")
    undo.start_again(ward.hypervisor, ward.domain("web1").uuid)
    assert ward.hypervisor.state("web1") == "running"
    ward.close()


# ------------------------------------------------------------------------------------------------ other hosts

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 22 0:44 / /srv/vms rw,relatime shared:30 - nfs4 nas.example.jp:/export/vms rw,vers=4.2
91 22 0:45 /images /srv/with\\040blank rw - nfs nas.example.jp:/export rw
92 90 0:46 / /srv/vms/own rw - tmpfs tmpfs rw
93 22 0:47 / /mnt/share rw - cifs //nas/share rw
"""


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/srv/vms/web1.qcow2", "nfs:nas.example.jp:/export/vms/web1.qcow2"),
        ("/srv/with blank/web1.qcow2", "nfs:nas.example.jp:/export/images/web1.qcow2"),
        ("/mnt/share/web1.qcow2", "cifs://nas/share/web1.qcow2"),
        ("/srv/vms/own/web1.qcow2", None),
        ("/srv/vmsother/web1.qcow2", None),
        ("/var/lib/libvirt/images/web1.qcow2", None),
        ("rbd:vms/shop@mon1:6789", "rbd:vms/shop@mon1:6789"),
    ],
)
def test_what_a_disk_is_called_on_every_host(path: str, word: str | None) -> None:
    assert contention.elsewhere(path, contention.mounts(MOUNTINFO)) == word


def test_of_two_mounts_on_one_folder_the_later_one_is_seen() -> None:
    known = [Mount("/srv", "/", "nfs", "nas:/a"), Mount("/srv", "/", "ext4", "/dev/sdb1")]
    assert contention.elsewhere("/srv/x", known) is None
    assert contention.elsewhere("/srv/x", known[::-1]) == "nfs:nas:/a/x"


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [(True, True, "a"), (True, False, "a"), (False, True, "a"), (False, False, None)],
)
def test_one_that_wants_a_disk_alone_is_enough(mine: bool, theirs: bool, expected: str | None) -> None:
    assert contention.clash([Hold("a", mine)], [Hold("b", theirs), Hold("A", theirs)], str.lower) == expected


def test_a_file_that_the_other_side_has_twice_counts_as_written() -> None:
    assert contention.clash([Hold("a", False)], [Hold("a", True), Hold("a", False)], str) == "a"


def test_what_a_survey_tells(tmp_path: Path) -> None:
    ward = taken(tmp_path, {"more": SHARED}, {"more": RBD})
    plain = ward.read("host survey", room=False)
    assert not any("lives" in one for one in plain["domains"])
    for room in (False, True):
        told = {one["name"]: one.get("lives") for one in ward.read("host survey", room=room, lives=True)["domains"]}
        word = "rbd:vms/shop@mon1:6789"
        assert told["web1"] == {"macs": [OTHER_MAC], "alone": [], "along": [word]}
        assert told["web2"] == {"macs": [MAC], "alone": [word], "along": []}
    ward.close()
