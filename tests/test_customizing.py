"""What a clone may be customised with: the values that are taken, and those that are not."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from maglica import customizing, declare
from maglica.actions.vm.clone import VmClone
from maglica.cli.words import parse
from maglica.errors import Refused

HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0qAAAAAAAAAAAAAAAAAAAA me@example.jp"
CLONE = {"image": "a.original", "hostname": "b"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("/etc/motd:hello: you, too", ["/etc/motd:hello: you, too"]),
        ({"/etc/a": "1", "/etc/b": "x:y"}, ["/etc/a:1", "/etc/b:x:y"]),
        (["/etc/empty:"], ["/etc/empty:"]),
    ],
)
def test_files_to_write(given: Any, found: list[str]) -> None:
    assert customizing.WRITE.check(given) == found
    assert customizing.WRITE.check(found) == found


@pytest.mark.parametrize(
    "given",
    ["/etc/motd", "etc/motd:x", "/etc/../x:y", "/etc/:x", "/proc/x:y", "/run/x:y", "/etc//x:y", 5, ["/a:\0"],
     ["/a:" + "x" * customizing.MOST_WRITTEN]],
)  # fmt: skip
def test_what_is_no_file_to_write(given: Any) -> None:
    with pytest.raises(ValueError, match=r"is not|are more|no text"):
        customizing.WRITE.check(given)


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    local = tmp_path / "a:b"
    local.write_bytes(bytes(range(256)))
    local.chmod(0o640)
    terminal = customizing.UPLOAD.terminal
    assert terminal is not None
    assert terminal(f"{local}:/opt/")["path"] == "/opt/a:b"
    (found,) = customizing.UPLOAD.check([terminal(f"{local}:/opt/x")])
    assert (found["path"], found["mode"]) == ("/opt/x", 0o640)
    assert base64.b64decode(found["base64"]) == bytes(range(256))
    assert customizing.UPLOAD.check([found]) == [found]
    assert customizing.UPLOAD.check({"/opt/x": b"\x00"})[0] == {"path": "/opt/x", "mode": None, "base64": "AA=="}


def test_what_cannot_be_uploaded(tmp_path: Path) -> None:
    terminal = customizing.UPLOAD.terminal
    assert terminal is not None
    with pytest.raises(ValueError, match="cannot read"):
        terminal(f"{tmp_path}/none:/opt/x")
    with pytest.raises(ValueError, match="LOCAL:REMOTE"):
        terminal("/opt/x")
    big = tmp_path / "big"
    big.write_bytes(b"x" * (customizing.MOST_UPLOADED + 1))
    with pytest.raises(ValueError, match="96 KiB"):
        terminal(f"{big}:/opt/x")
    with pytest.raises(ValueError, match="Is a directory"):
        terminal(f"{tmp_path}:/opt/x")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="is not a file"):
        terminal(f"{tmp_path}/fifo:/opt/x")
    half = {"data": b"x" * (customizing.MOST_UPLOADED // 2 + 9)}
    with pytest.raises(ValueError, match="fit into a request"):
        customizing.UPLOAD.check([{"path": "/a", **half}, {"path": "/b", **half}])


def test_a_user_in_words(tmp_path: Path) -> None:
    (tmp_path / "alice.pub").write_text(KEY + "\n")
    (tmp_path / "hash").write_text(HASH + "\n")
    terminal = customizing.USER.terminal
    assert terminal is not None
    word = (
        f"alice:sudo:groups=adm,docker:key={tmp_path}/alice.pub:password-hash=@{tmp_path}/hash:uid=1500:comment=Alice"
    )
    (found,) = customizing.USER.check([terminal(word)])
    assert found == {
        "name": "alice", "groups": ["adm", "docker"], "sudo": True, "ssh_keys": KEY + "\n", "password_hash": HASH,
        "shell": None, "uid": 1500, "comment": "Alice",
    }  # fmt: skip
    assert customizing.USER.check([found]) == [found]
    assert customizing.USER.check("bob:sudo")[0]["sudo"] is True


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("root", "--ssh-key"),
        ("Alice", "not the name of a user"),
        ("alice:sudoers", "is none of sudo"),
        ("alice:key=/etc/passwd", "is none of"),
        ("alice:groups=a b", "not the name of a group"),
        ("alice:uid=0", "not an id"),
        (["alice", "alice"], "named twice"),
        ([{"name": "a", "home": "/x"}], "expected a map"),
    ],
)
def test_what_is_no_user(word: Any, why: str) -> None:
    """A program's word names no file: only the terminal and the client worker's settings do."""
    with pytest.raises(ValueError, match=why):
        customizing.USER.check(word)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Etc/GMT+9", "UTC", "America/Argentina/Buenos_Aires"])
def test_time_zones(zone: str) -> None:
    assert customizing.TIMEZONE.check(zone) == zone


@pytest.mark.parametrize("zone", ["", "../etc/passwd", "Asia/../x", "/etc/localtime", "Asia/Tokyo\n"])
def test_no_time_zones(zone: str) -> None:
    with pytest.raises(ValueError, match=r"is not valid|control characters"):
        customizing.TIMEZONE.check(zone)


def test_options_that_are_repeated(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    line = ["vm", "clone", "--image=a", "--hostname=b", "--write=/a:1", "--write", "/b:2,3", "--run-at-first-boot=x, y",
            f"--upload={tmp_path}/f:/opt/f", "--user=alice:sudo"]  # fmt: skip
    command = parse(line, {})
    assert command.action is not None
    made = command.action(**command.values).values()
    assert (made["write"], made["run_at_first_boot"]) == (["/a:1", "/b:2,3"], ["x, y"])
    assert (made["upload"][0]["path"], made["user"][0]["name"]) == ("/opt/f", "alice")
    with pytest.raises(Refused, match="no option --profile"):
        parse(["vm", "clone", "--profile=x"], {})


@pytest.mark.parametrize(
    "more", [{"write": "/a:b"}, {"user": "alice"}, {"timezone": "UTC"}, {"customize_profile": "web"},
             {"run_at_first_boot": "x"}, {"upload": {"/a": b""}}],
)  # fmt: skip
def test_a_clone_that_is_left_alone_gets_nothing(more: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="would do nothing"):
        VmClone(**CLONE, customize="none", **more)
    assert VmClone(**CLONE, customize="none", customize_profile="none")


def test_contents_of_uploads_and_passwords_are_secrets() -> None:
    user = {"name": "alice", "password_hash": HASH}
    made = VmClone(**CLONE, upload={"/opt/x": b"top secret"}, user=[user])
    assert HASH not in repr(made)
    assert base64.b64encode(b"top secret").decode() not in repr(made)
    assert made.public()["upload"][0]["path"] == "/opt/x"
    shown = made.public()["user"][0]
    assert (shown["name"], shown["password_hash"]) == ("alice", "***")
    assert declare.is_masked(made.public()["user"])
    assert not declare.is_masked(VmClone(**CLONE, user="alice").public()["user"])


def test_what_was_not_checked_yet_is_masked_as_a_whole() -> None:
    """A group is recorded with the arguments that it came with, wrong ones too."""
    masked = declare.mask(VmClone.FIELDS, {"upload": "/etc/secret", "user": [5], "profile": {}})
    assert masked == {"upload": "***", "user": "***", "profile": "***"}
    assert declare.mask(VmClone.FIELDS, {"user": "alice"})["user"][0]["name"] == "alice"
