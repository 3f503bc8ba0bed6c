"""Another name, another address: what follows a VM, what changes in its guest, and how a disk comes back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.errors import Failed, Refused
from maglica.host_worker import undo
from maglica.host_worker.disk import layering
from maglica.host_worker.disk.layering import Layer
from maglica.host_worker.domain import domain_xml, renaming
from maglica.host_worker.guest import altering
from maglica.host_worker.guest.model import GuestFacts, GuestRequest, Network, Remove, System, WriteFile
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.work import Work
from tests.host_worker.test_jobs_vm import Ward, ward
from tests.host_worker.worlds import IMAGE, domain, world

__all__ = ["ward"]

# ---------------------------------------------------------------------------------------------- what follows


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pool/web1.qcow2", "/pool/db1.qcow2"),
        ("/pool/web1-vdb.qcow2", "/pool/db1-vdb.qcow2"),
        ("/pool/web1_VARS.fd", "/pool/db1_VARS.fd"),
        ("/var/log/guest-web1.log", "/var/log/guest-db1.log"),
        ("/pool/web10.qcow2", None),
        ("/pool/myweb1.qcow2", None),
        ("/pool/data.qcow2", None),
        ("/srv/web1/disk.qcow2", None),
        ("/pool/web1", "/pool/db1"),
    ],
)
def test_a_file_follows_when_it_bears_the_name_as_a_word(path: str, expected: str | None) -> None:
    assert renaming.carried(path, "web1", "db1") == expected


TEXT = """<domain type='kvm' id='3'>
  <name>web1</name><uuid>22222222-2222-4222-8222-222222222222</uuid>
  <metadata><maglica:domain xmlns:maglica='urn:maglica:1' kind='clone' tags='a' seed='/p/web1-seed.iso'/></metadata>
  <memory>1024</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type><nvram template='/usr/share/x.fd'>/nv/web1_VARS.fd</nvram></os>
  <devices>
    <disk type='file' device='disk'><source file='/p/web1.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <disk type='volume' device='disk'><source pool='p' volume='web1-b.img'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/p/web1-seed.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <disk type='file' device='cdrom'><source file='/iso/web1.iso'/><target dev='sdb' bus='sata'/><readonly/></disk>
    <serial type='pty'><log file='/log/web1.log' append='off'/><target port='0'/></serial>
    <console type='pty'><log file='/log/web1.log' append='off'/><target type='serial' port='0'/></console>
    <serial type='file'><source path='/log/web1.2.log'/><target port='1'/></serial>
  </devices></domain>"""


def test_disks_log_seed_and_firmware_follow_and_nothing_else() -> None:
    moved = renaming.moves(TEXT, [("/p/web1.qcow2", None), ("/p/web1-b.img", "p/web1-b.img")], "db1")
    assert [(move.old, move.new) for move in moved] == [
        ("/p/web1.qcow2", "/p/db1.qcow2"),
        ("/p/web1-b.img", "/p/db1-b.img"),
        ("/p/web1-seed.iso", "/p/db1-seed.iso"),
        ("/log/web1.log", "/log/db1.log"),
        ("/log/web1.2.log", "/log/db1.2.log"),
        ("/nv/web1_VARS.fd", "/nv/db1_VARS.fd"),
    ]
    text = renaming.renamed(TEXT, "db1", moved, {"altered": "job7"})
    found = domain_xml.read(text)
    assert (found.name, found.uuid) == ("db1", "22222222-2222-4222-8222-222222222222")
    assert [disk.path for disk in found.disks] == ["/p/db1.qcow2", "p/db1-b.img", "/p/db1-seed.iso", "/iso/web1.iso"]
    assert (found.nvram, found.console_log) == ("/nv/db1_VARS.fd", "/log/db1.log")
    assert found.mark == {"kind": "clone", "tags": "a", "seed": "/p/db1-seed.iso", "altered": "job7"}
    assert text.count("/log/db1.log") == 2
    assert 'template="/usr/share/x.fd"' in text


def test_a_mark_is_changed_and_nothing_else() -> None:
    text = renaming.marked(TEXT, {"ip": "192.0.2.1", "tags": ""})
    assert domain_xml.read(text).mark == {"kind": "clone", "seed": "/p/web1-seed.iso", "ip": "192.0.2.1"}
    assert domain_xml.read(text)._replace(mark={}) == domain_xml.read(TEXT)._replace(mark={})


# --------------------------------------------------------------------------------------------- in the guest

DEBIAN = System("debian", "Debian GNU/Linux 12", 12)
INTERFACES = "/etc/network/interfaces"
STATIC = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n    address 192.0.2.5\n"
DHCP = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n    hostname web1\n"
MAC = "52:54:00:00:00:01"


def facts(**more: str) -> GuestFacts:
    files = {
        "/etc/hostname": "web1.example.jp\n",
        "/etc/hosts": "127.0.0.1\tlocalhost\n192.0.2.5   web1.example.jp web1 # own\n192.0.2.6 web10\n",
        INTERFACES: STATIC,
        **{name.replace("__", "/"): text for name, text in more.items()},
    }
    return GuestFacts(DEBIAN, files, {}, frozenset(files))


def texts(plan: object) -> dict[str, str]:
    return {edit.path: edit.text for edit in plan.edits if isinstance(edit, WriteFile)}  # type: ignore[attr-defined]


def test_a_new_name_changes_the_name_and_keeps_the_address() -> None:
    plan = altering.rename(facts(), GuestRequest("db1.example.jp", ()))
    assert texts(plan) == {
        "/etc/hostname": "db1.example.jp\n",
        "/etc/hosts": "127.0.0.1\tlocalhost\n192.0.2.5\tdb1.example.jp db1 # own\n192.0.2.6 web10\n",
    }
    assert not [edit for edit in plan.edits if isinstance(edit, Remove)], "keys, leases and machine-id stay"


def test_what_is_sent_to_dhcp_servers_is_the_new_name() -> None:
    before = facts(**{INTERFACES.replace("/", "__"): DHCP})
    changed = texts(altering.rename(before, GuestRequest("db1.example.jp", ())))
    assert changed[INTERFACES] == DHCP.replace("hostname web1", "hostname db1")


def test_rhel_6_keeps_its_gateway() -> None:
    files = {"/etc/sysconfig/network": "NETWORKING=yes\nGATEWAY=192.0.2.1\nHOSTNAME=web1\n"}
    old = GuestFacts(System("centos", "CentOS 6", 6), files, {}, frozenset(files))
    assert texts(altering.rename(old, GuestRequest("db1.example.jp", ()))) == {
        "/etc/sysconfig/network": "NETWORKING=yes\nGATEWAY=192.0.2.1\nHOSTNAME=db1.example.jp\n"
    }


def test_the_same_name_changes_nothing() -> None:
    assert altering.rename(facts(), GuestRequest("web1.example.jp", ())).edits == ()


def request(address: str = "192.0.2.9/24") -> GuestRequest:
    return GuestRequest("localhost", (MAC,), Network(address, "192.0.2.1", ("192.0.2.53",)))


def test_a_new_address_keeps_the_name() -> None:
    changed = texts(altering.readdress(facts(), request()))
    assert set(changed) == {INTERFACES, "/etc/hosts", "/etc/resolv.conf"}
    assert "address 192.0.2.9" in changed[INTERFACES]
    assert "192.0.2.5\n" not in changed[INTERFACES]
    assert "192.0.2.9\tweb1.example.jp web1 # own" in changed["/etc/hosts"]


def test_the_same_address_changes_nothing() -> None:
    first = altering.readdress(facts(), request())
    files = {**facts().files, **texts(first)}
    again = altering.readdress(GuestFacts(DEBIAN, files, {}, frozenset(files)), request())
    assert again.edits == ()


@pytest.mark.parametrize(
    "text",
    [
        STATIC + "\nauto br0\niface br0 inet static\n    bridge_ports eth1\n",
        "network:\n  version: 2\n  bonds:\n    bond0: {}\n",
        "DEVICE=eth0\nBRIDGE=br0\n",
    ],
)
def test_a_network_that_is_more_than_a_card_is_left_alone(text: str) -> None:
    with pytest.raises(Refused, match="more than a card"):
        altering.readdress(facts(**{INTERFACES.replace("/", "__"): text}), request())


def test_of_two_cards_one_has_to_be_said() -> None:
    with pytest.raises(Refused, match="2 network cards"):
        altering.readdress(facts(), GuestRequest("localhost", (MAC, MAC[:-1] + "2"), request().network))


def test_an_unknown_system_is_refused() -> None:
    for plan in (altering.rename, altering.readdress):
        with pytest.raises(Refused, match="do not know how to change"):
            plan(GuestFacts(System("plan9", "Plan 9", 4)), request())


# --------------------------------------------------------------------------------------- layers over real disks


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [
        ([], []),
        ([(0, 100, 1)], []),
        ([(0, 100, 0), (100, 50, 1), (150, 50, 0)], [(0, 200)]),
        ([(0, 100, 0), (9 << 20, 5, 0)], [(0, 100), (9 << 20, 5)]),
        ([(0, 65 << 20, 0)], [(0, 64 << 20), (64 << 20, 1 << 20)]),
    ],
)
def test_pieces(mapped: list[tuple[int, int, int]], expected: list[tuple[int, int]]) -> None:
    told = [{"start": start, "length": length, "depth": depth, "data": True} for start, length, depth in mapped]
    assert layering.pieces(told) == expected


def qemu_io(path: Path, format: str, *commands: str) -> str:
    argv = ["qemu-io", "-f", format, *(word for command in commands for word in ("-c", command)), str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def content(path: Path, format: str) -> bytes:
    raw = path.with_suffix(".content")
    subprocess.run(["qemu-img", "convert", "-f", format, "-O", "raw", path, raw], check=True, timeout=60)
    return raw.read_bytes()


@pytest.fixture
def layer(tmp_path: Path, request: pytest.FixtureRequest) -> Layer:
    """A disk with something on it, and a change in the layer above; its parameter is the disk's format."""
    format, disk, above = str(request.param), tmp_path / "web1", tmp_path / "web1.job1.part"
    subprocess.run(["qemu-img", "create", "-q", "-f", format, disk, "32M"], check=True)
    # Scattered, as a guest that has lived leaves it: what qemu-img tells of it is long.
    pieces = [f"write -q -P 3 {place}k 64k" for place in range(4096, 18000, 128)]
    qemu_io(disk, format, "write -q -P 1 0 1M", *pieces, "write -q -P 2 20M 64k")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", format, above], check=True)
    qemu_io(above, "qcow2", "write -q -P 9 64k 128k", "write -q -P 9 30M 64k", "write -q -z 20M 64k")
    return Layer(str(disk), format, str(above), str(tmp_path / "web1.job1.before"))


