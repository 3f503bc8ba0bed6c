"""What is done inside guests, as far as it can be tried outside one: the scripts that run there, by shells of this
machine, and judgements. The lab has a guest with a real agent.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from maglica.errors import Refused
from maglica.host_worker.inside import files, keys, reach, running

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def in_shell(shell: str, argv: list[str], *, most: int = 1000, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run what an agent would be given, with that shell in the place of /bin/sh."""
    name = "busybox sh" if shell == "busybox" else shell
    first, *rest = (word.replace("exec /bin/sh", f"exec {name}") for word in running.wrapped(argv, most))
    assert first == "/bin/sh"
    done = subprocess.run([*name.split(), *rest], input=stdin, capture_output=True, timeout=20, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("argv", "status", "stdout", "stderr"),
    [
        (["printf", r"\000\377%s", "a  b"], 0, b"\0\xffa  b", b""),
        (["sh", "-c", "cat; echo $1 >&2; exit 3", "sh", "a'\"$x"], 3, b"typed in", b"a'\"$x\n"),
        (["exit", "4"], 127, b"", None),  # a word of the shell is no program
        (["pass"], 127, b"", None),  # nor is a function of ours
        (["/etc/passwd"], 126, b"", None),
        (["sh", "-c", "kill -9 $$"], 137, b"", None),
        (["LANG=x y", "printenv", "LANG"], 0, b"x y\n", b""),
        (["sh", "-c", "ls /proc/self/fd | tr '\n' ' '"], 0, b"0 1 2 3 ", b""),  # 3 is of ls itself
    ],
)
def test_a_command_runs_as_it_was_typed(
    shell: str, argv: list[str], status: int, stdout: bytes, stderr: bytes | None
) -> None:
    found = in_shell(shell, argv, stdin=b"typed in")
    assert found[:2] == (status, stdout)
    assert found[2] == stderr or (stderr is None and found[2])


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_too_much_is_dropped_and_the_command_does_not_notice(shell: str) -> None:
    script = "head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2; exit 7"
    status, stdout, stderr = in_shell(shell, ["sh", "-c", script], most=1000)
    assert (status, len(stdout), len(stderr)) == (7, 1001, 1001)
    told = {"exited": True, "exitcode": status, "out-data": base64.b64encode(stdout).decode()}
    assert running.read(told, 1000) == running.Ran(7, bytes(1000), b"", cut=True)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("stubborn", [False, True])
def test_all_that_a_command_started_is_ended_with_it(shell: str, stubborn: bool) -> None:
    """What it printed is passed on, unless it does not end when it is asked to."""
    trap = "trap '' TERM; " if stubborn else ""
    script = f'sh -c "{trap}exec sleep 987" & echo begun; sleep 987; sleep 987'
    argv = running.wrapped(["sh", "-c", script], 100)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        while len(sleepers(process.pid)) < 2:
            pass
        subprocess.run(["/bin/sh", "-c", running.END, "sh", str(process.pid)], check=True, timeout=20)
        assert process.stdout.read() == (b"" if stubborn else b"begun\n")  # closed: nobody holds it any more
    assert process.returncode == -15
    assert sleepers(process.pid) == []


