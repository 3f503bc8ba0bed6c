"""Who is there and who hears, with real daemons and real sockets."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from maglica.nouns import Cloud
from tests.daemons import RUNNING, Daemon, House, until
from tests.forward import Forward


def seen(cloud: Cloud, name: str = "host1") -> tuple[str, str]:
    """A host's state and the reason for it."""
    return next(((host["state"], host["why"]) for host in cloud.host.list() if host["name"] == name), ("", ""))


def behind(house: House, wire: Forward) -> Daemon:
    """A host worker that hears the bell through a wire."""
    text = house.config.read_text()
    house.config.write_text(text.replace(f"pub_port = {house.pub_port}", f"pub_port = {wire.port}"))
    host = house.start_host("host1", {"web1": RUNNING}, wait=False)
    house.config.write_text(text)
    return host


@pytest.mark.slow
def test_a_host_that_can_call_but_does_not_hear_is_seen_and_cures_itself(house: House) -> None:
    house.start()
    wire: Any = house.add(Forward(house.pub_port))
    host = behind(house, wire)
    with house.connect() as cloud:
        until(lambda: seen(cloud)[0] == "up")
        assert cloud.vm.list()[0]["name"] == "web1"
        before = wire.connections
        wire.cut = True
        until(lambda: seen(cloud)[0] == "degraded")
        assert seen(cloud)[1].startswith("can call but does not hear: no beat of the client worker for ")
        until(lambda: "no beat of it is heard" in host.log)
        until(lambda: wire.connections > before, 10, "the ear was made anew")
        wire.cut = False
        until(lambda: seen(cloud)[0] == "up")
        assert cloud.vm.list()[0]["name"] == "web1"
    assert host.alive


def test_a_stopped_host_worker_is_down_and_comes_back(house: House) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        host.signal(signal.SIGSTOP)
        until(lambda: seen(cloud)[0] == "down")
        assert seen(cloud)[1].startswith("last heard ")
        host.signal(signal.SIGCONT)
        until(lambda: seen(cloud)[0] == "up")
        assert cloud.vm.destroy(name="web1")["changed"]
        assert seen(cloud)[0] == "up"


def test_a_client_worker_that_was_stopped_calls_nobody_down(house: House) -> None:
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    with house.connect() as cloud:
        house.client_worker.signal(signal.SIGSTOP)
        until(lambda: "does not answer" in house.hosts["host1"].log)
        house.client_worker.signal(signal.SIGCONT)
        states = {seen(cloud)[0] for _ in range(100)}
        assert "down" not in states
        assert cloud.vm.list()[0]["name"] == "web1"
