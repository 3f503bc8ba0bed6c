"""Guests' disks with the real libguestfs: what customising leaves on a disk, and that no process is left behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import commands
from maglica.host_worker.guest import child as guest_child
from maglica.host_worker.guest import conversation, inspection
from maglica.host_worker.guest.customize import GuestRequest, Network
from maglica.host_worker.guest.disk import Disk, Terms, customise, inspect_disks, verify
from maglica.host_worker.guest.inspection import Layout
from tests.frozen import freezer
from tests.host_worker.guest_trees import OLD_MACHINE_ID, TREES, make_disk

PROJECT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpXkJ0q me@example"
HASH = "$6$saltsalt$abcdefghijklmnopqrstuvwxyz./0123456789"
STATIC = Network("192.0.2.10/24", "192.0.2.1", ("192.0.2.53",))
REQUEST = GuestRequest("vm0.example.jp", ("52:54:00:aa:bb:01",), STATIC, (KEY,), HASH)
BY_DHCP = GuestRequest("vm0.example.jp", ("52:54:00:aa:bb:01",))


def never() -> bool:
    return False


def run(
    verb: Callable[..., dict[str, Any]],
    disks: list[Disk],
    request: GuestRequest | None = REQUEST,
    *,
    deadline: float = 300,
    on_step: Callable[[str], None] = lambda name: None,
    cancelled: Callable[[], bool] = never,
) -> dict[str, Any]:
    return verb(disks, request=request, terms=Terms(False, deadline, on_step, cancelled))


def processes_with(text: str) -> list[int]:
    """Processes, zombies aside, that have this text in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            # It ended while we looked.
            pass
    return found


def wait_until(true: Callable[[], object], seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def debian(tmp_path: Path) -> Disk:
    return Disk(str(make_disk(TREES["debian-ifupdown"], tmp_path / "debian")), "raw")


# ---- what is on the disk afterwards -----------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.timeout(900)
def test_every_family_in_one_appliance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's own work on each kind of guest. All share an appliance: launching one costs ten seconds."""
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    disks = [(str(make_disk(files, tmp_path / name)), "raw") for name, files in TREES.items()]
    steps = guest_child.Steps(lambda event: None)
    guest = guest_child.open_disks(disks, read_only=False)
    try:
        with pytest.raises(Refused, match="7 operating systems"):
            inspection.layout(guest)
        devices = zip(TREES, sorted(guest.inspect_get_roots()), strict=True)
        roots = {name: layout_of(guest, device) for name, device in devices}
        assert {name for name, layout in roots.items() if layout.how == "inspect_os"} == {
            "centos7-ifcfg", "rhel6", "unknown",
        }  # fmt: skip
        with pytest.raises(Refused, match="Alpine"):
            guest_child.work(guest, roots.pop("unknown"), "customise", REQUEST, steps)
        for name, root in roots.items():
            guest.umount_all()
            request = BY_DHCP if name in ("debian-networkd", "centos7-ifcfg") else REQUEST
            report = guest_child.work(guest, root, "customise", request, steps)
            assert report["verified"] is True, name
            check_guest(guest, name, request, report)
        check_verify(guest, roots["debian-ifupdown"], steps)
    finally:
        guest.close()


def layout_of(guest: Any, device: str) -> Layout:
    """How one of several systems lies on its disk; read directly it is the same as by inspect_os."""
    one = OnlyOne(guest, device)
    found, told = inspection.direct(one), inspection.by_libguestfs(one)
    if found:
        # libguestfs calls some of the RHEL family `redhat-based`, the more of them the older it is.
        assert (found.root, found.mounts, found.system.to_map()) == (told.root, told.mounts, told.system.to_map())
        assert found.system.like == told.system.like
    return found or told


class OnlyOne:
    """A launched appliance that seems to have one disk."""

    def __init__(self, guest: Any, device: str) -> None:
        self._guest = guest
        self.inspect_os = self.list_devices = lambda: [device]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guest, name)


