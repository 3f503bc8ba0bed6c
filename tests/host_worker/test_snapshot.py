"""Snapshots: what libvirt's XML says, what can be made and gone back to, and jobs with libvirt's test driver."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.errors import Refused
from maglica.host_worker import signs, undo
from maglica.host_worker.snapshot import model, planning, reverting
from maglica.host_worker.snapshot.model import New, Snapshot
from maglica.host_worker.snapshot.planning import Kind, Part
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, world

QCOW2, RAW = Part("vda", "/p/a.qcow2", "qcow2", True), Part("vdb", "/p/b.img", "raw", True)

EXTERNAL = """<domainsnapshot><name>s2</name><description>a line</description><state>disk-snapshot</state>
  <parent><name>s1</name></parent><creationTime>1700000000</creationTime><memory snapshot='no'/>
  <disks>
    <disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='/p/web1-vda.s2.qcow2'/></disk>
    <disk name='sda' snapshot='no'/>
  </disks>
  <domain><name>web1</name><devices>
    <disk type='file' device='disk'><source file='/p/web1.qcow2'/><target dev='vda'/></disk>
    <disk type='file' device='cdrom'><source file='/p/a.iso'/><target dev='sda'/><readonly/></disk>
  </devices></domain></domainsnapshot>"""


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    """A running web1 and web2 that is off, both with qcow2 disks, and raw2 that is off, whose disk is raw."""
    found = Ward(tmp_path, world(tmp_path, "web1", off=("web2", "raw2", IMAGE)))
    for name in ("web1", "web2"):
        text = found.hypervisor.definition(name)
        found.hypervisor.define(text.replace("<source file", "<driver name='qemu' type='qcow2'/><source file"))
    # The test driver keeps what runs as it was; a new start takes the definition.
    found.do("vm destroy", name="web1")
    found.do("vm start", name="web1")
    yield found
    found.close()


def labels(ward: Ward, name: str) -> list[str]:
    return [item["snapshot"] for item in ward.read("snapshot list", name=name)["items"]]


# ------------------------------------------------------------------------------------------------ pure functions


def test_what_libvirt_records() -> None:
    one = model.read(EXTERNAL)
    assert one == Snapshot(
        "s2", "s1", "disk-only", "2023-11-14T22:13:20.000Z", "a line", "external", False, None,
        {"vda": "/p/web1.qcow2"}, {"vda": "/p/web1-vda.s2.qcow2"},
    )  # fmt: skip
    internal = model.read("<domainsnapshot><name>a</name><state>shutoff</state></domainsnapshot>")
    assert (internal.kind, internal.state, internal.parent, internal.created_at) == ("internal", "shut-off", None, None)


def test_what_is_asked_for() -> None:
    text = model.element(New("a", "b <c>", True, None, {}, ["sda"], ["vda"]))
    assert '<memory snapshot="internal"' in text
    assert "b &lt;c&gt;" in text
    text = model.element(New("a", None, True, "/p/a.memory", {"vda": "/p/o"}, [], []))
    assert 'file="/p/a.memory"' in text
    assert '<source file="/p/o"' in text


def test_a_tree() -> None:
    def one(label: str, parent: str | None, at: str) -> Snapshot:
        return Snapshot(label, parent, "shut-off", at, None, "internal", False, None, {}, {})

    every = [one("c", "a", "3"), one("b", "a", "2"), one("a", None, "1"), one("d", "b", "4"), one("z", "gone", "0")]
    assert [(found.label, depth) for found, depth in model.tree(every)] == [
        ("z", 0), ("a", 0), ("b", 1), ("d", 2), ("c", 1),
    ]  # fmt: skip
    assert model.below("a", every) == ["c", "d", "b"]
    assert model.told(every[3], 2, "d")["snapshot"] == "  └ d"


@pytest.mark.parametrize(
    ("args", "parts", "runs", "kind"),
    [
        ({}, [QCOW2], False, Kind(False, False, False)),
        ({}, [QCOW2], True, Kind(False, True, False)),
        ({"memory": False}, [QCOW2], True, Kind(True, False, True)),
        ({"disk_only": True}, [QCOW2, RAW], True, Kind(True, False, True)),
        ({"disk_only": True}, [RAW], False, Kind(True, False, True)),
        ({"external": True}, [RAW], True, Kind(True, True, False)),
        ({"memory": True}, [QCOW2], False, Kind(False, False, False)),
        ({"disk_only": True, "quiesce": True}, [RAW], True, Kind(True, False, True)),
    ],
)
def test_what_kind_is_made(args: dict[str, Any], parts: list[Part], runs: bool, kind: Kind) -> None:
    want = declare.build("snapshot create", {"name": "web1", **args})
    assert planning.kind(want, parts, runs=runs, firmware=False, agent=True) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "parts", "runs", "firmware", "agent", "words"),
    [
        ({}, [QCOW2, RAW], False, False, True, "disk vdb of web1 is raw"),
        ({}, [QCOW2], True, True, True, "UEFI"),
        ({}, [], True, False, True, "no disk that can be written to"),
        ({"disk_only": True, "quiesce": True}, [RAW], False, False, True, "web1 is off"),
        ({"disk_only": True, "quiesce": True}, [RAW], True, False, False, "no channel for a guest agent"),
    ],
)
def test_what_cannot_be_made(
    args: dict[str, Any], parts: list[Part], runs: bool, firmware: bool, agent: bool, words: str
) -> None:
    want = declare.build("snapshot create", {"name": "web1", **args})
    with pytest.raises(Refused, match=words):
        planning.kind(want, parts, runs=runs, firmware=firmware, agent=agent)  # type: ignore[arg-type]


@pytest.mark.parametrize("args", [{"disk_only": True, "memory": True}, {"quiesce": True}, {"label": "a/b"}])
def test_what_makes_no_sense_is_no_action(args: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        declare.build("snapshot create", {"name": "web1", **args})
    assert refused.value.code == "wrong_input"


def test_an_internal_snapshot_in_disks_that_are_frozen() -> None:
    def one(label: str, parent: str | None, kind: str) -> Snapshot:
        return Snapshot(label, parent, "shut-off", None, None, kind, False, None, {}, {})

    every = [
        one("a", None, "internal"),
        one("b", "a", "internal"),
        one("c", "b", "external"),
        one("d", "c", "internal"),
    ]
    found = {each.label: planning.frozen(each, every) for each in every}
    assert found == {"a": "c", "b": "c", "c": None, "d": None}
    assert planning.frozen(every[0], every, removed=["c"]) is None
    why = {each.label: planning.removing(each, every, (9, 0)) for each in every}
    assert [label for label in why if why[label]] == ["a", "b", "c"]
    assert "b, which it was made on, is internal" in why["c"]
    assert planning.mixing(Kind(True, False, True), every[1])
    assert not planning.mixing(Kind(True, True, False), every[2])
    assert not planning.mixing(Kind(False, True, False), every[1])
    assert planning.removing(one("x", None, "external"), [one("y", "x", "external"), one("z", "x", "external")], (9, 0))


def test_what_a_release_of_libvirt_cannot_do() -> None:
    external, internal = model.read(EXTERNAL), model.read(EXTERNAL.replace("'external'", "'internal'"))
    assert planning.reverting(external, (9, 0)).startswith("libvirt 9.0 cannot go back to an external snapshot")
    assert planning.reverting(external, (9, 9)) == planning.reverting(internal, (4, 0)) == ""
    assert planning.removing(external, [], (8, 0)).startswith("libvirt 8.0 cannot remove")
    assert planning.removing(external, [], (9, 0)) == planning.removing(internal, [], (4, 0)) == ""


# ---------------------------------------------------------------------------------------------------------- jobs


def test_there_and_back(ward: Ward) -> None:
    made = told = ward.do("snapshot create", name="web2", label="first", description="before all")
    assert (told["kind"], told["memory"], told["changed"], told["no_way_back"]) == ("internal", False, True, None)
    ward.do("snapshot create", name="web2", label="second")
    assert labels(ward, "web2") == ["first", "└ second"]
    assert ward.read("snapshot current", name="web2")["item"]["label"] == "second"
    assert ward.read("snapshot parent", name="web2")["item"]["label"] == "first"
    item = ward.read("snapshot info", name="web2", label="first")["item"]
    assert (item["description"], item["children"], item["state"]) == ("before all", ["second"], "shut-off")
    uuid = ward.domain("web2").uuid
    assert ward.do("snapshot revert", name="web2", label="first")["state"] == "shut-off"
    assert signs.is_current_snapshot(ward.hypervisor, uuid, "first")
    error = ward.refusal("snapshot remove", name="web2", label="first", created_at="2026-01-01T00:00:00.000Z")
    assert (error.code, made["created_at"] in error.message) == ("wrong_state", True)
    told = ward.do("snapshot remove", name="web2", label="first", created_at=made["created_at"], children=True)
    assert told["removed"] == ["second", "first"]
    assert labels(ward, "web2") == []
    assert signs.no_snapshot(ward.hypervisor, uuid, "first")
    assert ward.do("snapshot remove", name="web2", label="first")["changed"] is False


def test_a_vm_that_runs_comes_back_running(ward: Ward) -> None:
    told = ward.do("snapshot create", name="web1", label="warm")
    assert told["memory"] is True
    ward.do("vm destroy", name="web1")
    assert ward.do("snapshot revert", name="web1", label="warm")["state"] == "running"


def test_the_files_of_a_snapshot_that_was_not_made(ward: Ward, tmp_path: Path) -> None:
    """They go; those of one that libvirt finished all the same stay, and so does what a VM has."""
    uuid, path = ward.domain("web2").uuid, tmp_path / "web2-vda.a.qcow2"
    path.write_bytes(b"")
    args = {"name": "web2", "uuid": uuid, "paths": [str(path)]}
    ward.do("snapshot create", name="web2", label="b")
    undo.UNDOS["settle_snapshot"](ward.hypervisor, label="b", **args)
    assert path.exists()
    undo.UNDOS["settle_snapshot"](ward.hypervisor, label="a", **args)
    assert not path.exists()
    undo.UNDOS["settle_snapshot"](ward.hypervisor, label="a", **args)


def test_a_label_is_the_time_by_default(ward: Ward) -> None:
    told = ward.do("snapshot create", name="web2")
    assert len(told["label"]) == len("20261121-034500")


@pytest.mark.parametrize(
    ("action", "args", "code", "words"),
    [
        ("snapshot create", {"name": "raw2"}, "wrong_state", "disk vda of raw2 is raw"),
        ("snapshot create", {"name": IMAGE}, "protected", "is an image"),
        ("snapshot revert", {"name": "web2", "label": "no"}, "unknown_entity", "web2 has no snapshot no"),
        ("snapshot create", {"name": "web2", "disk_only": True, "quiesce": True}, "wrong_input", "web2 is off"),
    ],
)
def test_refusals(ward: Ward, action: str, args: dict[str, Any], code: str, words: str) -> None:
    error = ward.refusal(action, **args)
    assert (error.code, words in error.message) == (code, True), error.message
    assert error.hint


@pytest.mark.parametrize("action", ["vm remove", "vm undefine"])
def test_what_libvirt_keeps_by_the_domain_is_not_lost_with_its_definition(ward: Ward, action: str) -> None:
    more = {"keep_disks": True} if action == "vm remove" else {}
    ward.do("snapshot create", name="web2", label="first")
    error = ward.refusal(action, name="web2", **more)
    assert (error.code, "it has 1 snapshots" in error.message) == ("wrong_state", True)
    ward.do("snapshot remove", name="web2", label="first")
    assert ward.do(action, name="web2", **more)["changed"] is True


def test_a_label_is_used_once(ward: Ward) -> None:
    ward.do("snapshot create", name="web2", label="a")
    error = ward.refusal("snapshot create", name="web2", label="a")
    assert (error.code, "has a snapshot a" in error.message) == ("already_exists", True)
    with pytest.raises(Refused, match="no parent"):
        ward.read("snapshot parent", name="web2")
    with pytest.raises(Refused, match="no current snapshot"):
        ward.read("snapshot current", name="web1")


def test_what_a_disk_with_many_snapshots_holds(tmp_path: Path) -> None:
    """qemu-img tells more of them than what is kept of a command's words."""
    disk = tmp_path / "web1.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    labels = [f"before-upgrade-number-{number}" for number in range(30)]
    for label in labels:
        subprocess.run(["qemu-img", "snapshot", "-c", label, disk], check=True)
    assert reverting.inside(str(disk)) == labels
    assert reverting.inside(str(tmp_path / "nosuch")) == []
