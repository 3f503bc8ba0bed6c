"""The log of a serial console: what is text in it, its last lines, and a text that is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maglica.host_worker.domain import console
from maglica.host_worker.domain.console import Follower


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1b[0;32m  OK  \x1b[0m Started \x1b[1mssh\x1b[m\r\n", "  OK   Started ssh\n"),
        (b"\x1b]0;title\x07login: \x1b[?25l", "login: "),
        (b"\x1bc\x1b(Bboot", "boot"),
        (b"a\rb\tc\x00\x07d", "a\nb cd"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        (b"\xc2\x9b31mred", "31mred"),  # the one-byte form of ESC [
    ],
)
def test_control_characters_are_no_text(data: bytes, text: str) -> None:
    assert console.clean(data) == text


def test_the_tail_is_bounded_and_has_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "vm.log"
    log.write_bytes(b"".join(b"line %d\r\n\r\n" % number for number in range(5000)) + b"x" * 300 + b" pass $6$abc\n")
    found = console.tail(str(log), ("$6$abc",))
    assert len(found) == 20
    assert found[-2] == "line 4999"
    assert found[-1] == "x" * 200
    assert console.last_lines(b"root:$6$abc:\n", ("$6$abc",)) == ["root:***:"]


def test_the_tail_of_a_log_that_was_just_rotated_begins_in_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "vm.log.0").write_bytes(b"one\ntwo\n")
    (tmp_path / "vm.log").write_bytes(b"three\n")
    assert console.tail(str(tmp_path / "vm.log")) == ["one", "two", "three"]
    assert console.tail(str(tmp_path / "other.log")) == []


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_text_is_found_in_pieces_and_in_colours(tmp_path: Path) -> None:
    log = tmp_path / "vm.log"
    follower = Follower(str(log), "web1 login:", all_of_it=False)
    assert not follower.look(), "there is no log yet"
    append(log, b"booting\r\n\x1b[1mweb1")
    assert not follower.look()
    append(log, b"\x1b[0m lo")
    assert not follower.look()
    append(log, b"gin: ")
    assert follower.look()
    follower.close()


def test_what_an_earlier_run_wrote_is_not_looked_at(tmp_path: Path) -> None:
    log = tmp_path / "vm.log"
    append(log, b"web1 login: \n")
    follower = Follower(str(log), "login:", all_of_it=False)
    assert not follower.look()
    append(log, b"login:")
    assert follower.look()
    follower.close()
    follower = Follower(str(log), "login:", all_of_it=True)
    assert follower.look()
    follower.close()


def test_a_log_that_is_truncated_at_the_start_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "vm.log"
    append(log, b"an earlier run, login: \n" * 10)
    follower = Follower(str(log), "login:", all_of_it=False)
    os.truncate(log, 0)
    append(log, b"GRUB\n")
    assert not follower.look()
    append(log, b"login:")
    assert follower.look()
    follower.close()


@pytest.mark.parametrize("before", [b"", b"x" * 100_000])
def test_a_log_that_is_rotated_is_followed(tmp_path: Path, before: bytes) -> None:
    log = tmp_path / "vm.log"
    append(log, b"begin ")
    follower = Follower(str(log), "login:", all_of_it=True)
    assert not follower.look()
    append(log, before + b"lo")
    log.rename(tmp_path / "vm.log.0")
    append(log, b"gin: ")
    assert follower.look()
    follower.close()


def test_what_came_right_before_a_rotation_is_seen(tmp_path: Path) -> None:
    log = tmp_path / "vm.log"
    append(log, b"")
    follower = Follower(str(log), "login:", all_of_it=False)
    append(log, b"login:")
    log.rename(tmp_path / "vm.log.0")
    append(log, b"more")
    assert follower.look()
    follower.close()