def found_in(folder: Path) -> tuple[Hypervisor, str]:
    hypervisor = Hypervisor(world(folder, off=("web1",)))
    return hypervisor, domain_xml.read(hypervisor.definition("web1")).uuid


BOTH = pytest.mark.parametrize("layer", ["raw", "qcow2"], indirect=True)


@BOTH
def test_a_change_is_brought_in_and_taken_back_bit_by_bit(layer: Layer, tmp_path: Path) -> None:
    hypervisor, uuid = found_in(tmp_path)
    before, wanted = content(Path(layer.disk), layer.format), content(Path(layer.above), "qcow2")
    assert before != wanted
    layering.bring_in([layer], uuid, Work("job1", 60.0, None, lambda: None))
    assert content(Path(layer.disk), layer.format) == wanted
    for _ in range(2):
        undo.settle_disk(hypervisor, layer.before, uuid, "job1")
        assert content(Path(layer.disk), layer.format) == before
        assert not os.path.exists(layer.before)
    hypervisor.close()


@BOTH
def test_a_change_that_is_to_stay_stays(layer: Layer, tmp_path: Path) -> None:
    hypervisor, uuid = found_in(tmp_path)
    wanted = content(Path(layer.above), "qcow2")
    layering.bring_in([layer], uuid, Work("job1", 60.0, None, lambda: None))
    hypervisor.set_mark("web1", {"altered": "job1"})
    undo.settle_disk(hypervisor, layer.before, uuid, "job1")
    assert content(Path(layer.disk), layer.format) == wanted
    assert not os.path.exists(layer.before)
    layering.throw_away([layer])
    assert not os.path.exists(layer.above)
    hypervisor.close()


