"""What a guest wrote at the beginning of its raw disk is no header, whatever it looks like. Real files, in a world of
libvirt's test driver that is told to take its disks for real."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maglica import wire
from maglica.errors import Failed
from maglica.host_worker.disk import dependants, qcow2
from maglica.host_worker.domain import look, removing, starting
from maglica.host_worker.work import Work
from tests.host_worker.test_jobs_vm import Ward
from tests.host_worker.worlds import IMAGE, MiB, of_files, write

NAMES = [
    b"\xff",
    b"\xed\xb3\xbf",  # what is no UTF-8 in other words: a lone surrogate
    b"a\0b",
    b"x" * 5000,
    b"nbd://192.0.2.1/x",
    b'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}',
    b"",
    b"/etc/passwd",
    b"web2.img",
]


def forged(name: bytes, format: bytes = b"", offset: int = 512) -> bytes:
    """The beginning of a qcow2 that rests on something of that name."""
    head = struct.pack(">4sIQIIQ", qcow2.MAGIC, 2, offset, len(name), 16, MiB).ljust(72, b"\0")
    extension = struct.pack(">II", qcow2.BACKING_FORMAT, len(format)) + format if format else b""
    return (head + extension).ljust(512, b"\0") + name


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    found = tmp_path / "pool"
    found.mkdir()
    return found


@pytest.fixture
def ward(tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    """web1, web2 and an image, whose disks are raw files in a real folder. There is no qemu-img that could be asked."""
    uri = of_files(tmp_path, pool, "web1", "web2", IMAGE)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    found = Ward(tmp_path, uri, pool_reserve=1 << 20)
    found.hypervisor.driver = "files"
    yield found
    found.close()


ASKED: list[tuple[str, dict[str, Any]]] = [
    ("vm info", {"name": "web1"}),
    ("vm list", {}),
    ("vm find", {"what": "/nosuch/*"}),
    ("disk list", {"name": "web1"}),
    ("disk info", {"name": "web1", "target": "vda"}),
    ("image list", {"all": True}),
    ("image dependents", {"name": IMAGE}),
    ("host survey", {"room": True, "lives": True}),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_raw_disk_rests_on_nothing(ward: Ward, pool: Path, name: bytes) -> None:
    path = pool / "web1.img"
    write(path, forged(name))
    for action, args in ASKED:
        wire.encode(ward.read(action, **args))
    assert ward.read("disk list", name="web1")["items"][0]["rests_on"] == []
    assert ward.read("vm info", name="web1")["item"]["disks"][0]["rests_on"] == []
    (source,) = look.sources(ward.hypervisor, ward.domain("web1"), ward.host.storage)
    assert (source.rests_on, source.allocation_bytes) == (None, os.stat(path).st_blocks * 512)
    starting.look("web1", ward.host, ignore_changed_base=False, job="job1")
    starting.look("web2", ward.host, ignore_changed_base=False, job="job1")
    assert dependants.of(ward.hypervisor, [str(pool / "web2.img")]) == []
    assert look.users_of(ward.hypervisor, "web2", [str(pool / "web2.img")]) == ([str(pool / "web2.img")], {})


@pytest.mark.parametrize("name", NAMES)
def test_nor_does_what_an_overlay_calls_raw(tmp_path: Path, name: bytes) -> None:
    base, over = tmp_path / "base.img", tmp_path / "over.qcow2"
    write(base, forged(name))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, over], check=True)
    assert look.chain(str(over), "qcow2") == look.chain(str(over), None) == [str(over), str(base)]


@pytest.mark.parametrize("name", NAMES[:-3])
def test_what_no_definition_names_is_read_as_far_as_its_names_are_some(ward: Ward, pool: Path, name: bytes) -> None:
    """A left-over of a pool, and one whose format nobody wrote down: no word of it is given to QEMU."""
    left, over = pool / "left.img", pool / "over.qcow2"
    write(left, forged(name))
    write(over, forged(b"left.img"))
    assert look.chain(str(left), None) == [str(left)]
    assert look.chain(str(over), "qcow2") == [str(over), str(left)]
    found = dependants.of(ward.hypervisor, [str(left), str(pool / "web2.img")])
    assert [(one.path, one.base) for one in found] == [(str(over), str(left))]
    dependants.release_forgotten(ward.hypervisor)


@pytest.mark.parametrize("name", NAMES[:-3])
def test_a_name_that_is_none_can_be_told(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "x.qcow2"
    write(path, forged(name))
    with pytest.raises(qcow2.Unreadable, match=f"{path} rests on ") as found:
        qcow2.chain(str(path), "qcow2")
    str(found.value).encode()
    assert found.value.links == [str(path)]


def test_a_name_beyond_what_is_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.qcow2"
    write(path, forged(b"base", offset=qcow2.MOST - 2))
    with pytest.raises(qcow2.Unreadable, match="no name of a file"):
        qcow2.chain(str(path), "qcow2")


@pytest.mark.timeout(20)
def test_what_is_no_disk_is_not_opened(tmp_path: Path) -> None:
    """A pipe would never answer, and some devices act when somebody opens them."""
    path, pipe = tmp_path / "x.qcow2", tmp_path / "pipe"
    os.mkfifo(pipe)
    write(path, forged(b"pipe"))
    assert qcow2.chain(str(path), "qcow2") == [str(path), str(pipe)]


def test_an_image_of_which_qemu_tells(ward: Ward, pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own disk is all that QEMU is asked about."""
    monkeypatch.undo()
    path = pool / f"{IMAGE}.img"
    write(path, forged(b"json:{}"))
    (disk,) = ward.read("image info", name=IMAGE)["items"][0]["disks"]
    assert (disk["path"], disk["format"], disk["chain"], disk["why"]) == (str(path), "raw", [], None)
    assert disk["capacity_bytes"] == MiB


def test_what_is_called_qcow2_is_followed(ward: Ward, pool: Path) -> None:
    text = ward.hypervisor.definition("web1")
    ward.hypervisor.define(text.replace("<source file", "<driver name='qemu' type='qcow2'/><source file", 1))
    write(pool / "web1.img", forged(b"web2.img", b"raw"))
    assert ward.read("disk list", name="web1")["items"][0]["rests_on"] == [str(pool / "web2.img")]
    assert look.users_of(ward.hypervisor, "web2", [str(pool / "web2.img")])[1] == {str(pool / "web2.img"): "web1"}


@pytest.mark.parametrize("what", ["start", "remove", "grow"])
def test_who_came_to_rest_on_a_disk_since_that_was_asked_is_seen(ward: Ward, pool: Path, what: str) -> None:
    """A clone that began and ended between the question and the deed: it would be damaged."""
    disk, work = pool / "web1.img", Work("job9", 60.0, ward.journal, lambda: None)
    domain = ward.domain("web1")

    def deed() -> None:
        if what == "start":
            with starting.to_be_written("web1", [str(disk)], ward.host, lives=False):
                pass
        elif what == "remove":
            removing.remove(domain, [str(disk)], ward.host, work)
        else:
            starting.refuse_used_since("web1", [str(disk)], ward.host)

    with ward.host.storage.using([str(disk)], "clone"):
        (pool / "new1.qcow2").write_bytes(forged(str(disk).encode(), b"raw"))
    with pytest.raises(Failed, match=f"uses its disk {disk}") as failed:
        deed()
    assert failed.value.code == "protected"
    assert disk.exists()
    assert ward.hypervisor.has_domain(domain.uuid)
    (pool / "new1.qcow2").unlink()
    if what != "remove":  # the test driver knows not all that is said to undefine
        deed()
