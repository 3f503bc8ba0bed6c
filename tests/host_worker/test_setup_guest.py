"""What a clone gets beside its identity, on a real disk: owners, modes, labels, links; then the same disk is sealed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maglica.errors import Failed, Refused
from maglica.host_worker.guest import child as guest_child
from maglica.host_worker.guest import inspection
from maglica.host_worker.guest.customization import File
from tests.host_worker.guest_trees import make_disk
from tests.host_worker.test_customize import HASH, KEY
from tests.host_worker.test_sealing import LIFE
from tests.host_worker.test_setup import CONTEXTS, FULL, HOMEDIRS, tree_of, wish

LABELS = {
    "/etc/selinux/targeted/contexts/files/file_contexts": CONTEXTS,
    "/etc/selinux/targeted/contexts/files/file_contexts.homedirs": HOMEDIRS,
}
CLOUD = {"/usr/bin/cloud-init": "", "/etc/cloud/cloud.cfg": "users: []\n"}
BINARY = bytes(range(256)).decode("utf-8", "surrogateescape")


@pytest.mark.lab
@pytest.mark.timeout(600)
def test_a_customised_guest_and_the_image_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One appliance for all of it: launching one costs ten seconds."""
    monkeypatch.setenv("LIBGUESTFS_BACKEND", "direct")
    monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    disk = make_disk(tree_of("rhel9-keyfile", {**LABELS, **LIFE, **CLOUD}), tmp_path / "rhel9")
    custom = replace(FULL, files=(*FULL.files, File("/opt/blob", BINARY, 0o4755)))
    request = wish(custom, root_password_hash=HASH)
    steps = guest_child.Steps(lambda event: None)
    guest = guest_child.open_disks([(str(disk), "raw")], read_only=False)
    try:
        layout = inspection.layout(guest)
        report = guest_child.work(guest, layout, "customise", request, steps)
        assert report["verified"] is True
        assert HASH not in str(report)
        check_customised(guest)
        guest.umount_all()
        assert guest_child.work(guest, layout, "verify", request, steps)["verified"] is True
        check_spoiled(guest, layout, request, steps)
        guest.umount_all()
        sealed = guest_child.work(guest, layout, "seal", None, steps)
        assert (sealed["verified"], sealed["cloud_init"]) == (True, True)
        assert "remove /root/.bash_history" in sealed["edits"]
        check_sealed(guest)
        guest.umount_all()
        # No package manager is in this tree: it fails in words, and does not hang.
        with pytest.raises((Failed, Refused)) as failed:
            guest_child.work(guest, layout, "upgrade", None, steps)
        assert failed.value.code == "environment_error"
    finally:
        guest.close()


def check_customised(guest: Any) -> None:
    """The disk is still mounted, read-only."""
    assert "disabled" in guest.cat("/etc/cloud/cloud.cfg.d/99-maglica.cfg")
    assert guest.read_file("/opt/blob") == bytes(range(256))
    assert mode_and_owner(guest, "/opt/blob") == (0o4755, 0, 0)
    assert mode_and_owner(guest, "/home/alice") == (0o700, 1001, 1001)
    assert mode_and_owner(guest, "/home/alice/.ssh") == (0o700, 1001, 1001)
    assert mode_and_owner(guest, "/home/alice/.ssh/authorized_keys") == (0o600, 1001, 1001)
    assert mode_and_owner(guest, "/home/alice/.profile") == (0o644, 1001, 1001)
    assert mode_and_owner(guest, "/etc/sudoers.d/maglica-alice") == (0o440, 0, 0)
    assert mode_and_owner(guest, "/etc/shadow") == (0o640, 0, 0)
    assert guest.cat("/home/alice/.ssh/authorized_keys") == KEY + "\n"
    assert guest.readlink("/etc/localtime") == "../usr/share/zoneinfo/Asia/Tokyo"
    assert label(guest, "/etc/localtime") == "system_u:object_r:locale_t:s0"
    assert label(guest, "/home/alice/.ssh/authorized_keys") == "unconfined_u:object_r:ssh_home_t:s0"
    assert label(guest, "/etc/systemd/system/maglica-first-boot.service").split(":")[2] == "systemd_unit_file_t"
    assert not guest.exists("/.autorelabel")


def check_spoiled(guest: Any, layout: Any, request: Any, steps: Any) -> None:
    """The second look finds each kind of damage."""
    guest.umount_all()
    guest.mount(layout.root, "/")
    guest.chown(0, 0, "/home/alice/.ssh/authorized_keys")
    guest.rm("/etc/localtime")
    guest.write("/srv/app/conf.d/a.conf", b"a=2\n")
    guest.umount_all()
    with pytest.raises(Failed) as failed:
        guest_child.work(guest, layout, "verify", request, steps)
    problems = "; ".join(failed.value.details["problems"])
    for words in ("authorized_keys does not belong to 1001:1001", "/etc/localtime is no link", "a.conf does not hold"):
        assert words in problems


def check_sealed(guest: Any) -> None:
    gone = ("/root/.bash_history", "/home/user/.bash_history", "/tmp/x", "/var/cache/dnf/appstream")
    # A clone of this image may be one that cloud-init customises: nothing must keep it from that.
    for path in (*gone, "/etc/cloud/cloud.cfg.d/99-maglica.cfg"):
        assert not guest.exists(path), path
    assert guest.filesize("/etc/machine-id") == 0
    assert guest.filesize("/var/log/syslog") == 0
    assert guest.cat("/home/user/notes") == "mine\n"
    assert guest.exists("/home/alice/.ssh/authorized_keys")


def mode_and_owner(guest: Any, path: str) -> tuple[int, int, int]:
    facts = guest.lstatns(path)
    return facts["st_mode"] & 0o7777, facts["st_uid"], facts["st_gid"]


def label(guest: Any, path: str) -> str:
    found = {one["attrname"]: one["attrval"] for one in guest.lgetxattrs(path)}["security.selinux"]
    return str(found.decode() if isinstance(found, bytes) else found).rstrip("\0")
