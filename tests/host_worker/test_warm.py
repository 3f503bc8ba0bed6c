"""Warm appliances with the real libguestfs and the real qemu-storage-daemon: nothing of one clone is in the next, what
leaves a doubt is thrown away, and nothing is left behind.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from maglica.config import HostWorkerSection
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.guest import child as guest_child
from maglica.host_worker.guest import inspection, warm
from maglica.host_worker.guest.customize import GuestRequest, Network
from maglica.host_worker.guest.disk import Disk, Terms, verify
from maglica.host_worker.guest.serving import Appliance, Hands
from maglica.host_worker.guest.storage_daemon import StorageDaemon
from maglica.host_worker.guest.warm import Doubtful, Order, Unfit, WarmAppliances
from tests import waiting
from tests.host_worker.guest_trees import TREES, make_disk, write_tree

LONG = bool(os.environ.get("MAGLICA_TEST_LONG"))
CLONES = 50 if LONG else 6
KILLS = 20
pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600 if LONG else 900)]
MARK = f"test:{os.getpid()}"
FOLDERS = f"maglica-guest-test-{os.getpid()}-*"
SETTINGS = HostWorkerSection(warm_timeout="120s", memory_reserve="64M")
VAR = "/dev/vdb /var ext4 defaults 0 2\n/dev/vda1 / ext4\n"


def hash_of(number: int) -> str:
    return f"$6$saltsalt$abcdefghijklmnopqrstuvwxyz./{number:010}"


def request(number: int) -> GuestRequest:
    """Requests that differ in everything, and in how much there is."""
    mac = f"52:54:00:aa:bb:{number:02x}"
    keys = tuple(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{number}{one}xxxxxxxx me@example" for one in range(number % 4))
    static = Network(f"192.0.2.{number + 10}/24", "192.0.2.1", ("192.0.2.53",)) if number % 2 else Network()
    return GuestRequest(f"vm{number}.example.jp", (mac,), static, keys, hash_of(number) if number % 3 else None)


# ---- an image of two disks, and its clones ----------------------------------------------------------------------


class Image:
    """An image: (path, format) of its disks; clones of it are overlays."""

    def __init__(self, folder: Path, disks: list[tuple[Path, str]]) -> None:
        self.folder = folder
        self.disks = disks

    def clone(self, name: str) -> list[Disk]:
        made = []
        for number, (path, image_format) in enumerate(self.disks):
            target = self.folder / f"{name}-{number}.qcow2"
            argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", image_format, target]
            subprocess.run(argv, check=True)
            made.append(Disk(str(target), "qcow2"))
        return made

    def order(
        self, disks: list[Disk], wish: GuestRequest, *, cancelled: Callable[[], bool] = lambda: False,
        on_step: Callable[[str], None] = lambda name: None,
    ) -> Order:  # fmt: skip
        sizes = [virtual_size(path) for path, _ in self.disks]
        parts = [(str(path), form, size) for (path, form), size in zip(self.disks, sizes, strict=True)]
        return Order(warm.image(parts), disks, wish, Terms(False, 300.0, on_step, cancelled))


def virtual_size(path: Path) -> int:
    argv = ["qemu-img", "info", "--output=json", str(path)]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return int(told.split('"virtual-size":')[1].split(",")[0])


def two_disks(folder: Path) -> Image:
    """A qcow2 with an MBR partition for /, a raw disk for /var."""
    tree = dict(TREES["debian-ifupdown"]) | {"/etc/fstab": VAR}
    rest = {path: text for path, text in tree.items() if not path.startswith("/var/")} | {"/var/keep": ""}
    var = {path.removeprefix("/var"): text for path, text in tree.items() if path.startswith("/var/")}
    root = make_disk(rest, folder / "root", partition=True, qcow2=True)
    return Image(folder, [(root, "qcow2"), (make_disk(var, folder / "var"), "raw")])


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return two_disks(tmp_path)


@pytest.fixture
def appliances() -> Iterator[WarmAppliances]:
    """They are gone afterwards, and so is all that belonged to them."""
    found = WarmAppliances(MARK)
    yield found
    found.close()
    assert left_over() == []


def left_over() -> list[str]:
    """Processes with our mark and folders of our children."""
    found = [str(path) for path in Path("/tmp").glob(FOLDERS)]
    return found + [command(pid) for pid in marked()]


def marked() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MAGLICA_WORK={MARK}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            pass  # it ended while we looked
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def process(words: str) -> int:
    """The process of the one warm appliance that has these words in its command line; libguestfs' own copy of our child
    (it watches over QEMU) comes after it.
    """
    return min(pid for pid in marked() if words in command(pid))


# ---- nothing of one clone is in the next ------------------------------------------------------------------------


def test_clones_in_a_row_are_as_if_each_had_an_appliance_of_its_own(
    image: Image, appliances: WarmAppliances, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two disks, requests that differ in everything; compared file by file with clones done without any reuse."""
    caplog.set_level(logging.DEBUG)
    seen: set[str] = set()
    for number in range(CLONES):
        disks = image.clone(f"warm{number}")
        order = image.order(disks, request(number), on_step=lambda name: seen.update(map(command, marked())))
        report = appliances.customise(order, SETTINGS)
        assert (report["appliance"], report["verified"], report["host_keys"]) == ("warm", True, "written")
        assert report["note"] == (f"clone {number + 1} in it" if number else "launched for this clone")
        assert hash_of(number) not in str(report)
        # Nothing keeps anybody from the disks now, and they are whole.
        assert [opened(disk.path) for disk in disks] == [[], []]
        assert [subprocess.run(["qemu-img", "check", "-q", disk.path], check=False).returncode for disk in disks] == [
            0,
            0,
        ]
    folder = next(Path("/tmp").glob(FOLDERS))
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_socket())
    appliances.close()
    assert "$6$" not in caplog.text
    assert "$6$" not in str(seen)
    assert b"$6$saltsalt" not in kept
    for number, files in enumerate(cold(image, range(CLONES), monkeypatch)):
        assert compared(files_of(image.folder, f"warm{number}")) == compared(files), number


