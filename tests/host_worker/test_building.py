"""Definitions: made, forgotten, exchanged, taken over, remembered. libvirt's test driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from maglica import declare
from maglica.host_worker.domain import domain_xml, remembering
from tests.host_worker.test_jobs_vm import Ward, ward
from tests.host_worker.test_run import Place
from tests.host_worker.worlds import IMAGE, MiB, domain, world
from tests.waiting import until

__all__ = ["ward"]

NEW = domain("new1", mac="52:54:00:00:be:ef").strip()
SHARING = domain("new1", disk="/default-pool/web2.img", mac="52:54:00:00:be:ef")
UUID = "33333333-3333-4333-8333-333333333333"


def define(ward: Ward, text: str = NEW, name: str = "new1") -> dict[str, object]:
    return ward.do("vm define", name=name, file=text)


def test_define(ward: Ward) -> None:
    told = define(ward)
    assert (told["name"], told["host"], told["changed"]) == ("new1", "host1", True)
    assert ward.domain("new1").uuid == told["uuid"]
    assert ward.hypervisor.state("new1") == "shut-off"


@pytest.mark.parametrize(
    ("text", "name", "code", "words"),
    [
        ("no xml", "new1", "wrong_input", "the file is no XML"),
        ("<network/>", "new1", "wrong_input", "holds a <network>"),
        (NEW, "new2", "wrong_input", "the file defines new1, not new2"),
        (domain("web1"), "web1", "already_exists", "web1 exists on host1"),
        (SHARING, "new1", "protected", "web2 uses its disk"),
        (NEW.replace("<memory unit='KiB'>", "<memory unit='KiB'>x"), "new1", "wrong_input", "makes no sense"),
    ],
)  # fmt: skip
def test_what_cannot_be_defined(ward: Ward, text: str, name: str, code: str, words: str) -> None:
    error = ward.refusal("vm define", name=name, file=text)
    assert error.code == code
    assert words in error.message


def test_a_uuid_or_a_mac_that_another_has_is_refused(ward: Ward) -> None:
    web1 = ward.domain("web1")
    error = ward.refusal("vm define", name="new1", file=domain("new1", uuid=web1.uuid, mac="52:54:00:00:be:ef"))
    assert (error.code, error.message) == ("already_exists", f"web1 has the UUID {web1.uuid}")
    error = ward.refusal("vm define", name="new1", file=domain("new1", mac=str(web1.nics[0]["mac"])))
    assert "web1 has the MAC address" in error.message


def test_undefine_keeps_disks_and_memory_and_define_brings_it_back(ward: Ward) -> None:
    before, volumes = ward.domain("web2"), ward.volumes()
    assert ward.refusal("vm define", name="nosuch").message == "host1 remembers no definition of nosuch"
    told = ward.do("vm undefine", name="web2")
    assert told["kept"] == ["/default-pool/web2.img"]
    assert ward.volumes() == volumes
    assert "web2" not in [name for name, _ in ward.seen()[0]]
    ward.do("vm define", name="web2")
    assert ward.domain("web2") == before


def test_what_is_not_undefined(ward: Ward) -> None:
    assert ward.refusal("vm undefine", name="web1").message == "web1 is running"
    assert ward.refusal("vm undefine", name=IMAGE).code == "protected"
    ward.hypervisor._connect().lookupByName("web2").snapshotCreateXML("<domainsnapshot/>", 0)
    assert "snapshots" in ward.refusal("vm undefine", name="web2").message


def test_redefine(ward: Ward) -> None:
    text = ward.hypervisor.definition("web2")
    bigger = text.replace(f"{512 * 1024}</memory>", f"{1024 * 1024}</memory>")
    told = ward.do("vm redefine", name="web2", file=bigger)
    assert told["changes"] == [f"memory_bytes: {512 * MiB} -> {1024 * MiB}"]
    assert ward.domain("web2").memory_bytes == 1024 * MiB
    again = ward.hypervisor.definition("web2")
    assert ward.do("vm redefine", name="web2", file=again)["changed"] is False
    error = ward.refusal("vm redefine", name="web2", file=domain("web2", uuid=UUID))
    assert (error.code, f"says {UUID}" in error.message) == ("wrong_input", True)
    error = ward.refusal("vm redefine", name="web2", file=domain("web2", disk="/default-pool/web1.img"))
    assert error.code == "protected"


def test_import(ward: Ward) -> None:
    text = (
        "-name new1\n-m 256\n-drive file=/default-pool/x.img,if=virtio,format=raw\n-net nic,model=virtio\n-net user\n"
    )
    error = ward.refusal("vm import", name="new1", qemu_args=text)
    assert "--network" in error.hint
    assert ward.refusal("vm import", name="new1", qemu_args=text, network="nosuch").code == "unknown_entity"
    assert "not of new2" in ward.refusal("vm import", name="new2", qemu_args=text, network="default").message
    told = ward.do("vm import", name="new1", qemu_args=text, network="default")
    made = ward.domain("new1")
    assert (made.uuid, made.memory_bytes) == (told["uuid"], 256 * MiB)
    assert made.mark["kind"] == "imported"
    assert [nic["source"] for nic in made.nics] == ["default"]


def test_adopt_and_forget(ward: Ward) -> None:
    told = ward.do("vm adopt", name="web1", owner="alice", tags="old")
    assert (told["kind"], told["owner"], told["tags"], told["changed"]) == ("adopted", "alice", ["old"], True)
    assert ward.domain("web1").mark["adopted"] == told["adopted"]
    assert ward.do("vm adopt", name="web1")["changed"] is False
    ward.do("vm protect", name="web1")
    assert ward.refusal("vm forget", name="web1").code == "protected"
    ward.do("vm unprotect", name="web1")
    assert ward.do("vm forget", name="web1")["changed"] is True
    assert ward.domain("web1").mark == {}
    assert ward.do("vm forget", name="web1")["changed"] is False


def test_what_was_saved_is_kept_when_all_else_is_forgotten(ward: Ward) -> None:
    ward.hypervisor.set_mark("web2", {"kind": "adopted", "owner": "alice", "saved": "/nosuch"})
    assert ward.do("vm forget", name="web2")["changed"] is True
    assert ward.domain("web2").mark == {"saved": "/nosuch"}


def test_what_maglica_made_is_not_forgotten(ward: Ward) -> None:
    ward.do("vm clone", image=IMAGE, hostname="new1", customize="none", start=False)
    error = ward.refusal("vm forget", name="new1")
    assert (error.code, "was made by maglica" in error.message) == ("protected", True)


def test_sync_tells_what_has_changed_beside_us(ward: Ward) -> None:
    assert ward.do("vm sync", name="web2")["changes"] == ["record: none -> made"]
    assert ward.do("vm sync", name="web2")["changed"] is False
    ward.hypervisor.define(ward.hypervisor.definition("web2").replace("<vcpu placement='static'>1<", "<vcpu>3<"))
    told = ward.do("vm sync", name="web2")
    assert told["changes"] == ["vcpus: 1 -> 3"]
    assert ward.do("vm sync", name="web2")["changed"] is False


def test_differences() -> None:
    old = domain_xml.read(domain("a", uuid=UUID))
    new = domain_xml.read(
        domain("a", uuid=UUID, disk="/x.img", memory=256 * MiB).replace("52:54:00:00:00", "52:54:00:00:01")
    )
    assert remembering.differences(old, old) == []
    told = remembering.differences(old, new)
    assert told[0] == f"memory_bytes: {512 * MiB} -> {256 * MiB}"
    assert "disk vda: /default-pool/a.img raw virtio disk -> /x.img raw virtio disk" in told
    assert [line.split(": ")[1].split(" -> ")[1] for line in told if line.startswith("nic 52:54:00:00:00")] == ["none"]


def test_each_job_leaves_the_host_with_a_memory_of_its_vm(tmp_path: Path) -> None:
    place = Place(tmp_path, world(tmp_path, off=("web1", IMAGE)))
    host = place.host

    def run(number: int, action: str, **args: object) -> None:
        handed = {
            "id": f"job{number}",
            "attempt": 1,
            "action": action,
            "args": args,
            "limit_seconds": 60.0,
            "slot": "quick",
        }
        place.runner.begin(handed)
        until(lambda: not place.runner.count(), 10, "end of job")

    run(1, "vm tag", name="web1", tags="a")
    kept = remembering.recall("web1", host)
    assert kept is not None
    assert domain_xml.read(kept).mark == {"tags": "a"}
    run(2, "vm rename", name="web1", to="db1", customize="none")
    assert remembering.recall("web1", host) is None
    assert domain_xml.read(remembering.recall("db1", host) or "").name == "db1"
    run(3, "vm undefine", name="db1")
    assert remembering.recall("db1", host) is not None, "that is what it is for"
    run(4, "vm define", name="db1")
    run(5, "vm remove", name="db1")
    assert remembering.recall("db1", host) is None
    place.journal.close()
    place.hypervisor.close()


@pytest.mark.parametrize("name", ["web1", "a:b", "..", "ü/x y"])
def test_whatever_is_a_name_is_the_name_of_one_file(tmp_path: Path, name: str) -> None:
    ward = Ward(tmp_path, world(tmp_path, "web1"))
    remembering.keep(name, "<domain/>", ward.host)
    assert remembering.recall(name, ward.host) == "<domain/>"
    (path,) = (tmp_path / "state" / "host-host1" / "definitions").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert declare.find("vm sync")
    ward.close()
