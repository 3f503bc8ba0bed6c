"""Taking back what a job made: that, and nothing that looks like it. Real files, and libvirt's test driver."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica.errors import Failed
from maglica.host_worker import signs, undo
from maglica.host_worker.disk import bases
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.journal import LATER, Journal
from maglica.host_worker.work import Work
from tests.host_worker.worlds import MiB, domain, world

UUID = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def hypervisor(tmp_path: Path) -> Iterator[Hypervisor]:
    found = Hypervisor(world(tmp_path, "web1", volumes=["web1.img"]))
    yield found
    found.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(str(tmp_path / "journal.db"))
    found.begin("job1", 1, "vm clone", "web1")
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "pool"
    found.mkdir()
    return found


# ------------------------------------------------------------------------------------------------ files


def test_a_part_is_removed_and_nothing_else(hypervisor: Hypervisor, folder: Path) -> None:
    part = folder / "web1.img.job1.part"
    for path in (part, folder / "web1.img", folder / "web1.img.job2.part"):
        path.write_text("x")
    for _ in range(2):
        undo.remove_part(hypervisor, str(part))
    assert sorted(path.name for path in folder.iterdir()) == ["web1.img", "web1.img.job2.part"]


def test_a_file_is_known_by_its_inode(hypervisor: Hypervisor, folder: Path) -> None:
    """Another file of the same name belongs to somebody else."""
    part, path = folder / "part", folder / "web1.img"
    part.write_text("ours")
    inode = part.stat().st_ino
    path.write_text("theirs")
    undo.remove_file(hypervisor, str(path), inode)
    assert path.read_text() == "theirs"
    path.unlink()
    os.link(part, path)
    for _ in range(2):
        undo.remove_file(hypervisor, str(path), inode)
        assert not path.exists()
    assert part.read_text() == "ours", "the part has an undo of its own"


def of_a_job(hypervisor: Hypervisor, job: str) -> str:
    """The uuid of the one domain, whose definition bears the id of that job from now on."""
    ((found, _),) = hypervisor.domains()
    hypervisor.set_mark(found.name, {"kind": "build", "job": job})
    return found.uuid


def test_an_old_disk_goes_when_the_new_one_is_the_domains(hypervisor: Hypervisor, folder: Path) -> None:
    aside, original = folder / "web1.img.job1.replaced", folder / "web1.img"
    aside.write_text("old")
    original.write_text("new")
    uuid = of_a_job(hypervisor, "job1")
    for _ in range(2):
        undo.settle_replaced(hypervisor, str(aside), str(original), uuid, "job1", str(original))
        assert [path.name for path in folder.iterdir()] == ["web1.img"]
        assert original.read_text() == "new"


def test_an_old_disk_goes_also_when_the_new_one_lies_elsewhere(hypervisor: Hypervisor, folder: Path) -> None:
    aside, original, new = folder / "web1.img.job1.replaced", folder / "web1.img", folder / "web1.qcow2"
    aside.write_text("old")
    new.write_text("new")
    undo.settle_replaced(hypervisor, str(aside), str(original), of_a_job(hypervisor, "job1"), "job1", str(new))
    assert [path.name for path in folder.iterdir()] == ["web1.qcow2"]


def test_an_old_disk_comes_back_where_the_definition_was_put_back(hypervisor: Hypervisor, folder: Path) -> None:
    aside, original = folder / "web1.img.job1.replaced", folder / "web1.img"
    aside.write_text("old")
    uuid = of_a_job(hypervisor, "an earlier one")
    for _ in range(2):
        undo.settle_replaced(hypervisor, str(aside), str(original), uuid, "job1", str(original))
        assert [path.name for path in folder.iterdir()] == ["web1.img"]
        assert original.read_text() == "old"


def test_an_old_disk_is_never_deleted_while_there_is_no_other(hypervisor: Hypervisor, folder: Path) -> None:
    """The new one was removed, and the definition could not be put back: whatever it says, the old one is all there
    is."""
    aside, original = folder / "web1.img.job1.replaced", folder / "web1.img"
    aside.write_text("old")
    undo.settle_replaced(hypervisor, str(aside), str(original), of_a_job(hypervisor, "job1"), "job1", str(original))
    assert original.read_text() == "old"


def test_when_an_old_disk_is_being_deleted_there_is_no_way_back(
    hypervisor: Hypervisor, journal: Journal, folder: Path
) -> None:
    """Killed right after it was: what would have brought it back must not take the new one away."""
    aside, original = folder / "web1.img.job1.replaced", folder / "web1.img"
    aside.write_text("old")
    original.write_text("new")
    uuid = of_a_job(hypervisor, "job1")
    work = Work("job1", 60.0, journal, lambda: None)
    inode = original.stat().st_ino
    told = {"path": str(aside), "original": str(original), "uuid": uuid, "job": "job1", "new": str(original)}
    work.undo("settle_replaced", **told)
    work.undo("remove_file", path=str(original), inode=inode)
    work.undo("redefine", uuid=uuid, text="what it was")
    work.undo("halt", uuid=uuid)
    work.commit("settle_replaced")
    assert [one.what for one in journal.undos("job1")] == ["settle_replaced"]
    assert undo.take_back("job1", journal, hypervisor) == []
    assert [path.name for path in folder.iterdir()] == ["web1.img"]
    assert original.read_text() == "new"
    assert journal.undos("job1") == []


def test_an_old_disk_does_not_take_the_place_of_a_strangers(hypervisor: Hypervisor, folder: Path) -> None:
    aside, original = folder / "web1.img.job1.replaced", folder / "web1.img"
    aside.write_text("old")
    original.write_text("theirs")
    uuid = of_a_job(hypervisor, "an earlier one")
    with pytest.raises(FileExistsError):
        undo.settle_replaced(hypervisor, str(aside), str(original), uuid, "job1", str(original))
    assert (aside.read_text(), original.read_text()) == ("old", "theirs")


def test_a_disk_set_aside_comes_back_while_its_domain_is_there(hypervisor: Hypervisor, folder: Path) -> None:
    aside, original = folder / "web1.img.job1.removed", folder / "web1.img"
    aside.write_text("disk")
    ((found, _),) = hypervisor.domains()
    for _ in range(2):
        undo.settle_removed(hypervisor, str(aside), str(original), found.uuid)
        assert original.read_text() == "disk"
        assert not aside.exists()


def test_a_disk_set_aside_is_deleted_when_its_domain_is_gone(hypervisor: Hypervisor, folder: Path) -> None:
    aside, original = folder / "web1.img.job1.removed", folder / "web1.img"
    aside.write_text("disk")
    for _ in range(2):
        undo.settle_removed(hypervisor, str(aside), str(original), UUID)
        assert list(folder.iterdir()) == []
    original.write_text("a new one")
    undo.settle_removed(hypervisor, str(aside), str(original), UUID)
    assert original.read_text() == "a new one"


def test_a_disk_that_was_on_its_way_back_arrives(hypervisor: Hypervisor, folder: Path) -> None:
    """Killed between its two names."""
    aside, original = folder / "web1.img.job1.removed", folder / "web1.img"
    aside.write_text("disk")
    os.link(aside, original)
    ((found, _),) = hypervisor.domains()
    undo.settle_removed(hypervisor, str(aside), str(original), found.uuid)
    assert [path.name for path in folder.iterdir()] == ["web1.img"]


def test_a_disk_that_comes_back_replaces_nothing(hypervisor: Hypervisor, folder: Path) -> None:
    """Its old name may be somebody else's by now: two files are better than one of them."""
    aside, original = folder / "web1.img.job1.removed", folder / "web1.img"
    aside.write_text("disk")
    original.write_text("somebody else's")
    ((found, _),) = hypervisor.domains()
    with pytest.raises(OSError, match="exists"):
        undo.settle_removed(hypervisor, str(aside), str(original), found.uuid)
    assert original.read_text() == "somebody else's"
    assert aside.read_text() == "disk"


