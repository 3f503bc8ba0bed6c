"""Saved memory counts on the disks and devices of its VM as they are: every verb that would change them is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.declare import Where
from maglica.host_worker import jobs
from maglica.host_worker.domain import saved
from maglica.host_worker.work import Planned, Work
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, domain, world

KEPT_BY = {"vm save": "vm restore", "vm managedsave": "vm start"}  # the verb: what lets the VM go on

SOUND = "<sound model='ich6'/>"
SERIAL = "<serial type='null'><target port='0'/></serial>"
CDROM = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>"
UUID = "22222222-2222-4222-8222-222222222222"
OTHER = domain("web1", uuid=UUID, memory=1 << 30)
MAC = "52:54:00:00:00:99"

# What changes a VM's disks, devices or size, with arguments that would change something.
CHANGES: dict[str, dict[str, Any]] = {
    "nic attach": {"network": "default"},
    "nic detach": {"mac": MAC},
    "nic link": {"mac": MAC, "state": "down"},
    "snapshot create": {"label": "b"},
    "snapshot remove": {"label": "a"},
    "snapshot revert": {"label": "a"},
    "vm attach-device": {"file": SOUND},
    "vm attach-disk": {"size": "1G"},
    "vm attach-iso": {"iso": "cd.iso"},
    "vm change-address": {"address": "192.0.2.9/24"},
    "vm detach-device": {"file": SERIAL},
    "vm detach-disk": {"target": "vda"},
    "vm eject": {},
    "vm flatten": {},
    "vm pin": {"cpus": "0"},
    "vm redefine": {"file": OTHER},
    "vm rename": {"to": "db1", "customize": "none"},
    "vm set-boot-device": {"dev": "cdrom"},
    "vm set-disk": {"size": "+1G"},
    "vm set-io-weight": {"weight": 200},
    "vm set-max-memory": {"size": "2G"},
    "vm set-memory": {"size": "1G"},
    "vm set-vcpus": {"vcpus": 2},
    "vm tune": {"kind": "memtune", "set": ["hard_limit=1G"]},
    "vm update-device": {"file": CDROM},
}
# What leaves them alone, cannot be asked of a VM that is off, or ends what was saved on purpose.
OTHERS = {
    "image remove", "image seal", "image upgrade", "vm adopt", "vm autostart", "vm describe", "vm destroy", "vm dump",
    "vm exec", "vm forget", "vm fstrim", "vm managedsave", "vm nmi", "vm owner", "vm passwd", "vm pmsuspend",
    "vm pmwakeup", "vm protect", "vm put", "vm reboot", "vm remove", "vm reset", "vm restart", "vm restore",
    "vm resume", "vm save", "vm send-key", "vm set-state", "vm set-time", "vm ssh-key", "vm start", "vm stop",
    "vm suspend", "vm sync", "vm tag", "vm undefine", "vm unprotect", "vm untag",
}  # fmt: skip


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    """web1 runs, has a CD-ROM drive, a serial port and a snapshot, and its pool is a folder that exists."""
    pool = tmp_path / "pool"
    pool.mkdir()
    one = domain("web1", uuid=UUID, mac=MAC, state=1, more=CDROM + SERIAL)
    uri = world(tmp_path, off=("web2", IMAGE), volumes=["web1.img", "web2.img", "cd.iso", f"{IMAGE}.img"], more=one)
    text = (tmp_path / "world.xml").read_text()
    (tmp_path / "world.xml").write_text(text.replace("/default-pool", str(pool)))
    found = Ward(tmp_path, uri, pool_reserve=1 << 20)
    found.hypervisor._connect().lookupByName("web1").snapshotCreateXML(
        "<domainsnapshot><name>a</name></domainsnapshot>"
    )
    yield found
    found.close()


@pytest.mark.parametrize("keeps", KEPT_BY)
def test_what_would_be_damaged_is_refused(ward: Ward, keeps: str) -> None:
    before = ward.domain("web1")
    ward.do(keeps, name="web1")
    kept = ward.hypervisor.layout("web1")[1]
    for verb, args in CHANGES.items():
        error = ward.refusal(verb, name="web1", **args)
        assert (error.code, "memory of web1 was saved" in error.message) == ("wrong_state", True), (verb, error.message)
        assert KEPT_BY[keeps] in error.hint, verb
        assert "--discard" in error.hint, verb
        assert ward.hypervisor.layout("web1")[1] == kept, verb
    ward.do(KEPT_BY[keeps], name="web1")
    assert ward.domain("web1") == before


def test_every_verb_is_in_one_of_the_two_lists() -> None:
    """A new verb has to say whether saved memory is in its way."""
    known = {name for name, one in declare.load_all().items() if one.CHANGES and one.WHERE == Where.OWNER}
    assert known == CHANGES.keys() | OTHERS
    assert not CHANGES.keys() & OTHERS


def test_a_record_is_forgotten_all_the_same(ward: Ward) -> None:
    """As far as the test driver goes: it does not know the flag."""
    ward.do("vm managedsave", name="web1")
    want = declare.build("snapshot remove", {"name": "web1", "label": "a", "metadata_only": True})
    with pytest.raises(Planned) as planned:
        jobs.function(want)(want, ward.host, Work("dry", 60.0, ward.journal, lambda: None, dry_run=True))
    assert planned.value.plan["remove"] == ["a"]


def test_a_file_that_is_no_use_any_more_is_in_nobodys_way(ward: Ward) -> None:
    """A crash after a start leaves the word of a file in the definition of a VM that runs; a file may be gone, too."""
    path = ward.do("vm save", name="web1")["file"]
    assert ward.refusal("vm set-vcpus", name="web1", vcpus=2).code == "wrong_state"
    ward.hypervisor.start("web1")
    assert ward.domain("web1").mark[saved.MARK] == path
    assert ward.do("vm set-memory", name="web1", size="256M", shrink=True)["changed"] is True
    ward.hypervisor.destroy("web1")
    assert ward.refusal("vm set-vcpus", name="web1", vcpus=2).code == "wrong_state"
    Path(path).unlink()
    assert ward.do("vm set-vcpus", name="web1", vcpus=2)["changed"] is True
