"""A job's record as a story."""

from __future__ import annotations

from maglica.cli.story import story
from maglica.errors import Failed
from tests.cli.records import record


def test_the_story_of_a_job_that_failed() -> None:
    told = record(
        action="vm clone",
        args={
            "image": "el9.original",
            "start": False,
            "memory": None,
            "ssh_key": "ssh-ed25519 A\n",
            "dns": ["192.0.2.1"],
        },
        state="failed",
        reason="new web server",
        started_at="2026-03-04T12:00:01.000Z",
        ended_at="2026-03-04T12:00:09.000Z",
        steps=[
            {"name": "place", "seconds": 0.0, "note": "host1: most room"},
            {"name": "copy", "seconds": 7.25, "note": None},
        ],
        commands=[
            {"argv": ["qemu-img", "convert", "a b"], "exit_status": 1, "seconds": 7.2, "stderr": "No space\nleft\n"}
        ],
        error=Failed("no_capacity", "the pool is full", "free some room").to_wire(),
    )
    assert story(told) == (
        "job 1b7q2k0m4z: vm clone web1\n"
        "  asked by: me@desk at 2026-03-04T12:00:00.000Z\n"
        "  reason: new web server\n"
        "  arguments: --image=el9.original --start=no --ssh-key='ssh-ed25519 A' --dns=192.0.2.1\n"
        "  host: host1\n"
        "  started: 2026-03-04T12:00:01.000Z\n"
        "  ended: 2026-03-04T12:00:09.000Z\n"
        "step place (0 s): host1: most room\n"
        "step copy (7.2 s)\n"
        "$ qemu-img convert 'a b'\n"
        "  exit status 1 after 7.2 s\n"
        "  | No space\n"
        "  | left\n"
        "TASK ERROR: the pool is full\n"
        "  free some room\n"
    )


def test_how_stories_end() -> None:
    assert story(record(state="done")).endswith("\nTASK OK\n")
    assert story(record(state="running", step="copy")).endswith(
        "\nstep copy: since 2026-03-04T12:00:00.000Z\nTASK RUNNING\n"
    )
    assert story(record(state="lost")).endswith("\nTASK ERROR: lost\n")


def test_only_the_last_words_of_a_command() -> None:
    long = {"argv": ["x"], "exit_status": None, "seconds": None, "stderr": "\n".join(map(str, range(100)))}
    lines = story(record(commands=[long])).splitlines()
    assert "  exit status ?" in lines
    assert [line for line in lines if line.startswith("  | ")] == [f"  | {number}" for number in range(80, 100)]


def test_a_guest_cannot_drive_the_terminal() -> None:
    evil = {"argv": ["\x1b[2J"], "exit_status": 0, "seconds": 1.0, "stderr": "\x1b]0;owned\x07"}
    assert "\x1b" not in story(record(commands=[evil]))


def test_what_a_script_printed_is_part_of_why_it_failed() -> None:
    details = {"exit_status": 3, "output": "".join(f"line {number}\n" for number in range(100))}
    told = story(record(state="failed", error={"message": "hook 1 of 1 ended with status 3", "details": details}))
    assert "what it printed, the last lines:\n  | line " in told
    assert told.endswith("\n  | line 99\n")
    assert "  | line 1\n" not in told
    silent = story(record(state="failed", error={"message": "it failed", "details": {"output": ""}}))
    assert silent.endswith("what it printed, the last lines:\n  nothing\n")