# ---------------------------------------------------------------------------------------------- libvirt


def test_a_volume_is_deleted_once(hypervisor: Hypervisor) -> None:
    assert hypervisor.volume_path("default-pool", "web1.img")
    for _ in range(2):
        undo.delete_volume(hypervisor, "default-pool", "web1.img")
    free = hypervisor.pools()[0]["free_bytes"]
    assert free == hypervisor.pools()[0]["capacity_bytes"]


@pytest.mark.parametrize("runs", [False, True])
def test_a_domain_is_known_by_its_uuid(hypervisor: Hypervisor, runs: bool) -> None:
    hypervisor.define(domain("made", uuid=UUID))
    if runs:
        hypervisor.start("made")
    for _ in range(2):
        undo.undefine(hypervisor, UUID)
        assert [found.name for found, _ in hypervisor.domains()] == ["web1"]


def test_another_domain_of_the_same_name_stays(hypervisor: Hypervisor) -> None:
    hypervisor.define(domain("made", uuid="33333333-3333-4333-8333-333333333333", memory=64 * MiB))
    undo.undefine(hypervisor, UUID)
    assert sorted(found.name for found, _ in hypervisor.domains()) == ["made", "web1"]


# ------------------------------------------------------------------------------------------- a whole job


def test_the_last_made_is_the_first_taken_back(hypervisor: Hypervisor, journal: Journal, folder: Path) -> None:
    part, path = folder / "p", folder / "web1.img"
    part.write_text("x")
    os.link(part, path)
    journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    journal.put_undo("job1", 2, "remove_file", {"path": str(path), "inode": path.stat().st_ino})
    journal.put_undo("job1", 3, "undefine", {"uuid": UUID})
    hypervisor.define(domain("made", uuid=UUID, disk=str(path)))
    assert undo.take_back("job1", journal, hypervisor) == []
    assert list(folder.iterdir()) == []
    assert not hypervisor.has_domain(UUID)
    assert journal.undos("job1") == []
    assert undo.take_back("job1", journal, hypervisor) == []


