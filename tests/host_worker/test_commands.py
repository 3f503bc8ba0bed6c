"""External commands, run for real: how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed, Refused
from maglica.host_worker import commands
from tests.frozen import freezer
from tests.waiting import until

CHILDREN = "sleep 300 & (trap '' TERM; sleep 300 & wait) & "


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its status does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def members(group: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(folder.name))
    return found


# ---------------------------------------------------------------------------------------------- good ends


def test_a_command_to_its_end() -> None:
    ended = commands.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert ended.argv == ["sh", "-c", "echo out; echo err >&2; exit 3"]
    assert (ended.exit_status, ended.stdout, ended.stderr) == (3, "out", "err")
    assert 0 < ended.seconds < 10
    assert ended.record() == {
        "argv": ended.argv,
        "exit_status": 3,
        "seconds": round(ended.seconds, 3),
        "stderr": "err",
    }


def test_words_are_words_and_no_shell_reads_them() -> None:
    words = ["printf", "%s|", "a b", "$(id)", "; reboot", "*", "", "--x", "ü"]
    assert commands.run(words, timeout=10).stdout == "a b|$(id)|; reboot|*||--x|ü|"


def test_it_speaks_english_and_hears_nothing() -> None:
    ended = commands.run(["sh", "-c", "echo $LC_ALL; cat"], timeout=10)
    assert (ended.exit_status, ended.stdout) == (0, "C")


def test_a_signal_is_told_as_a_negative_status() -> None:
    assert commands.run(["sh", "-c", "kill -SEGV $$"], timeout=10).exit_status == -signal.SIGSEGV


def test_the_end_of_much_output_is_kept() -> None:
    ended = commands.run([sys.executable, "-c", "print('x' * 1_000_000); print('last words')"], timeout=30)
    assert len(ended.stdout) == commands.KEEP - 1  # without the last line break
    assert ended.stdout.endswith("x\nlast words")
    script = "import sys; sys.stderr.write('y' * 5000 + 'the end')"
    ended = commands.run([sys.executable, "-c", script], timeout=30)
    assert ended.stderr.endswith("ythe end")
    assert len(ended.record()["stderr"]) == 600


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert commands.run(["printf", r"a\377b"], timeout=10).stdout == "a\ufffdb"


def test_output_is_told_as_it_comes() -> None:
    told: list[tuple[float, str]] = []
    script = "printf '(10/100%%)\\r'; sleep 0.3; printf '(20/100%%)\\r'; echo no >&2"
    commands.run(["sh", "-c", script], timeout=10, on_output=lambda text: told.append((time.monotonic(), text)))
    assert [text for _, text in told] == ["(10/100%)\r", "(20/100%)\r"]
    assert told[1][0] - told[0][0] > 0.2


def test_the_process_is_told_before_anything_of_it_is_heard() -> None:
    told: list[Any] = []
    ended = commands.run(["sh", "-c", "echo $$"], timeout=10, on_start=told.append, on_output=told.append)
    assert told == [int(ended.stdout), f"{ended.stdout}\n"]


# ---------------------------------------------------------------------------------------------- bad ends


@pytest.mark.parametrize(
    ("program", "hint"),
    [("qemu-img", "install qemu-utils"), ("qemu-system-x86_64", "install qemu-system-x86"), ("nosuchprogram", "")],
)
def test_a_program_that_is_missing_names_its_package(
    program: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused) as refused:
        commands.run([program, "info"], timeout=10)
    assert refused.value.code == "environment_error"
    assert refused.value.message == f"cannot run {program}: No such file or directory"
    assert refused.value.hint == hint


def test_a_program_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text("x")
    with pytest.raises(Refused, match="Permission denied"):
        commands.run([str(path)], timeout=10)
    path.chmod(0o755)
    with pytest.raises(Refused, match="Exec format error"):
        commands.run([str(path)], timeout=10)


def ended_early(script: str, **how: Any) -> tuple[Failed, float, int]:
    """(error, seconds, process group) of a command that does not end by itself."""
    pids: list[int] = []
    began = time.monotonic()
    with pytest.raises(Failed) as failed:
        commands.run(["sh", "-c", script], on_start=pids.append, **how)
    return failed.value, time.monotonic() - began, pids[0]


@pytest.mark.parametrize(
    "script",
    [
        "sleep 300",
        "while :; do echo x; done",
        "exec >&- 2>&-; sleep 300",  # it says nothing any more, and goes on
        CHILDREN + "wait",
        CHILDREN + "exit 0",  # its children hold the pipe
    ],
)
def test_a_deadline_ends_everything_that_was_started(script: str) -> None:
    error, seconds, group = ended_early(script, timeout=0.3)
    assert error.code == "timeout"
    assert error.message == "sh: ended because it took too long"
    assert 0.2 < seconds < 0.3 + 1.0 + (commands.KILL_AFTER if "trap" in script else 0)
    until(lambda: members(group) == [])


@pytest.mark.parametrize("script", ["sleep 300", "while :; do echo x; done", "exec >&- 2>&-; sleep 300"])
def test_a_cancel_takes_effect_within_a_second(script: str) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    error, seconds, group = ended_early(script, timeout=60, cancelled=stop.is_set)
    assert error.code == "cancelled"
    assert error.message == "sh: ended because the job was cancelled"
    assert seconds < 1.2
    until(lambda: members(group) == [])


@pytest.mark.slow
def test_who_does_not_listen_is_killed() -> None:
    began = time.monotonic()
    error, seconds, group = ended_early("trap '' TERM; while :; do sleep 0.1; done", timeout=0.2)
    assert error.code == "timeout"
    assert commands.KILL_AFTER <= seconds < commands.KILL_AFTER + 1.5
    assert time.monotonic() - began < commands.KILL_AFTER + 2
    until(lambda: members(group) == [])


def test_what_cannot_be_killed_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(commands, "UNKILLABLE", 1.0)
    with freezer() as freeze:
        began, pids = time.monotonic(), []

        def started(pid: int) -> None:
            pids.append(pid)
            freeze(pid)

        with pytest.raises(Failed) as failed:
            commands.run(["sleep", "600"], timeout=0.5, on_start=started)
        assert failed.value.code == "timeout"
        assert time.monotonic() - began < 0.5 + commands.KILL_AFTER + 1 + 3
        assert f"process {pids[0]} does not end by SIGKILL" in caplog.text
        assert Path(f"/proc/{pids[0]}").exists(), "the test can fail"


def test_who_listens_may_tidy_up(tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = f"trap 'echo tidied > {note}; exit 1' TERM; while :; do sleep 0.05; done"
    ended_early(script, timeout=0.3)
    assert note.read_text() == "tidied\n"


@pytest.mark.parametrize("where", ["on_start", "on_output"])
def test_an_error_of_the_caller_leaves_no_process(where: str) -> None:
    """The journal may be unwritable: then nobody would find the child again."""
    pids: list[int] = []

    def fail(_: Any) -> None:
        raise Failed("environment_error", "the journal cannot be written: disk full")

    def start(pid: int) -> None:
        pids.append(pid)
        if where == "on_start":
            fail(pid)

    with pytest.raises(Failed, match="the journal cannot be written") as failed:
        commands.run(["sh", "-c", "echo x; sleep 300"], timeout=60, on_start=start, on_output=fail)
    assert failed.value.code == "environment_error"
    until(lambda: members(pids[0]) == [])


def test_no_descriptor_is_left_open() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    commands.run(["true"], timeout=10)
    before = count()
    for _ in range(2):
        commands.run(["sh", "-c", "echo x"], timeout=10)
        with pytest.raises(Failed):
            commands.run(["sleep", "300"], timeout=0)
        with pytest.raises(Refused):
            commands.run(["nosuchprogram"], timeout=10)
    assert count() == before


# ---------------------------------------------------------------------------------------------- orphans


MARK = f"test:{os.getpid()}"


def orphan(script: str = "sleep 300", mark: str = MARK) -> int:
    """A process group of its own whose parent was killed in the middle of `run`."""
    code = (
        f"import os, signal; from maglica.host_worker import commands; commands.run(['sh', '-c', {script!r}],"
        f" timeout=300, mark={mark!r}, on_start=lambda pid: print(pid, flush=True) or os.kill(os.getpid(), 9))"
    )
    return int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=30).stdout)


def test_a_process_is_known_by_its_birth() -> None:
    mine = commands.birth(os.getpid())
    assert mine is not None
    assert mine == commands.birth(os.getpid())
    assert commands.birth(1 << 22) is None
    child = subprocess.Popen(["sleep", "300"])
    later = commands.birth(child.pid)
    assert later is not None
    assert later >= mine
    child.kill()
    child.wait()
    assert commands.birth(child.pid) is None


def test_the_name_of_a_program_cannot_lie_about_its_birth(tmp_path: Path) -> None:
    """/proc/PID/stat has the name in the middle, with whatever is in it."""
    path = tmp_path / "a) R 1 (b"
    path.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(path), "300"])
    try:
        found = commands.birth(child.pid)
        other = commands.birth(os.getpid())
        assert found is not None
        assert other is not None
        assert found >= other
    finally:
        child.kill()
        child.wait()


def test_an_orphan_is_ended_with_all_its_children() -> None:
    pid = orphan(CHILDREN + "wait")
    until(lambda: len(members(pid)) >= 4)
    assert pid in commands.end_orphans(MARK)
    until(lambda: members(pid) == [])
    assert commands.end_orphans(MARK) == []


def test_an_orphan_that_left_its_group_is_ended_too() -> None:
    """The mark goes wherever the environment goes; a process group is left by one call."""
    pid = orphan("setsid sleep 300 & sleep 0.2")
    until(lambda: not alive(pid))
    assert len(commands.end_orphans(MARK)) == 1


def test_processes_of_another_host_worker_live_on() -> None:
    other = f"another:{os.getpid()}"
    pid = orphan(mark=other)
    try:
        for mark in (MARK, other[:-1], other[1:], ""):
            assert commands.end_orphans(mark) == []
        assert alive(pid)
    finally:
        assert pid in commands.end_orphans(other)
    until(lambda: not alive(pid))
