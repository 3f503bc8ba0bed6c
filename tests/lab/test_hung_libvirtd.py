"""A libvirtd that does not move: everything else does, and it is at work again as soon as it moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from maglica.cloud import JobHandle
from maglica.errors import Failed
from maglica.nouns import Cloud

from .conftest import Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]


@contextmanager
def hung(lab: Lab, host: str) -> Iterator[None]:
    lab.on(host, "kill -STOP $(pidof libvirtd)")
    try:
        yield
    finally:
        lab.on(host, "kill -CONT $(pidof libvirtd)")


def why(cloud: Cloud) -> dict[str, str]:
    return {missing["host"]: missing["why"] for missing in cloud.vm.list().missing_hosts}


def taking_back(job: JobHandle) -> str:
    step = str(job.progress()["step"])
    return step if step.startswith("taking back: ") else ""


def test_a_libvirtd_that_hangs_stops_neither_beats_nor_readers(lab: Lab, cloud: Cloud, clean: object) -> None:
    with hung(lab, "host1"):
        for _ in range(20):  # more than there are readers
            cloud.call("image list", {}, 0.2)
        until(lambda: "has not answered" in why(cloud).get("host1", ""), 60, "the host says so itself, at once")
        (told,) = [host for host in cloud.host.list() if host["name"] == "host1"]
        assert told["state"] in ("up", "degraded"), told
        assert told["heard_seconds"] < 6.0
        assert "has not answered" in told["libvirt"]
        assert "host2" not in why(cloud)
    until(lambda: not why(cloud), 10, "libvirt answers again")
    assert lab.on("host1", "true") == ""
    log = lab("log", "host1")
    assert "Traceback" not in log


def test_a_job_that_meets_a_libvirtd_that_hangs_fails_and_leaves_nothing(lab: Lab, cloud: Cloud, clean: object) -> None:
    job = cloud.vm.clone.submit(image="tiny.original", hostname="vm1.example.jp", on="host1")
    until(lambda: str(job.progress()["step"]).startswith("customize") or job.ended, 60, "customize")
    with hung(lab, "host1"):
        until(lambda: "has not answered" in taking_back(job), 100, "it says what it waits for")
        assert not job.ended, "the VM is its own until all of it is gone"
    with pytest.raises(Failed, match="has not answered") as failed:
        job.wait(60)
    assert failed.value.code == "host_down"
    assert "left_behind" not in failed.value.details
    until(lambda: not why(cloud), 10, "libvirt answers again")


def test_a_libvirtd_that_was_replaced_is_used_without_a_word(lab: Lab, cloud: Cloud, clean: object) -> None:
    before = len(cloud.image.list())
    lab.daemon("restart", "libvirtd:host1")
    until(lambda: not why(cloud), 10, "libvirt answers")
    assert len(cloud.image.list()) == before
