"""Who is there and who hears, with real daemons and real sockets."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import wire
from maglica.bus import Client
from maglica.nouns import Cloud
from tests.daemons import HOME, RUNNING, Daemon, House, until
from tests.forward import Forward
from tests.scripted_host import ScriptedHost


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


# ------------------------------------------------------------------------------------------ the release before


def test_a_host_worker_of_the_version_before_works_on(house: House) -> None:
    house.start()
    old = house.add(
        ScriptedHost("old", house.pub_port, house.rep_port, {"web1": "shut-off"}, house.host_key("old"), wire.OLDEST)
    )
    old.start()
    with house.connect() as cloud:
        assert [vm["name"] for vm in cloud.vm.list()] == ["web1"]
        job = cloud.vm.start.submit(name="web1")
        until(lambda: old.job("web1"))
        old.progress(job.id, "start")
        old.end(job.id, {"name": "web1", "changed": True})
        assert job.wait(20)["changed"]
        house.client_worker.kill()
        house.client_worker.start()
        until(lambda: seen(cloud, "old")[0] == "up", 20, "it is heard again")
    assert old.versions == {wire.OLDEST}


def test_a_command_of_the_version_before_is_answered(house: House) -> None:
    house.start()
    client = Client("127.0.0.1", house.rep_port, house.admin())
    try:
        for version in wire.VERSIONS:
            assert client.ask({"v": version, "op": "ping"}, 10)["v"] == version
    finally:
        client.close()


# ----------------------------------------------------------------------------------------------- one cluster


def store_files(house: House) -> list[str]:
    return [path.name for path in (house.folder / "state").glob("jobs.db*")]


def test_a_store_from_a_backup_is_refused_until_somebody_says_that_it_is_meant(house: House) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING, "web2": RUNNING})
    state, backup = house.folder / "state", house.folder / "backup"
    with house.connect() as cloud:
        assert cloud.vm.destroy(name="web1")["changed"]
        house.client_worker.stop()
        backup.mkdir()
        for name in store_files(house):
            shutil.copy2(state / name, backup / name)
        house.client_worker.start()
        until(lambda: seen(cloud)[0] == "up")
        assert cloud.vm.destroy(name="web2")["changed"]
        house.client_worker.kill()
        for name in store_files(house):
            (state / name).unlink()
        for path in backup.iterdir():
            shutil.copy2(path, state / path.name)
        house.client_worker.start()
        until(lambda: "the store of the client worker went back in time: its newest job is " in host.log)
        until(lambda: seen(cloud)[0] == "down")
        assert seen(cloud)[1].startswith("was refused: the store of the client worker went back in time")
        assert host.alive, "it waits for the right one"
        assert cloud.vm.list().missing_hosts[0]["host"] == "host1"
        said = house.daemon("maglica_host_worker", *host.argv[1:], "--accept", log="accept")
        said.start()
        assert said.process.wait(20) == 0
        assert said.log == "host1 takes the next client worker that answers\n"
        until(lambda: seen(cloud)[0] == "up")
        assert [vm["state"] for vm in cloud.vm.list()] == ["shut-off", "shut-off"]
    assert "Traceback" not in host.log + house.client_worker.log


def test_a_client_worker_of_another_cluster_is_refused(house: House) -> None:
    house.configure(client="security = none")  # with keys it would not even be spoken to
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    house.client_worker.kill()
    for name in store_files(house):
        (house.folder / "state" / name).rename(house.folder / name)
    house.client_worker.start()
    until(lambda: "refused: host1 belongs to cluster " in host.log)
    house.client_worker.kill()
    for name in store_files(house):
        (house.folder / "state" / name).unlink()
    for path in house.folder.glob("jobs.db*"):
        path.rename(house.folder / "state" / path.name)
    house.client_worker.start()
    with house.connect() as cloud:
        until(lambda: seen(cloud)[0] == "up", 30, "with its own one it goes on by itself")


def test_a_host_that_is_invited_anew_needs_no_other_word(house: House) -> None:
    """The store was lost, and with it who may come in."""
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    house.client_worker.kill()
    for name in store_files(house):
        (house.folder / "state" / name).unlink()
    house.start()
    host.kill()
    with house.connect() as cloud:
        token = cloud.host.invite(name="host1")["token"]
        host.start(f"--join={token}")
        until(lambda: seen(cloud)[0] == "up")
        assert cloud.vm.destroy(name="web1")["changed"]
    assert "belongs to cluster" not in host.log


# -------------------------------------------------------------------------------------- systemd and settings


@pytest.fixture
def notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What the daemons that are started from now on have told systemd since this was called last."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1200000")

    def told() -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += listener.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found

    yield told
    listener.close()


def test_the_client_worker_tells_systemd_that_its_loop_turns(house: House, notify: Callable[[], list[str]]) -> None:
    house.configure("[host host9]", client="keep_jobs = 1d")
    house.start()
    lines: list[str] = []
    until(lambda: lines.extend(notify()) or lines.count("WATCHDOG=1") > 3)
    assert lines[0] == "READY=1"
    assert lines.index("READY=1") < lines.index("WATCHDOG=1")
    until(lambda: lines.extend(notify()) or "STATUS=hosts: 1 down; open jobs: 0" in lines)
    house.client_worker.signal(signal.SIGSTOP)
    notify()
    time.sleep(1.5)
    assert notify() == [], "systemd would start it again now"
    house.client_worker.signal(signal.SIGCONT)
    assert house.client_worker.stop() == 0
    assert "STOPPING=1" in notify()


def test_the_host_worker_tells_systemd_that_its_loop_turns(house: House, notify: Callable[[], list[str]]) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    host.stop()
    house.client_worker.stop()
    notify()
    host.start()
    lines: list[str] = []
    until(lambda: lines.extend(notify()) or "STATUS=the client worker does not answer" in lines)
    house.start()
    until(lambda: lines.extend(notify()) or "STATUS=jobs: 0; libvirt: ok" in lines)
    notify()
    host.signal(signal.SIGSTOP)
    house.client_worker.kill()
    notify()
    time.sleep(1.5)
    assert notify() == []
    host.signal(signal.SIGCONT)
    until(lambda: "WATCHDOG=1" in notify())
    assert host.stop() == 0
    assert "STOPPING=1" in notify()


def test_a_hup_changes_the_settings_of_a_running_client_worker(house: House) -> None:
    house.start()
    log = house.client_worker
    with house.connect() as cloud:
        pid = log.process.pid
        house.configure("[host host9]\nweight = 3", client="read_timeout = 1s")
        text = house.config.read_text()
        house.config.write_text(text.replace("beat = 0.2s", "beat = 9s"))
        log.signal(signal.SIGHUP)
        until(lambda: "settings read again" in log.log)
        assert "new=[client] read_timeout, [host host9]" in log.log
        assert "these take effect with the next start only: [client] beat" in log.log
        assert [(one["name"], one["weight"]) for one in cloud.host.list()] == [("host9", 3.0)]
        house.config.write_text("[client]\nadress = x\n")
        log.signal(signal.SIGHUP)
        until(lambda: "the settings stay as they were: " in log.log)
        assert "unknown key adress in [client] (did you mean address?)" in log.log
        assert [(one["name"], one["weight"]) for one in cloud.host.list()] == [("host9", 3.0)]
        assert (log.alive, log.process.pid) == (True, pid)


def test_a_hup_changes_what_a_role_may(house: House) -> None:
    house.configure("[role ci]\nbase = reader\nactions = host list")
    house.start()
    house.start_host("host1", {"web1": RUNNING})
    key = str(house.folder / "ci.key")
    assert house.cli("key", "new", "ci", "--role=ci", f"--file={key}").returncode == 0
    assert house.cli("vm", "list", MAGLICA_KEY=key).returncode == 9
    house.configure("[role ci]\nbase = reader\nactions = host list, vm list")
    house.client_worker.signal(signal.SIGHUP)
    until(lambda: house.cli("vm", "list", MAGLICA_KEY=key).returncode == 0)
    house.configure("[role admin]\nbase = reader")
    house.client_worker.signal(signal.SIGHUP)
    until(lambda: "the settings stay as they were: " in house.client_worker.log)
    assert "[role admin]: that role is built in" in house.client_worker.log
    house.configure()  # what the command reads; the client worker is not asked to
    assert house.cli("vm", "list", MAGLICA_KEY=key).returncode == 0


def test_a_hup_changes_the_settings_of_a_running_host_worker(house: House) -> None:
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    file = house.folder / "host1.conf"
    file.write_text(file.read_text().replace("acceleration = tcg", "acceleration = kvm\nmemory_reserve = 1G"))
    with house.connect() as cloud:
        before = cloud.host.list()[0]["memory_free_bytes"]
        host.signal(signal.SIGHUP)
        until(lambda: "new=[host_worker] memory_reserve" in host.log)
        assert "with the next start only: [host_worker] acceleration" in host.log
        until(lambda: cloud.host.info(name="host1")["memory_free_bytes"] == before - (512 << 20))
        file.write_text("[")
        host.signal(signal.SIGHUP)
        until(lambda: "the settings stay as they were" in host.log)
        assert cloud.vm.list()[0]["name"] == "web1"


# -------------------------------------------------------------------------------------------------- the check-up


def findings(house: House, expected: int) -> list[dict[str, Any]]:
    done = house.cli("doctor", "-o", "json", timeout=60)
    assert done.returncode == expected, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return found


def bad(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(finding["check"], finding["about"]) for finding in found if finding["state"] == "bad"}


def test_the_doctor_finds_nothing_where_all_is_well_and_what_is_wrong_elsewhere(house: House) -> None:
    house.start()
    host = house.start_host("localhost", {"web1": RUNNING})
    assert bad(findings(house, 0)) == set()
    page = house.cli("doctor", timeout=60).stdout
    assert page.splitlines()[0].split() == ["State", "Check", "About", "Found"]
    keys = house.folder / "keys"
    keys.mkdir(exist_ok=True)
    keys.chmod(0o755)
    (house.folder / "localhost.xml").unlink()
    host.kill()
    host.start()
    with house.connect() as cloud:
        until(lambda: seen(cloud, "localhost")[0] == "degraded")
    found = findings(house, 1)
    assert {check for check, _ in bad(found)} == {"libvirt", "secrets"}
    assert any(finding["cure"] == f"there: `chmod 0700 {keys}`" for finding in found)
    host.kill()
    with house.connect() as cloud:
        until(lambda: seen(cloud, "localhost")[0] == "down")
    assert ("hosts", "localhost") in bad(findings(house, 1))


def test_the_doctor_without_a_client_worker(house: House) -> None:
    found = findings(house, 1)
    assert bad(found) == {("ports", f"127.0.0.1:{port}") for port in (house.pub_port, house.rep_port)}


def test_the_doctor_names_a_second_worker_of_one_name(house: House) -> None:
    """Where there are keys, the second one would need the key of the first."""
    house.configure(client="security = none")
    house.start()
    house.add(ScriptedHost("host1", house.pub_port, house.rep_port, {}).start())
    second = house.start_host("host1", {}, wait=False)
    until(lambda: "refused: another host worker called host1 is alive" in second.log)
    told = [finding for finding in findings(house, 0) if finding["check"] == "strangers"]
    assert [finding["state"] for finding in told] == ["warn"]
    assert "another host worker called host1 is alive" in told[0]["found"]


# ------------------------------------------------------------------------------------------------------- clocks

WRONG_CLOCK = """
import sys, time