@BOTH
def test_killed_in_the_middle_of_the_commit(layer: Layer, tmp_path: Path) -> None:
    """Half of it is in the disk."""
    hypervisor, uuid = found_in(tmp_path)
    before = content(Path(layer.disk), layer.format)
    layering.bring_in([layer], uuid, Work("job1", 60.0, None, lambda: None))
    qemu_io(Path(layer.disk), layer.format, "write -q -P 1 64k 64k")
    undo.settle_disk(hypervisor, layer.before, uuid, "job1")
    assert content(Path(layer.disk), layer.format) == before
    hypervisor.close()


def test_a_file_keeps_the_name_that_its_domain_calls_it_by(tmp_path: Path) -> None:
    hypervisor, uuid = found_in(tmp_path)
    old, new = tmp_path / "web1.qcow2", tmp_path / "db1.qcow2"
    for mark, kept in ({"altered": "job0"}, old), ({"altered": "job1"}, new):
        old.write_text("disk")
        os.link(old, new)
        hypervisor.set_mark("web1", mark)
        for _ in range(2):
            undo.settle_renamed(
                hypervisor, str(old), str(new), old.stat().st_ino if old.exists() else kept.stat().st_ino, uuid, "job1"
            )
            assert [path for path in (old, new) if path.exists()] == [kept]
        kept.unlink()
    old.write_text("disk")
    new.write_text("somebody else's")
    undo.settle_renamed(hypervisor, str(old), str(new), new.stat().st_ino, uuid, "job1")
    assert new.read_text() == "somebody else's"
    assert old.exists()
    hypervisor.close()


