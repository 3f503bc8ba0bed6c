"""What both daemons need around their loop: real locks, real signals, a real socket for systemd's word."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maglica import config, daemon
from maglica.errors import Failed, Refused

HOME = Path(__file__).resolve().parents[1]


def python(code: str, *, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a few lines in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "JOURNAL_STREAM")},
    )


# ------------------------------------------------------------------------------------------------ the lock


def test_only_one_may_use_a_state_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    fd = daemon.only_one(str(folder), "host worker")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "lock").read_text() == str(os.getpid())
    code = f"from maglica import daemon; daemon.only_one({str(folder)!r}, 'host worker')"
    run = python(
        f"from maglica.errors import Failed\ntry:\n    {code}\nexcept Failed as e:\n    print(e.code, e.message)"
    )
    assert run.stdout.strip() == f"locked another host worker (process {os.getpid()}) uses {folder}"
    os.close(fd)
    assert python(code).returncode == 0


def test_the_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    code = f"import os; from maglica import daemon; daemon.only_one({str(tmp_path)!r}, 'x'); os.kill(os.getpid(), 9)"
    assert python(code).returncode == -signal.SIGKILL
    os.close(daemon.only_one(str(tmp_path), "x"))


def test_the_lock_is_not_handed_down_to_children(tmp_path: Path) -> None:
    """A child that outlives its host worker must not keep the next one from starting."""
    fd = daemon.only_one(str(tmp_path), "x")
    child = subprocess.Popen(["sleep", "300"], close_fds=False)
    try:
        os.close(fd)
        os.close(daemon.only_one(str(tmp_path), "x"))
    finally:
        child.kill()
        child.wait()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed, match=r"cannot write .*/file/state/lock: Not a directory") as failed:
        daemon.only_one(str(tmp_path / "file" / "state"), "x")
    assert failed.value.hint == "check [paths] state"


# ---------------------------------------------------------------------------------------------- log lines


def line(message: str, *values: object, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("maglica.x", logging.WARNING, __file__, 1, message, values, info)
    return daemon.Lines().format(record)


def test_a_record_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert line("job=%s vm=%s", "1b7q", "web1") == "warning maglica.x job=1b7q vm=web1"
    monkeypatch.delenv("JOURNAL_STREAM")
    stamp, rest = line("x").split(" ", 1)
    assert rest == "warning maglica.x x"
    assert len(stamp) == len("2026-01-01T00:00:00+0000")


@pytest.mark.parametrize("broken", ["\n", "\r\n", "\r", "\x0b", "\x85", "\u2028"])
def test_nobody_can_forge_a_line(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Who asks is what the asker says."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    text = line("queued owner=%s", f"me{broken}warning maglica.x queued owner=root")
    assert text == "warning maglica.x queued owner=me | warning maglica.x queued owner=root"


def test_a_traceback_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        text = line("unexpected", error=error)
    assert "\n" not in text
    assert text.startswith("warning maglica.x unexpected | Traceback (most recent call last): | ")
    assert text.endswith("ValueError: two | lines")


# -------------------------------------------------------------------------------- signals, systemd, the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_for_the_end(number: signal.Signals) -> None:
    code = (
        "import os, time; from maglica import daemon; asked = []; daemon.on_stop(lambda: asked.append(1));"
        f" os.kill(os.getpid(), {int(number)}); time.sleep(0.01); print(asked)"
    )
    assert python(code).stdout == "[1]\n"


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@maglica-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if abstract else name)
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        daemon.notify("READY=1")
        assert listener.recv(100) == b"READY=1"
    daemon.notify("STOPPING=1")  # nobody listens any more: no harm


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    daemon.notify("READY=1")


def test_an_error_that_ends_a_daemon_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise Refused("wrong_input", "maglica.conf:3: unknown key adress in [client]", "did you mean address?")

    assert daemon.run(fails, "maglica_host_worker") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "maglica_host_worker: maglica.conf:3: unknown key adress in [client]\n  did you mean address?\n"
    )
    assert daemon.run(lambda: 75, "x") == 75


# ------------------------------------------------------------------------------------ the watchdog and SIGHUP


class Systemd:
    """The socket on which systemd listens."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """What was said since this was asked last, line by line."""
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    found = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", found.path)
    yield found
    found.close()


@pytest.fixture
def hup() -> Iterator[None]:
    """The signal as it was before the test."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hup")
