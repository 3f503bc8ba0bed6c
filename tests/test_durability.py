"""Full disks and damaged files under real daemons: what is told, what is refused, and that it passes."""

from __future__ import annotations

import resource
import sqlite3
import time
from pathlib import Path

import pytest

from maglica.errors import MaglicaError
from maglica.nouns import Cloud
from tests.daemons import RUNNING, SHUT_OFF, House
from tests.small_disk import fill, small_disk
from tests.waiting import until

IMAGE = "el9.original"
SECRET = "$6$saltsalt$" + "Zx9/" * 21 + "ab"


def host_of(cloud: Cloud) -> dict[str, object]:
    return dict(cloud.host.list()[0])


@pytest.mark.slow
def test_a_full_disk_under_the_journal_is_told_to_who_waits_and_passes(house: House) -> None:
    house.start()
    (house.folder / "state").mkdir(exist_ok=True)
    with small_disk(house.folder / "state/host-host1", 8) as disk, house.connect() as cloud:
        house.start_host("host1", {"web1": RUNNING})
        rubbish = fill(disk)
        # What runs when the disk is full still ends and is told, with the room that was kept for it.
        assert cloud.vm.destroy(name="web1")["changed"]
        for _ in range(100):  # until what was kept is noticed to be used up
            if host_of(cloud)["state"] == "degraded":
                break
            cloud.vm.start.submit(name="web1")
            fill(disk)
        job = cloud.vm.destroy.submit(name="web1")
        told = until(lambda: cloud.job.show(id=job.id)["waits_for"], 20, "it is told what the job waits for")
        assert "host host1, which says: no job can begin: the journal's disk is full" in told
        host = host_of(cloud)
        assert (host["state"], host["libvirt"]) == ("degraded", "ok")
        assert "make room for" in str(host["why"])
        assert cloud.vm.list()[0]["name"] == "web1", "reads go on"
        house.hosts["host1"].kill()
        house.start_host("host1", wait=False)
        until(lambda: "the journal's disk is full" in str(host_of(cloud)["why"]), 20, "it says so after a start, too")
        rubbish.unlink()
        job.wait(30)
        until(lambda: host_of(cloud)["state"] == "up", 20, "all is well again")
        assert cloud.vm.list()[0]["state"] == "shut-off"
    assert "Traceback" not in house.hosts["host1"].log
    house.hosts["host1"].kill()


def test_jobs_of_a_damaged_journal_become_lost_and_that_is_said_aloud(house: House) -> None:
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    path = house.folder / "state/host-host1/journal.db"
    with house.connect() as cloud:
        job = cloud.vm.stop.submit(name="web1", timeout=60)
        until(lambda: job.progress()["state"] == "running" or job.ended, 20, "it runs")
        done = job.ended  # the test driver's guests obey at once
        house.hosts["host1"].kill()
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = b"\xff" * (len(data) // 2)
        path.write_bytes(data)
        house.start_host("host1")
        until(lambda: "is damaged" in house.hosts["host1"].log, 20, "it is found")
        (aside,) = path.parent.glob("journal.db.damaged-*Z")
        assert aside.read_bytes()[:4096] == data[:4096]
        said = f"the journal was damaged and set aside as {aside.name}"
        until(lambda: said in str(host_of(cloud)["why"]), 20, "everybody can see it")
        assert host_of(cloud)["state"] == "degraded"
        if not done:
            until(lambda: cloud.job.show(id=job.id)["state"] in ("lost", "done"), 20, "lost, or told before")
        cloud.vm.start(name="web1")
        aside.rename(house.folder / "looked at")
        for rest in path.parent.glob("journal.db.damaged-*"):
            rest.unlink()
        until(lambda: host_of(cloud)["state"] == "up", 20, "nothing more to be looked at")


def test_damage_in_a_running_host_worker_ends_it_and_the_next_start_goes_on(house: House) -> None:
    house.start()
    daemon = house.start_host("host1", {"web1": RUNNING})
    path = house.folder / "state/host-host1/journal.db"
    with house.connect() as cloud:
        cloud.vm.destroy(name="web1")
        daemon.stop()
        raw = sqlite3.connect(path)
        raw.execute("INSERT INTO job VALUES ('job1', 1, 'vm start', 'web1', NULL, NULL, NULL, 5)")
        raw.commit()
        raw.close()
        house.start_host("host1")
        until(lambda: "a row of job is not what was written" in daemon.log, 20, "it is found")
        until(lambda: "another host worker" not in str(host_of(cloud)["why"]) and not cloud.vm.list().missing_hosts, 20)
        assert cloud.vm.start(name="web1")["state"] == "running"


def test_a_secret_is_in_no_file_once_its_job_has_ended(house: House) -> None:
    house.start()
    house.start_host("host1", {IMAGE: SHUT_OFF})

    def files_with_it() -> list[str]:
        files = [path for path in house.folder.rglob("*") if path.is_file()]
        return [str(path) for path in files if SECRET.encode() in path.read_bytes()]

    with house.connect() as cloud:
        with pytest.raises(MaglicaError):
            cloud.vm.clone(image=IMAGE, hostname="web1.example.jp", root_password_hash=SECRET)
        (record,) = cloud.job.list()
        assert record["state"] == "failed"
        assert record["args"]["root_password_hash"] == "***"
        until(lambda: files_with_it() == [], 10, "nothing has it")
        house.hosts["host1"].stop()
        house.client_worker.stop()
        assert files_with_it() == []
    assert SECRET not in Path(house.folder / "client_worker.log").read_text()


@pytest.mark.slow
def test_an_error_of_the_disk_ends_the_host_worker_and_the_job_runs_after_its_next_start(house: House) -> None:
    house.start()
    daemon = house.start_host("host1", {"web1": RUNNING})
    wal = house.folder / "state/host-host1/journal.db-wal"
    with house.connect() as cloud:
        cloud.vm.destroy(name="web1")
        cloud.vm.start(name="web1")
        size = wal.stat().st_size
        _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (max(size, len(daemon.log) + 4096), hard))
        job = cloud.vm.destroy.submit(name="web1")
        try:
            for _ in range(40):  # until the file has no room left for one more
                cloud.vm.start.submit(name="web1")
                time.sleep(0.05)
        except MaglicaError:
            pass  # it has ended while it was asked where the VM is
        until(lambda: not daemon.alive, 20, "it ends")
        assert daemon.process.returncode == 1
        assert "maglica_host_worker: the journal cannot be written: disk I/O error" in daemon.log
        assert "Traceback" not in daemon.log
        house.start_host("host1")
        job.wait(30)
        until(lambda: not [one for one in cloud.job.list() if one["ended_at"] is None], 30, "all have ended")
        assert {one["state"] for one in cloud.job.list()} <= {"done", "failed"}