def check_guest(guest: Any, name: str, request: GuestRequest, report: dict[str, Any]) -> None:
    """What a person would look at; the disk is still mounted, read-only."""
    family = "debian" if name.startswith(("debian", "ubuntu")) else "rhel"
    assert report["os"]["family"] == family
    if name == "rhel6":
        assert "HOSTNAME=vm0.example.jp" in guest.cat("/etc/sysconfig/network")
    else:
        assert guest.cat("/etc/hostname") == "vm0.example.jp\n"
        assert (guest.filesize("/etc/machine-id"), guest.statns("/etc/machine-id")["st_mode"] & 0o777) == (0, 0o444)
    assert "vm0.example.jp vm0" in guest.cat("/etc/hosts")
    assert not guest.exists(f"/var/log/journal/{OLD_MACHINE_ID}")
    assert report["host_keys"] == ("written" if family == "debian" else "first-boot")
    keys = [name for name in guest.ls("/etc/ssh") if name.startswith("ssh_host_")]
    assert len(keys) == (6 if family == "debian" else 0)
    for key in keys:
        wanted = 0o644 if key.endswith(".pub") else 0o600
        assert guest.statns(f"/etc/ssh/{key}")["st_mode"] & 0o777 == wanted
        start = {"ed25519": "ssh-ed25519 ", "ecdsa": "ecdsa-sha2-", "rsa": "ssh-rsa "}[key.split("_")[2]]
        assert guest.cat(f"/etc/ssh/{key}").startswith(start if key.endswith(".pub") else "-----BEGIN ")
    if request.root_password_hash:
        shadow = guest.cat("/etc/shadow")
        assert shadow.startswith(f"root:{HASH}:19000:")
        assert "user:$y$j9T$abc$def:19000:" in shadow
        assert guest.statns("/etc/shadow")["st_mode"] & 0o777 == 0o640
        assert guest.statns("/root/.ssh")["st_mode"] & 0o777 == 0o700
    networks = [
        "/etc/network/interfaces",
        "/etc/netplan/50-maglica.yaml",
        "/etc/systemd/network/80-dhcp.network",
        "/etc/NetworkManager/system-connections/maglica-net0.nmconnection",
        "/etc/sysconfig/network-scripts/ifcfg-eth0",
    ]
    text = "".join(guest.cat(path) for path in networks if guest.exists(path))
    assert ("192.0.2.10" in text) == (request.network.address is not None)
    assert ("dhcp" in text.lower().replace("dhcp4: false", "").replace("iface ens4 inet dhcp", "")) == (
        request.network.address is None
    )


def check_verify(guest: Any, layout: Layout, steps: guest_child.Steps) -> None:
    """The second look finds a disk in order, and says so when it is not."""
    guest.umount_all()
    assert guest_child.work(guest, layout, "verify", REQUEST, steps)["verified"] is True
    guest.umount_all()
    with pytest.raises(Failed) as caught:
        guest_child.work(guest, layout, "verify", GuestRequest("vm1.example.jp", REQUEST.macs, STATIC), steps)
    assert caught.value.code == "wrong_state"
    assert "/etc/hostname" in caught.value.message
    assert HASH not in str(caught.value.to_wire())
    guest.umount_all()
    guest.mount(layout.root, "/")
    guest.write("/var/lib/dhcp/dhclient.leases", b"lease {}")
    guest.write("/etc/ssh/ssh_host_rsa_key.pub", b"")
    guest.umount_all()
    with pytest.raises(Failed) as caught:
        guest_child.work(guest, layout, "verify", REQUEST, steps)
    assert caught.value.details["problems"] == [
        "/var/lib/dhcp/dhclient.leases should be gone",
        "/etc/ssh/ssh_host_rsa_key.pub is empty",
    ]


@pytest.mark.lab
@pytest.mark.timeout(900)
def test_two_disks_through_the_front_door(tmp_path: Path) -> None:
    """A qcow2 with an MBR partition for /, a raw disk for /var; then the disks are opened again and verified."""
    tree = dict(TREES["debian-ifupdown"]) | {"/etc/fstab": "/dev/vdb /var ext4 defaults 0 2\n/dev/vda1 / ext4\n"}
    rest = {path: text for path, text in tree.items() if not path.startswith("/var/")} | {"/var/keep": ""}
    var = {path.removeprefix("/var"): text for path, text in tree.items() if path.startswith("/var/")}
    disks = [
        Disk(str(make_disk(rest, tmp_path / "root", partition=True, qcow2=True)), "qcow2"),
        Disk(str(make_disk(var, tmp_path / "var")), "raw"),
    ]
    steps: list[str] = []
    report = run(customise, disks, on_step=steps.append)
    assert steps == ["launch", "inspect", "read", "edit", "verify", "close"]
    assert list(report["seconds"]) == steps
    assert report["os"] == {"family": "debian", "product": "Debian GNU/Linux 12 (bookworm)", "version": "12.5"}
    assert (report["network"], report["host_keys"], report["verified"]) == ("ifupdown", "written", True)
    assert "remove /var/lib/dhcp/dhclient.eth0.leases" in report["edits"]
    assert HASH not in str(report)
    again = run(verify, disks)
    assert (again["verified"], again["edits"], again["os"]) == (True, [], report["os"])