def test_the_watchdog_is_fed_by_turns_of_the_loop_and_by_nothing_else(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    duties = daemon.Duties(lambda: "busy", lambda: None, lambda: None)
    assert systemd.heard() == []
    duties.turn(100.0)
    assert systemd.heard() == ["WATCHDOG=1", "STATUS=busy"]
    duties.turn(101.9)
    assert systemd.heard() == [], "often enough is enough"
    duties.turn(102.0)
    assert systemd.heard() == ["WATCHDOG=1", "STATUS=busy"]


@pytest.mark.usefixtures("hup", "systemd")
@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("soon", ""), ("1000000", "1")])
def test_a_watchdog_that_is_not_meant_for_us_is_none(monkeypatch: pytest.MonkeyPatch, usec: str, pid: str) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    said: list[float] = []
    duties = daemon.Duties(lambda: str(said.append(0.0)), lambda: None, lambda: None)
    for now in range(20):
        duties.turn(float(now))
    assert len(said) == 4, "a line of status every 5 s all the same"


@pytest.mark.usefixtures("hup")
def test_without_systemd_no_status_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    daemon.Duties(lambda: 1 / 0, lambda: None, lambda: None).turn(1e9)  # type: ignore[arg-type,return-value]


@pytest.mark.usefixtures("hup")
def test_a_hup_wakes_the_loop_which_reads_in_its_own_turn() -> None:
    done: list[str] = []
    duties = daemon.Duties(lambda: "", lambda: done.append("read"), lambda: done.append("woken"))
    duties.turn(1.0)
    assert done == []
    os.kill(os.getpid(), signal.SIGHUP)
    assert done == ["woken"]
    duties.turn(2.0)
    duties.turn(3.0)
    assert done == ["woken", "read"]


LIVE = {"client": frozenset({"read_timeout"}), "log": frozenset({"level"}), "host": frozenset({"weight"})}


def test_what_can_change_changes_and_what_cannot_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "maglica.conf"
    file.write_text("[client]\nbeat = 2s\nread_timeout = 5s\n")
    old = config.load(str(file))
    file.write_text("[client]\nbeat = 9s\nread_timeout = 7s\n[host_worker]\nslots_disk = 9\n[host h]\nweight = 3\n")
    with caplog.at_level(logging.INFO):
        new = daemon.reread(old, LIVE)
    assert (new.client.read_timeout, new.client.beat) == (7.0, 2.0)
    assert new.hosts["h"].weight == 3.0
    assert "new=[client] read_timeout, [host h]" in caplog.text
    assert "these take effect with the next start only: [client] beat\n" in caplog.text
    assert "slots_disk" not in caplog.text, "that is another process' matter"
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = daemon.reread(new, LIVE)
    assert "new=nothing" in caplog.text
    assert "[client] beat" in caplog.text, "it still waits"
    assert again.client == new.client


@pytest.mark.parametrize("text", ["[client]\nadress = x\n", "[client]\nbeat = never\n", "beat = 2s\n", None])
def test_a_broken_file_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    file = tmp_path / "maglica.conf"
    file.write_text("[client]\nread_timeout = 5s\n")
    old = config.load(str(file))
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert daemon.reread(old, LIVE) is old
    assert "the settings stay as they were: " in caplog.text
    assert str(file) in caplog.text


def test_what_the_command_line_said_stays_said(tmp_path: Path) -> None:
    file = tmp_path / "maglica.conf"
    file.write_text("")
    said = {("client", "address"): ("10.0.0.1", "--client")}
    old = config.load(str(file), said)
    file.write_text("[client]\naddress = 10.0.0.2\n")
    found = config.reread(old, LIVE, said)
    assert (found.now.client.address, found.changed, found.waits) == ("10.0.0.1", [], [])