def test_what_could_not_be_undone_stays_noted_and_the_rest_is_undone(
    hypervisor: Hypervisor, journal: Journal, folder: Path
) -> None:
    part = folder / "p"
    part.write_text("x")
    stubborn = folder / "stubborn"
    stubborn.mkdir()  # unlink does not remove a folder
    journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    journal.put_undo("job1", 2, "remove_part", {"path": str(stubborn)})
    journal.put_undo("job1", 3, "delete_volume", {"pool": "nosuch", "name": "x"})
    left = undo.take_back("job1", journal, hypervisor)
    assert [one.words.split(":")[0] for one in left] == ["delete_volume nosuch x", f"remove_part {stubborn}"]
    assert not part.exists()
    assert [entry.number for entry in journal.undos("job1")] == [3, 2]
    stubborn.rmdir()
    assert len(undo.take_back("job1", journal, hypervisor)) == 1
    assert [entry.number for entry in journal.undos("job1")] == [3]


def test_an_entry_of_another_release_stops_what_may_carry_it_and_nothing_else(
    hypervisor: Hypervisor, journal: Journal, folder: Path
) -> None:
    below, above = folder / "below", folder / "above"
    below.write_text("x")
    above.write_text("x")
    journal.put_undo("job1", 1, "remove_part", {"path": str(below)})
    journal.put_undo("job1", 2, "polish_brass", {"name": "x"})
    journal.put_undo("job1", 3, "remove_part", {"path": str(above)})
    journal.put_undo("job1", 4, "remove_part", {"path": str(above), "colour": "green"})
    assert len(undo.take_back("job1", journal, hypervisor)) == 3
    assert below.exists(), "the brass may lie on it"
    assert not above.exists()
    assert [entry.number for entry in journal.undos("job1")] == [4, 2, 1]


def test_a_disk_stays_as_long_as_its_domain_does(journal: Journal, folder: Path) -> None:
    """The domain may run."""
    path = folder / "web1.img"
    path.write_text("x")
    journal.put_undo("job1", 1, "remove_file", {"path": str(path), "inode": path.stat().st_ino})
    journal.put_undo("job1", 2, "undefine", {"uuid": UUID})
    nowhere = Hypervisor("test:///nonexistent.xml")
    left = undo.take_back("job1", journal, nowhere)
    assert [one.words.split(" ")[0] for one in left] == ["undefine", "remove_file"]
    assert path.exists()


