"""Answers as text, in every format."""

from __future__ import annotations

import base64
import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from maglica.cli import output, session, views
from maglica.cli.answer import Answer, failure
from maglica.cli.options import Globals
from maglica.cli.output import Look
from maglica.errors import Failed, Refused

PIPE = Look(None, False, datetime(2026, 3, 4, 12, 0, tzinfo=UTC))
VMS: list[dict[str, Any]] = [
    {"name": "SL6.1-x86_64.original", "host": "host0.example.jp", "memory_bytes": 1 << 30, "ips": ["192.0.2.1"]},
    {"name": "db1", "host": "host1.example.jp", "memory_bytes": None, "ips": []},
]


def answer(**more: Any) -> Answer:
    wanted = {"items": [dict(vm) for vm in VMS], "observed_at": "2026-03-04T11:59:58.000Z"} | more
    return Answer("image.list", columns=("name", "host"), wide=("memory_bytes",), **wanted)


def text(given: Answer, look: Look = PIPE, **options: Any) -> str:
    return output.render(given, Globals(**options), look)


def test_the_table_of_the_first_maglica() -> None:
    assert text(answer()) == (
        "Name                    Host\n"
        "----------------------------------------\n"
        "SL6.1-x86_64.original   host0.example.jp\n"
        "db1                     host1.example.jp\n"
    )


def test_wide_headers_columns() -> None:
    assert text(answer(), output="wide", headers=False) == (
        "SL6.1-x86_64.original   host0.example.jp   1 GiB\ndb1                     host1.example.jp   ?\n"
    )
    assert text(answer(), columns=["host"], headers=False) == "host0.example.jp\nhost1.example.jp\n"
    assert text(answer(), columns=["+ips"], headers=False, sort=["name"]).splitlines()[1].endswith("   192.0.2.1")


def test_an_empty_table_still_has_its_header() -> None:
    assert text(answer(items=[])) == "Name   Host\n-----------\n"


def test_json_is_the_whole_tree() -> None:
    missing = [{"host": "host2", "why": "no answer in time"}]
    tree = json.loads(text(answer(missing_hosts=missing), output="json"))
    assert list(tree) == ["schema", "kind", "observed_at", "missing_hosts", "items"]
    assert tree == {
        "schema": "maglica/1",
        "kind": "image.list",
        "observed_at": "2026-03-04T11:59:58.000Z",
        "missing_hosts": missing,
        "items": VMS,
    }


def test_yaml_is_the_same_tree() -> None:
    assert yaml.safe_load(text(answer(), output="yaml")) == json.loads(text(answer(), output="json"))


def test_yaml_without_its_library_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(Failed, match="needs PyYAML") as caught:
        text(answer(), output="yaml")
    assert "python3-yaml" in caught.value.hint


def test_jsonl_csv_name() -> None:
    assert [json.loads(line) for line in text(answer(), output="jsonl").splitlines()] == VMS
    assert text(answer(), output="name") == "SL6.1-x86_64.original\ndb1\n"
    assert text(answer(), output="csv") == (
        "name,host,memory_bytes\nSL6.1-x86_64.original,host0.example.jp,1073741824\ndb1,host1.example.jp,\n"
    )
    assert text(answer(), output="csv", columns=["ips", "name"], headers=False) == (
        "192.0.2.1,SL6.1-x86_64.original\n,db1\n"
    )


def test_columns_filter_and_sort_count_in_every_format() -> None:
    tree = json.loads(text(answer(), output="json", columns=["name"], sort=["-host"], filter="name!=x"))
    assert tree["items"] == [{"name": "db1"}, {"name": "SL6.1-x86_64.original"}]
    assert text(answer(), output="name", filter="memory>1M") == "SL6.1-x86_64.original\n"


def test_a_job_id_is_its_name() -> None:
    assert text(Answer("job.list", items=[{"id": "1b7q2k0m4z", "state": "done"}]), output="name") == "1b7q2k0m4z\n"
    assert text(Answer("vm.stop", item={"changed": True, "job": "1b7q2k0m4z"}), output="name") == "1b7q2k0m4z\n"


def test_one_object_is_lines_and_small_tables() -> None:
    item = {
        "name": "web1",
        "memory_bytes": 2 << 30,
        "image": None,
        "seconds": {"copy": 1.5, "define": 0.004},
        "disks": [{"target": "vda", "capacity_bytes": 4 << 30}, {"target": "vdb", "capacity_bytes": None}],
        "host": "host0",
    }
    assert text(Answer("vm.info", item=item)) == (
        "Name:    web1\n"
        "Host:    host0\n"
        "Memory:  2 GiB\n"
        "Image:   ?\n"
        "Seconds:\n"
        "  Copy:    1.5 s\n"
        "  Define:  4 ms\n"
        "Disks:\n"
        "  Target   Capacity\n"
        "  -----------------\n"
        "  vda      4 GiB\n"
        "  vdb      ?\n"
    )


