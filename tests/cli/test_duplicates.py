"""What VMs share: lists of values."""

from __future__ import annotations

from typing import Any

import pytest

from maglica.cli import duplicates
from maglica.cli.checks import BAD, OK, WARN

Value = dict[str, Any]


def vm(name: str, host: str = "h1", **more: Any) -> Value:
    """A VM that shares nothing with anybody."""
    own = f"{name}@{host}"
    ips = [{"address": one, "private": False} for one in more.pop("ips", [])]
    ips += [{"address": one, "private": True} for one in more.pop("private", [])]
    return {
        "name": name, "host": host, "state": "running", "uuid": own, "macs": [own], "ips": ips, "machine_id": own,
        "machine_id_from": "agent", "image": None, "why": None, **more,
    }  # fmt: skip


def silent(name: str, **more: Any) -> Value:
    return vm(name, **{"machine_id": None, "machine_id_from": None, **more})


def told(vms: list[Value], about: set[str] | None = None) -> list[tuple[str, str, str]]:
    """State, check and VMs of every finding that is none of "all is well"."""
    return [(one.state, one.check, one.about) for one in duplicates.findings(vms, about) if one.state != OK]


def test_all_is_well() -> None:
    found = duplicates.findings([vm("a"), vm("b"), silent("c", machine_id_from="anew")])
    assert {(one.state, one.about) for one in found} == {(OK, "all")}
    assert [one.check for one in found] == list(duplicates.CHECKS)
    assert found[-1].found == "no two of 2 that were read are the same, 1 are made anew"
    assert duplicates.findings([])[0].found == "no two of 0 VMs have the same"


@pytest.mark.parametrize(
    ("second", "check"),
    [
        (vm("a", "h2"), "name"),
        (vm("b", "h2", uuid="a@h1"), "uuid"),
        (vm("b", macs=["x", "a@h1"]), "mac"),
        (vm("b", "h2", ips=["192.0.2.1"]), "ip"),
        (vm("b", private=["10.0.0.5"]), "ip"),
        (vm("b", "h2", machine_id="a@h1"), "machine-id"),
    ],
)
def test_what_two_share_is_found_whatever_hosts_they_are_on(second: Value, check: str) -> None:
    first = vm("a", ips=["192.0.2.1", "192.0.2.1"], private=["10.0.0.5"])
    ((state, found, about),) = told([vm("z"), first, second])
    assert (state, found) == (BAD, check)
    assert about == f"a@h1, {second['name']}@{second['host']}"


def test_an_address_behind_one_host_may_be_another_ones_behind_the_next() -> None:
    assert told([vm("a", private=["10.0.0.5"]), vm("b", "h2", private=["10.0.0.5"])]) == []
    assert told([vm("a", private=["10.0.0.5"]), vm("b", ips=["10.0.0.5"])]) == []


def test_every_bad_thing_has_a_cure_and_comes_first() -> None:
    found = duplicates.findings([vm("a"), vm("b", uuid="a@h1"), silent("c")])
    assert [one.state for one in found] == [BAD, WARN, OK, OK, OK]
    assert all(one.cure for one in found if one.state != OK)


def test_what_nobody_knows_is_said() -> None:
    assert told([vm("a"), silent("b", why="its disks cannot be read: no")]) == [(WARN, "machine-id", "b@h1")]
    (finding,) = [one for one in duplicates.findings([silent("b", why="disk is gone")]) if one.state == WARN]
    assert finding.found.startswith("?")
    assert "disk is gone" in (finding.cure or "")


def test_clones_that_were_not_customised_are_likely_twins() -> None:
    found = told([silent("a", image="el9"), silent("b", image="el9")])
    assert found == [(WARN, "machine-id", "a@h1, b@h1"), (WARN, "machine-id", "a@h1, b@h1")]
    alone = told([silent("a", image="el9"), vm("b", image="el9", machine_id_from="anew", machine_id=None)])
    assert alone == [(WARN, "machine-id", "a@h1")]


def test_only_what_concerns_the_vms_that_were_named() -> None:
    vms = [vm("a"), vm("b", uuid="a@h1"), vm("c", macs=["m"]), vm("d", macs=["m"]), silent("e")]
    assert told(vms, {"b@h1"}) == [(BAD, "uuid", "a@h1, b@h1")]
    assert told(vms, {"e@h1"}) == [(WARN, "machine-id", "e@h1")]
    assert told([vm("web1"), vm("web11", uuid="x"), vm("b", uuid="x")], {"web1@h1"}) == []


def test_many_are_counted() -> None:
    many = [vm(f"v{number}", uuid="same") for number in range(9)]
    assert told(many) == [(BAD, "uuid", "v0@h1, v1@h1, v2@h1, v3@h1 and 5 more")]
    assert told(many, {"v8@h1"}), "one that is only counted is meant, too"