def test_a_domain_keeps_its_name_unless_the_new_one_is_to_stay(tmp_path: Path) -> None:
    hypervisor, uuid = found_in(tmp_path)
    text = hypervisor.definition("web1")
    hypervisor.rename(uuid, "db1")
    for _ in range(2):
        undo.settle_name(hypervisor, uuid, "web1", text, "job1")
        assert [name for name, _ in hypervisor.states()] == ["web1"]
    hypervisor.rename(uuid, "db1")
    hypervisor.set_mark("db1", {"altered": "job1"})
    undo.settle_name(hypervisor, uuid, "web1", text, "job1")
    assert [name for name, _ in hypervisor.states()] == ["db1"]
    hypervisor.close()


def test_what_ran_runs_again(tmp_path: Path) -> None:
    hypervisor, uuid = found_in(tmp_path)
    for _ in range(2):
        undo.start_again(hypervisor, uuid)
        assert hypervisor.state("web1") == "running"
    undo.start_again(hypervisor, "22222222-2222-4222-8222-222222222222")
    hypervisor.close()
    with pytest.raises(Failed, match="unreachable"):  # it is tried again
        undo.start_again(Hypervisor("test:///nonexistent.xml"), uuid)


# ------------------------------------------------------------------------------------------- vm rename as a job


def test_rename(ward: Ward) -> None:
    before = ward.domain("web2")
    told = ward.do("vm rename", name="web2", to="db1.example.jp", customize="none")
    assert (told["name"], told["was"], told["state"], told["changed"]) == ("db1.example.jp", "web2", "shut-off", True)
    after = ward.domain("db1.example.jp")
    assert after._replace(mark={}) == before._replace(name="db1.example.jp", mark={})
    assert after.mark == {"altered": ward.work.job}
    assert ward.do("vm rename", name="db1.example.jp", to="db1.example.jp")["changed"] is False
    assert sorted(name for name, _ in ward.seen()[0]) == ["db1.example.jp", IMAGE, "web1"]


def test_what_runs_is_renamed_offline_and_runs_again(ward: Ward) -> None:
    error = ward.refusal("vm rename", name="web1", to="db1", customize="none")
    assert (error.code, error.message) == ("wrong_state", "web1 is running")
    assert "--offline" in error.hint
    told = ward.do("vm rename", name="web1", to="db1", customize="none", offline=True)
    assert told["state"] == ward.hypervisor.state("db1") == "running"
    assert list(told["seconds"]) == ["shut down", "rename", "start"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"name": "nosuch", "to": "db1"}, "unknown_entity", "there is no VM nosuch"),
        ({"name": "web2", "to": "web1"}, "already_exists", "web1 exists on host1"),
        ({"name": IMAGE, "to": "db1"}, "protected", "is an image"),
    ],
)
def test_what_cannot_be_renamed(ward: Ward, args: dict[str, str], code: str, words: str) -> None:
    error = ward.refusal("vm rename", **{"customize": "none", **args})
    assert error.code == code
    assert words in error.message


