"""What each action does to VMs: libvirt's test driver in this process, no guest and no disk of flesh and blood."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.client_worker.placement import place
from maglica.config import HostWorkerSection, PathsSection
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import jobs, signs
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import STATES, Hypervisor
from maglica.host_worker.journal import Journal
from maglica.host_worker.work import Work
from tests.host_worker.worlds import IMAGE, GiB, MiB, domain, world

UUID = "22222222-2222-4222-8222-222222222222"
PAUSED, CRASHED, SUSPENDED = 3, 6, 7


# Steps of which the sign may be there before: what they do is no part of what the job is about.
AFTERWARDS = ("wait for the guest",)


class Watched(Work):
    """The work of a job of which no sign may be seen before the step is done that it is the sign of."""

    hypervisor: Hypervisor

    def step(
        self, name: str, note: str | None = None, *, sign: dict[str, Any] | None = None
    ) -> AbstractContextManager[dict[str, Any]]:
        if sign and name not in AFTERWARDS:
            assert not signs.seen(sign, self.hypervisor), f"killed before it is done, step {name} would be told as done"
        return super().step(name, note, sign=sign)


class Ward:
    """A hypervisor and the one who does things to it."""

    def __init__(self, folder: Path, uri: str, acceleration: str = "tcg", **settings: Any) -> None:
        self.hypervisor = Hypervisor(uri)
        self.host = Host(
            "host1", self.hypervisor, HostWorkerSection(libvirt_uri=uri, **settings), acceleration, "", Storage(),
            paths=PathsSection(state=os.path.abspath(folder / "state")),
        )  # fmt: skip
        self.journal = Journal(str(folder / "journal.db"))
        self.jobs = 0

    def close(self) -> None:
        self.journal.close()
        self.hypervisor.close()

    def read(self, action: str, **args: Any) -> dict[str, Any]:
        want = declare.build(action, args)
        return jobs.function(want)(want, self.host)

    def do(self, action: str, *, changed: Callable[[], None] = lambda: None, **args: Any) -> dict[str, Any]:
        want = declare.build(action, args)
        self.jobs += 1
        self.work = Watched(f"job{self.jobs}", 60.0, self.journal, changed)
        self.work.hypervisor = self.hypervisor
        return jobs.function(want)(want, self.host, self.work)

    def refusal(self, action: str, **args: Any) -> MaglicaError:
        """What a job is refused with: nothing was changed, and nothing is to be undone."""
        before = self.seen()
        with pytest.raises(Refused) as refused:
            self.do(action, **args)
        assert self.seen() == before
        assert self.journal.undos(self.work.job) == []
        assert self.work.report()["steps"] == []
        return refused.value

    def seen(self) -> tuple[list[tuple[str, str]], list[str]]:
        """All domains with their states, and all volumes."""
        return sorted((found.name, state) for found, state in self.hypervisor.domains()), self.volumes()

    def volumes(self) -> list[str]:
        """As libvirt itself tells, by our connection: a world of the test driver belongs to the one that opened it."""
        return sorted(self.hypervisor._connect().storagePoolLookupByName("default-pool").listVolumes())

    def domain(self, name: str) -> domain_xml.Domain:
        return domain_xml.read(self.hypervisor.definition(name))


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    found = Ward(tmp_path, world(tmp_path, "web1", off=("web2", IMAGE)))
    yield found
    found.close()


def ward_with(folder: Path, state: int) -> Ward:
    """A ward whose VM web1 is in this state."""
    more = domain("web1", state=state)
    return Ward(folder, world(folder, off=(IMAGE,), volumes=["web1.img", f"{IMAGE}.img"], more=more))


# ------------------------------------------------------------------------------------------------- list, info


def listed(ward: Ward, **args: Any) -> list[str]:
    return sorted(item["name"] for item in ward.read("vm list", **args)["items"])


def test_list(ward: Ward) -> None:
    assert listed(ward) == ["web1", "web2"]
    assert listed(ward, all=True) == [IMAGE, "web1", "web2"]
    assert listed(ward, state="running") == ["web1"]
    assert listed(ward, state="shut-off") == ["web2"]
    assert listed(ward, state="paused") == []
    assert listed(ward, host="host1") == ["web1", "web2"]
    assert listed(ward, host="host10") == listed(ward, host="host") == []


def test_what_a_list_tells(ward: Ward) -> None:
    found = {item["name"]: item for item in ward.read("vm list")["items"]}
    assert found["web1"] == {
        "name": "web1",
        "state": "running",
        "vcpus": 1,
        "memory_bytes": 512 * MiB,
        "uptime_seconds": None,
        "ips": found["web1"]["ips"],
        "image": None,
        "uuid": ward.domain("web1").uuid,
        "record_state": "online",
        "protected": False,
        "tags": [],
        "owner": None,
        "description": None,
    }
    assert isinstance(found["web1"]["ips"], list)
    assert found["web2"]["ips"] == []
    assert set(found["web1"]) == set(found["web2"]), "keys never vanish"
    ward.do("vm clone", image=IMAGE, hostname="new1", customize="none")
    (made,) = (item for item in ward.read("vm list")["items"] if item["name"] == "new1")
    assert made["image"] == IMAGE


def test_info(ward: Ward) -> None:
    item = ward.read("vm info", name="web1")["item"]
    assert (item["name"], item["state"], item["type"], item["vcpus"]) == ("web1", "running", "test", 1)
    assert (item["memory_bytes"], item["max_memory_bytes"]) == (512 * MiB, 512 * MiB)
    assert item["disks"] == [
        {
            "target": "vda",
            "device": "disk",
            "bus": "virtio",
            "path": "/default-pool/web1.img",
            "format": "raw",
            "capacity_bytes": 4 * GiB,
            "allocation_bytes": GiB,
            "rests_on": None,
        }
    ]
    assert item["trouble"] == []
    assert [nic["source"] for nic in item["nics"]] == ["default"]
    assert item["persistent"] is True
    assert item["autostart"] is False
    off = ward.read("vm info", name="web2")["item"]
    assert set(item) == set(off)
    assert (off["state"], off["ips"], off["cpu_seconds"]) == ("shut-off", [], None)


@pytest.mark.parametrize("action", ["vm info", "vm start", "vm stop", "vm restart", "vm destroy", "vm remove"])
def test_a_vm_that_does_not_exist(ward: Ward, action: str) -> None:
    ask = ward.read if action == "vm info" else ward.do
    with pytest.raises(Refused, match="there is no VM nosuch on this host") as refused:
        ask(action, name="nosuch")
    assert refused.value.code == "unknown_entity"


def test_images(ward: Ward) -> None:
    (item,) = ward.read("image list")["items"]
    assert item == {
        "name": IMAGE,
        "vcpus": 1,
        "memory_bytes": 512 * MiB,
        "capacity_bytes": 4 * GiB,
        "allocation_bytes": GiB,
        "disks": 1,
        "original": True,
        "uuid": ward.domain(IMAGE).uuid,
    }
    every = ward.read("image list", all=True)["items"]
    assert sorted(one["name"] for one in every) == [IMAGE, "web2"], "every inactive domain, when that is asked for"


# ---------------------------------------------------------------------------------------- start, stop, destroy


def test_start_stop_restart_destroy(ward: Ward) -> None:
    for action, state in (
        ("vm start", "running"),
        ("vm restart", "running"),
        ("vm stop", "shut-off"),
        ("vm start", "running"),
        ("vm destroy", "shut-off"),
    ):
        assert ward.do(action, name="web2") == {"name": "web2", "host": "host1", "state": state, "changed": True}
        assert ward.hypervisor.state("web2") == state
    assert ward.volumes() == [f"{IMAGE}.img", "web1.img", "web2.img"]


@pytest.mark.parametrize(
    ("action", "name"), [("vm start", "web1"), ("vm stop", "web2"), ("vm destroy", "web2")], ids=str
)
def test_nothing_to_change_is_no_error(ward: Ward, action: str, name: str) -> None:
    before = ward.seen()
    result = ward.do(action, name=name)
    assert result["changed"] is False
    assert result["state"] == ward.hypervisor.state(name)
    assert ward.seen() == before
    assert ward.work.report()["steps"] == []


def test_what_is_off_cannot_be_restarted(ward: Ward) -> None:
    error = ward.refusal("vm restart", name="web2")
    assert (error.code, error.message) == ("wrong_state", "web2 is shut-off")
    assert error.hint == "`maglica vm start web2` starts it"


@pytest.mark.parametrize("state", [PAUSED, CRASHED, SUSPENDED])
def test_what_is_neither_on_nor_off_is_not_started(tmp_path: Path, state: int) -> None:
    ward = ward_with(tmp_path, state)
    error = ward.refusal("vm start", name="web1")
    assert (error.code, error.message) == ("wrong_state", f"web1 is {STATES[state]}")
    assert ward.do("vm destroy", name="web1")["state"] == "shut-off"
    assert ward.do("vm start", name="web1")["changed"] is True
    ward.close()


def test_steps_are_told(ward: Ward) -> None:
    ward.do("vm restart", name="web1")
    assert [step["name"] for step in ward.work.report()["steps"]] == ["shut down", "start"]


# ------------------------------------------------------------------------------------------------------ remove


def test_remove(ward: Ward) -> None:
    result = ward.do("vm remove", name="web2")
    assert result == {
        "name": "web2",
        "host": "host1",
        "changed": True,
        "deleted": ["/default-pool/web2.img"],
    }
    assert ward.seen() == ([(IMAGE, "shut-off"), ("web1", "running")], [f"{IMAGE}.img", "web1.img"])


def test_only_what_that_job_made_is_removed(ward: Ward) -> None:
    ward.do("vm clone", image=IMAGE, hostname="new1", start=False, customize="none")
    job = ward.domain("new1").mark["job"]
    for name, by in (("new1", "20261201-000000-aaaa"), ("web2", job)):
        error = ward.refusal("vm remove", name=name, made_by=by)
        assert (error.code, error.message) == ("wrong_state", f"{name} was not made by job {by}")
    assert ward.do("vm remove", name="new1", made_by=job)["changed"] is True


def test_what_runs_is_removed_by_force_only(ward: Ward) -> None:
    error = ward.refusal("vm remove", name="web1")
    assert (error.code, error.message) == ("wrong_state", "web1 is running")
    assert "--force" in error.hint
    assert ward.do("vm remove", name="web1", force=True)["deleted"] == ["/default-pool/web1.img"]
    assert ward.seen()[0] == [(IMAGE, "shut-off"), ("web2", "shut-off")]


@pytest.mark.parametrize("state", [PAUSED, CRASHED, SUSPENDED])
def test_what_still_has_a_qemu_is_not_removed(tmp_path: Path, state: int) -> None:
    """libvirt would forget the definition, and the disks would go from under a guest that has them open."""
    ward = ward_with(tmp_path, state)
    assert ward.refusal("vm remove", name="web1").message == f"web1 is {STATES[state]}"
    ward.do("vm remove", name="web1", force=True)
    assert ward.seen() == ([(IMAGE, "shut-off")], [f"{IMAGE}.img"])
    ward.close()


def test_an_image_is_protected(ward: Ward) -> None:
    for force in (False, True):
        error = ward.refusal("vm remove", name=IMAGE, force=force)
        assert (error.code, error.message) == ("protected", f"{IMAGE} is an image")


def test_what_is_marked_as_an_image_is_protected_too(tmp_path: Path) -> None:
    mark = "<metadata><maglica:domain xmlns:maglica='urn:maglica:1' kind='image'/></metadata>"
    text = domain("golden").replace("<memory", f"{mark}<memory", 1)
    ward = Ward(tmp_path, world(tmp_path, off=("web2",)))
    ward.hypervisor.define(text)
    assert ward.refusal("vm remove", name="golden").code == "protected"
    assert [item["name"] for item in ward.read("image list")["items"]] == ["golden"]
    ward.close()


def test_disks_may_be_kept(ward: Ward) -> None:
    before = ward.volumes()
    result = ward.do("vm remove", name="web2", keep_disks=True)
    assert result["deleted"] == []
    assert ward.volumes() == before
    assert "web2" not in [name for name, _ in ward.seen()[0]]


def test_a_vm_whose_disk_another_one_uses_is_not_removed(ward: Ward) -> None:
    """D16."""
    ward.hypervisor.define(domain("other", disk="/default-pool/web2.img"))
    error = ward.refusal("vm remove", name="web2")
    assert error.code == "protected"
    assert error.message == "web2 cannot be removed: other uses its disk /default-pool/web2.img"
    assert "web2.img" in ward.volumes()
    ward.do("vm remove", name="web2", keep_disks=True)
    result = ward.do("vm remove", name="other")
    assert result["deleted"] == ["/default-pool/web2.img"], "nobody uses it any more"
    assert "web2.img" not in ward.volumes()


def test_a_vm_whose_disk_another_one_reads_is_not_removed(ward: Ward) -> None:
    cdrom = (
        "<disk type='file' device='cdrom'><source file='/default-pool/web2.img'/><target dev='sda' bus='sata'/>"
        "<readonly/></disk>"
    )
    ward.hypervisor.define(domain("other", disk="/default-pool/other.img", more=cdrom))
    assert ward.refusal("vm remove", name="web2").details == {"used": {"/default-pool/web2.img": "other"}}


def test_what_is_not_its_own_is_not_deleted(ward: Ward) -> None:
    """A CD that somebody forgot in the drive, and a disk that may be shared."""
    more = (
        "<disk type='file' device='cdrom'><source file='/default-pool/web1.img'/><target dev='sda' bus='sata'/>"
        "<readonly/></disk><disk type='file' device='disk'><source file='/default-pool/el9.original.img'/>"
        "<target dev='vdb' bus='virtio'/><shareable/></disk>"
    )
    ward.hypervisor.define(domain("other", disk="/default-pool/web2.img", more=more))
    ward.do("vm remove", name="web2", keep_disks=True)
    assert ward.do("vm remove", name="other")["deleted"] == ["/default-pool/web2.img"]
    assert ward.volumes() == [f"{IMAGE}.img", "web1.img"]


def test_a_base_is_not_started_under_what_rests_on_it(ward: Ward) -> None:
    ward.hypervisor.define(domain("other", disk="/default-pool/web2.img"))
    error = ward.refusal("vm start", name="web2")
    assert error.code == "protected"
    assert "other" in error.message


def test_an_image_is_never_started(ward: Ward) -> None:
    """What only has the name of one may be."""
    ward.do("vm start", name=IMAGE)
    ward.hypervisor.set_mark("web2", {"kind": "image"})
    assert "cloned, never started" in ward.refusal("vm start", name="web2").message


# ------------------------------------------------------------------------------------------------------- clone


def clone(ward: Ward, **args: Any) -> dict[str, Any]:
    return ward.do("vm clone", **{"image": IMAGE, "hostname": "new1", "customize": "none", **args})


def refused_clone(ward: Ward, **args: Any) -> MaglicaError:
    return ward.refusal("vm clone", **{"image": IMAGE, "hostname": "new1", "customize": "none", **args})


def test_clone(ward: Ward) -> None:
    result = clone(ward)
    image, made = ward.domain(IMAGE), ward.domain("new1")
    assert result["name"] == "new1"
    assert (result["host"], result["image"], result["state"]) == ("host1", IMAGE, "running")
    assert result["disks"] == [{"target": "vda", "path": "/default-pool/new1.img", "format": "raw"}]
    assert (result["mode"], result["pool"], result["guest"], result["emulated"]) == ("full", "default-pool", None, True)
    assert set(result["seconds"]) == {"copy", "define", "start"}
    assert made.uuid == result["uuid"] != image.uuid
    assert [nic["mac"] for nic in made.nics] == result["macs"] != [nic["mac"] for nic in image.nics]
    assert made.mark == {"kind": "clone", "image": IMAGE, "job": "job1", "mode": "full", "customize": "none"}
    assert made.memory_bytes == image.memory_bytes
    assert ward.volumes() == [f"{IMAGE}.img", "new1.img", "web1.img", "web2.img"]
    assert image == domain_xml.read(ward.hypervisor.definition(IMAGE))
    assert ward.hypervisor.state(IMAGE) == "shut-off"
    sizes = [ward.hypervisor.block_sizes(name, ward.domain(name).disks[0]) for name in (IMAGE, "new1")]
    assert sizes[0] == sizes[1]


def test_clone_with_wishes(ward: Ward) -> None:
    result = clone(ward, start=False, vcpus=4, memory="1G", mac="52:54:00:12:34:56")
    made = ward.domain("new1")
    assert (result["state"], result["macs"]) == ("shut-off", ["52:54:00:12:34:56"])
    assert (made.vcpus, made.memory_bytes) == (4, GiB)
    assert [nic["mac"] for nic in made.nics] == ["52:54:00:12:34:56"]


def test_two_clones_have_nothing_in_common(ward: Ward) -> None:
    one, two = clone(ward), clone(ward, hostname="new2")
    for key in ("uuid", "macs", "disks", "name"):
        assert one[key] != two[key]


def test_all_disks_of_an_image_are_cloned(tmp_path: Path) -> None:
    second = (
        "<disk type='volume' device='disk'><source pool='default-pool' volume='data'/><target dev='vdb' bus='virtio'/>"
        "</disk><disk type='file' device='cdrom'><source file='/iso/x.iso'/><target dev='sda' bus='sata'/><readonly/>"
        "</disk>"
    )
    more = domain(IMAGE, more=second, state=5)
    ward = Ward(tmp_path, world(tmp_path, volumes=[f"{IMAGE}.img", "data"], more=more))
    result = clone(ward)
    assert [disk["path"] for disk in result["disks"]] == ["/default-pool/new1-vda.img", "/default-pool/new1-vdb.img"]
    made = ward.domain("new1")
    assert [(disk.source, disk.path) for disk in made.disks] == [
        ("file", "/default-pool/new1-vda.img"),
        ("file", "/default-pool/new1-vdb.img"),
        ("file", "/iso/x.iso"),
    ]
    assert ward.volumes() == ["data", f"{IMAGE}.img", "new1-vda.img", "new1-vdb.img"]
    ward.do("vm remove", name="new1", force=True)
    assert ward.volumes() == ["data", f"{IMAGE}.img"]
    ward.close()


def test_clone_is_refused_before_anything_is_touched(ward: Ward) -> None:
    for args, code, message in (
        ({"image": "nosuch"}, "unknown_entity", "there is no VM nosuch on this host"),
        ({"image": "web1"}, "wrong_state", "web1 is running"),
        ({"hostname": "web1"}, "already_exists", "web1 exists on host1"),
        ({"hostname": "web2"}, "already_exists", "web2 exists on host1"),
        ({"mac": "52:54:00:00:00:01,52:54:00:00:00:02"}, "wrong_input", "--mac names 2 addresses"),
        ({"mode": "linked"}, "environment_error", "new1 cannot be cloned: linked: overlays need disks that are files"),
        ({"customize": "guestfs"}, "environment_error", "host1 has no real disks"),
        ({"format": "vmdk"}, "environment_error", "host1 has no real disks to export"),
    ):
        error = refused_clone(ward, **args)
        assert error.code == code
        assert error.message.startswith(message)


def test_clone_needs_room(tmp_path: Path) -> None:
    ward = Ward(tmp_path, world(tmp_path, off=(IMAGE,)), pool_reserve=99 * GiB)
    error = refused_clone(ward)
    assert error.code == "no_capacity"
    assert (
        error.message == "new1 cannot be cloned: full: 1024 MiB of disk are needed, pool default-pool has 0 MiB to give"
    )
    ward.close()


def test_clone_uses_the_pool_of_the_settings(tmp_path: Path) -> None:
    ward = Ward(tmp_path, world(tmp_path, off=(IMAGE,)), pool="nosuch")
    assert refused_clone(ward).message == "this host has no active pool called nosuch that takes disks"
    ward.close()


def test_a_volume_that_was_there_before_is_neither_used_nor_undone(tmp_path: Path) -> None:
    """The rest of somebody's work has the name that the clone's disk would get."""
    ward = Ward(tmp_path, world(tmp_path, off=(IMAGE,), volumes=[f"{IMAGE}.img", "new1.img"]))
    error = refused_clone(ward)
    assert error.code == "already_exists"
    assert "new1.img" in error.message
    ward.close()


def test_a_crash_at_any_step_can_be_taken_back(ward: Ward) -> None:
    """What the journal holds at every moment is enough to remove all that is there at that moment."""
    from maglica.host_worker import undo

    before = ward.seen()
    for at in range(1, 30):
        count = 0

        class Killed(BaseException):
            """As sudden as a power cut."""

        def die(at: int = at, killed: type[BaseException] = Killed) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise killed

        try:
            clone(ward, changed=die)
        except Killed:
            assert undo.take_back(ward.work.job, ward.journal, ward.hypervisor) == []
            assert ward.seen() == before
            continue
        assert at > 5, "there were some moments to die at"
        return
    raise AssertionError("it never got through")


def test_define_fails_because_somebody_was_faster(ward: Ward) -> None:
    def somebody() -> None:
        if "new1.img" in ward.volumes() and not ward.hypervisor.has_domain(UUID):
            ward.hypervisor.define(domain("new1", uuid=UUID))

    with pytest.raises(Failed, match="'new1' already exists") as failed:
        clone(ward, changed=somebody)
    assert failed.value.code == "environment_error"
    assert [entry.what for entry in ward.journal.undos("job1")] == ["undefine", "delete_volume"]


# --------------------------------------------------------------------------------------------- survey, host info


def test_a_survey_has_what_placement_reads(ward: Ward) -> None:

    survey = ward.read("host survey")
    want = place.Wanted(IMAGE, "new1", None, None, None, "auto", ())
    choice = place.choose(want, {"host1": survey}, {}, {}, {}, False)
    assert choice.host == "host1"
    assert place.needs(want, survey) == place.Reserved(1, 512 * MiB, GiB)
    assert place.locate("web1", {"host1": survey}, {}, full_name=True, whole_fleet=True) == ("host1", "web1")
    assert survey["active"] == 1
    assert {one["name"]: (one["state"], one["image"]) for one in survey["domains"]} == {
        "web1": ("running", False),
        "web2": ("shut-off", False),
        IMAGE: ("shut-off", True),
    }


def test_the_quick_survey_is_a_part_of_the_whole_one(ward: Ward) -> None:
    quick, whole = ward.read("host survey", room=False), ward.read("host survey")
    assert set(quick) == {"domains"}
    assert quick["domains"] == [{"name": one["name"], "state": one["state"]} for one in whole["domains"]]


def test_memory_is_promised_to_vms_that_are_off_too(ward: Ward) -> None:
    free = ward.read("host survey")["memory_free_bytes"]
    assert free == 32 * GiB - 512 * MiB - 2 * (512 * MiB + look.OVERHEAD), "images promise nothing to anybody"
    clone(ward, memory="2G", start=False)
    assert ward.read("host survey")["memory_free_bytes"] == free - 2 * GiB - look.OVERHEAD


def test_a_survey_tells_only_the_pools_that_a_clone_can_use(tmp_path: Path) -> None:
    ward = Ward(tmp_path, world(tmp_path, off=(IMAGE,)), pool="nosuch", pool_reserve=GiB)
    told = ward.read("host survey")
    assert (told["pool"], [pool["name"] for pool in told["pools"]]) == (
        "nosuch",
        ["default-pool"],
    )  # --pool may name it
    assert place.unfit(place.Wanted(IMAGE, "new1", None, None, None, "auto", ()), told, place.Reserved()) == (
        "has no active pool nosuch"
    )
    ward.close()
    other = Ward(tmp_path / "..", world(tmp_path, off=(IMAGE,)), pool_reserve=GiB)
    assert other.read("host survey")["pools"] == [{"name": "default-pool", "free_bytes": 98 * GiB, "files": True}]
    other.close()


def test_host_info(ward: Ward) -> None:
    item = ward.read("host info", name="host1")["item"]
    assert (item["name"], item["libvirt"], item["acceleration"]) == ("host1", "ok", "tcg")
    assert (item["vms_running"], item["vms_defined"], item["vcpus"]) == (1, 2, 8)
    assert item["images"] == [IMAGE]
    assert sorted(vm["name"] for vm in item["vms"]) == ["web1", "web2"]
    assert item["pools"][0]["name"] == "default-pool"
    assert item["hypervisor"] == "TEST"
    assert item["libvirt_version"].count(".") == 2


def test_host_ping_does_not_need_libvirt(tmp_path: Path) -> None:
    ward = Ward(tmp_path, "test:///nonexistent.xml")
    assert ward.read("host ping")["items"][0]["name"] == "host1"
    with pytest.raises(Failed, match="libvirt: unreachable"):
        ward.read("vm list")
    ward.close()
