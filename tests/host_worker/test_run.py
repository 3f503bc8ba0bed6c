"""Jobs and reads in their threads, and the house put in order after a crash: libvirt's test driver, a real journal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import wire
from maglica.config import HostWorkerSection, PathsSection
from maglica.declare import SLOTS
from maglica.errors import Failed, from_wire
from maglica.host_worker import commands, run, signs
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.journal import Journal
from maglica.host_worker.run import MOST_READS, READERS, Runner
from tests.host_worker.worlds import IMAGE, domain, world
from tests.waiting import until

UUID = "22222222-2222-4222-8222-222222222222"
CLONE = {"image": IMAGE, "hostname": "new1", "customize": "none"}


class Place:
    """A host worker without its loop: the runner, what it runs on, and a bell of the test's."""

    def __init__(self, folder: Path, uri: str, **settings: Any) -> None:
        self.folder = folder
        self.hypervisor = Hypervisor(uri)
        section = HostWorkerSection(libvirt_uri=uri, **settings)
        paths = PathsSection(state=str(folder / "state"))
        self.host = Host("host1", self.hypervisor, section, "tcg", "says the test", Storage(), paths=paths)
        self.journal = Journal(str(folder / "journal.db"))
        self.on_wake: Callable[[], None] = lambda: None
        self.woken = threading.Event()
        self.runner = self.new_runner()

    def new_runner(self, **more: float) -> Runner:
        return Runner(self.host, self.journal, self._wake, retry=0.05, **more)

    def _wake(self) -> None:
        self.woken.set()
        self.on_wake()

    def close(self) -> None:
        self.runner.stop(0.0)
        self.journal.close()
        self.hypervisor.close()

    def begin(self, action: str, id: str = "job1", limit: float = 60.0, slot: str = "quick", **args: Any) -> str:
        handed = {"id": id, "attempt": 1, "action": action, "args": args, "slot": slot, "limit_seconds": limit}
        self.runner.begin({**handed, "object": args.get("name") or args.get("hostname")})
        return id

    def told(self, id: str = "job1") -> dict[str, Any]:
        """How a job ended, as the next sync will say."""
        found = until(lambda: [told for told in self.runner.state()["done"] if told["id"] == id])
        assert isinstance(found[0], dict)
        return dict(found[0])

    def do(self, action: str, **args: Any) -> dict[str, Any]:
        self.begin(action, **args)
        return self.told()

    def ask(self, action: str, op: str = "read", **args: Any) -> wire.Message:
        self.runner.read({"op": op, "ask": 5, "action": action, "args": args})
        (answer,) = until(self.runner.answers)
        return dict(answer)

    def names(self) -> list[str]:
        return sorted(found.name for found, _ in self.hypervisor.domains())

    def volumes(self) -> list[str]:
        """As libvirt itself tells, by our connection: a world of the test driver belongs to the one that opened it."""
        return sorted(self.hypervisor._connect().storagePoolLookupByName("default-pool").listVolumes())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path, world(tmp_path, "web1", off=("web2", IMAGE)))
    yield found
    found.close()


# ------------------------------------------------------------------------------------------ how jobs end


def test_a_job_that_is_done(place: Place) -> None:
    told = place.do("vm start", name="web2")
    assert told["state"] == "done"
    assert told["result"] == {"name": "web2", "host": "host1", "state": "running", "changed": True}
    assert (told["id"], told["attempt"], told["error"]) == ("job1", 1, None)
    assert [step["name"] for step in told["steps"]] == ["start"]
    assert place.hypervisor.state("web2") == "running"
    assert place.journal.undos("job1") == []


def test_a_job_that_is_refused(place: Place) -> None:
    told = place.do("vm restart", name="web2")
    assert (told["state"], told["result"]) == ("failed", None)
    error = from_wire(told["error"])
    assert (error.kind, error.code, error.message) == ("refused", "wrong_state", "web2 is shut-off")
    assert told["steps"] == []
    assert place.hypervisor.state("web2") == "shut-off"


def test_a_job_that_is_not_right_is_refused_at_this_door_too(place: Place) -> None:
    assert from_wire(place.do("vm start", name="../x")["error"]).message.startswith("vm start: --name: ")
    place.begin("vm polish", id="job2")
    assert from_wire(place.told("job2")["error"]).message == "unknown action 'vm polish'"