def test_a_saved_state_and_snapshots_are_in_the_way(ward: Ward) -> None:
    connection = ward.hypervisor._connect()
    connection.lookupByName("web2").snapshotCreateXML("<domainsnapshot><name>s</name></domainsnapshot>", 0)
    assert "it has 1 snapshots" in ward.refusal("vm rename", name="web2", to="db1", customize="none").message
    connection.lookupByName("web1").managedSave(0)
    assert "memory of web1 was saved" in ward.refusal("vm rename", name="web1", to="db1", customize="none").message


def test_killed_at_any_step_a_rename_is_done_or_was_never_begun(ward: Ward) -> None:
    before = ward.seen()
    ended = set()
    for at in range(1, 12):
        count = 0

        class Killed(BaseException):
            """As sudden as a power cut."""

        def die(at: int = at, killed: type[BaseException] = Killed) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise killed

        try:
            ward.do("vm rename", name="web1", to="db1", customize="none", offline=True, changed=die)
        except Killed:
            assert undo.take_back(ward.work.job, ward.journal, ward.hypervisor) == []
            name = "db1" if "db1" in [found.name for found, _ in ward.hypervisor.domains()] else "web1"
            assert ward.hypervisor.state(name) == "running", at
            ended.add(name)
            if name == "db1":
                ward.do("vm rename", name="db1", to="web1", customize="none", offline=True)
            assert [one[0] for one in ward.seen()[0]] == [one[0] for one in before[0]]
            continue
        assert ended == {"web1", "db1"}
        return
    raise AssertionError("it never got through")


def test_change_address_is_refused_without_disks(ward: Ward) -> None:
    assert "no disk in which" in ward.refusal("vm change-address", name="web2", address="192.0.2.9/24").message
    assert ward.refusal("vm change-address", name="web1", address="192.0.2.9/24").code == "wrong_state"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({}, "ambiguous_name", "two has 2 network cards: 52:54:00:00:00:11, 52:54:00:00:00:22"),
        ({"mac": "52:54:00:00:00:33"}, "unknown_entity", "two has no network card 52:54:00:00:00:33"),
        ({"mac": "52:54:00:00:00:22"}, "environment_error", "no disk in which"),
        ({"interface": "eth1"}, "environment_error", "no disk in which"),
        ({"address": "dhcp", "mac": "52:54:00:00:00:22"}, "environment_error", "no disk in which"),
    ],
)
def test_of_several_cards_one_is_said(tmp_path: Path, args: dict[str, str], code: str, words: str) -> None:
    card = "<interface type='network'><mac address='52:54:00:00:00:22'/><source network='default'/></interface>"
    two = domain("two", mac="52:54:00:00:00:11", state=5, more=card)
    ward = Ward(tmp_path, world(tmp_path, volumes=["two.img"], more=two))
    error = ward.refusal("vm change-address", **{"name": "two", "address": "192.0.2.9/24", **args})
    assert (error.code, words in error.message) == (code, True), error.message
    ward.close()


@pytest.mark.parametrize("more", [{"gateway": "192.0.2.1"}, {"dns": ["192.0.2.53"]}])
def test_what_dhcp_tells_is_not_said(more: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="--gateway and --dns belong to a static address"):
        declare.build("vm change-address", {"name": "web1", "address": "DHCP", **more})
    assert declare.build("vm change-address", {"name": "web1", "address": "DHCP"}).values()["address"] == "dhcp"


def test_the_address_that_it_has_is_no_change(ward: Ward) -> None:
    mark = {"ip": "192.0.2.9", "address": "192.0.2.9/24", "gateway": "192.0.2.1", "dns": "192.0.2.53"}
    for name in ("web1", "web2"):
        ward.hypervisor.set_mark(name, mark)
        told = ward.do("vm change-address", name=name, address="192.0.2.9/24")
        assert (told["changed"], told["gateway"], told["dns"]) == (False, "192.0.2.1", ["192.0.2.53"])
