"""Thin snapshots of logical volumes: the commands as values, and all of them for real where a kernel has LVM."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed
from maglica.host_worker import commands, undo
from maglica.host_worker.disk import volumes
from maglica.host_worker.disk.modes import Fullness, Volume
from maglica.host_worker.domain import domain_xml, renaming
from maglica.host_worker.domain.renaming import Move
from maglica.host_worker.hypervisor import Hypervisor
from tests.host_worker.worlds import world

IMAGE = Volume("vg0", "el9.original", "thin")
JOB = "1b7q2k0m4z"
LVM = ("pvcreate", "vgcreate", "lvcreate", "lvs", "lvrename", "lvremove")
NO_CHECK = 'global/thin_check_executable=""'


def told(**more: Any) -> str:
    row = {"vg_name": "vg0", "lv_name": "el9.original", "lv_uuid": "x", "pool_lv": "thin", "segtype": "thin",
           "lv_tags": ""}  # fmt: skip
    return json.dumps({"report": [{"lv": [{**row, **more}]}]})


def test_what_lvs_tells() -> None:
    assert volumes.parse(told()) == IMAGE
    assert volumes.parse(told(segtype="linear", pool_lv="")) == Volume("vg0", "el9.original", None)
    assert volumes.parse(told(segtype="linear", pool_lv="thin")) == Volume("vg0", "el9.original", None)
    for text in ("", "{}", "[]", '{"report": []}', '{"report": [{"lv": []}]}', "null"):
        assert volumes.parse(text) is None


def test_how_full_a_thin_pool_is() -> None:
    row = {"data_percent": "95.31", "metadata_percent": "10.55"}
    assert volumes.parse_fullness(json.dumps({"report": [{"lv": [row]}]})) == Fullness(95.31, 10.55)
    inactive = {"data_percent": "", "metadata_percent": ""}
    for text in ("", "{}", "null", '{"report": []}', json.dumps({"report": [{"lv": [inactive]}]})):
        assert volumes.parse_fullness(text) is None
    assert volumes.fullness(IMAGE._replace(thin_pool=None)) is None
    assert volumes.fullness(Volume("no-such-group", "x", "thin")) is None


def test_the_commands() -> None:
    assert volumes.snapshot(IMAGE, "web1.part", JOB)[-6:] == [
        "--addtag", f"maglica-{JOB}", "--name", "web1.part", "--", "vg0/el9.original",
    ]  # fmt: skip
    assert volumes.rename("vg0", "a", "b") == ["lvrename", "--yes", "--", "vg0", "a", "b"]
    assert "lv_tags={maglica-1b7q2k0m4z}" in volumes.remove_tagged("vg0", JOB)


def test_no_lvm_and_no_volume_is_no_volume() -> None:
    assert volumes.at("/nosuch") is None


@pytest.mark.parametrize(
    ("path", "volume", "pool", "expected"),
    [
        (
            "/dev/vg0/web1-vda", ("vg0", "web1-vda"), None,
            Move("/dev/vg0/web1-vda", "/dev/vg0/db-1-vda", None, ("vg0", "web1-vda", "db-1-vda")),
        ),
        (
            "/dev/mapper/vg--0-web1--vda", ("vg-0", "web1-vda"), None,
            Move("/dev/mapper/vg--0-web1--vda", "/dev/mapper/vg--0-db--1--vda", None, ("vg-0", "web1-vda", "db-1-vda")),
        ),
        (
            "/dev/vg0/web1", ("vg0", "web1"), "lvm",
            Move("/dev/vg0/web1", "/dev/vg0/db-1", ("lvm", "web1", "db-1"), ("vg0", "web1", "db-1")),
        ),
        ("/dev/dm-3", ("vg0", "web1"), None, None),
        ("/dev/vg0/web10", ("vg0", "web10"), None, None),
        ("/dev/web1/data", ("web1", "data"), None, None),
    ],
)  # fmt: skip
def test_a_volume_that_bears_the_name_follows(
    path: str, volume: tuple[str, str], pool: str | None, expected: Move | None
) -> None:
    assert renaming.volume_move(path, Volume(*volume, None), pool, "web1", "db-1") == expected


def test_a_definition_calls_its_volumes_by_their_new_names() -> None:
    text = """<domain><name>web1</name><devices>
    <disk type='block'><source dev='/dev/vg0/web1-vda'/></disk>
    <disk type='volume'><source pool='lvm' volume='web1-vdb'/></disk></devices></domain>"""
    moved = [
        renaming.volume_move("/dev/vg0/web1-vda", Volume("vg0", "web1-vda", None), None, "web1", "db1"),
        renaming.volume_move("/dev/vg0/web1-vdb", Volume("vg0", "web1-vdb", None), "lvm", "web1", "db1"),
    ]
    new = renaming.renamed(text, "db1", [move for move in moved if move], {})
    assert 'dev="/dev/vg0/db1-vda"' in new
    assert 'pool="lvm" volume="db1-vdb"' in new


CONFIG = """global {{ activation = 0 }}
devices {{ use_devicesfile = 0 global_filter = [ "a|^{device}$|", "r|.*|" ] }}
backup {{ backup = 0 archive = 0 }}
"""


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real volume group with the volume web1-vda: what LVM writes down of it. Nothing is activated, for which a
    kernel would need device-mapper.
    """
    if os.geteuid() or not shutil.which("lvm") or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root, lvm2 and loop devices")
    disk = tmp_path / "pv.img"
    with disk.open("wb") as file:
        file.truncate(64 << 20)

    def run(*argv: str) -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    device = run("losetup", "-f", "--show", str(disk))
    try:
        (tmp_path / "lvm.conf").write_text(CONFIG.format(device=device))
        monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
        name = f"mgtest{os.getpid()}"
        run("vgcreate", name, device)
        run("lvcreate", "-an", "-Zn", "-Wn", "-L", "8M", "-n", "web1-vda", name)
        yield name
    finally:
        run("losetup", "-d", device)


