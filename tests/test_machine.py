"""Looking at this machine: real folders, real sockets, the real resolver."""

from __future__ import annotations

import os
from pathlib import Path

from maglica import machine
from tests.daemons import free_ports


def test_modes_of_a_folder_and_its_files(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o750)
    (keys / "b.key").touch(mode=0o600)
    (keys / "a.key").touch()
    os.chmod(keys / "a.key", 0o644)
    found = machine.folder(str(keys))
    assert (found["mode"], found["ours"], found["why"]) == ("0750", True, None)
    assert [(Path(one["path"]).name, one["mode"]) for one in found["files"]] == [("a.key", "0644"), ("b.key", "0600")]


def test_a_link_counts_as_what_it_leads_to_and_a_folder_is_no_secret(tmp_path: Path) -> None:
    """Whatever chmod does about it, a link has mode 0777; and a folder without x cannot be entered."""
    keys, mine = tmp_path / "keys", tmp_path / "mine.key"
    keys.mkdir()
    (keys / "import").mkdir(mode=0o755)
    mine.touch(mode=0o600)
    (keys / "admin.key").symlink_to(mine)
    (keys / "gone.key").symlink_to(tmp_path / "gone")
    link = tmp_path / "link"
    link.symlink_to(keys)
    found = machine.folder(str(link))
    assert found["mode"] == f"{keys.stat().st_mode & 0o7777:04o}"
    assert [(Path(one["path"]).name, one["mode"]) for one in found["files"]] == [("admin.key", "0600")]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    found = machine.folder(str(tmp_path / "nothing"))
    assert (found["mode"], found["why"], found["files"]) == (None, "No such file or directory", [])


def test_room(tmp_path: Path) -> None:
    found = machine.room(str(tmp_path))
    assert 0 < found["free_bytes"] < found["total_bytes"]
    assert machine.room(str(tmp_path / "nothing"))["why"] == "No such file or directory"


def test_ports() -> None:
    (number,) = free_ports(1)
    assert machine.port("127.0.0.1", number, 1.0) == "Connection refused"
    assert machine.port("no.such.host.invalid", number, 1.0)


def test_names() -> None:
    found = machine.name("localhost")
    assert "127.0.0.1" in found["addresses"] or "::1" in found["addresses"]
    assert found["why"] is None or found["names"] == []
    lost = machine.name("no.such.host.invalid")
    assert lost["addresses"] == []
    assert lost["why"]