def test_a_story_replaces_the_table_and_not_the_tree() -> None:
    told = Answer("job.log", item={"id": "1b7q"}, text="once\n")
    assert text(told) == "once\n"
    assert json.loads(text(told, output="json"))["item"] == {"id": "1b7q"}


@pytest.mark.parametrize("columns", [40, 30, 24])
def test_a_terminal_that_is_too_narrow_cuts_the_widest_column(columns: int) -> None:
    lines = text(answer(), Look(columns, False, PIPE.now)).splitlines()
    assert max(map(len, lines)) <= columns
    assert "db1" in lines[3]
    if columns < 40:
        assert "…" in lines[2]


def test_which_columns_give_way() -> None:
    item = {
        "name": "web-with-a-long-name.example.jp",
        "state": "running",
        "uuid": "0123456789",
        "created_at": "2026-03-03T10:00:00Z",
        "owner": "someone@some.where",
    }
    given = Answer("x", items=[item], columns=tuple(item))
    shown = {width: text(given, Look(width, False, PIPE.now)).splitlines() for width in (90, 80, 66, 50, 20)}
    assert shown[90][2] == "web-with-a-long-name.example.jp   running   0123456789   2026-03-03 10:00   someone@some.…"
    assert shown[80][2] == "web-with-a-long-name.exam…   running   0123456789   2026-03-03 10:00   someone@…"
    assert shown[66][2] == "web-with-a-l…   running   0123456789   2026-03-03 10:00   someone…"
    assert shown[50][0].split() == ["Name", "State", "UUID", "…"]
    assert shown[50][2].endswith("…   running   0123456789")
    assert [max(map(len, lines)) for lines in shown.values()] <= [90, 80, 66, 50, 20]
    assert shown[20][0] == "Name       State   …"


def test_a_pipe_gets_everything() -> None:
    long = Answer("x", items=[{"name": "x" * 300}], columns=("name",))
    assert "x" * 300 in text(long)


def test_states_have_colours_where_there_are_some() -> None:
    states = [{"name": f"vm{n}", "state": state} for n, state in enumerate(["running", "failed", "queued", "odd"])]
    shown = text(Answer("vm.list", items=states, columns=("state", "name")), Look(80, True, PIPE.now), headers=False)
    assert (
        shown
        == "\x1b[32mrunning\x1b[0m   vm0\n\x1b[31mfailed\x1b[0m    vm1\n\x1b[33mqueued\x1b[0m    vm2\nodd       vm3\n"
    )


def test_a_name_cannot_drive_the_terminal() -> None:
    evil = Answer("vm.list", items=[{"name": "\x1b]0;owned\x07"}], columns=("name",))
    for format in ("table", "name"):
        assert "\x1b" not in text(evil, output=format)


def test_nor_can_what_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    session.say("web1: \x1b]0;owned\x07\n  a hint")
    assert capsys.readouterr().err == "maglica: web1: \\x1b]0;owned\\x07\n  a hint\n"
    content = base64.b64encode(b"a\x1b[2J\xff\n").decode()
    assert views.vm_read_file({"base64": content}, Look(80, True, PIPE.now)) == "a\\x1b[2J\\xff\n"


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "csv"])
def test_what_is_no_number_spoils_no_list(format: str) -> None:
    items = [{"name": "a", "memory_bytes": float("nan"), "started_at": "0001-01-01T00:00:00+14:00"}, {"name": "b"}]
    shown = text(Answer("vm.list", items=items, columns=("name", "memory_bytes", "started_at")), output=format)
    assert "b" in shown
    if format == "json":
        assert json.loads(shown, parse_constant=pytest.fail)["items"][0]["memory_bytes"] is None


def test_wide_letters_are_counted_as_wide() -> None:
    items = [{"name": "東京", "host": "a"}, {"name": "x", "host": "b"}]
    assert text(Answer("x", items=items, columns=("name", "host")), headers=False) == "東京   a\nx      b\n"
    assert output.cut("東京都", 5) == "東京…"


def test_the_tree_of_an_error() -> None:
    error = Refused("unknown_entity", "there is no VM x", "`maglica vm list` shows them", details={"near": ["y"]})
    tree = failure("vm.stop", error)
    assert list(tree) == ["schema", "kind", "observed_at", "missing_hosts", "error"]
    assert tree["error"] == {
        "code": "unknown_entity",
        "message": "there is no VM x",
        "hint": "`maglica vm list` shows them",
        "retryable": False,
        "job": None,
        "details": {"near": ["y"]},
    }