def test_a_renamed_volume_is_called_as_its_domain_calls_it(group: str, tmp_path: Path) -> None:
    """LVM is real, the domain is one of the test driver."""
    known = volumes.uuid(group, "web1-vda")
    assert known
    assert volumes.uuid(group, "db1-vda") is None
    with pytest.raises(Failed, match="lvs nosuch/web1"):
        volumes.uuid("nosuch", "web1")
    hypervisor = Hypervisor(world(tmp_path, off=("web1",)))
    try:
        uuid = domain_xml.read(hypervisor.definition("web1")).uuid
        args = {"group": group, "old": "web1-vda", "new": "db1-vda", "volume": known, "uuid": uuid, "job": JOB}
        undo.UNDOS["settle_renamed_volume"](hypervisor, **args)  # killed before it was renamed
        assert volumes.uuid(group, "web1-vda") == known
        assert commands.run(volumes.rename(group, "web1-vda", "db1-vda"), timeout=30).exit_status == 0
        for _ in range(2):
            undo.UNDOS["settle_renamed_volume"](hypervisor, **args)
            assert (volumes.uuid(group, "web1-vda"), volumes.uuid(group, "db1-vda")) == (known, None)
        hypervisor.set_mark("web1", {"altered": JOB})  # the definition is the new one
        for _ in range(2):
            undo.UNDOS["settle_renamed_volume"](hypervisor, **args)
            assert (volumes.uuid(group, "web1-vda"), volumes.uuid(group, "db1-vda")) == (None, known)
        undo.UNDOS["settle_renamed_volume"](hypervisor, **{**args, "volume": "another"})
        assert volumes.uuid(group, "db1-vda") == known
    finally:
        hypervisor.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_of_it_on_a_kernel_with_device_mapper() -> None:
    """This machine's kernel may have none; that of a libguestfs appliance does, and the appliance has LVM."""
    if importlib.util.find_spec("guestfs") is None:
        pytest.skip("libguestfs is not here")
    import guestfs

    appliance = guestfs.GuestFS(python_return_dict=True)
    appliance.set_backend("direct")
    if not os.environ.get("MAGLICA_TEST_KVM"):
        appliance.set_backend_settings(["force_tcg"])
    appliance.add_drive_scratch(512 << 20)
    appliance.launch()

    def run(*argv: str) -> str:
        # What a command says goes into the error; the check of a thin pool needs a program that is not there.
        config = f" --config {shlex.quote(NO_CHECK)}" if argv[0] in LVM else ""
        line = f"{argv[0]}{config} {shlex.join(argv[1:])}"
        return str(appliance.debug("sh", [f"{line} 2>/tmp/said || {{ cat /tmp/said >&2; exit 1; }}"]))

    def names() -> set[str]:
        return set(run("lvs", "--noheadings", "--options", "lv_name", "vg0").split())

    try:
        try:
            run("modprobe", "dm_thin_pool")
        except RuntimeError as error:
            pytest.skip(f"the appliance's kernel has no thin volumes: {error}")
        for line in (
            "pvcreate /dev/sda",
            "vgcreate vg0 /dev/sda",
            "lvcreate --yes -L 200M --thinpool thin vg0",
            "lvcreate --yes -V 1G --thinpool thin -n el9.original vg0",
            "lvcreate --yes -L 8M -n fat vg0",
        ):
            run(*line.split())
        assert volumes.parse(run(*volumes.list_command("/dev/vg0/el9.original"))) == IMAGE
        assert volumes.parse(run(*volumes.list_command("/dev/vg0/fat"))) == Volume("vg0", "fat", None)
        run("dd", "if=/dev/zero", "of=/dev/vg0/fat", "bs=4096", "count=1")
        before = names()

        # What LVM tells of its pool grows with what is written.
        def full() -> Fullness:
            run("sync")
            found = volumes.parse_fullness(run(*volumes.fullness_command("vg0", "thin")))
            assert found is not None
            return found

        assert full().data < 5
        assert 0 < full().metadata < 50
        run("dd", "if=/dev/zero", "of=/dev/vg0/el9.original", "bs=1M", "count=100", "oflag=direct")
        assert 49 < full().data < 55

        # A clone that comes to its end, and is removed.
        run(*volumes.snapshot(IMAGE, "web1.job1.part", "job1"))
        assert volumes.parse(run(*volumes.list_command("/dev/vg0/web1.job1.part"))) == IMAGE._replace(
            name="web1.job1.part"
        )
        run("dd", "if=/dev/zero", "of=/dev/vg0/web1.job1.part", "bs=4096", "count=1")  # it is active
        run(*volumes.rename("vg0", "web1.job1.part", "web1"))
        assert names() == {*before, "web1"}

        # One that is taken back, before it has its final name and after.
        run(*volumes.snapshot(IMAGE, "web2.job2.part", "job2"))
        with pytest.raises(RuntimeError):
            run(*volumes.rename("vg0", "web2.job2.part", "web1"))  # the name is taken
        run(*volumes.remove_tagged("vg0", "job2"))
        run(*volumes.remove_tagged("vg0", "job2"))
        assert names() == {*before, "web1"}
        run(*volumes.snapshot(IMAGE, "web3.job3.part", "job3"))
        run(*volumes.rename("vg0", "web3.job3.part", "web3"))
        run(*volumes.remove_tagged("vg0", "job3"))

        # What one job made, each by what it is known by: another one may have its name, or be somebody else's by now.
        run(*volumes.snapshot(IMAGE, "web1-vdb", "job1"))
        made = volumes.parse_made(run(*volumes.made_command("job1")))
        assert {(one.group, one.name) for one in made} == {("vg0", "web1"), ("vg0", "web1-vdb")}
        assert volumes.parse_made(run(*volumes.made_command("job2"))) == []
        first = [one.uuid for one in made if one.name == "web1"]
        for _ in range(2):
            run(*volumes.remove_known("vg0", first))
            assert names() == {*before, "web1-vdb"}
        run(*volumes.remove_known("vg0", [one.uuid for one in made]))
        assert names() == before
    finally:
        appliance.close()
