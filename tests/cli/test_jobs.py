"""Jobs in the terminal: progress, Ctrl-C, time-outs, several at once. The host does what the test says."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest

from maglica.cloud import GroupHandle
from maglica.errors import Failed
from tests.cli.typing_in import Typed
from tests.daemons import House, until
from tests.scripted_host import GIB, ScriptedHost


@pytest.fixture
def host(house: House) -> ScriptedHost:
    """A host that is up."""
    house.start()
    vms = {f"web{number}": "running" for number in range(1, 6)}
    started: ScriptedHost = house.add(
        ScriptedHost("host1", house.pub_port, house.rep_port, vms, house.host_key("host1"))
    ).start()
    return started


def given(host: ScriptedHost, name: str) -> str:
    """The id of the job about that VM, as soon as the host has it."""
    return str(until(lambda: host.job(name), 30, f"a job about {name}"))


def stopped(name: str) -> dict[str, Any]:
    return {"name": name, "state": "shut-off", "changed": True}


def test_progress_without_a_terminal_is_a_line_for_each_change(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web1")
    job = given(host, "web1")
    for done in range(5):
        host.progress(job, "copy", done * GIB, 4 * GIB)
    host.progress(job, "shut down")
    until(lambda: '"step": "shut down"' in house.cli("job", "show", job, "-o", "json").stdout)
    host.end(job, stopped("web1"))
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0
    lines = err.splitlines()
    assert lines[0] == "vm stop web1: queued"
    assert "vm stop web1: shut down" in lines
    assert lines[-1].startswith("vm stop web1: done after ")
    assert len(lines) <= 4
    assert out.splitlines() == ["Name:     web1", "State:    shut-off", "Changed:  yes", f"Job:      {job}"]


def test_progress_on_a_terminal_is_one_line_that_goes_away(house: House, host: ScriptedHost) -> None:
    with Typed(house, "vm", "stop", "web1", columns=100) as typed:
        job = given(host, "web1")
        host.progress(job, "copy disks", GIB, 4 * GIB)
        typed.see(r"vm stop web1: copy disks  \[#####\.{15}\]  25%  1 of 4 GiB")
        typed.see(r"  1 s")
        host.progress(job, "copy disks", 2 * GIB, 4 * GIB)
        typed.see(r"50%  2 of 4 GiB  [\d.]+ [MG]iB/s")
        typed.see(r"  2 s")  # it goes on counting while nothing changes
        host.end(job, stopped("web1"))
        assert typed.end() == 0
        assert typed.screen[0] == "Name:     web1"


def test_the_first_ctrl_c_detaches_and_the_job_goes_on(house: House, host: ScriptedHost) -> None:
    with Typed(house, "vm", "stop", "web1") as typed:
        job = given(host, "web1")
        host.progress(job, "shut down")
        typed.see("shut down")
        typed.interrupt()
        assert typed.end() == 130
        typed.see(f"maglica: detached; job {job} goes on")
        assert "Traceback" not in typed.text
        assert f"maglica job attach {job}   follows it\r\n  maglica job cancel {job}   stops it" in typed.text
    assert json.loads(house.cli("job", "show", job, "-o", "json").stdout)["item"]["state"] == "running"
    assert not host.cancelled
    with Typed(house, "job", "attach", job[:6]) as typed:
        typed.see("vm stop web1: shut down")
        host.end(job, stopped("web1"))
        assert typed.end() == 0
        assert typed.screen[0] == "Name:     web1"


def test_sigint_of_a_script_detaches_too(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web{1..2}")
    jobs = given(host, "web1"), given(host, "web2")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    group = json.loads(house.cli("job", "show", jobs[0], "-o", "json").stdout)["item"]["group"]
    assert f"detached; group {group} goes on with its 2 jobs\n  maglica job attach {group}   follows it\n" in err
    for name, job in zip(("web1", "web2"), jobs, strict=True):
        host.end(job, stopped(name))
    assert house.cli("job", "wait", group).returncode == 0


def test_a_job_that_took_too_long_has_failed_and_does_not_go_on(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web1")
    late = Failed("timeout", "web1 was not off within 60 s").to_wire()
    host.end(given(host, "web1"), error=late)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, "was not off within 60 s" in err) == (1, True)


def test_waiting_can_be_limited(house: House, host: ScriptedHost) -> None:
    done = house.cli("--timeout=0.5s", "vm", "stop", "web1", "-o", "json")
    assert done.returncode == 7
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "timeout"
    assert error["job"] == host.job("web1")
    assert "goes on" in done.stderr
    host.end(error["job"], stopped("web1"))
    assert house.cli("job", "wait", error["job"]).returncode == 0


def test_a_group_that_was_waited_for_in_vain_is_told_as_it_is(house: House, host: ScriptedHost) -> None:
    done = house.cli("--timeout=0.5s", "vm", "stop", "web1", "web2", "-o", "json")
    assert done.returncode == 7
    (row,) = json.loads(done.stdout)["items"]
    assert row["state"] in ("queued", "running")
    assert row["changed"] is None, "nobody knows yet"
    assert row["group"].startswith("g")
    assert f"job attach {row['group']}" in done.stderr


def test_no_wait_prints_the_id_and_nothing_else(house: House, host: ScriptedHost) -> None:
    done = house.cli("vm", "stop", "web1", "--no-wait")
    job = given(host, "web1")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{job}\n", "")
    done = house.cli("vm", "stop", "web{2..3}", "--no-wait")
    (group,) = done.stdout.split()
    members = json.loads(house.cli("job", "show", group, "-o", "json").stdout)["item"]["members"]
    assert [member["job"] for member in members] == [given(host, "web2"), given(host, "web3")]
    tree = json.loads(house.cli("vm", "stop", "web4", "--no-wait", "-o", "json").stdout)
    assert tree["item"] == {"name": "web4", "job": given(host, "web4"), "state": "queued", "host": "host1"}


def test_job_wait_is_silent_and_exits_as_the_job_did(house: House, host: ScriptedHost) -> None:
    for name in ("web1", "web2"):
        assert house.cli("vm", "stop", name, "--no-wait").returncode == 0
    good, bad = given(host, "web1"), given(host, "web2")
    host.end(good, stopped("web1"))
    host.end(bad, error=Failed("no_capacity", "the pool is full").to_wire())
    for words, status in (((good,), 0), ((bad,), 6), ((good, bad), 10)):
        done = house.cli("job", "wait", *words)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
    assert house.cli("vm", "stop", "web3", "--no-wait").returncode == 0
    done = house.cli("job", "wait", given(host, "web3"), "--timeout=0.3s")
    assert (done.returncode, done.stdout) == (7, "")
    assert "goes on" in done.stderr


def test_several_names_have_a_result_each(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web{1..3}", "nope", "-o", "json")
    ids = {name: given(host, name) for name in ("web1", "web2", "web3")}
    host.end(ids["web1"], stopped("web1"))
    host.end(ids["web3"], stopped("web3"))
    host.end(ids["web2"], error=Failed("environment_error", "web2 does not obey", "use --force").to_wire())
    out, err = running.communicate(timeout=30)
    assert running.returncode == 10
    items = json.loads(out)["items"]
    assert [(item["name"], item["state"], item["changed"]) for item in items] == [
        ("web1", "done", True), ("web2", "failed", None), ("web3", "done", True), ("nope", "refused", False),
    ]  # fmt: skip
    assert items[0]["result"] == stopped("web1")
    assert items[1]["error"]["message"] == "web2 does not obey"
    assert items[3]["error"]["code"] == "unknown_entity"
    assert "maglica: web2 does not obey\n  use --force\n" in err


def test_when_all_fail_the_first_one_gives_the_exit_status(house: House, host: ScriptedHost) -> None:
    assert house.cli("vm", "stop", "nope1", "nope2").returncode == 4


def test_several_jobs_have_a_line_each_on_a_terminal(house: House, host: ScriptedHost) -> None:
    with Typed(house, "vm", "stop", "web*") as typed:
        ids = {name: given(host, name) for name in host.vms}
        host.progress(ids["web2"], "shut down")
        typed.see("web2 on host1: shut down")
        typed.see("5 jobs: 4 queued, 1 running|5 jobs: 4 claimed, 1 running")
        for name, job in ids.items():
            host.end(job, stopped(name))
        assert typed.end() == 0
        lines = typed.screen
        assert lines[0].split() == ["Name", "State", "Host", "Changed", "Took", "Job"]
        assert [line.split()[:4] for line in lines[2:7]] == [[name, "done", "host1", "yes"] for name in sorted(ids)]


def test_a_job_that_fails(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web1", "-v")
    job = given(host, "web1")
    commands = [{"argv": ["qemu-img", "info"], "exit_status": 1, "seconds": 0.1, "stderr": "no such file"}]
    host.end(job, error=Failed("environment_error", "it did not work", "try again").to_wire(), commands=commands)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (1, "")
    assert "$ qemu-img info\n  exit status 1" in err  # -v tells the story
    assert err.splitlines()[-3:] == [
        "maglica: it did not work", "  try again", f"  `maglica job log {job}` tells the story",
    ]  # fmt: skip
    log = house.cli("job", "log", job)
    assert log.returncode == 0
    assert log.stdout.splitlines()[0] == f"job {job}: vm stop web1"
    assert log.stdout.splitlines()[-2:] == ["TASK ERROR: it did not work", "  try again"]
    assert house.cli("log", "status", f"--id={job}").stdout.startswith("ID:")
    shown = house.cli("job", "list", "--state=failed", "-o", "wide").stdout
    assert "it did not work" in shown


def test_a_job_can_be_cancelled(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web1")
    job = given(host, "web1")
    done = house.cli("job", "cancel", job, "-o", "json")
    assert json.loads(done.stdout)["item"]["changed"] is True
    until(lambda: job in host.cancelled, 5, "the host hears of it")
    host.end(job, error=Failed("cancelled", "the job was cancelled").to_wire())
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "maglica: the job was cancelled" in err


def test_a_plan_is_printed_and_nothing_is_recorded(house: House, host: ScriptedHost) -> None:
    done = house.cli("vm", "stop", "web1", "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == ["Name:     web1", "Host:     host1"]
    tree = json.loads(house.cli("vm", "remove", "web1", "--dry-run", "-o", "json").stdout)
    assert tree["kind"] == "vm.remove.plan"
    assert tree["item"]["would"] == {"do": "vm remove"}
    assert json.loads(house.cli("job", "list", "-o", "json").stdout)["items"] == []


def test_the_same_key_is_the_same_job(house: House, host: ScriptedHost) -> None:
    words = ("vm", "stop", "web1", "--no-wait", "--idempotency-key=monday", "--reason=moving house")
    first, second = house.cli(*words).stdout, house.cli(*words).stdout
    assert first == second
    other = house.cli("vm", "stop", "web{2..3}", "--no-wait", "--idempotency-key=monday")
    assert (other.returncode, other.stdout) == (5, ""), "one key, one request"
    assert f"the idempotency key belongs to job {first.strip()}, which is vm stop of web1" in other.stderr
    words = ("vm", "stop", "web{2..3}", "--no-wait", "--idempotency-key=tuesday")
    assert house.cli(*words).stdout == house.cli(*words).stdout
    item = json.loads(house.cli("job", "show", first.strip(), "-o", "json").stdout)["item"]
    assert item["reason"] == "moving house"


def test_a_client_worker_that_restarts_is_waited_for(house: House, host: ScriptedHost) -> None:
    running = house.spawn("vm", "stop", "web1")
    given(host, "web1")
    house.client_worker.kill()
    house.start()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "goes on" in err


def test_destroying_asks_on_a_terminal(house: House, host: ScriptedHost) -> None:
    with Typed(house, "vm", "destroy", "web{1..2}") as typed:
        typed.see(r"vm destroy web1, web2\r\n  Pull the plug of a VM. Its disks stay.\r\nGo on\? \[y/N\] ")
        typed.press("yes\n")
        for name in ("web1", "web2"):
            host.end(given(host, name), stopped(name))
        assert typed.end() == 0
    with Typed(house, "vm", "destroy", "web3") as typed:
        typed.see(r"\[y/N\] ")
        typed.interrupt()
        assert typed.end() == 130
        assert "Traceback" not in typed.text
    assert host.job("web3") is None


def test_nobody_is_asked_where_the_question_would_not_be_seen(house: House, host: ScriptedHost) -> None:
    with Typed(house, "vm", "destroy", "web1", stderr=subprocess.DEVNULL) as typed:
        assert typed.end() == 2
    assert host.job("web1") is None


def test_what_has_no_plan_is_not_done_instead(house: House, host: ScriptedHost) -> None:
    job = house.cli("vm", "stop", "web1", "--no-wait").stdout.strip()
    done = house.cli("job", "cancel", job, "--dry-run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == "maglica: job cancel has no plan that --dry-run could show"
    assert json.loads(house.cli("job", "show", job, "-o", "json").stdout)["item"]["cancel"] is False


def test_a_client_worker_that_dies_while_several_are_submitted(house: House, host: ScriptedHost) -> None:
    """All of them are recorded, or none is: the request is repeated to the next client worker under the same key."""
    host.at_survey(1, house.client_worker.kill)
    running = house.spawn("vm", "stop", "web{1..5}", "--no-wait")
    until(lambda: not house.client_worker.alive, 30, "the client worker is gone")
    house.start()
    out, err = running.communicate(timeout=60)
    assert running.returncode in (0, 8), err
    jobs = json.loads(house.cli("job", "list", "-o", "json").stdout)["items"]
    assert len(jobs) == (5 if running.returncode == 0 else 0)
    assert {job["group"] for job in jobs} == set(out.split())


# ------------------------------------------------------------------------------------------------ groups


def begun(house: House, host: ScriptedHost, *words: str) -> str:
    """A group that was submitted without waiting, once its host has its jobs; its id."""
    done = house.cli("vm", "stop", *words, "--no-wait")
    until(lambda: all(host.job(name) for name in words if name in host.vms), 30, "the host has the jobs")
    return done.stdout.strip()


def test_a_group_is_shown_waited_for_and_explained_as_one(house: House, host: ScriptedHost) -> None:
    group = begun(house, host, "web1", "web2")
    done = house.cli("job", "wait", group, "--timeout=0.3s")
    assert (done.returncode, done.stdout) == (7, "")
    assert f"group {group} has not ended after 0.3 s; it is" in done.stderr
    waiting = house.spawn("job", "wait", group)
    host.end(given(host, "web1"), stopped("web1"))
    host.end(given(host, "web2"), error=Failed("environment_error", "web2 does not obey", "use --force").to_wire())
    assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode == 10, "partly done"
    shown = house.cli("job", "show", group).stdout.splitlines()
    assert shown[0].split() == ["ID:", group]
    assert not any(line.startswith("First in line") for line in shown), "nothing waits"
    assert [line.split()[:3] for line in shown[-2:]] == [["web1", "done", "host1"], ["web2", "failed", "host1"]]
    told = house.cli("job", "explain", group).stdout
    assert told.splitlines()[0] == f"group {group}, vm stop of 2: 1 done, 1 failed"
    assert f"`maglica job retry {group} --failed`" in " ".join(told.split())
    tree = json.loads(house.cli("job", "explain", group, "-o", "json").stdout)
    assert (tree["kind"], tree["item"]["state"]) == ("job.explain", "partial")
    assert house.cli("job", "log", group).stdout.count("\njob ") == 2
    wide = house.cli("job", "list", f"--group={group}", "-o", "name").stdout
    assert len(wide.split()) == 2


def test_the_failed_ones_of_a_group_are_asked_for_again(house: House, host: ScriptedHost) -> None:
    group = begun(house, host, "web1", "web2")
    host.end(given(host, "web1"), stopped("web1"))
    host.end(given(host, "web2"), error=Failed("environment_error", "no").to_wire())
    assert house.cli("job", "wait", group).returncode == 10
    assert house.cli("job", "retry", group).returncode == 5, "one of them is done"
    until(lambda: host.job("web2") is None, 30, "the host has forgotten the first try")
    running = house.spawn("job", "retry", group, "--failed", "-o", "json")
    host.end(given(host, "web2"), stopped("web2"))
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    (item,) = json.loads(out)["items"]
    assert (item["name"], item["state"]) == ("web2", "done")
    assert json.loads(house.cli("job", "show", item["job"], "-o", "json").stdout)["item"]["retry_of"] is not None


def test_a_group_is_followed_in_any_terminal_and_survives_a_restart(house: House, host: ScriptedHost) -> None:
    group = begun(house, host, "web{1..5}")
    with Typed(house, "job", "attach", group) as typed:
        typed.see("5 jobs: ")
        house.client_worker.kill()
        house.start()
        for name in host.vms:
            host.end(given(host, name), stopped(name))
        assert typed.end(60) == 0
        assert [line.split()[1] for line in typed.screen[2:7]] == ["done"] * 5
    with Typed(house, "job", "attach", group) as typed:
        assert typed.end() == 0


def test_a_group_is_stopped_as_one(house: House, host: ScriptedHost) -> None:
    group = begun(house, host, "web1", "web2")
    done = house.cli("job", "cancel", group)
    assert done.stdout == f"group {group}: 2 of 2 jobs are being stopped\n"
    until(lambda: len(host.cancelled) == 2, 10, "the host hears of it")
    for name in ("web1", "web2"):
        host.end(given(host, name), error=Failed("cancelled", "the job was cancelled").to_wire())
    ended = house.cli("job", "attach", group)
    assert ended.returncode == 1
    assert f"group {group}: 0 of 2 done\n  `maglica job retry {group} --failed` tries the rest again" in ended.stderr
    assert house.cli("job", "wait", group).returncode == 1
    assert house.cli("job", "cancel", group).stdout == f"group {group} is cancelled: nothing to stop\n"
    assert house.cli("lock", "list", "-o", "name").stdout == ""


def test_members_that_are_refused_are_told_at_once(house: House, host: ScriptedHost) -> None:
    done = house.cli("vm", "stop", "web1", "nope", "--no-wait", "-o", "jsonl")
    assert done.returncode == 10
    (item,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (item["name"], item["group"][0]) == ("web1", "g")
    assert "there is no VM nope" in done.stderr
    assert house.cli("vm", "stop", *(f"x{number}" for number in range(1001))).returncode == 2


def test_what_a_queued_job_waits_for_is_told_while_it_waits(house: House, host: ScriptedHost) -> None:
    first = house.cli("vm", "stop", "web1", "--no-wait").stdout.strip()
    given(host, "web1")
    second = house.cli("vm", "restart", "web1", "--no-wait").stdout.strip()
    with Typed(house, "job", "attach", second, columns=120) as typed:
        typed.see(f"vm restart web1: queued; waits for VM web1, held by job {first}")
        typed.interrupt()
        assert typed.end() == 130
    running = house.spawn("job", "attach", second)
    assert running.stderr is not None
    # It has looked before anything is changed.
    assert running.stderr.readline().startswith(f"vm restart web1: queued; waits for VM web1, held by job {first}")
    assert house.cli("job", "list", "--state=queued", "-o", "wide").stdout.count(f"held by job {first}") == 1
    (lock,) = json.loads(house.cli("lock", "list", "-o", "json").stdout)["items"]
    assert (lock["lock"], lock["job"], lock["waiting"]) == ("vm:web1", first, [second])
    assert house.cli("job", "cancel", second).stdout == f"job {second} was cancelled before it began\n"
    running.communicate(timeout=30)
    assert running.returncode == 1
    assert house.cli("job", "cancel", second).stdout == f"job {second} is cancelled: nothing to stop\n"


def test_a_lost_job_waits_for_a_verdict(house: House, host: ScriptedHost) -> None:
    lost = house.cli("vm", "stop", "web1", "--no-wait").stdout.strip()
    host.progress(given(host, "web1"), "shut down")
    until(lambda: "running" in house.cli("job", "list").stdout)
    host.jobs.clear()  # it forgets what it was doing
    until(lambda: "lost" in house.cli("job", "list").stdout)
    told = " ".join(house.cli("job", "explain", lost).stdout.split())
    assert f"maglica job recover {lost} --as=success|failure|retry" in told
    assert house.cli("job", "retry", lost).returncode == 5
    assert house.cli("job", "recover", lost, "--as=maybe", "--reason=x").returncode == 2
    done = house.cli("job", "recover", lost, "--as=success", "--reason=it is off, I looked")
    assert (done.returncode, done.stdout) == (0, f"job {lost} counts as done now\n")
    assert house.cli("job", "recover", lost, "--as=failure", "--reason=x").returncode == 5
    assert "it is off, I looked" in house.cli("job", "explain", lost).stdout
    assert house.cli("job", "prune", "--older-than=0s", "-o", "json").returncode == 0


def test_the_library_has_groups(house: House, host: ScriptedHost) -> None:
    with house.connect() as cloud:
        group = cloud.vm.stop.submit_many(name=["web1", "web2"], timeout="5s", reason="why", idempotency_key="k")
        assert cloud.vm.stop.submit_many(name=["web1", "web2"], timeout="5s", idempotency_key="k").id == group.id
        host.end(given(host, "web1"), stopped("web1"))
        host.end(given(host, "web2"), error=Failed("environment_error", "no").to_wire())
        with pytest.raises(Failed) as failed:
            group.wait(30)
        assert (failed.value.code, failed.value.details) == ("partial", {"failed": ["web2"]})
        assert [member["state"] for member in group.members()] == ["done", "failed"]
        until(lambda: host.job("web2") is None, 30, "the host has forgotten the first try")
        again = group.retry()
        host.end(given(host, "web2"), stopped("web2"))
        assert [member["name"] for member in again.wait(30)] == ["web2"]
        attached = cloud.attach(group.id)
        assert isinstance(attached, GroupHandle)
        assert attached.state == "partial"


def test_a_narrow_role_may_do_only_its_part_of_a_group(house: House) -> None:
    house.configure("[role ci]\nbase = operator\nvms = ci-*")
    house.start()
    vms = {"ci-1": "running", "ci-2": "running", "web1": "running"}
    host = ScriptedHost("host1", house.pub_port, house.rep_port, vms, house.host_key("host1"))
    house.add(host).start()
    file = str(house.folder / "ci.key")
    assert house.cli("key", "new", "robot", "--role=ci", f"--file={file}").returncode == 0
    mixed = house.cli("vm", "stop", "ci-1", "web1", "--no-wait", MAGLICA_KEY=file)
    assert mixed.returncode == 10
    assert "may not vm stop web1" in mixed.stderr
    assert host.job("web1") is None
    own = mixed.stdout.strip()
    assert house.cli("job", "show", own, MAGLICA_KEY=file).returncode == 0
    record = json.loads(house.cli("job", "list", "-o", "json").stdout)["items"][0]
    assert (record["by"], record["object"]) == ("robot", "ci-1")
    theirs = house.cli("vm", "stop", "ci-2", "web1", "--no-wait").stdout.strip()
    for words in (("show",), ("wait",), ("attach",), ("cancel",), ("explain",), ("log",), ("retry",)):
        done = house.cli("job", *words, theirs, MAGLICA_KEY=file)
        assert (words, done.returncode, done.stdout) == (words, 9, "")
    listed = json.loads(house.cli("job", "list", "-o", "json", MAGLICA_KEY=file).stdout)["items"]
    assert {item["object"] for item in listed} == {"ci-1", "ci-2"}
    locks = json.loads(house.cli("lock", "list", "-o", "json", MAGLICA_KEY=file).stdout)["items"]
    assert {item["lock"] for item in locks} == {"vm:ci-1", "vm:ci-2"}
    assert house.cli("job", "prune", "--older-than=1d", MAGLICA_KEY=file).returncode == 9
    assert not host.cancelled