def sleepers(session: int) -> list[str]:
    """Processes `sleep` of a session."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if line.startswith("sleep")]


def test_what_an_agent_tells_of_a_command() -> None:
    assert running.read({"exited": False}, 10) is None
    assert running.read({"exited": True, "exitcode": 0, "out-data": "aGk="}, 10) == running.Ran(0, b"hi", b"")
    for odd in (256, -1, 3221225477):  # none that a program can end with: 256 would look like success
        assert running.read({"exited": True, "exitcode": odd}, 10) == running.Ran(1, b"", b"")
    assert running.read({"exited": True, "signal": 15}, 10) == running.Ran(143, b"", b"")
    assert running.read({"exited": True, "exitcode": 1, "err-data": "aGk=", "err-truncated": True}, 10) == running.Ran(
        1, b"", b"hi", cut=True
    )
    assert running.shown(["/bin/sh", "-c", "a\nb"]) == "a b"
    assert running.shown(["echo", "a b", "x" * 99]) == f"echo 'a b' {'x' * 48}…"


def test_what_an_agent_cannot_or_may_not_do_is_refused() -> None:
    known = {"guest-exec": True, "guest-file-open": False}
    reach.refuse_unable("web1", "7.2", known, "guest-exec")
    with pytest.raises(Refused, match=r"web1 \(7.2\) does not know guest-fstrim$"):
        reach.refuse_unable("web1", "7.2", known, "guest-exec", "guest-fstrim")
    with pytest.raises(Refused, match="not allowed to do guest-file-open") as refused:
        reach.refuse_unable("web1", "7.2", known, "guest-exec", "guest-file-open")
    assert "BLACKLIST_RPC" in refused.value.hint


# ---- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "owner", "placed"),
    [
        (files.Seen("file", 0o640, "root:adm", "abc"), None, True),
        (files.Seen("file", 0o640, "root:adm", "abc"), "root", True),
        (files.Seen("file", 0o640, "root:adm", "abc"), "root:adm", True),
        (files.Seen("file", 0o640, "root:adm", "abc"), "alice", False),
        (files.Seen("file", 0o644, "root:adm", "abc"), None, False),
        (files.Seen("file", 0o640, "root:adm", "abd"), None, False),
        (files.Seen("nothing"), None, False),
    ],
)
def test_a_file_is_placed_when_content_mode_and_owner_are_right(
    there: files.Seen, owner: str | None, placed: bool
) -> None:
    """What decides whether there is anything to do is also the sign that it was done."""
    assert files.placed(there, "abc", 0o640, owner) is placed


def ran(script: str, *words: object) -> str:
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *map(str, words)], capture_output=True, text=True, check=True, timeout=20
    ).stdout


def test_what_is_at_a_path(tmp_path: Path) -> None:
    name = tmp_path / "a 'file"
    name.write_bytes(b"x\0")
    name.chmod(0o640)
    (tmp_path / "link").symlink_to(name)
    os.mkfifo(tmp_path / "fifo")
    found = files.seen(ran(files.LOOK, name))
    assert found[:2] == ("file", 0o640)
    assert found.sha256 == hashlib.sha256(b"x\0").hexdigest()
    assert found.owner == f"{name.owner()}:{name.group()}"
    assert files.seen(ran(files.LOOK, tmp_path / "link")) == found
    assert found.path == str(name)
    kinds = {"": "directory", "fifo": "other", "new": "nothing", "no/new": "nowhere"}
    for path, kind in kinds.items():
        assert files.seen(ran(files.LOOK, tmp_path / path)) == files.Seen(kind)
    for kind in ("directory", "other", "nowhere", ""):
        with pytest.raises(Refused):
            files.refuse(files.Seen(kind), "web1", "/a/b")
    files.refuse(files.Seen("nothing"), "web1", "/a/b")


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "motd"
    target.write_text("old")
    part = files.part(str(target), "1abc")
    ran(files.MAKE, part)
    assert stat.S_IMODE(os.stat(part).st_mode) == 0o600
    with pytest.raises(subprocess.CalledProcessError):
        ran(files.MAKE, part)
    Path(part).write_text("half")
    sha256 = hashlib.sha256(b"whole").hexdigest()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        ran(files.PLACE, part, target, "644", "", sha256)
    assert "not arrived whole" in failed.value.stderr
    assert target.read_text() == "old"
    Path(part).write_text("whole")
    ran(files.PLACE, part, target, "640", target.owner(), sha256)
    assert target.read_text() == "whole"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["motd"]
    ran(files.REMOVE, part)


@pytest.mark.parametrize(
    ("there", "wanted", "same"),
    [("a:b", None, True), ("a:b", "a", True), ("a:b", "a:b", True), ("a:b", "a:c", False), (None, "a", False)],
)
def test_whose_it_is(there: str | None, wanted: str | None, same: bool) -> None:
    assert files.owned(there, wanted) is same


# ---- keys ---------------------------------------------------------------------------------------------------

ONE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOne"
TWO = "ssh-rsa AAAAB3NzaC1yc2EAAAADTwo"


def test_a_key_is_the_same_whatever_stands_around_it() -> None:
    there = [f'command="echo a",no-pty {ONE} me@here', f"{TWO} x"]
    assert keys.to_add(there, [f"{ONE} other comment", f"{TWO}2"]) == [f"{TWO}2"]
    assert keys.to_remove(there, [ONE]) == there[:1]
    assert keys.to_remove(there, [f"{ONE}x"]) == []
    assert keys.lines(f"# mine\n\n {ONE} a \n{TWO}\n") == [f"{ONE} a", TWO]