def test_a_job_that_fails_takes_back_what_it_made(place: Place) -> None:
    """The name is taken by somebody else between the look and the deed."""
    before = place.volumes()

    def somebody_is_faster() -> None:
        if "new1.img" in place.volumes() and "new1" not in place.names():
            place.hypervisor.define(domain("new1", uuid=UUID))

    place.on_wake = somebody_is_faster
    told = place.do("vm clone", **CLONE)
    assert told["state"] == "failed"
    error = from_wire(told["error"])
    assert (error.kind, error.code) == ("failed", "environment_error")
    assert "'new1' already exists" in error.message
    assert [step["name"] for step in told["steps"]] == ["copy", "define"]
    assert place.volumes() == before
    assert place.hypervisor.has_domain(UUID), "not what somebody else made"
    assert place.journal.undos("job1") == []


def test_a_job_that_is_cancelled_takes_back_what_it_made(place: Place) -> None:
    before = place.volumes()

    def cancel_in_the_middle() -> None:
        if place.volumes() != before:
            place.runner.cancel("job1")

    place.on_wake = cancel_in_the_middle
    told = place.do("vm clone", **CLONE)
    assert told["state"] == "cancelled"
    assert from_wire(told["error"]).code == "cancelled"
    assert [step["name"] for step in told["steps"]] == ["copy"]
    assert place.volumes() == before
    assert "new1" not in place.names()


def test_a_cancel_after_the_point_of_no_return_comes_too_late(place: Place) -> None:
    def cancel_late() -> None:
        if "new1" in place.names():
            place.runner.cancel("job1")

    place.on_wake = cancel_late
    told = place.do("vm clone", **CLONE)
    assert told["state"] == "done"
    assert place.hypervisor.state("new1") == "running"


def test_a_job_that_takes_too_long_takes_back_what_it_made(place: Place) -> None:
    before = place.volumes()
    place.on_wake = lambda: time.sleep(0.3)
    told = place.do("vm clone", limit=0.1, **CLONE)
    assert (told["state"], from_wire(told["error"]).code) == ("failed", "timeout")
    assert place.volumes() == before


