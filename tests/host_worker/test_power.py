"""Power verbs: libvirt's test driver, which has no guests, and files where files are the matter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica import declare
from maglica.config import HostWorkerSection
from maglica.errors import Failed
from maglica.host_worker import signs, undo
from maglica.host_worker.domain import domain_xml, saved
from maglica.host_worker.hypervisor import STATES
from tests.host_worker.test_jobs_vm import CRASHED, PAUSED, SUSPENDED, Ward, ward_with
from tests.host_worker.worlds import IMAGE, world


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    found = Ward(tmp_path, world(tmp_path, "web1", off=("web2", IMAGE)))
    yield found
    found.close()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Ward]:
    """A ward whose pool is a folder that exists."""
    pool = tmp_path / "pool"
    pool.mkdir()
    uri = world(tmp_path, "web1", off=("web2", IMAGE))
    text = (tmp_path / "world.xml").read_text()
    (tmp_path / "world.xml").write_text(text.replace("/default-pool", str(pool)))
    found = Ward(tmp_path, uri, pool_reserve=1 << 20)
    yield found
    found.close()


def told(state: str, *, changed: bool = True) -> dict[str, object]:
    return {"name": "web1", "host": "host1", "state": state, "changed": changed}


# -------------------------------------------------------------------------------------- suspend, resume, reset, …


def test_suspend_and_resume(ward: Ward) -> None:
    assert ward.do("vm suspend", name="web1") == told("paused")
    assert ward.hypervisor.state("web1") == "paused"
    assert ward.do("vm suspend", name="web1") == told("paused", changed=False)
    assert ward.do("vm cont", name="web1") == told("running")
    assert ward.do("vm resume", name="web1") == told("running", changed=False)
    assert ward.do("vm pause", name="web1")["state"] == "paused"


@pytest.mark.parametrize(
    "action",
    ["vm suspend", "vm resume", "vm reboot", "vm reset", "vm nmi", "vm save", "vm managedsave", "vm pmsuspend"],
)
def test_what_takes_a_vm_that_is_on(ward: Ward, action: str) -> None:
    error = ward.refusal(action, name="web2")
    assert (error.code, error.message) == ("wrong_state", "web2 is shut-off")
    assert "`maglica vm start web2` starts it" in error.hint


@pytest.mark.parametrize("state", [PAUSED, CRASHED, SUSPENDED])
@pytest.mark.parametrize("action", ["vm stop", "vm restart", "vm reboot", "vm pmsuspend"])
def test_a_guest_that_stands_still_hears_nothing(tmp_path: Path, action: str, state: int) -> None:
    ward = ward_with(tmp_path, state)
    if (action, state) == ("vm pmsuspend", SUSPENDED):
        assert ward.do(action, name="web1")["changed"] is False
        return ward.close()
    error = ward.refusal(action, name="web1")
    assert (error.code, error.message) == ("wrong_state", f"web1 is {STATES[state]}: its guest hears nothing")
    wakes = {PAUSED: "resume", SUSPENDED: "pmwakeup", CRASHED: "reset"}[state]
    assert error.hint.startswith(f"`maglica vm {wakes} web1`")
    assert "destroy" in error.hint
    ward.close()


@pytest.mark.parametrize("action", ["vm stop", "vm restart"])
def test_by_force_the_plug_of_one_that_stands_still_is_pulled_at_once(tmp_path: Path, action: str) -> None:
    ward = ward_with(tmp_path, PAUSED)
    end = "shut-off" if action == "vm stop" else "running"
    assert ward.do(action, name="web1", force=True, timeout=3600) == told(end)
    assert ward.work.report()["steps"][0]["name"] == "destroy"
    ward.close()


@pytest.mark.parametrize(("state", "hint"), [(CRASHED, "vm reset"), (SUSPENDED, "vm pmwakeup")])
def test_only_what_is_paused_is_resumed(tmp_path: Path, state: int, hint: str) -> None:
    ward = ward_with(tmp_path, state)
    error = ward.refusal("vm resume", name="web1")
    assert (error.code, error.message) == ("wrong_state", f"web1 is {STATES[state]}")
    assert hint in error.hint
    ward.close()


def test_what_runs_needs_no_waking_up_and_what_is_paused_does_not_sleep(ward: Ward) -> None:
    assert ward.do("vm pmwakeup", name="web1") == told("running", changed=False)
    ward.do("vm suspend", name="web1")
    assert ward.refusal("vm pmwakeup", name="web1").message == "web1 is paused: it does not sleep"


def test_a_guest_without_an_agent_cannot_be_put_to_sleep(ward: Ward) -> None:
    error = ward.refusal("vm pmsuspend", name="web1")
    assert error.code == "environment_error"
    assert "web1 has no channel for QEMU's guest agent" in error.message
    assert "org.qemu.guest_agent.0" in error.hint


def test_reboot_reset_nmi(ward: Ward) -> None:
    assert ward.do("vm reboot", name="web1") == {**told("running"), "through": "acpi"}
    assert ward.do("vm reset", name="web1") == told("running")
    assert ward.do("vm nmi", name="web1") == told("running")
    error = ward.refusal("vm reboot", name="web1", through="agent")
    assert error.message == "the agent of web1 does not answer: it has no channel for one"


def test_autostart(ward: Ward) -> None:
    assert ward.do("vm autostart", name="web2") == {
        "name": "web2", "host": "host1", "autostart": True, "changed": True,
    }  # fmt: skip
    assert ward.read("vm info", name="web2")["item"]["autostart"] is True
    assert ward.do("vm autostart", name="web2")["changed"] is False
    assert ward.do("vm autostart", name="web2", off=True)["changed"] is True
    assert ward.hypervisor.autostarts("web2") is False
    assert ward.do("vm autostart", name="web2", off=True)["changed"] is False
    assert ward.refusal("vm autostart", name=IMAGE).code == "protected"


# -------------------------------------------------------------------------------------------- memory that is kept


def test_managedsave_start_goes_on_and_discard_boots(ward: Ward) -> None:
    assert ward.do("vm managedsave", name="web1") == told("shut-off")
    assert ward.hypervisor.has_managed_save("web1")
    assert ward.do("vm managedsave", name="web1") == told("shut-off", changed=False)
    assert ward.do("vm start", name="web1") == {**told("running"), "restored": True}
    assert not ward.hypervisor.has_managed_save("web1")
    ward.do("vm managedsave", name="web1")
    assert ward.do("vm start", name="web1", discard=True) == told("running")
    assert not ward.hypervisor.has_managed_save("web1")
    ward.do("vm managedsave", name="web1")
    assert ward.do("vm managedsave", name="web1", discard=True) == told("shut-off")
    assert ward.do("vm managedsave", name="web1", discard=True) == told("shut-off", changed=False)
    assert ward.do("vm start", name="web1") == told("running")


def test_save_and_restore(real: Ward, tmp_path: Path) -> None:
    path = str(tmp_path / "pool" / "web1.saved")
    mark = real.domain("web1").mark
    result = real.do("vm save", name="web1")
    assert result == {**told("shut-off"), "file": path, "saved_bytes": os.path.getsize(path)}
    assert real.do("vm save", name="web1") == {**told("shut-off", changed=False), "file": path}
    error = real.refusal("vm start", name="web1")
    assert (error.code, error.message) == ("wrong_state", f"web1 was saved to {path}")
    assert "vm restore web1" in error.hint
    assert "--discard" in error.hint
    assert real.do("vm restore", name="web1") == told("running")
    assert not os.path.exists(path)
    assert real.domain("web1").mark == mark
    assert real.do("vm restore", name="web1") == told("running", changed=False)
    real.do("vm stop", name="web1")
    assert real.refusal("vm restore", name="web1").message == "nothing of web1 was saved by `maglica vm save`"


def test_what_was_saved_can_be_forgotten(real: Ward, tmp_path: Path) -> None:
    path = real.do("vm save", name="web1")["file"]
    assert real.do("vm start", name="web1", discard=True) == told("running")
    assert not os.path.exists(path)
    assert "saved" not in real.domain("web1").mark


def test_memory_that_no_longer_fits_the_disks_is_worth_nothing(real: Ward, tmp_path: Path) -> None:
    """Somebody wrote to the disk while the VM was off: a restore would damage it, a start may be."""
    disk = tmp_path / "pool" / "web1.img"
    disk.write_bytes(b"before")
    path = real.do("vm save", name="web1")["file"]
    os.utime(disk, ns=(0, os.stat(path).st_mtime_ns + 1))
    error = real.refusal("vm restore", name="web1")
    assert error.code == "wrong_state"
    assert f"its disk {disk} was written after it was saved" in error.message
    assert real.do("vm start", name="web1") == told("running")
    assert not os.path.exists(path)


def test_a_file_that_is_gone_or_not_whole_is_not_restored(real: Ward) -> None:
    path = real.do("vm save", name="web1")["file"]
    whole = Path(path).read_bytes()
    Path(path).write_bytes(saved.PART + whole)
    assert f"{path}, which web1 was saved to, is not whole" in real.refusal("vm restore", name="web1").message
    os.unlink(path)
    assert f"{path}, which web1 was saved to, is gone" in real.refusal("vm restore", name="web1").message
    assert real.do("vm start", name="web1") == told("running")


def test_where_memory_is_saved(real: Ward, tmp_path: Path) -> None:
    assert real.refusal("vm save", name="web1", pool="nosuch").message == "host1 has no active pool nosuch of files"
    other = tmp_path / "pool" / "web1.saved"
    other.write_text("somebody's")
    assert real.refusal("vm save", name="web1").code == "already_exists"
    assert other.read_text() == "somebody's"
    other.unlink()
    real.host = real.host._replace(settings=HostWorkerSection(pool_reserve=1 << 59))
    error = real.refusal("vm save", name="web1")
    assert error.code == "no_capacity"
    assert "default-pool" in error.message


def test_a_vm_is_removed_with_its_saved_memory(real: Ward) -> None:
    path = real.do("vm save", name="web1")["file"]
    Path(real.domain("web1").disks[0].path or "").write_bytes(b"disk")
    assert path in real.do("vm remove", name="web1")["deleted"]


def test_a_crash_while_memory_was_saved(real: Ward, tmp_path: Path) -> None:
    """What libvirt has finished stays, and the job's sign says so; what was in vain goes."""
    uuid, path = real.domain("web1").uuid, str(tmp_path / "pool" / "web1.saved")
    args = {"name": "web1", "uuid": uuid, "path": path}
    real.hypervisor.set_mark("web1", {"saved": path})
    Path(path).write_bytes(saved.PART)
    shown = signs.sign("is_saved", {}, name="web1", path=path)
    assert not signs.seen(shown, real.hypervisor)
    undo.settle_saved(real.hypervisor, **args)
    assert not os.path.exists(path)
    assert real.domain("web1").mark == {}

    real.do("vm save", name="web1")
    assert signs.seen(shown, real.hypervisor)
    undo.settle_saved(real.hypervisor, **args)
    assert os.path.exists(path)
    assert real.do("vm restore", name="web1")["changed"] is True


def test_a_save_that_fails_leaves_the_vm_as_it_was(real: Ward, tmp_path: Path) -> None:
    before = real.domain("web1").mark
    real.hypervisor.save = refusing  # type: ignore[method-assign]
    with pytest.raises(Failed):
        real.do("vm save", name="web1")
    assert undo.take_back(real.work.job, real.journal, real.hypervisor) == []
    assert (real.hypervisor.state("web1"), real.domain("web1").mark) == ("running", before)


def refusing(*_: object) -> None:
    raise Failed("environment_error", "libvirt: no room")


def test_a_mark_is_not_lost_by_saving(real: Ward) -> None:
    real.hypervisor.set_mark("web1", {"image": "el9", "tags": "ci"})
    real.do("vm save", name="web1")
    assert domain_xml.read(real.hypervisor.definition("web1")).mark["image"] == "el9"
    real.do("vm restore", name="web1")
    assert real.domain("web1").mark == {"image": "el9", "tags": "ci"}


def test_what_brings_a_vm_to_life_asks_the_whole_fleet() -> None:
    for name in ("vm start", "vm restart", "vm resume", "vm restore", "vm pmwakeup"):
        assert declare.find(name).action.WHOLE_FLEET