def shifted(real, unit):
    def told():
        with open({file!r}) as file:
            return real() + int(file.read()) * unit
    return told

time.time = shifted(time.time, 1)
time.time_ns = shifted(time.time_ns, 1_000_000_000)
sys.path.insert(0, {home!r})
sys.argv[0] = {program!r}
from maglica.{package}.main import main
sys.exit(main())
"""

DAY = 86400


class Clock:
    """The clock on one daemon's wall, which a test sets while the daemon runs."""

    def __init__(self, house: House, daemon: Daemon, package: str) -> None:
        self._file = house.folder / f"{package}.clock"
        self.set(0)
        code = WRONG_CLOCK.format(file=str(self._file), home=str(HOME), program=daemon.argv[0], package=package)
        daemon.argv = [sys.executable, "-c", code, *daemon.argv[1:]]

    def set(self, seconds: int) -> None:
        """So many seconds ahead of the others."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


def test_clocks_that_jump_by_a_day_change_nothing(house: House) -> None:
    ours = Clock(house, house.client_worker, "client_worker")
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    host.kill()
    theirs = Clock(house, host, "host_worker")
    host.start()
    states: set[str] = set()

    def settled(cloud: Cloud, state: str, why: str) -> bool:
        found = seen(cloud)
        states.add(found[0])
        return found[0] == state and why in found[1]

    with house.connect() as cloud:
        until(lambda: settled(cloud, "up", ""))
        states.clear()
        ids = []
        for who, other in ((ours, theirs), (theirs, ours)):
            for days in (1, -1):
                who.set(days * DAY)
                other.set(0)
                ahead = (days > 0) == (who is theirs)
                until(
                    lambda ahead=ahead: settled(cloud, "degraded", f"{DAY} s {'ahead of' if ahead else 'behind'} the")
                )
                assert cloud.vm.start(name="web1")["name"] == "web1"
                assert cloud.vm.destroy(name="web1")["name"] == "web1"
                ids = [job["id"] for job in cloud.job.list()]
                assert ids == sorted(ids), "order does not come from a clock"
        theirs.set(0)
        until(lambda: settled(cloud, "up", ""))
        jobs = cloud.job.list()
    assert {job["state"] for job in jobs} == {"done"}
    assert len(jobs) == 8
    assert states == {"up", "degraded"}, "nobody was called down"
    assert "does not answer" not in host.log.split("accepted")[-1]


@pytest.mark.skipif(
    subprocess.run(["unshare", "--time", "--boottime", "1", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs time namespaces",
)
def test_seconds_since_boot_are_compared_with_nobody_elses(house: House) -> None:
    """Machines were started at different times: a host whose monotonic clock is a day ahead is a host like others."""
    house.start()
    host = house.start_host("host1", {"web1": RUNNING})
    host.kill()
    host.argv = ["unshare", "--time", "--monotonic", str(DAY), "--boottime", str(DAY), "--fork", "--kill-child",
                 *host.argv]  # fmt: skip
    host.start()
    with house.connect() as cloud:
        until(lambda: seen(cloud) == ("up", "reports regularly"))
        assert cloud.vm.destroy(name="web1")["changed"]


def test_whoever_may_only_read_gets_what_he_may_know(house: House) -> None:
    house.start()
    house.start_host("localhost", {"web1": RUNNING})
    key = str(house.folder / "carl.key")
    assert house.cli("key", "new", "carl", "--role=reader", f"--file={key}").returncode == 0
    done = house.cli("doctor", "-o", "json", timeout=60, MAGLICA_KEY=key)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)["items"]}
    assert done.returncode == 0
    assert found["client worker"]["state"] == "warn"
    assert "was not examined" in found["client worker"]["found"]
    assert found["hosts"]["state"] == "ok"
    done = house.cli("doctor", "-o", "json", timeout=60, MAGLICA_KEY=str(house.folder / "nothing.key"))
    assert done.returncode == 1
    assert "cannot read the key" in done.stdout