def opened(path: str) -> list[str]:
    """Processes that have a file open."""
    inode = os.stat(path)
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if (other := link.stat()) and (other.st_dev, other.st_ino) == (inode.st_dev, inode.st_ino):
                found.append(str(link))
        except OSError:
            pass  # closed meanwhile
    return found


def cold(image: Image, wanted: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The files of clones of these requests, each on drives of its own that were never exchanged; ten at a time, to
    launch an appliance costs more than to customise ten clones in it.
    """
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    for first in range(0, len(wanted), 10):
        numbers = wanted[first : first + 10]
        clones = [image.clone(f"cold{number}") for number in numbers]
        guest = guest_child.open_disks([(disk.path, disk.format) for two in clones for disk in two], read_only=False)
        try:
            found = None
            for place, number in enumerate(numbers):
                own = [f"/dev/sd{chr(ord('a') + 2 * place)}1", f"/dev/sd{chr(ord('a') + 2 * place + 1)}"]
                found = found or system(guest, own[0])
                layout = inspection.Layout(own[0], (("/", own[0]), ("/var", own[1])), found, "direct")
                guest_child.work(guest, layout, "customise", request(number), guest_child.Steps(lambda event: None))
                guest.umount_all()
            guest.shutdown()
        finally:
            guest.close()
        yield from (files_of(image.folder, f"cold{number}") for number in numbers)


def system(guest: Any, root: str) -> Any:
    guest.mount_ro(root, "/")
    release, version = (inspection.read_text(guest, name) for name in ("/etc/os-release", "/etc/debian_version"))
    guest.umount_all()
    return inspection.system_of(release or "", version or "")


def files_of(folder: Path, name: str) -> dict[str, Any]:
    """Path -> (mode, owner, group, content or target) of all that is on a clone's two disks, read by e2fsprogs; both
    file systems are whole.
    """
    found: dict[str, Any] = {}
    for number, offset in ((0, 1 << 20), (1, 0)):
        raw = folder / f"{name}-{number}.check"
        argv = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", f"{folder}/{name}-{number}.qcow2", str(raw)]
        subprocess.run(argv, check=True)
        with raw.open("rb") as whole:
            whole.seek(offset)
            (bare := raw.with_suffix(".ext4")).write_bytes(whole.read())
        assert subprocess.run(["e2fsck", "-fn", bare], capture_output=True, check=False).returncode == 0
        into = folder / f"{name}-{number}.files"
        into.mkdir()
        subprocess.run(["debugfs", "-R", f"rdump / {into}", bare], check=True, capture_output=True)
        for path in into.rglob("*"):
            facts = path.lstat()
            content: Any = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[f"{number}:{path.relative_to(into)}"] = (facts.st_mode, facts.st_uid, facts.st_gid, content)
        raw.unlink()
        bare.unlink()
    return found


def compared(files: dict[str, Any]) -> dict[str, Any]:
    """Host keys are new in every clone; all else is as it is."""
    keys = {path for path in files if "ssh_host_" in path}
    assert len(keys) == 6
    return {path: (facts[:3] if path in keys else facts) for path, facts in files.items()}


# ---- the second reading is one of the disk ----------------------------------------------------------------------


class Meddler:
    """A launched appliance on whose disk somebody writes behind its back, right before it is read again."""

    def __init__(self, guest: Any, path: Path) -> None:
        self._guest = guest
        self._path = path
        self.cached = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guest, name)

    def umount_all(self) -> None:
        if self._guest.is_file("/etc/hostname") and self._guest.cat("/etc/hostname") == "vm0.example.jp\n":
            self._guest.sync()
            self._swap(b"vm0.example.jp\n", b"vmX.example.jp\n")
            # What is answered without reading the disk: the test can fail.
            self.cached = self._guest.cat("/etc/hostname")
        self._guest.umount_all()

    def _swap(self, old: bytes, new: bytes) -> None:
        at = self._path.read_bytes().index(old)
        with self._path.open("r+b") as disk:
            disk.seek(at)
            disk.write(new)


def test_the_second_reading_is_not_answered_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    monkeypatch.setenv("LIBGUESTFS_TMPDIR", str(tmp_path))
    path = make_disk(TREES["debian-ifupdown"], tmp_path / "one")
    meddlers: list[Meddler] = []

    def launch(drives: list[tuple[str, str]], memory: int) -> Any:
        meddlers.append(Meddler(guest_child.open_drives(drives, memory), path))
        return meddlers[0]

    hands = Hands(launch, guest_child.work, lambda: guest_child.Steps(lambda event: None))
    with StorageDaemon(str(tmp_path), [path.stat().st_size]) as daemon:
        appliance = Appliance(daemon, 384 << 20, hands)
        try:
            with pytest.raises(Failed) as caught:
                appliance.serve({"disks": [[str(path), "raw"]], "request": request(0).to_map()})
        finally:
            appliance.close()
    assert caught.value.code == "wrong_state"
    assert "/etc/hostname" in caught.value.message
    assert meddlers[0].cached == "vm0.example.jp\n"
    assert not appliance.good


# ---- what goes wrong --------------------------------------------------------------------------------------------


def test_whatever_dies_or_hangs_leaves_a_doubt_and_nothing_else(image: Image, appliances: WarmAppliances) -> None:
    """In its middle, and while it is idle. The order is another one each time the long tests run."""
    bad = [
        ("qemu-storage-daemon", signal.SIGKILL),
        ("qemu-system", signal.SIGSTOP),
        ("guest.child", signal.SIGKILL),
        *([("qemu-system", signal.SIGKILL), ("qemu-storage-daemon", signal.SIGSTOP)] if LONG else []),
    ]
    chance = random.Random(time.time() if LONG else 1)
    quick = HostWorkerSection(warm_timeout="25s", memory_reserve="64M")
    for number, (words, how) in enumerate(bad * (5 if LONG else 1)):
        appliances.customise(image.order(image.clone(f"before{number}"), request(1)), SETTINGS)
        victim = process(words)
        step = chance.choice(["attach", "read", "edit", "verify", "detach"])
        told: list[str] = []

        def on_step(name: str, victim: int = victim, how: int = how, step: str = step, told: list[str] = told) -> None:
            told.append(name)
            if name == step:
                os.kill(victim, how)

        began = time.monotonic()
        with pytest.raises(Doubtful):
            appliances.customise(
                image.order(image.clone(f"bad{number}"), request(2), on_step=on_step),
                quick if how == signal.SIGSTOP else SETTINGS,
            )
        assert step in told
        assert time.monotonic() - began < 60
        assert left_over() == [], (words, how, step)
        assert appliances.standing() == []


@pytest.mark.skipif(not LONG, reason="twenty appliances are launched; MAGLICA_TEST_LONG=1 runs it")
def test_killed_at_any_moment_a_disk_is_right_or_thrown_away(
    image: Image, appliances: WarmAppliances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moment and victim are others each time. What comes back as customised, although something died right then, is
    file by file what a cold appliance makes.
    """
    (wanted,) = (compared(files) for files in cold(image, [2], monkeypatch))
    chance = random.Random(time.time())
    doubts = 0
    for number in range(KILLS):
        began = stand_ready(image, appliances, f"before{number}")
        words = chance.choice(["qemu-storage-daemon", "qemu-system", "guest.child"])
        # A little longer than a clone takes: some come too late for this one.
        moment = chance.uniform(0, 1.1) * (time.monotonic() - began)
        killer = threading.Timer(moment, os.kill, (process(words), signal.SIGKILL))
        killer.start()
        try:
            report = appliances.customise(image.order(image.clone(f"killed{number}"), request(2)), SETTINGS)
        except Doubtful:
            doubts += 1
            assert (left_over(), appliances.standing()) == ([], []), (words, moment)
        else:
            assert report["verified"] is True
            assert compared(files_of(image.folder, f"killed{number}")) == wanted, (words, moment)
        killer.join()
    assert doubts, "none of them came in time"


def stand_ready(image: Image, appliances: WarmAppliances, name: str) -> float:
    """An appliance stands that has served more than its first clone; when the last of them began (monotonic)."""
    try:
        appliances.customise(image.order(image.clone(f"{name}-first"), request(1)), SETTINGS)
    except Doubtful:
        # What was killed when its clone was done already is noticed now.
        appliances.customise(image.order(image.clone(f"{name}-again"), request(1)), SETTINGS)
    began = time.monotonic()
    appliances.customise(image.order(image.clone(f"{name}-next"), request(2)), SETTINGS)
    return began


def test_an_idle_one_that_hangs_is_noticed_before_it_gets_a_disk(image: Image, appliances: WarmAppliances) -> None:
    appliances.customise(image.order(image.clone("one"), request(1)), SETTINGS)
    os.kill(process("qemu-system"), signal.SIGSTOP)
    disks, steps, began = image.clone("two"), [], time.monotonic()
    before = [Path(disk.path).read_bytes() for disk in disks]
    with pytest.raises(Doubtful, match="did not answer"):
        appliances.customise(image.order(disks, request(2), on_step=steps.append), SETTINGS)
    assert time.monotonic() - began < warm.GREETING + 8
    assert steps == ["greet"]
    assert [Path(disk.path).read_bytes() for disk in disks] == before
    assert left_over() == []


def test_cancelled_in_the_middle_and_while_it_waits(image: Image, appliances: WarmAppliances) -> None:
    one = HostWorkerSection(warm_appliances="1", memory_reserve="64M")
    told: list[str] = []
    stop = threading.Event()
    codes: list[str] = []

    def waits() -> None:
        try:
            appliances.customise(image.order(image.clone("waits"), request(2), cancelled=stop.is_set), one)
        except MaglicaError as error:
            codes.append(error.message)

    waiter = threading.Thread(target=waits)

    def cancelled() -> bool:
        if "edit" in told and not waiter.is_alive() and not codes:
            waiter.start()
            time.sleep(0.5)
            stop.set()
            waiter.join(5)
        return "edit" in told

    with pytest.raises(Failed) as caught:
        appliances.customise(image.order(image.clone("one"), request(1), cancelled=cancelled, on_step=told.append), one)
    assert caught.value.code == "cancelled"
    assert codes == ["customising was cancelled (waiting for a warm appliance)"]
    assert left_over() == []


def test_a_refusal_ends_the_job_and_not_the_appliance(tmp_path: Path, appliances: WarmAppliances) -> None:
    """A static address on an image that has no known tool for its network; the clones before and after are served."""
    tree = {
        path: text
        for path, text in TREES["debian-networkd"].items()
        if "network" not in path and path != "/etc/resolv.conf"
    }
    image = Image(tmp_path, [(make_disk(tree, tmp_path / "bare"), "raw")])
    plain = GuestRequest("vm0.example.jp", ("52:54:00:aa:bb:01",))
    appliances.customise(image.order(image.clone("one"), plain), SETTINGS)
    with pytest.raises(Refused) as caught:
        appliances.customise(image.order(image.clone("two"), request(1)), SETTINGS)
    assert caught.value.code == "environment_error"
    report = appliances.customise(image.order(image.clone("three"), plain), SETTINGS)
    assert (report["appliance"], report["note"]) == ("warm", "clone 3 in it")
    # The image changes: what stands for it is of no use any more.
    os.utime(image.disks[0][0], ns=(1, 1))
    appliances.tidy(SETTINGS)
    assert appliances.standing() == []
    waiting.until(lambda: left_over() == [], 20, "nothing is left")


def test_an_unknown_system_is_refused_as_a_cold_appliance_refuses_it(
    tmp_path: Path, appliances: WarmAppliances
) -> None:
    image = Image(tmp_path, [(make_disk(TREES["unknown"], tmp_path / "alpine"), "raw")])
    with pytest.raises(Refused, match="do not know how to customise Alpine") as caught:
        appliances.customise(image.order(image.clone("one"), request(1)), SETTINGS)
    assert caught.value.code == "wrong_input"


def test_when_none_applies_the_disks_are_untouched(image: Image, appliances: WarmAppliances) -> None:
    disks = image.clone("one")
    with pytest.raises(Unfit, match="warm_appliances is 0"):
        appliances.customise(image.order(disks, request(1)), HostWorkerSection(warm_appliances="0"))
    with pytest.raises(Unfit, match="short of memory"):
        appliances.customise(image.order(disks, request(1)), HostWorkerSection(memory_reserve="900G"))
    with pytest.raises(Unfit, match="disks are no files"):
        appliances.customise(image.order(disks[:1], request(1)), SETTINGS)
    changed = image.order(disks, request(1))
    os.utime(image.disks[0][0], ns=(1, 1))
    with pytest.raises(Unfit, match="has changed"):
        appliances.customise(changed, SETTINGS)
    with pytest.raises(Unfit, match="no file"):
        warm.image([("/dev/null", "raw", 512)])


def test_a_disk_of_another_size_or_image_is_not_edited(
    image: Image, appliances: WarmAppliances, tmp_path: Path
) -> None:
    appliances.customise(image.order(image.clone("one"), request(1)), SETTINGS)
    bigger = image.clone("bigger")
    subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", bigger[1].path, "1G"], check=True)
    with pytest.raises(Doubtful, match="a disk has 1073741824 bytes"):
        appliances.customise(image.order(bigger, request(2)), SETTINGS)
    appliances.customise(image.order(image.clone("two"), request(1)), SETTINGS)
    (tmp_path / "other").mkdir()
    other = two_disks(tmp_path / "other").clone("other")
    with pytest.raises(Doubtful, match="does not begin as its image does"):
        appliances.customise(image.order(other, request(2)), SETTINGS)
    assert left_over() == []


# ---- other roots ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lvm", "xfs", "btrfs"])
def test_other_roots(kind: str, tmp_path: Path, appliances: WarmAppliances, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clones in a row; the last one is read once more by an appliance of its own."""
    image = Image(tmp_path, [(MAKE[kind](tmp_path, monkeypatch), "raw")])
    for number in range(3):
        disks = image.clone(f"clone{number}")
        report = appliances.customise(image.order(disks, request(number)), SETTINGS)
        assert (report["appliance"], report["verified"]) == ("warm", True)
        assert report["inspection"] == ("direct" if kind == "xfs" else "inspect_os")
    assert report["note"] == "clone 3 in it"
    appliances.close()
    told = verify(disks, request(2), Terms(False, 300, lambda name: None, lambda: False))
    assert told["verified"] is True


def tree_of(folder: Path, fstab: str) -> Path:
    return write_tree(dict(TREES["debian-ifupdown"]) | {"/etc/fstab": fstab}, folder / "tree")


def on_xfs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    disk = folder / "xfs.raw"
    with disk.open("wb") as stream:
        stream.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", disk], check=True)
    fill(disk, tree_of(folder, "/dev/vda / xfs defaults 0 1\n"), folder)
    return disk


def fill(disk: Path, tree: Path, folder: Path) -> None:
    """Copy a tree into a file system, which this machine's kernel mounts for a moment."""
    (point := folder / "mnt").mkdir()
    subprocess.run(["mount", "-o", "loop", disk, point], check=True)
    try:
        subprocess.run(["cp", "-a", f"{tree}/.", point], check=True)
    finally:
        subprocess.run(["umount", point], check=True)


def on_btrfs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/ and /var are subvolumes."""
    tree = tree_of(folder, "LABEL=sys / btrfs subvol=@ 0 0\nLABEL=sys /var btrfs subvol=@var 0 0\n")
    disk = folder / "btrfs.raw"
    with disk.open("wb") as stream:
        stream.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "-L", "sys", disk], check=True)
    (point := folder / "mnt").mkdir()
    subprocess.run(["mount", "-o", "loop", disk, point], check=True)
    try:
        for name in ("@", "@var"):
            subprocess.run(["btrfs", "-q", "subvolume", "create", point / name], check=True)
        subprocess.run(["cp", "-a", f"{tree}/.", point / "@"], check=True)
        subprocess.run(["cp", "-a", f"{tree}/var/.", point / "@var"], check=True)
    finally:
        subprocess.run(["umount", point], check=True)
    return disk


def on_lvm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made in an appliance: this machine may have no device-mapper."""
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    tree = tree_of(folder, "/dev/vg/root / ext4 defaults 0 1\n/dev/vg/var /var ext4\n")
    disk, packed = folder / "lvm.raw", folder / "tree.tar"
    with disk.open("wb") as stream:
        stream.truncate(128 << 20)
    subprocess.run(["tar", "-C", tree, "--owner=0", "--group=0", "-cf", packed, "."], check=True)
    guest = guest_child.open_disks([(str(disk), "raw")], read_only=False)
    try:
        guest.part_disk("/dev/sda", "mbr")
        guest.pvcreate("/dev/sda1")
        guest.vgcreate("vg", ["/dev/sda1"])
        for name, megabytes, point in (("root", 64, "/"), ("var", 32, "/var")):
            guest.lvcreate(name, "vg", megabytes)
            guest.mkfs("ext4", f"/dev/vg/{name}")
            if point != "/":
                guest.mkdir_p(point)
            guest.mount(f"/dev/vg/{name}", point)
        guest.tar_in(str(packed), "/")
        guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()
    return disk


MAKE = {"lvm": on_lvm, "xfs": on_xfs, "btrfs": on_btrfs}


# ---- a host worker that is killed -------------------------------------------------------------------------------


def test_nothing_outlives_whoever_holds_the_appliance(image: Image, tmp_path: Path) -> None:
    """kill -9 while one is idle: its child hears the end of its stdin."""
    disks = image.clone("one")
    parts = [(str(path), form, virtual_size(path)) for path, form in image.disks]
    script = f"""
import sys
from maglica.config import HostWorkerSection
from maglica.host_worker.guest import warm
from maglica.host_worker.guest.customize import GuestRequest
from maglica.host_worker.guest.disk import Disk, Terms
disks = [Disk(path, form) for path, form in {[(disk.path, disk.format) for disk in disks]!r}]
order = warm.Order(warm.image({parts!r}), disks, GuestRequest("vm0", ("52:54:00:aa:bb:01",)),
                   Terms(False, 300, lambda name: None, lambda: False))
warm.WarmAppliances({MARK!r}).customise(order, HostWorkerSection(memory_reserve="64M"))
print("ready", flush=True)
sys.stdin.read()
"""
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        assert len(left_over()) >= 4
        holder.kill()
    waiting.until(lambda: left_over() == [], 20, "nothing is left")
