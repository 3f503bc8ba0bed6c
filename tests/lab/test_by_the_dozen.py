"""Many clones by one command, over both hosts, each with an identity of its own; and gone by another."""

from __future__ import annotations

import json
import re

import pytest

from maglica.nouns import Cloud

from .conftest import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

COUNT = 6


def test_clones_by_one_command_and_their_end_by_another(lab: Lab, cloud: Cloud, clean: object) -> None:
    made = lab.cli(
        "vm", "clone", "--image=tiny.original", f"--count={COUNT}", "--hostname=ci-{n:02}", "--wait-timeout=8m",
        "--wait=console:maglica-guest:", "-o", "json", timeout=600,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    results = [item["result"] for item in json.loads(made.stdout)["items"]]
    assert sorted(result["name"] for result in results) == [f"ci-{number:02}" for number in range(1, COUNT + 1)]
    assert [result["guest"]["verified"] for result in results] == [True] * COUNT
    assert {result["host"] for result in results} == {"host1", "host2"}
    for host in ("host1", "host2"):
        mine = [result["name"] for result in results if result["host"] == host]
        assert len(mine) == COUNT // 2
        for name in mine:
            assert re.search(rf"hostname={name}\b", lab.console(host, name, "maglica-guest:", 5)), "each its own name"

    checked = lab.cli("vm", "check", "--all")
    assert checked.returncode == 0, checked.stdout
    assert f"{COUNT} are made anew" in checked.stdout
    assert lab.cli("vm", "list", "-o", "name").stdout.split() == sorted(result["name"] for result in results)
    removed = lab.cli("vm", "remove", "ci-*", "--force", "--yes", "-o", "json")
    assert removed.returncode == 0, removed.stderr
    assert cloud.vm.list() == []
    # That nothing is left in the pools of the two hosts is what `clean` asserts.