def test_a_vm_is_not_started_again_on_what_is_not_taken_back_yet(
    hypervisor: Hypervisor, journal: Journal, folder: Path
) -> None:
    ((found, _),) = hypervisor.domains()
    hypervisor.destroy("web1")
    stubborn = folder / "stubborn"
    stubborn.mkdir()
    journal.put_undo("job1", 1, "start_again", {"uuid": found.uuid})
    journal.put_undo("job1", 2, "settle_disk", {"path": str(stubborn), "uuid": found.uuid, "job": "job1"})
    assert len(undo.take_back("job1", journal, hypervisor)) == 2
    assert hypervisor.state("web1") == "shut-off"
    stubborn.rmdir()
    assert undo.take_back("job1", journal, hypervisor) == []
    assert hypervisor.state("web1") == "running"


def test_what_is_said_of_undos_is_said_of_ones_that_exist() -> None:
    for kinds in (undo.HARMLESS, undo.LOOSE, undo.LAST, LATER):
        assert kinds <= undo.UNDOS.keys()
    assert LATER <= undo.LOOSE


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (Failed("host_down", "x"), True),
        (Failed("locked", "x"), True),
        (Failed("timeout", "x"), True),
        (Failed("environment_error", "x"), False),
        (OSError(errno.EBUSY, "x"), True),
        (OSError(errno.EROFS, "x"), False),
        (KeyError("x"), False),
    ],
)
def test_what_may_pass(error: Exception, passes: bool) -> None:
    assert undo.may_pass(error) is passes


def test_a_definition_that_could_not_be_put_back_is_not_told_as_a_whole(journal: Journal) -> None:
    journal.put_undo("job1", 1, "redefine", {"uuid": UUID, "text": "<domain>" + 9999 * "x"})
    (left,) = undo.take_back("job1", journal, Hypervisor("test:///nonexistent.xml"))
    assert left.words.startswith(f"redefine {UUID}: libvirt: unreachable")
    assert len(left.words) < 1000


def test_who_follows_a_job_is_not_told_every_try(journal: Journal) -> None:
    told: list[str] = []
    work = Work("job1", 60.0, journal, lambda: told.append(str(work.report()["step"])))
    with work.taking_back() as tell:
        for seconds in range(5, 50, 5):
            tell(f"libvirt: has not answered for {seconds} s")
        tell("x is locked")
    assert list(dict.fromkeys(told)) == [
        "taking back: libvirt: has not answered for 5 s", "taking back: x is locked",
    ]  # fmt: skip
    (step,) = work.report()["steps"]
    assert (step["name"], step["note"]) == ("taking back", "x is locked")


def test_patience_ends() -> None:
    lasting, passing = undo.Left("x", passes=False), undo.Left("y", passes=True)
    patience = undo.Patience(60.0)
    assert [patience.ends([lasting, passing]) for _ in range(9)] == [False] * 9
    assert patience.ends([lasting])
    patience = undo.Patience(60.0)
    assert [patience.ends([lasting]) for _ in range(undo.TRIES)] == [False] * (undo.TRIES - 1) + [True]
    assert undo.Patience(-1.0).ends([passing])


def test_a_disk_that_is_open_elsewhere_will_be_free(folder: Path) -> None:
    base, part = folder / "base", folder / "part"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", part], check=True)
    argv = ["qemu-io", "-f", "qcow2", str(base)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"read 0 512\n")
        holder.stdin.flush()
        holder.stdout.readline()
        with pytest.raises(Failed) as failed:
            undo.merge_overlay(Hypervisor("test:///nonexistent.xml"), str(part))
        holder.stdin.close()
        holder.wait(20)
    assert failed.value.code == "locked"
    assert part.exists()


def test_only_what_this_job_made(hypervisor: Hypervisor, journal: Journal, folder: Path) -> None:
    journal.begin("job2", 1, "vm clone", "web2")
    for name in ("job1", "job2"):
        (folder / name).write_text("x")
        journal.put_undo(name, 1, "remove_part", {"path": str(folder / name)})
    undo.take_back("job1", journal, hypervisor)
    assert [path.name for path in folder.iterdir()] == ["job2"]


def test_without_libvirt_it_stays_noted(journal: Journal) -> None:
    journal.put_undo("job1", 1, "undefine", {"uuid": UUID})
    nowhere = Hypervisor("test:///nonexistent.xml")
    (left,) = undo.take_back("job1", journal, nowhere)
    assert "libvirt: unreachable" in left.words
    assert left.passes
    assert len(journal.undos("job1")) == 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_job_that_only_waits_gives_its_slot_back_and_may_be_cancelled_again(journal: Journal, keep: bool) -> None:
    given: list[str] = []
    work = Work("job1", 60.0, journal, lambda: None, give_slot_back=lambda: given.append("slot"))
    work.undo("undefine", uuid=UUID)
    work.point_of_no_return()
    work.cancel()
    assert not work.cancelled(), "it came too late"
    work.step_aside(keep=keep)
    assert work.cancelled(), "there is nothing to be finished any more"
    assert given == ["slot"]
    assert bool(journal.undos("job1")) is not keep


