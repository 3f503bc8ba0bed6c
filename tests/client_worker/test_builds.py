"""Where VMs go that are built: of nothing, of an image, and in the place of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.client_worker.submitting.profiles import Profiles
from maglica.errors import Refused
from tests.client_worker.office import GIB, IMAGE, Asked, Office, Worker, submission
from tests.client_worker.test_images import hosts, office  # fixtures
from tests.client_worker.test_profiles import loaded

__all__ = ["hosts", "office"]

ARCHIVE = "https://images.example.jp/base.tar.gz"


def asked(office: Office, hosts: list[Worker], **args: Any) -> Asked:
    """A build that was placed, when all hosts have told what they have."""
    key = str(sorted(args.items()))
    found = office.ask(submission("vm build", key=key, **args))
    office.serve(*hosts)
    return found


def test_one_of_an_archive_goes_where_it_fits(office: Office, hosts: list[Worker]) -> None:
    hosts[0].vms.update({"busy": "running"})
    job = asked(office, hosts, name="web1", archive=ARCHIVE).job
    assert (job["host"], job["object"]) == ("host2", "web1")
    full = asked(office, hosts, name="web2", archive=ARCHIVE, memory="40G")
    assert (full.error.code, "host1: needs 40960 MiB of memory, 32768 MiB are free" in full.error.message) == (
        "no_capacity", True,
    )  # fmt: skip
    named = asked(office, hosts, name="web2", archive="/srv/base.tar", on="host1").job
    assert named["host"] == "host1"


def test_what_is_built_takes_room_from_what_comes_next(office: Office, hosts: list[Worker]) -> None:
    """Each of three hosts of 32G takes one of 20G, whether they come one by one or as a group."""
    for number in (1, 2, 3):
        assert asked(office, hosts, name=f"a{number}", archive=ARCHIVE, memory="20G").job["host"] == f"host{number}"
    assert asked(office, hosts, name="a4", archive=ARCHIVE, memory="20G").error.code == "no_capacity"
    assert asked(office, hosts, name="a1", archive=ARCHIVE, memory="1G").error.code == "already_exists"
    clone = office.ask(submission("vm clone", key="c", image=IMAGE, hostname="c1", memory="20G"))
    office.serve(*hosts)
    assert clone.error.code == "no_capacity", "builds and clones count each other"
    each = [{"name": f"b{number}"} for number in range(5)]
    group = {"op": "submit_group", "key": "g", "action": "vm build", "args": {"barebones": True, "memory": "8G"}}
    made = office.ask({**group, "each": each, "owner": "me@here", "reason": None})
    office.serve(*hosts)
    members = made.good["group"]["members"]
    assert [(one["error"] or {}).get("code") for one in members] == [None, None, None, "no_capacity", "no_capacity"]


def test_one_of_an_image_goes_where_that_is(office: Office, hosts: list[Worker]) -> None:
    hosts[1].vms = {"el9:1": "shut-off"}
    assert asked(office, hosts, name="web1", image="el9:1").job["host"] == "host2"
    unknown = asked(office, hosts, name="web2", image="el9:7")
    assert unknown.error.code == "unknown_entity"


def test_one_that_exists_is_built_anew_where_it_is(office: Office, hosts: list[Worker]) -> None:
    hosts[1].vms["web1.example.jp"] = "shut-off"
    taken = asked(office, hosts, name="web1.example.jp", archive=ARCHIVE)
    assert (taken.error.code, "--rebuild" in taken.error.hint) == ("already_exists", True)
    job = asked(office, hosts, name="web1.example.jp", rebuild=True).job
    assert job["host"] == "host2"
    assert asked(office, hosts, name="web1", rebuild=True).error.code == "unknown_entity", "the full name is wanted"
    hosts[0].vms["web1.example.jp"] = "running"
    twice = asked(office, hosts, name="web1.example.jp", rebuild=True, memory="2G")
    assert twice.error.code == "ambiguous_name"


def test_one_is_not_built_anew_while_another_lives_with_what_it_has(office: Office, hosts: list[Worker]) -> None:
    for host in hosts:
        host.hello(features=["lives"])
    hosts[1].vms["web1"], hosts[2].vms["db1"] = "shut-off", "running"
    mine: dict[str, list[str]] = {"macs": ["52:54:00:00:00:01"], "alone": [], "along": []}
    hosts[1].holds, hosts[2].holds = {"web1": mine}, {"db1": mine}
    refused = asked(office, hosts, name="web1", rebuild=True)
    assert (refused.error.code, "db1 is running on host3" in refused.error.message) == ("wrong_state", True)
    assert asked(office, hosts, name="web1", rebuild=True, start=False).job["host"] == "host2"


def test_a_profile_of_all_is_given_to_what_is_built(tmp_path: Path) -> None:
    text = "[client]\ncustomize_profile = all\n[customize all]\ntimezone = Asia/Tokyo\n"
    profiles = Profiles(loaded(tmp_path, text))
    built = profiles.fill(declare.build("vm build", {"name": "web1", "archive": ARCHIVE}))
    assert built.values()["profile"]["timezone"] == "Asia/Tokyo"
    bare = declare.build("vm build", {"name": "web1", "barebones": True})
    assert profiles.fill(bare) is bare


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "not said from what"),
        ({"archive": ARCHIVE, "image": IMAGE}, "exclude each other"),
        ({"image": IMAGE, "checksum": "0" * 64}, "--checksum would do nothing"),
        ({"archive": "/srv/base.tar"}, "is a path on a host"),
        ({"barebones": True, "hook": "true"}, "--hook would do nothing"),
        ({"barebones": True, "ip": "192.0.2.1/24"}, "--ip would do nothing"),
        ({"barebones": True, "wait": "ssh"}, "--wait would do nothing"),
        ({"image": IMAGE, "start": False, "postboot": "true"}, "--postboot would do nothing"),
        ({"rebuild": True, "on": "host1", "tags": ["a"]}, "--on, --tags would do nothing"),
        ({"archive": ARCHIVE, "network": "none", "mac": "52:54:00:00:00:01"}, "--mac would do nothing"),
        ({"image": "web1"}, "the same name"),
        ({"archive": ARCHIVE, "ip": "192.0.2.1/24", "gateway": "198.51.100.1"}, "is not in"),
        ({"archive": ARCHIVE, "hook": " "}, "no script"),
        ({"archive": ARCHIVE, "postboot": "x" * 70000}, "more than 64 KiB"),
        ({"archive": ARCHIVE, "hook": ["x" * 60000, "y" * 60000]}, "more than 96 KiB"),
    ],
)
def test_what_makes_no_sense_cannot_be_asked_for(args: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        declare.build("vm build", {"name": "web1", **args})
    assert refused.value.code == "wrong_input"


def test_only_building_anew_destroys_something() -> None:
    assert declare.build("vm build", {"name": "web1", "rebuild": True}).destroys()
    assert not declare.build("vm build", {"name": "web1", "barebones": True}).destroys()
    assert declare.build("vm build", {"name": "web1", "archive": ARCHIVE, "memory": GIB}).limit() == 4 * 3600
    waits = declare.build("vm build", {"name": "web1", "archive": ARCHIVE, "postboot": "x", "wait_timeout": 60})
    assert waits.limit() == 4 * 3600 + 60 + 600