def test_an_unexpected_error_is_told_and_takes_back_what_the_job_made(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """D6: it ends the job and nothing else."""
    before = place.volumes()

    def break_once() -> None:
        if place.volumes() != before:
            place.on_wake = lambda: None
            raise ZeroDivisionError("of all things")

    place.on_wake = break_once
    told = place.do("vm clone", **CLONE)
    error = from_wire(told["error"])
    assert (told["state"], error.code) == ("failed", "internal_error")
    assert error.message == "unexpected error on host1: ZeroDivisionError: of all things"
    assert "job=job1" in error.hint
    assert place.volumes() == before
    assert "Traceback" in caplog.text
    place.begin("vm start", id="job2", name="web2")
    assert place.told("job2")["state"] == "done", "the next job runs"


def test_a_read_that_is_handed_out_as_a_job_is_an_error_and_no_end(place: Place) -> None:
    assert from_wire(place.do("vm list")["error"]).code == "internal_error"


NOWHERE = "test:///nonexistent.xml"


def cancel_and_take_libvirt_away(place: Place) -> None:
    """As soon as a clone has made something: the job meets the libvirt that it had, its undoing none."""
    before, once = place.volumes(), threading.Lock()

    def meanwhile() -> None:
        if not once.locked() and place.volumes() != before and once.acquire(blocking=False):
            place.runner.host = place.host._replace(hypervisor=Hypervisor(NOWHERE))
            place.runner.cancel("job1")

    place.on_wake = meanwhile
    place.begin("vm clone", slot="disk", **CLONE)
    until(once.locked)


def step(place: Place) -> str:
    """What the next sync would say of the job's step."""
    with place.runner._lock:
        work = place.runner._works.get("job1")
    return str(work.report()["step"]) if work else ""


def test_a_job_does_not_end_while_what_it_made_cannot_be_taken_back(place: Place) -> None:
    """Its VM's lock would be free, and what is undone later would undo what others have done since."""
    before = place.volumes()
    cancel_and_take_libvirt_away(place)
    told = until(lambda: step(place) if step(place).startswith("taking back: ") else None)
    assert told.startswith("taking back: delete_volume default-pool new1.img: libvirt: unreachable")
    place.runner.cancel("job1")  # somebody is impatient: it is what is being done
    time.sleep(0.3)
    state = place.runner.state()
    assert (state["have"], state["done"]) == (["job1"], [])
    assert state["free"]["disk"] == 2, "it only waits"
    place.runner.host = place.host
    told = place.told()
    assert (told["state"], told["error"]["details"]) == ("cancelled", {})
    assert [step["name"] for step in told["steps"]] == ["copy", "taking back"]
    assert "libvirt: unreachable" in told["steps"][-1]["note"]
    assert place.volumes() == before
    assert place.journal.jobs_to_undo() == []


def test_a_stop_leaves_what_cannot_be_taken_back_yet_to_the_next_start(place: Place) -> None:
    before = place.volumes()
    cancel_and_take_libvirt_away(place)
    until(lambda: step(place).startswith("taking back: "))
    began = time.monotonic()
    place.runner.stop(60.0)
    assert time.monotonic() - began < 5, "nobody waits for it"
    assert [entry.outcome for entry in place.journal.entries()] == [None]
    assert place.runner.state()["have"] == ["job1"]
    place.on_wake = lambda: None
    place.runner = place.new_runner()
    place.runner.recover()
    error = from_wire(place.told()["error"])
    assert "in the middle of step taking back, after: the job was cancelled; what the job had made was undone" in str(
        error
    )
    assert place.volumes() == before


def test_what_was_given_up_is_told_and_not_done_later_behind_somebodys_back(place: Place) -> None:
    """What has that name by then may be somebody else's."""
    place.runner = place.new_runner(patience=0.0)
    cancel_and_take_libvirt_away(place)
    error = from_wire(place.told()["error"])
    (left,) = error.details["left_behind"]
    assert left.startswith("delete_volume default-pool new1.img: libvirt: unreachable")
    assert left in error.hint
    place.runner.host = place.host
    time.sleep(0.3)
    assert place.journal.jobs_to_undo() == []
    assert "new1.img" in place.volumes()


def test_what_will_not_be_undone_by_itself_ends_the_job_and_is_told(place: Place) -> None:
    """libvirt's pool goes away between the deed and its undoing: a person has to look at it."""
    pool = place.hypervisor._connect().storagePoolLookupByName("default-pool")
    before = place.volumes()
    once = threading.Lock()  # the job's thread and the runner's wake up; a late one must not take it away again

    def take_the_pool_away() -> None:
        if not once.locked() and place.volumes() != before and once.acquire(blocking=False):
            place.runner.cancel("job1")
            pool.destroy()

    place.on_wake = take_the_pool_away
    told = place.do("vm clone", **CLONE)
    assert told["state"] == "cancelled"
    error = from_wire(told["error"])
    (left,) = error.details["left_behind"]
    assert left.startswith("delete_volume default-pool new1.img: ")
    assert left in error.hint
    place.on_wake = lambda: None
    pool.create()
    time.sleep(0.3)
    assert place.journal.jobs_to_undo() == []
    assert "new1.img" in place.volumes(), "by now it may be the disk of another job"


def test_what_nobody_foresaw_keeps_neither_the_other_undos_nor_the_job_from_their_ends(place: Place) -> None:
    part = place.folder / "part"
    part.touch()
    place.journal.begin("job1", 1, "vm clone", "new1")
    place.journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    place.journal.put_undo("job1", 2, "remove_part", {"path": "no\0path"})  # a ValueError
    place.runner.recover()
    error = from_wire(place.told()["error"])
    assert not part.exists()
    assert "not all that the job had made could be undone" in error.message
    assert len(error.details["left_behind"]) == 1
    assert [undo.number for undo in place.journal.undos("job1")] == [2], "it is tried again: it is nobody else's"


def test_what_an_interrupted_job_leaves_for_good_ends_it(place: Place) -> None:
    """Its VM would be locked for ever."""
    path = place.folder / "new1.img"
    path.write_text("x")
    place.journal.begin("job1", 1, "vm clone", "new1")
    place.journal.put_undo("job1", 1, "remove_file", {"path": str(path), "inode": path.stat().st_ino})
    place.journal.put_undo("job1", 2, "polish_brass", {"name": "x"})
    place.runner.recover()
    left = from_wire(place.told()["error"]).details["left_behind"]
    assert [words.split(" ")[0] for words in left] == ["polish_brass", "remove_file"]
    until(lambda: place.journal.jobs_to_undo() == [])
    assert path.exists()


def test_facts_that_cannot_be_had_for_a_reason_that_nobody_foresaw_are_told(place: Place) -> None:
    place.runner.refresh_facts()
    assert place.runner.current_facts()["libvirt"] == "ok"
    sound = place.runner.host
    place.runner.host = sound._replace(hypervisor=None)  # type: ignore[arg-type]
    place.runner.refresh_facts()
    told = place.runner.current_facts()
    assert told["libvirt"].startswith("unexpected error on host1: AttributeError")
    assert told["vms_defined"] == 2, "what was known last"
    place.runner.host = sound
    place.runner.refresh_facts()
    assert place.runner.current_facts()["libvirt"] == "ok"


# ------------------------------------------------------------------------------------------ at most once


def test_a_job_is_begun_once(place: Place) -> None:
    started = threading.Event()
    go_on = threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(10)

    place.on_wake = hold
    place.begin("vm clone", **CLONE)
    assert started.wait(10)
    place.begin("vm clone", **CLONE)  # handed out again while it runs
    place.on_wake = lambda: None
    go_on.set()
    assert place.told()["state"] == "done"
    place.begin("vm destroy", name="new1")  # handed out again after it has ended, whatever it says
    time.sleep(0.05)
    assert place.hypervisor.state("new1") == "running"
    assert [told["id"] for told in place.runner.state()["done"]] == ["job1"]


def test_a_job_is_known_after_a_restart(place: Place) -> None:
    place.do("vm start", name="web2")
    place.runner.stop(0.0)
    place.hypervisor.destroy("web2")
    place.runner = place.new_runner()
    state = place.runner.state()
    assert state["have"] == ["job1"]
    assert [told["state"] for told in state["done"]] == ["done"], "it is told again until that is acknowledged"
    place.begin("vm start", name="web2")
    time.sleep(0.05)
    assert place.hypervisor.state("web2") == "shut-off"
    place.runner.acknowledged([{"id": "job1", "attempt": 1}])
    assert place.runner.state()["have"] == []


# ----------------------------------------------------------------------------------- what the loop tells


def test_what_a_sync_says_of_jobs(place: Place) -> None:
    assert place.runner.state() == {
        "have": [],
        "done": [],
        "progress": [],
        "free": {"quick": 8, "disk": 2, "guest": 2, "move": 1},
    }
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(10)

    place.on_wake = hold
    place.begin("vm clone", slot="disk", **CLONE)
    assert started.wait(10)
    state = place.runner.state()
    assert (state["have"], state["done"], state["free"]["disk"]) == (["job1"], [], 1)
    (report,) = state["progress"]
    assert (report["id"], report["step"]) == ("job1", "copy")
    assert place.runner.state()["progress"] == [], "told once"
    place.on_wake = lambda: None
    go_on.set()
    told = place.told()
    assert list(told["steps"][0]) == ["name", "seconds", "note"]
    assert place.runner.state()["free"]["disk"] == 2
    assert place.runner.state()["have"] == ["job1"]


def test_an_end_is_urgent_and_progress_is_not(place: Place) -> None:
    assert not place.runner.urgent(100.0, 0.5)
    place.do("vm start", name="web2")
    until(lambda: place.runner.urgent(100.0, 0.5))
    assert not place.runner.urgent(100.0, 0.5)
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(10)

    place.on_wake = hold
    place.begin("vm clone", id="job2", **CLONE)
    assert started.wait(10)
    assert place.runner.urgent(200.0, 0.5)
    assert not place.runner.urgent(200.4, 0.5)
    assert place.runner.urgent(200.5, 0.5)
    place.on_wake = lambda: None
    go_on.set()
    assert place.told("job2")["state"] == "done"


def test_a_job_that_could_not_even_be_noted_is_not_begun_and_makes_no_hurry(place: Place) -> None:
    """It is handed out again with the next beat. At once would mean: as fast as both can, for as long as it lasts."""
    place.journal.close()
    place.woken.clear()
    place.begin("vm start", name="web2")
    assert place.woken.wait(10)
    assert not place.runner.urgent(100.0, 0.5)
    assert place.hypervisor.state("web2") == "shut-off"
    place.journal = place.runner.journal = Journal(str(place.folder / "journal.db"))
    assert place.runner.state()["have"] == []
    place.begin("vm start", name="web2")
    assert place.told()["state"] == "done"


def test_what_is_told_can_travel(place: Place) -> None:
    place.do("vm clone", **CLONE)
    place.begin("vm start", id="job2", name="nosuch")
    place.told("job2")
    place.runner.refresh_facts()
    state = place.runner.state()
    wire.encode({"op": "sync", "facts": place.runner.facts, **state})
    assert len(state["done"]) == 2


# ------------------------------------------------------------------------------------------------ reads


def test_a_read_is_answered(place: Place) -> None:
    answer = place.ask("vm list")
    assert answer["ask"] == 5
    assert sorted(item["name"] for item in answer["value"]["items"]) == ["web1", "web2"]
    assert place.runner.answers() == []


def test_a_read_that_cannot_be_answered_says_why(place: Place) -> None:
    answer = place.ask("vm info", name="nosuch")
    assert not answer["ok"]
    assert from_wire(answer["error"]).message == "there is no VM nosuch on this host"
    assert from_wire(place.ask("vm polish")["error"]).code == "wrong_input"
    assert from_wire(place.ask("vm start", name="web1")["error"]).code == "internal_error", "a job is no read"
    assert place.hypervisor.state("web1") == "running"


def test_a_plan_says_what_would_be_done_and_does_nothing(place: Place) -> None:
    before = place.volumes()
    item = place.ask("vm clone", op="plan", **CLONE)["value"]["item"]
    assert item["changed"] is True
    assert item["would"]["name"] == "new1"
    assert item["would"]["disks"] == [
        {"target": "vda", "path": "/default-pool/new1.img", "format": "raw", "capacity_bytes": 4 << 30}
    ]
    for action, args in (
        ("vm start", {"name": "web2"}),
        ("vm stop", {"name": "web1"}),
        ("vm restart", {"name": "web1"}),
        ("vm destroy", {"name": "web1"}),
        ("vm remove", {"name": "web2"}),
    ):
        assert place.ask(action, op="plan", **args)["value"]["item"]["changed"] is True
    nothing = place.ask("vm start", op="plan", name="web1")["value"]["item"]
    assert nothing == {"would": None, "name": "web1", "state": "running", "changed": False}
    refused = place.ask("vm clone", op="plan", **{**CLONE, "hostname": "web1"})
    assert from_wire(refused["error"]).code == "already_exists"
    assert place.volumes() == before
    assert place.names() == [IMAGE, "web1", "web2"]
    assert [place.hypervisor.state(name) for name in ("web1", "web2")] == ["running", "shut-off"]
    assert place.journal.entries() == []
    assert place.journal.jobs_to_undo() == []


def test_too_many_reads_are_turned_away_at_once(place: Place) -> None:
    """libvirt hangs, and everybody asks: what waits has an end."""
    go_on = threading.Event()
    place.on_wake = lambda: (go_on.wait(30), None)[1]

    def read(count: int) -> None:
        for number in range(count):
            place.runner.read({"op": "read", "ask": number, "action": "vm list", "args": {}})

    read(READERS)
    answers = []
    until(lambda: answers.extend(place.runner.answers()) or len(answers) == READERS)
    read(MOST_READS)
    assert place.runner.answers() == [], "they wait: every reader is busy"
    place.runner.read({"op": "read", "ask": 7, "action": "host ping", "args": {}})
    (answer,) = place.runner.answers()
    assert answer["ok"], "it asks nothing of libvirt, and tells that this worker is there"
    place.runner.read({"op": "read", "ask": 7, "action": "host ping", "args": {"nonsense": 1}})
    assert [from_wire(answer["error"]).code for answer in place.runner.answers()] == ["wrong_input"]
    read(3)
    late = place.runner.answers()
    assert [from_wire(answer["error"]).message for answer in late] == ["libvirt: does not answer"] * 3
    assert [from_wire(answer["error"]).code for answer in late] == ["host_down"] * 3
    place.on_wake = lambda: None
    go_on.set()
    until(lambda: answers.extend(place.runner.answers()) or len(answers) == READERS + MOST_READS)
    assert all(answer["ok"] for answer in answers)


def test_the_facts_tell_when_libvirt_comes(tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    place = Place(tmp_path, f"test://{later}/world.xml")
    try:
        place.runner.watch(0.02)
        until(lambda: "unreachable" in place.runner.facts.get("libvirt", ""))
        assert from_wire(place.ask("vm list")["error"]).code == "host_down"
        assert from_wire(place.ask("vm list")["error"]).message.startswith("libvirt: unreachable (test://")
        place.woken.clear()
        world(later, "web1", off=("web2", IMAGE))
        until(lambda: place.runner.facts.get("libvirt") == "ok")
        assert place.woken.wait(10), "at once, not with the next beat"
        assert place.runner.facts["vms_running"] == 1
        assert place.runner.facts["vms_defined"] == 2, "an image is no VM"
        assert len(place.ask("vm list")["value"]["items"]) == 2
    finally:
        place.close()


# ------------------------------------------------------------------------------------------- after a crash


def child(mark: str) -> int:
    """A process group that outlived the process that started it."""
    code = (
        "import subprocess; print(subprocess.Popen(['sh', '-c', 'sleep 300 & sleep 300'],"
        " stdout=subprocess.DEVNULL, start_new_session=True).pid)"
    )
    environment = {**os.environ, commands.MARK: mark}
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=30, env=environment)
    return int(run.stdout)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_crash_left_is_put_in_order(place: Place) -> None:
    """The journal as a host worker leaves it that is killed in the middle of a clone."""
    journal, folder = place.journal, place.folder / "pool"
    folder.mkdir()
    part, path = folder / "new1.img.job1.part", folder / "new1.img"
    part.write_text("half")
    os.link(part, path)
    pid, stranger = child(journal.mark), child("stranger")
    journal.begin("job1", 1, "vm clone", "new1")
    journal.step("job1", "define")
    journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    journal.put_undo("job1", 2, "remove_file", {"path": str(path), "inode": path.stat().st_ino})
    journal.put_undo("job1", 3, "undefine", {"uuid": UUID})
    place.hypervisor.define(domain("new1", uuid=UUID))

    assert place.runner.state()["have"] == ["job1"], "it is not handed out again meanwhile"
    place.runner.recover()
    told = place.told()
    assert told["state"] == "failed"
    error = from_wire(told["error"])
    assert error.code == "lost"
    assert "in the middle of step define; what the job had made was undone" in error.message
    assert error.message.endswith("Now new1 does not exist on this host")
    assert told["steps"] == [{"name": "define", "seconds": None, "note": "interrupted"}]
    assert list(folder.iterdir()) == []
    assert "new1" not in place.names()
    until(lambda: not runs(pid))
    assert runs(stranger)
    commands.end_orphans("stranger")
    until(lambda: place.runner.urgent(100.0, 0.5))
    assert journal.jobs_to_undo() == []


def test_what_is_seen_now_is_told(place: Place) -> None:
    place.journal.begin("job1", 1, "vm stop", "web1")
    place.journal.begin("job2", 1, "vm start", "web2")
    place.journal.begin("job3", 1, "vm start", None)
    place.runner.recover()
    assert from_wire(place.told("job1")["error"]).message.endswith(
        "step none; there was nothing to be undone. Now web1 is running"
    )
    assert from_wire(place.told("job2")["error"]).message.endswith("Now web2 is shut-off")
    place.told("job3")


def killed(place: Place, action: str, **args: Any) -> None:
    """Let a job do its last effect and come no further, as if the process had ended there; then the next start."""

    def end() -> None:
        signed = [entry.sign for entry in place.journal.entries() if entry.sign]
        if signed and signs.seen(signed[0], place.hypervisor):
            place.on_wake = lambda: None
            place.runner._stopping.set()
            place.journal.close()  # nothing more can be noted

    place.on_wake = end
    place.begin(action, **args)
    until(lambda: not place.runner._works)
    place.journal = Journal(str(place.folder / "journal.db"))
    assert [entry.outcome for entry in place.journal.entries()] == [None]
    place.runner = place.new_runner()
    place.runner.recover()


@pytest.mark.parametrize(
    ("action", "args", "expected"),
    [
        ("vm start", {"name": "web2"}, {"name": "web2", "host": "host1", "state": "running", "changed": True}),
        ("vm destroy", {"name": "web1"}, {"name": "web1", "host": "host1", "state": "shut-off", "changed": True}),
        ("vm stop", {"name": "web1"}, {"name": "web1", "host": "host1", "state": "shut-off", "changed": True}),
        ("vm restart", {"name": "web1"}, {"name": "web1", "host": "host1", "state": "running", "changed": True}),
        ("vm remove", {"name": "web2"}, {"name": "web2", "changed": True, "deleted": ["/default-pool/web2.img"]}),
        ("vm clone", CLONE, {"name": "new1", "state": "running", "image": IMAGE, "mode": "full"}),
        ("vm clone", {**CLONE, "start": False}, {"name": "new1", "state": "shut-off"}),
    ],
)
def test_a_job_whose_whole_effect_is_seen_after_a_crash_is_done(
    place: Place, action: str, args: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Killed after the last effect and before its end was noted: it is neither undone nor told as failed."""
    killed(place, action, **args)
    told = place.told()
    assert (told["state"], told["error"]) == ("done", None)
    assert expected.items() <= told["result"].items()
    assert "its next start saw that all was done" in told["steps"][-1]["note"]
    assert place.journal.jobs_to_undo() == []
    if action == "vm clone":
        assert place.hypervisor.state("new1") == expected["state"]
        assert "new1.img" in place.volumes()
    elif action != "vm remove":
        assert place.hypervisor.state(args["name"]) == expected["state"]


def test_a_job_whose_effect_is_not_seen_after_a_crash_is_taken_back(place: Place) -> None:
    """Killed after the definition and before the start."""
    before = place.volumes()
    place.journal.begin("job1", 1, "vm clone", "new1")
    place.journal.put_undo("job1", 1, "undefine", {"uuid": UUID})
    place.hypervisor.define(domain("new1", uuid=UUID))
    sign = {"what": "runs", "args": {"name": "new1", "uuid": UUID}, "result": {}}
    place.journal.step("job1", "start", sign)
    place.runner.recover()
    told = place.told()
    assert (told["state"], from_wire(told["error"]).code) == ("failed", "lost")
    assert "what the job had made was undone" in from_wire(told["error"]).message
    assert "new1" not in place.names()
    assert place.volumes() == before


def built(place: Place, sign: dict[str, Any]) -> Path:
    """The journal of a job that has put a new disk in the place of an old one, and started its VM; what it set aside
    cannot be deleted. The new disk.
    """
    stubborn, disk = place.folder / "stubborn", place.folder / "web1.img"
    stubborn.mkdir()  # unlink does not remove a folder
    disk.write_text("new")
    uuid = next(found.uuid for found, _ in place.hypervisor.domains() if found.name == "web1")
    journal = place.journal
    journal.begin("job1", 1, "vm build", "web1")
    journal.put_undo("job1", 1, "remove_part", {"path": str(stubborn)})
    journal.put_undo("job1", 2, "remove_file", {"path": str(disk), "inode": disk.stat().st_ino})
    journal.put_undo("job1", 3, "halt", {"uuid": uuid})
    journal.step("job1", "start", sign)
    return disk


def test_what_cannot_be_tidied_makes_no_finished_job_undone(place: Place) -> None:
    disk = built(place, signs.sign("runs", {"name": "web1"}, name="web1"))
    place.runner.recover()
    told = place.told()
    assert (told["state"], told["result"]) == ("done", {"name": "web1"})
    assert "could not tidy: remove_part" in told["steps"][-1]["note"]
    assert place.hypervisor.state("web1") == "running"
    assert disk.exists()


def seen_and_gone(place: Place, retry: float) -> Path:
    """The disk of a guest that was seen to run, and went off while something was still to be tidied."""
    disk = built(place, signs.sign("runs", {"name": "web1"}, name="web1"))
    place.runner._retry = retry
    place.runner.recover()
    until(lambda: [one.what for one in place.journal.undos("job1")] == ["remove_part"])
    place.hypervisor.destroy("web1")
    return disk


def test_a_sign_that_was_seen_once_was_seen(place: Place) -> None:
    """The guest switches itself off while something is still to be tidied, and the host worker is started anew."""
    disk = seen_and_gone(place, retry=60.0)
    place.runner.stop(0.0)
    place.runner = place.new_runner()
    place.runner.recover()
    assert place.told()["state"] == "done"
    assert disk.exists()


def test_nor_is_it_asked_for_again_by_this_start(place: Place) -> None:
    """The guest switches itself off before what could not be tidied is tried again."""
    disk = seen_and_gone(place, retry=0.3)
    assert place.told()["state"] == "done"
    assert disk.exists()


def test_one_thread_takes_back(place: Place) -> None:
    """Another one would not know of which jobs the sign is to be asked for."""
    sound = place.runner.host
    place.runner.host = place.host._replace(hypervisor=Hypervisor(NOWHERE))
    built(place, signs.sign("runs", {"name": "web1"}, name="web1"))
    place.runner.recover()
    part = place.folder / "part"
    part.write_text("x")
    place.journal.begin("job2", 1, "vm clone", "new1")
    place.journal.put_undo("job2", 1, "remove_part", {"path": str(part)})
    place.journal.end("job2", {"id": "job2", "attempt": 1, "state": "failed", "error": {}})
    for _ in range(5):
        place.runner._recover_in_background()
    assert [thread.name for thread in threading.enumerate()].count("recover") == 1
    place.runner.host = sound
    until(lambda: not part.exists())
    assert place.told()["state"] == "done"
    assert place.hypervisor.state("web1") == "running"
    until(lambda: "recover" not in [thread.name for thread in threading.enumerate()])
    part.write_text("x")
    place.journal.put_undo("job3", 1, "remove_part", {"path": str(part)})
    place.runner._recover_in_background()
    until(lambda: not part.exists())


@pytest.mark.parametrize(
    "sign",
    [
        {"what": "runs", "args": {"name": "web1", "uuid": UUID}, "result": {}},  # another domain of that name
        {"what": "runs", "args": {"name": "nosuch"}, "result": {}},
        {"what": "is_off", "args": {"name": "nosuch"}, "result": {}},
        {"what": "is_off", "args": {"name": "web1"}, "result": {}},
        {"what": "defined", "args": {"uuid": UUID}, "result": {}},
        {"what": "has_name", "args": {"path": "/nosuch", "inode": 1}, "result": {}},
        {"what": "of another release", "args": {"x": 1}, "result": {}},
        {"what": "runs", "args": {"of another release": 1}, "result": {}},
        {"what": "runs"},
    ],
)
def test_what_is_not_seen_is_no_sign(place: Place, sign: dict[str, Any]) -> None:
    assert not signs.seen(sign, place.hypervisor)


def test_a_file_with_its_final_name_is_a_sign(place: Place) -> None:
    path = place.folder / "export.vmdk"
    path.write_text("x")
    sign = {"what": "has_name", "args": {"path": str(path), "inode": path.stat().st_ino}, "result": {}}
    assert signs.seen(sign, place.hypervisor)
    assert not signs.seen({**sign, "args": {"path": str(path), "inode": 1}}, place.hypervisor)


def test_after_a_crash_an_end_that_was_noted_is_told_as_it_was(place: Place) -> None:
    place.journal.begin("job1", 1, "vm start", "web2")
    outcome = {"id": "job1", "attempt": 1, "state": "done", "result": {"name": "web2"}, "error": None}
    place.journal.end("job1", outcome)
    place.runner.recover()
    assert place.told() == outcome


def test_what_a_failed_job_left_is_taken_back_after_the_next_start(place: Place) -> None:
    part = place.folder / "part"
    part.write_text("x")
    place.journal.begin("job1", 1, "vm clone", "new1")
    place.journal.put_undo("job1", 1, "remove_part", {"path": str(part)})
    place.journal.end("job1", {"id": "job1", "attempt": 1, "state": "failed", "error": {}})
    place.journal.forget([("job1", 1)])
    place.runner.recover()
    until(lambda: place.journal.jobs_to_undo() == [])
    assert not part.exists()


def test_recovery_waits_for_libvirt(tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    place = Place(tmp_path, f"test://{later}/world.xml")
    try:
        place.journal.begin("job1", 1, "vm clone", "new1")
        place.journal.put_undo("job1", 1, "undefine", {"uuid": UUID})
        place.runner.recover()
        time.sleep(0.2)
        assert place.runner.state()["done"] == [], "it cannot be told as undone yet"
        assert place.runner.state()["have"] == ["job1"]
        world(later, more=domain("new1", uuid=UUID, state=1), volumes=[])
        assert place.told()["state"] == "failed"
        assert place.names() == []
    finally:
        place.close()


def test_a_job_that_runs_is_not_taken_back_by_a_recovery(place: Place) -> None:
    """Recovery works in its own thread while new jobs begin."""
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if "new1.img" in place.volumes():
            started.set()
            go_on.wait(10)

    place.journal.begin("job0", 1, "vm clone", "old1")
    place.journal.put_undo("job0", 1, "delete_volume", {"pool": "nosuch", "name": "x"})
    place.runner.recover()  # never gets done, and tries again and again
    place.on_wake = hold
    place.begin("vm clone", **CLONE)
    assert started.wait(10)
    time.sleep(0.2)
    place.on_wake = lambda: None
    go_on.set()
    assert place.told()["state"] == "done"
    assert "new1.img" in place.volumes()


def test_an_interrupted_job_is_told_even_when_nothing_can_be_seen() -> None:
    from maglica.host_worker.journal import Entry

    def unreachable(name: str | None) -> str:
        raise Failed("host_down", "libvirt: unreachable")

    told = run.interrupted(Entry("job1", 1, "vm start", "web1", None, None), unreachable, undone=False)
    assert from_wire(told["error"]).message.endswith("Now libvirt: unreachable")
    assert told["steps"] == []


# --------------------------------------------------------------------------------------------------- the end


def test_a_stop_lets_jobs_end_and_takes_no_more(place: Place) -> None:
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(10)

    place.on_wake = hold
    place.begin("vm clone", **CLONE)
    assert started.wait(10)
    stopping = threading.Thread(target=place.runner.stop, args=(10.0,))
    stopping.start()
    until(lambda: not place.runner.accepting)
    assert place.runner.state()["free"] == dict.fromkeys(SLOTS, 0)
    place.begin("vm start", id="job2", name="web2")
    place.on_wake = lambda: None
    go_on.set()
    stopping.join(10)
    assert not stopping.is_alive()
    assert place.told()["state"] == "done"
    assert place.runner.state()["have"] == ["job1"]
    assert place.hypervisor.state("web2") == "shut-off"


def test_a_stop_cancels_what_does_not_end_in_time(place: Place) -> None:
    before = place.volumes()
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if place.volumes() != before:
            started.set()
            go_on.wait(10)

    place.on_wake = hold
    place.begin("vm clone", **CLONE)
    assert started.wait(10)
    stopping = threading.Thread(target=place.runner.stop, args=(0.0,))
    stopping.start()
    time.sleep(0.15)
    place.on_wake = lambda: None
    go_on.set()
    stopping.join(10)
    assert place.told()["state"] == "cancelled"
    assert place.volumes() == before


def test_a_question_that_comes_during_the_end_is_answered(place: Place) -> None:
    place.runner.stop(0.0)
    place.runner.read({"op": "read", "ask": 7, "action": "vm list", "args": {}})
    (answer,) = place.runner.answers()
    error = from_wire(answer["error"])
    assert (answer["ask"], error.code, error.message) == (7, "host_down", "the host worker is being stopped")