def test_what_was_kept_for_a_clone_may_be_written_again(hypervisor: Hypervisor, folder: Path) -> None:
    base = folder / "base"
    base.touch(0o640)
    bases.keep(str(base))
    assert base.stat().st_mode & 0o777 == 0o440
    for _ in range(2):
        undo.release_base(hypervisor, str(base))
        assert base.stat().st_mode & 0o777 == 0o640
    undo.release_base(hypervisor, str(folder / "nosuch"))


def test_a_disk_is_deleted_also_when_nobody_can_say_what_else_rests_on_its_base(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its deletion has no way back: it must not look like something that failed."""
    base, leaf = folder / "base", folder / "leaf"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", leaf], check=True)
    bases.keep(str(base))
    away = Hypervisor(f"qemu+unix:///system?socket={folder}/nowhere")
    undo._delete(away, str(leaf))
    assert not leaf.exists()
    assert "stays read-only for now: libvirt: unreachable" in caplog.text


def test_without_lvm_volumes_stay_noted(hypervisor: Hypervisor, journal: Journal) -> None:
    journal.put_undo("job1", 1, "remove_volumes", {"group": "no-such-group", "job": "job1"})
    (left,) = undo.take_back("job1", journal, hypervisor)
    assert left.words.startswith("remove_volumes no-such-group job1: ")
    assert not left.passes
    assert [entry.what for entry in journal.undos("job1")] == ["remove_volumes"]


def test_volumes_of_a_removal_stay_while_their_domain_is_there(hypervisor: Hypervisor, journal: Journal) -> None:
    """lvremove is not even tried: it would fail here, as it does when the domain is gone."""
    ((found, _),) = hypervisor.domains()
    undo.settle_removed_volumes(hypervisor, "no-such-group", "job0", found.uuid)
    with pytest.raises(Failed, match="no-such-group"):
        undo.settle_removed_volumes(hypervisor, "no-such-group", "job0", UUID)
    undo.settle_removed_volumes(hypervisor, "no-such-group", "", UUID)  # nobody knows which are its own
    undo.settle_removed_volumes(hypervisor, "no-such-group", "job0", UUID, [])  # it had none


def test_a_block_job_of_a_domain_that_is_gone_is_over(hypervisor: Hypervisor) -> None:
    undo.abort_block_job(hypervisor, "22222222-2222-4222-8222-222222222222", "vda")


def test_a_disk_is_flat_when_it_rests_on_nothing(hypervisor: Hypervisor, folder: Path) -> None:
    base, leaf = folder / "base", folder / "leaf"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", leaf], check=True)
    assert signs.is_flat(hypervisor, [str(base)])
    assert not signs.is_flat(hypervisor, [str(base), str(leaf)])
    assert not signs.is_flat(hypervisor, [str(folder / "nosuch")])


def test_a_definition_that_was_changed_is_put_back(hypervisor: Hypervisor, journal: Journal) -> None:
    before = hypervisor.definition("web1")
    found = next(one for one, _ in hypervisor.domains() if one.name == "web1")
    journal.put_undo("job1", 1, "redefine", {"uuid": found.uuid, "text": before})
    hypervisor.define(before.replace("<vcpu", "<description>another</description><vcpu", 1))
    assert "another" in hypervisor.definition("web1")
    for _ in range(2):
        assert undo.take_back("job1", journal, hypervisor) == []
        assert "another" not in hypervisor.definition("web1")


def test_a_definition_of_a_domain_that_is_gone_makes_no_new_one(hypervisor: Hypervisor) -> None:
    text = hypervisor.definition("web1")
    hypervisor.discard(next(one.uuid for one, _ in hypervisor.domains() if one.name == "web1"))
    undo.redefine(hypervisor, UUID, text)
    assert "web1" not in [name for name, _ in hypervisor.states()]
