"""Whole commands on real host workers, whose hypervisor is libvirt's test driver."""

from __future__ import annotations

import csv
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.typing_in import Typed
from tests.daemons import RUNNING, SHUT_OFF, House, until

pytest.importorskip("libvirt")

ONE = {"web1.example.jp": RUNNING, "db1": RUNNING, "ci-1": RUNNING, "ci-2": SHUT_OFF, "el9.original": SHUT_OFF}
TWO = {"web2.example.jp": RUNNING, "old": SHUT_OFF}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two hosts; tests that need a VM in a certain state put it there."""
    house = House(Path(tmp_path_factory.mktemp("two")))
    try:
        house.start()
        house.start_host("host1", ONE)
        house.start_host("host2", TWO)
        yield house
    finally:
        house.close()


def tree(house: House, *words: str) -> Any:
    return json.loads(house.cli(*words, "-o", "json").stdout)


def state(house: House, name: str) -> str:
    return str(tree(house, "vm", "info", name)["item"]["state"])


def test_vm_list(two: House) -> None:
    assert two.cli("vm", "start", "web1").returncode == 0
    lines = two.cli("vm", "list").stdout.splitlines()
    assert lines[0].split() == ["Name", "Host", "State"]
    assert "web1.example.jp   host1   running" in lines
    assert "web2.example.jp   host2   running" in lines
    assert not any("original" in line for line in lines)
    rows = list(csv.DictReader(io.StringIO(two.cli("vm", "list", "-o", "csv", "--filter=name=old").stdout)))
    assert [(row["name"], row["host"], row["memory_bytes"]) for row in rows] == [("old", "host2", str(512 << 20))]
    assert two.cli("image", "list", "-o", "name").stdout == "el9.original\n"


def test_a_name_may_be_shortened(two: House) -> None:
    lines = two.cli("vm", "info", "web1").stdout.splitlines()
    assert lines[0] == "Name:          web1.example.jp"
    assert "  Memory   512 MiB" in lines
    assert "Disks:" in lines


def test_info_of_several(two: House) -> None:
    done = two.cli("vm", "info", "web1", "nope", "old", "-o", "json")
    assert done.returncode == 10
    found = json.loads(done.stdout)
    assert [item["name"] for item in found["items"]] == ["web1.example.jp", "old"]
    assert [(one["name"], one["error"]["code"]) for one in found["errors"]] == [("nope", "unknown_entity")]
    assert "maglica: there is no VM nope" in done.stderr


def test_lists_of_several_have_all_their_rows(two: House) -> None:
    done = two.cli("disk", "list", "web1", "nope", "old", "-o", "json")
    assert done.returncode == 10
    found = json.loads(done.stdout)
    assert [item["target"] for item in found["items"]] == ["vda", "vda"]
    assert [one["name"] for one in found["errors"]] == ["nope"]
    lines = two.cli("disk", "list", "web1", "old", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["target"] for line in lines] == ["vda", "vda"]


@pytest.mark.parametrize("words", [("-o", "json"), ("-o", "jsonl"), ("-qo", "json")], ids=" ".join)
def test_programs_are_told_also_when_all_of_several_failed(two: House, words: tuple[str, ...]) -> None:
    done = two.cli("vm", "info", "nope", "nopes", *words)
    assert done.returncode == 4
    if "jsonl" in words:
        codes = [json.loads(line)["error"]["code"] for line in done.stdout.splitlines()]
    else:
        codes = [one["error"]["code"] for one in json.loads(done.stdout)["errors"]]
    assert codes == ["unknown_entity"] * 2
    single = two.cli("vm", "info", "nope", *words)
    assert (single.returncode, json.loads(single.stdout)["error"]["code"]) == (4, "unknown_entity")


def test_stop_and_start(two: House) -> None:
    assert two.cli("vm", "start", "db1").returncode == 0
    done = two.cli("vm", "stop", "db1")
    assert done.returncode == 0
    assert "Changed:  yes" in done.stdout
    assert state(two, "db1") == "shut-off"
    again = two.cli("vm", "stop", "db1")
    assert (again.returncode, "Changed:  no" in again.stdout) == (0, True)
    done = two.cli("vm", "start", "db1", "--no-wait")
    assert two.cli("job", "wait", done.stdout.strip()).returncode == 0
    assert state(two, "db1") == "running"
    log = two.cli("job", "log", done.stdout.strip()).stdout
    assert log.splitlines()[-1] == "TASK OK"
    assert "step start (" in log


def test_globs_and_ranges_and_a_partial_failure(two: House) -> None:
    assert two.cli("vm", "start", "ci-{1..2}").returncode == 0
    done = two.cli("vm", "stop", "ci-*", "nope")
    assert done.returncode == 10
    rows = [line.split()[:4] for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["ci-1", "done"], ["ci-2", "done"], ["nope", "refused"]]
    assert [row[3] for row in rows] == ["yes", "yes", "no"]
    assert rows[2][2] == "?", "it is on no host"
    assert "maglica: there is no VM nope" in done.stderr


def test_remove(two: House) -> None:
    done = two.cli("vm", "remove", "old", "--yes")
    assert done.returncode == 0
    assert "Deleted:  /default-pool/old.img" in done.stdout
    assert two.cli("vm", "info", "old").returncode == 4


def test_a_plan(two: House) -> None:
    assert two.cli("vm", "start", "db1").returncode == 0
    planned = tree(two, "vm", "stop", "db1", "--dry-run")
    assert planned["item"]["would"]["shut down"] == "db1"
    assert "Would:    change nothing: it is so already" in two.cli("vm", "start", "db1", "--dry-run").stdout


def test_host_info_and_ping(two: House) -> None:
    assert [item["name"] for item in tree(two, "ping")["items"]] == ["127.0.0.1", "host1", "host2"]
    lines = two.cli("host", "info", "host1").stdout.splitlines()
    assert lines[0].split() == ["Name:", "host1"]
    assert "Pools:" in lines
    done = two.cli("host", "info", "host3")
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, "maglica: there is no host host3")


def test_a_terminal_cuts_what_does_not_fit(two: House) -> None:
    with Typed(two, "vm", "list", "-o", "wide", columns=100) as typed:
        assert typed.end() == 0
        assert max(map(len, typed.screen)) <= 100
        assert "…" in typed.text
    with Typed(two, "vm", "list", columns=80, NO_COLOR="") as typed:
        assert typed.end() == 0
        assert "\x1b[32mrunning\x1b[0m" in typed.text


def test_a_host_that_hangs_is_named(house: House) -> None:
    house.configure(client="read_timeout = 1s")
    house.start()
    house.start_host("host1", {"a": RUNNING})
    house.start_host("host2", {"b": RUNNING})
    house.hosts["host2"].signal(signal.SIGSTOP)
    done = house.cli("vm", "list", "-o", "json")
    assert done.returncode == 10
    found = json.loads(done.stdout)
    assert [item["name"] for item in found["items"]] == ["a"]
    assert [missing["host"] for missing in found["missing_hosts"]] == ["host2"]
    assert done.stderr.startswith("maglica: host2 did not answer: ")
    assert house.cli("ping").returncode == 10
    done = house.cli("vm", "start", "b", "--timeout=1s")
    assert done.returncode == 1
    house.hosts["host2"].signal(signal.SIGCONT)
    until(lambda: house.cli("vm", "list").returncode == 0, 10, "host2 answers again")
