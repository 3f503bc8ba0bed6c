"""Which names an action touches: its own, those that it gives, and those whose files it takes."""

from __future__ import annotations

from typing import Any

import pytest

from maglica import declare
from maglica.client_worker import concerned
from maglica.client_worker.door.keyring import EVERYTHING

VMS = {"ci": "", "ci-1": "", "ci-1-vda": "", "debian": "", "debian-13": "", "el9:1": "", "prod-1": ""}


def of(action: str, **args: Any) -> list[str]:
    name, *others = concerned.by_job(declare.build(action, args), VMS)
    assert name == args["name"]
    return others


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("prod-1-vdb.qcow2", ["prod-1", "prod-1"]),
        ("/pool/prod-1.qcow2", ["prod-1", "prod-1"]),
        ("gone-1-vdb.qcow2", ["gone-1"]),
        ("gone.example.jp-vdb-2.img", ["gone.example.jp"]),
        ("gone.example.jp.qcow2", ["gone.example.jp"]),
        ("gone-swap.img", ["gone"]),
        ("gone-vda.before-upgrade.qcow2", ["gone"]),
        ("/dev/vg0/gone-vda", ["gone"]),
        ("/dev/vg0/gone.example.jp", ["gone.example.jp"]),
        ("el9@1.qcow2", ["el9:1", "el9:1"]),
        ("el9@1-vda.qcow2", ["el9:1", "el9:1"]),
        ("ci-2-vda.qcow2", ["ci-2", "ci"]),
        ("ci-1-vda.qcow2", ["ci-1", "ci-1-vda"]),
        ("ci-1.0000000000.core", ["ci-1.0000000000.core", "ci-1"]),
        ("cinema.qcow2", ["cinema"]),
    ],
)
def test_a_disk_is_of_the_vm_that_it_is_named_after(file: str, names: list[str]) -> None:
    assert of("vm attach-disk", name="ci-1", source=file) == names


def test_a_new_disk_is_nobodys() -> None:
    assert of("vm attach-disk", name="ci-1", size="1G") == []


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("rocky-9.iso", []),
        ("/pool/ROCKY-9.ISO", []),
        ("debian-12.iso", ["debian"]),
        ("debian-13.iso", ["debian-13"]),
        ("debian12.iso", []),
        ("prod-1-seed.iso", ["prod-1", "prod-1"]),
        ("gone-1-seed.iso", ["gone-1"]),
        ("prod-1-vdb.qcow2", ["prod-1", "prod-1"]),
        ("gone-1.save", ["gone-1.save"]),
        ("no-ending", ["no-ending"]),
    ],
)
def test_an_iso_is_for_everybody_unless_it_is_called_like_a_file_of_a_vm(file: str, names: list[str]) -> None:
    assert of("vm attach-iso", name="ci-1", iso=file) == names


@pytest.mark.parametrize(
    ("action", "args", "names"),
    [
        ("vm rename", {"name": "web1", "to": "web2"}, ["web1", "web2"]),
        ("vm rename", {"name": "web1", "to": "web1"}, ["web1"]),
        ("vm clone", {"image": "el9:1", "hostname": "web1"}, ["web1"]),
        ("image import", {"source": "https://images.example.jp/x", "name": "el9:2"}, ["el9:2"]),
        ("image copy", {"name": "el9:1", "dest": "host1", "as_": "el9:2"}, ["el9:1", "el9:2"]),
    ],
)
def test_what_a_job_is_about_and_the_name_that_it_gives(action: str, args: dict[str, Any], names: list[str]) -> None:
    assert concerned.by_job(declare.build(action, args)) == names


@pytest.mark.parametrize(
    ("action", "args", "hosts"),
    [
        ("host revoke", {"name": "host1"}, ["host1"]),
        ("host list", {}, []),
        ("vm clone", {"image": "el9:1", "hostname": "web1", "on": "host1"}, ["host1"]),
        ("image copy", {"name": "el9:1", "dest": "host1", "from_": "host2"}, ["host1", "host2"]),
        ("job prune", {"older_than": 1.0}, [EVERYTHING]),
    ],
)
def test_the_hosts_that_somebody_says(action: str, args: dict[str, Any], hosts: list[str]) -> None:
    assert concerned.hosts(declare.build(action, args)) == hosts


def test_what_the_client_worker_changes_for_everybody() -> None:
    labels = {"el9:testing": "el9:2"}

    def names(action: str, **args: Any) -> list[str]:
        return concerned.by_record(declare.build(action, args), labels)

    assert names("image promote", name="el9:testing") == ["el9:2", "el9:stable"]
    assert names("image label", name="ci-1", as_="el9:stable", remove=True) == ["ci-1", "el9:stable"]
    assert names("image rollback", name="el9:stable") == ["el9:stable"]
    assert names("template remove", name="web") == ["web"]
    assert names("job prune", older_than=1.0) == [EVERYTHING]
    assert names("template show", name="web") == names("job list") == []
