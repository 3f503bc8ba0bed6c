"""What overlays rest on: told by their headers, kept from being written, known again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maglica.host_worker.disk import bases, qcow2
from maglica.host_worker.disk.bases import Dependant
from maglica.host_worker.domain import look

MIB = 1 << 20


def create(path: Path, *words: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words[:-1], str(path), *words[-1:]], check=True)
    return path


def overlay(path: Path, base: str, format: str = "qcow2") -> Path:
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", format, str(path)], check=True, cwd=path.parent
    )
    return path


# -------------------------------------------------------------------------------------------------------- headers


def test_a_header_tells_what_qemu_wrote(tmp_path: Path) -> None:
    base = create(tmp_path / "base", "20G")
    assert qcow2.header(str(base)) == qcow2.Header(20 << 30, None, None, 0)
    one = overlay(tmp_path / "one", str(base))
    assert qcow2.header(str(one)) == qcow2.Header(20 << 30, str(base), "qcow2", 0)
    old = create(tmp_path / "old", "-o", "compat=0.10", "1M")
    assert qcow2.header(str(old)) == qcow2.Header(MIB, None, None, 0)
    subprocess.run(["qemu-img", "snapshot", "-c", "s1", str(base)], check=True)
    assert qcow2.header(str(base)) == qcow2.Header(20 << 30, None, None, 1)
    apart = create(tmp_path / "apart", "-o", f"data_file={tmp_path}/data,data_file_raw=on", "1M")
    assert qcow2.header(str(apart)) == qcow2.Header(MIB, None, None, 0, elsewhere=True)


@pytest.mark.parametrize("data", [b"", b"QFI\xfb", bytes(4096), b"QFI\xfb" + b"\xff" * 200, b"MZ" + bytes(510)])
def test_what_is_no_header_breaks_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    found = qcow2.header(str(tmp_path / "x"))
    assert found is None or found.capacity_bytes == (1 << 64) - 1
    assert qcow2.header(str(tmp_path / "nosuch")) is None


def test_a_chain_goes_to_the_last_file_even_if_that_is_gone(tmp_path: Path) -> None:
    base = tmp_path / "base.img"
    base.write_bytes(bytes(MIB))
    overlay(tmp_path / "one", "base.img", "raw")  # relative to where the overlay lies
    two = overlay(tmp_path / "two", str(tmp_path / "one"))
    chain = [str(tmp_path / name) for name in ("two", "one", "base.img")]
    assert qcow2.chain(str(two), "qcow2") == qcow2.chain(str(two), None) == chain
    assert qcow2.chain(str(two), "raw") == look.chain(str(two), "raw") == chain[:1]
    base.unlink()
    assert qcow2.chain(str(two), "qcow2") == chain
    (tmp_path / "link").symlink_to(two)
    assert qcow2.chain(str(tmp_path / "link"), "qcow2") == chain


def test_what_only_qemu_understands_is_said_to_be_so(tmp_path: Path) -> None:
    base = create(tmp_path / "base", "1M")
    odd = tmp_path / "odd"
    words = f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{base}"}}}}'
    overlay(odd, words)
    with pytest.raises(qcow2.Unreadable):
        qcow2.chain(str(odd), "qcow2")
    circle = overlay(tmp_path / "circle", str(base))
    subprocess.run(["qemu-img", "rebase", "-u", "-b", str(circle), "-F", "qcow2", str(circle)], check=True)
    with pytest.raises(qcow2.Unreadable, match="rests on itself"):
        qcow2.chain(str(circle), "qcow2")
    assert look.chain(str(circle), "qcow2") == [str(circle)]


# ---------------------------------------------------------------------------------------------------------- signs


def written(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"changed")


def kept_time(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        before = path.stat()
        change(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


def copied(path: Path) -> None:
    subprocess.run(["cp", "-p", str(path), f"{path}.copy"], check=True)
    os.rename(f"{path}.copy", path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: None, ""),
        (lambda path: path.read_bytes(), ""),
        (lambda path: path.chmod(0o400), ""),
        (copied, ""),  # a backup that kept the time
        (written, "has another content"),
        (kept_time(written), "has another content"),
        (lambda path: os.utime(path, (1, 1)), "was written since"),
        (lambda path: os.truncate(path, 4 * MIB), "has 4194304 bytes, and had 8388608"),
        (lambda path: path.unlink(), "is gone"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
        (lambda path: (copied(path), os.utime(path, (1, 1))), "is another file, of another time"),
    ],
)
def test_what_became_of_a_base(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    path = tmp_path / "base"
    path.write_bytes(os.urandom(8 * MIB))
    then = bases.look(str(path))
    assert bases.from_mark(bases.to_mark([then])) == [then]
    change(path)
    assert bases.compare(then) == words


def test_the_end_of_a_file_is_looked_at_too(tmp_path: Path) -> None:
    for size in (8 * MIB, 5000, 100, 1, 0):
        path = tmp_path / f"base{size}"
        path.write_bytes(bytes(size))
        then = bases.look(str(path))
        assert bases.compare(then) == ""
        if size:
            before = path.stat()
            with path.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"x")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert bases.compare(then) == "has another content"


@pytest.mark.parametrize("text", [None, "", "x", "[]", "{}", "[1]", '[["a",1]]', '[["a",1,2,3,"x","y"]]', "null"])
def test_a_mark_that_makes_no_sense_says_nothing(text: str | None) -> None:
    assert bases.from_mark(text) == []


# ----------------------------------------------------------------------------------------------- write permission


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "kept"), [(0o644, 0o444), (0o600, 0o400), (0o660, 0o440), (0o666, 0o444)])
def test_the_permission_to_write_goes_and_comes_back(tmp_path: Path, before: int, kept: int) -> None:
    """Who may read it stays as it is: an image of 0600 is not for everybody."""
    path = tmp_path / "base"
    path.touch()
    path.chmod(before)
    bases.keep(str(path))
    bases.keep(str(path))
    assert (mode(path), bases.is_kept(str(path))) == (kept, True)
    bases.release(str(path))
    assert (mode(path), bases.is_kept(str(path))) == (before, False)
    bases.release(str(path))
    assert mode(path) == before


def test_what_somebody_else_made_read_only_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.touch()
    path.chmod(0o444)
    bases.keep(str(path))
    bases.release(str(path), unknown=True)
    assert mode(path) == 0o444
    bases.keep(str(tmp_path / "nosuch"))
    bases.release(str(tmp_path / "nosuch"))


# ------------------------------------------------------------------------------------------------------ dependants


def test_who_rests_on_what() -> None:
    chains = [
        ("web2", ["/o2", "/base"]),
        ("web1", ["/o1", "/o2", "/base"]),
        ("other", ["/x", "/y"]),
        (None, ["/loose", "/base"]),
        ("image", ["/base", "/older"]),
        (None, ["/o1", "/o2", "/base"]),
    ]
    assert bases.dependants(["/base"], chains) == [
        Dependant("web1", "/o1", "/base"),
        Dependant("web2", "/o2", "/base"),
        Dependant(None, "/loose", "/base"),
    ]
    assert bases.dependants(["/nobody"], chains) == []
    assert bases.dependants(["/base", "/older"], chains, own=["/base"])[0].path == "/o1"
    assert Dependant("image", "/base", "/older") not in bases.dependants(["/older", "/base"], chains, own=["/base"])


def test_a_long_chain_that_only_qemu_can_read(tmp_path: Path) -> None:
    """One that says where it rests in QEMU's own words: all of it is told, however much that is."""
    base = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    last, words = base, json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(base)}})
    for number in range(12):
        over = tmp_path / f"over{number}.qcow2"
        behind = f"json:{words}" if number == 0 else str(last)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", behind, over], check=True)
        last = over
    with pytest.raises(qcow2.Unreadable):
        qcow2.chain(str(last), "qcow2")
    assert look.chain(str(last), "qcow2") == [str(tmp_path / f"over{number}.qcow2") for number in range(11, -1, -1)] + [
        str(base)
    ]
