"""What is promised, what is in use: between the jobs of one host."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from maglica.errors import Refused
from maglica.host_worker.disk.storage import Storage

GIB = 1 << 30


def test_room_is_promised_once() -> None:
    storage = Storage()
    with storage.promise("p", 3 * GIB, 5 * GIB) as mine:
        assert storage.promised("p") == 3 * GIB
        assert storage.promised("q") == 0
        with pytest.raises(Refused) as refused, storage.promise("p", 3 * GIB, 5 * GIB):
            pass
        assert refused.value.code == "no_capacity"
        assert "pool p has 2048 MiB to give beside what other jobs take just now" in refused.value.message
        mine.took(2 * GIB)  # it is on the disk, and missing from what is free there
        assert storage.promised("p") == GIB
        with storage.promise("p", 2 * GIB, 3 * GIB):
            assert storage.promised("p") == 3 * GIB
        mine.took(9 * GIB)
        assert storage.promised("p") == 0
    assert storage.promised("p") == 0


def test_the_same_room_is_not_given_to_two_that_ask_at_once() -> None:
    storage, given, over = Storage(), [], threading.Barrier(8)

    def ask() -> None:
        over.wait()
        try:
            with storage.promise("p", GIB, 3 * GIB):
                given.append(True)
                over.wait()
        except Refused:
            over.wait()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 3


def test_what_is_read_is_not_changed_and_the_other_way_round() -> None:
    storage = Storage()
    with storage.using(["/a", "/b"], "web1 cannot be cloned"), storage.using(["/a"], "web2 cannot be cloned"):
        with (
            pytest.raises(Refused, match="x cannot be started: another job is just copying /a") as refused,
            storage.changing(["/c", "/a"], "x cannot be started"),
        ):
            pass
        assert refused.value.code == "locked"
        with storage.changing(["/c"], "x"):
            pass
    with storage.changing(["/a"], "x"):
        with pytest.raises(Refused, match="another job is just changing /a"), storage.using(["/a"], "web1"):
            pass
        with storage.using(["/c"], "web1"):
            pass
    with storage.using(["/a"], "web1"), storage.using(["/c"], "web1"):
        pass


def test_a_file_is_the_same_by_whatever_name_and_wherever_it_is_moved(tmp_path: Path) -> None:
    """A pool's folder may be a link; and what is set aside, or replaced, is held on to both as a file and as a path."""
    (tmp_path / "data").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "data")
    file, link = tmp_path / "data" / "x", tmp_path / "images" / "x"
    file.write_bytes(b"")
    storage = Storage()
    with storage.using([str(link)], "a"):
        for path in (file, link, tmp_path / "images" / ".." / "data" / "x"):
            with pytest.raises(Refused, match="is just copying"), storage.changing([str(path)], "b"):
                pass
    with storage.changing([str(link)], "a"):
        file.rename(aside := tmp_path / "data" / "y")
        file.write_bytes(b"")
        for path in (file, aside):
            with pytest.raises(Refused, match="is just changing"), storage.using([str(path)], "b"):
                pass
    with storage.using([str(file)], "a"), storage.using([str(aside)], "a"):
        pass


def test_what_was_used_once_is_asked_about_again() -> None:
    storage = Storage()
    assert not storage.was_used(["/a", "/b"])
    with storage.using(["/a"], "x"):
        assert storage.was_used(["/b", "/a"])
    assert storage.was_used(["/a"])
    assert not storage.was_used(["/b"])