# ---- every end ends all -----------------------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.timeout(90)
def test_cancel_ends_the_appliance_within_seconds(debian: Disk) -> None:
    asked: list[float] = []

    def cancelled() -> bool:
        asked.append(time.monotonic())
        return bool(processes_with(debian.path)) and len(asked) > 10

    with pytest.raises(Failed) as caught:
        run(customise, [debian], cancelled=cancelled)
    ended = time.monotonic()
    assert caught.value.code == "cancelled"
    assert processes_with(debian.path) == []
    assert ended - asked[-1] < 5
    # The appliance was there for a good part of that time, and we were asked often enough.
    assert max(later - earlier for earlier, later in itertools.pairwise(asked)) < 0.5


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_a_deadline_is_kept(debian: Disk) -> None:
    started = time.monotonic()
    with pytest.raises(Failed) as caught:
        run(customise, [debian], deadline=2)
    assert (caught.value.code, caught.value.retryable) == ("timeout", True)
    assert "step launch" in caught.value.message
    assert time.monotonic() - started < 8
    assert processes_with(debian.path) == []


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_a_killed_child_is_told_from_a_failed_one(debian: Disk) -> None:
    """SIGKILL to the child alone, as the kernel does it when memory runs out."""

    def kill_it() -> None:
        assert wait_until(lambda: processes_with(debian.path), 30)
        (child,) = children_of(os.getpid(), "guest.child")
        os.kill(child, signal.SIGKILL)

    killer = threading.Thread(target=kill_it)
    killer.start()
    with pytest.raises(Failed) as caught:
        run(customise, [debian])
    killer.join()
    assert "died (signal 9, step launch)" in caught.value.message
    assert processes_with(debian.path) == []


def children_of(parent: int, text: str) -> list[int]:
    tasks = Path(f"/proc/{parent}/task")
    found = [int(one) for task in tasks.iterdir() for one in (task / "children").read_text().split()]
    return [one for one in found if one in processes_with(text)]


@pytest.fixture
def other_parent(debian: Disk) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that customises the disk."""
    script = f"""
        from maglica.host_worker.guest.customize import GuestRequest
        from maglica.host_worker.guest.disk import Disk, Terms, customise
        customise([Disk({debian.path!r}, "raw")], GuestRequest("vm0", ("52:54:00:aa:bb:01",)),
                  Terms(False, 100, print, lambda: False))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=PROJECT)
    yield parent
    parent.kill()
    parent.wait()


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_an_orphan_does_not_go_on_writing(debian: Disk, other_parent: subprocess.Popen[bytes]) -> None:
    # The parent's own command line holds the path as well: the second process is the appliance.
    assert wait_until(lambda: set(processes_with(debian.path)) - {other_parent.pid}, 30)
    (child,) = children_of(other_parent.pid, "guest.child")
    other_parent.kill()
    other_parent.wait()
    assert wait_until(lambda: not processes_with(debian.path) and not Path(f"/proc/{child}/cmdline").exists(), 10)


# ---- what the host may lack -------------------------------------------------------------------------------------


def test_a_child_that_cannot_be_killed_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(commands, "UNKILLABLE", 1.0)
    with freezer() as freeze:
        child = conversation.Child(kvm=False, mark="")
        freeze(child.pid)
        began = time.monotonic()
        child.stop()
        assert time.monotonic() - began < 2 * conversation.GRACE + 1 + 3
        assert f"process {child.pid} does not end by SIGKILL" in caplog.text
        assert Path(f"/proc/{child.pid}").exists(), "the test can fail"
        assert not Path(child.folder).exists()


def test_without_libguestfs_the_package_is_named(tmp_path: Path) -> None:
    """A Python that cannot see the distribution's packages, as a virtual environment is by default."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (tmp_path / "disk").write_bytes(b"")
    script = f"""
        from maglica.errors import Refused
        from maglica.host_worker.guest.customize import GuestRequest
        from maglica.host_worker.guest.disk import Disk, Terms, customise
        try:
            customise([Disk({str(tmp_path / "disk")!r}, "raw")], GuestRequest("vm0", ()),
                      Terms(False, 20, lambda name: None, lambda: False))
        except Refused as error:
            print(error.code, error.message, error.hint, sep="|")
    """
    command = [str(tmp_path / "venv/bin/python"), "-c", textwrap.dedent(script)]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    code, message, hint = result.stdout.strip().split("|")
    assert (code, "guestfs" in message, "python3-guestfs" in hint) == ("environment_error", True, True)


@pytest.mark.lab
@pytest.mark.timeout(60)
def test_a_disk_of_another_format_than_told_is_refused(debian: Disk) -> None:
    with pytest.raises(Refused) as caught:
        run(inspect_disks, [Disk(debian.path, "qcow2")], None)
    assert caught.value.code == "environment_error"
    told = caught.value.details["stderr"]
    assert told.startswith("qemu-img: ")
    assert "not in qcow2 format" in told


def test_what_cannot_be_a_disk_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        run(customise, [Disk(str(tmp_path / "none"), "raw")])
    with pytest.raises(Refused, match="no disk"):
        run(customise, [])
    with pytest.raises(MaglicaError, match="format"):
        Disk("/dev/null", "auto")
