"""What the host keeps of something that is open; how consoles are locked and displays are found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from maglica.errors import Refused
from maglica.host_worker.domain import console as consoles
from maglica.host_worker.domain import displays
from maglica.host_worker.streams import console, source, vnc
from maglica.host_worker.streams.source import Opened, Source

DEVICES = "<domain><devices>{}</devices></domain>"


def opened(*, shared: bool = True) -> Source:
    found = Source("console web1", 0.0)
    found.begin(Opened(-1, b"", shared, "", lambda: None))
    return found


def answer(one: Source, **more: object) -> dict[str, object]:
    return {"ok": True, "n": one._n, "life": one.life, "got": 0, "seen": 0, "typed": [], "close": False, **more}


def test_a_message_is_out_at_all_times_and_only_one_brings_bytes() -> None:
    one = opened()
    first = one.message(0.0)
    assert first
    assert (first["data"], one.message(0.1)) == (b"", None)
    one.read.push(b"abc")
    second = one.message(0.2)
    assert second
    assert (second["at"], second["data"]) == (0, b"abc")
    one.read.push(b"def")
    assert one.message(0.3) is None, "until it is heard that these came"
    one.answered(answer(one, got=3), 0.4)
    third = one.message(0.4)
    assert third
    assert (third["at"], third["data"]) == (3, b"def")
    assert one.message(0.4 + source.AGAIN) is not None, "it may be lost"


def test_who_typed_long_ago_is_forgotten() -> None:
    """All of them are told with each message, which has its limit."""
    one = opened()
    for number in range(2 * source.TYPISTS):
        one.message(float(number))
        assert one.answered(answer(one, typed=[[f"{number:032}", 0, b"x"]]), float(number)) == b"x"
    assert len(one.taken) == source.TYPISTS


def test_what_is_private_waits_and_what_is_shared_does_not() -> None:
    private, shared = opened(shared=False), opened()
    for one in (private, shared):
        one.read.put(bytes(one.read.size))
    assert not private.reads
    assert private.full
    assert shared.reads
    private.message(0.0)
    private.answered(answer(private, got=1000, seen=500), 0.1)
    assert (private.read.start, private.reads) == (500, True)


def test_it_is_kept_for_a_client_worker_that_may_come_back() -> None:
    one = opened()
    assert not one.forgotten(source.LINGER - 1)
    one.message(1.0)
    one.answered({"ok": False, "n": 1, "life": one.life}, 1.0)
    assert one.message(1.5) is None
    assert one.message(1.0 + source.LATER) is not None
    assert one.forgotten(source.LINGER + 1)


@pytest.mark.parametrize(
    ("devices", "found"),
    [
        ("", None),
        ("<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>", ("pty", "/dev/pts/3")),
        ("<serial type='pty'><source path='/dev/pts/4'/></serial>", ("pty", "/dev/pts/4")),
        ("<serial type='pty'/><console type='pty'/>", ("pty", None)),
        ("<console type='unix'><source mode='bind' path='/run/x'/></console>", ("unix", "/run/x")),
    ],
)
def test_where_the_console_is(devices: str, found: object) -> None:
    assert displays.terminal(DEVICES.format(devices)) == found


def test_what_displays_there_are_without_their_passwords() -> None:
    found = displays.displays(
        DEVICES.format(
            "<graphics type='spice' port='5901' tlsPort='-1' listen='0.0.0.0'/>"
            "<graphics type='vnc' port='-1' passwd='secret7'><listen type='address' address='::1'/></graphics>"
            "<graphics type='vnc' socket='/run/vnc'/><graphics type='vnc'><listen type='none'/></graphics>"
        )
    )
    assert [(one["type"], one["listen"], one["address"], one["port"], one["socket"]) for one in found] == [
        ("spice", "address", "0.0.0.0", 5901, None),
        ("vnc", "address", "::1", None, None),
        ("vnc", "socket", None, None, "/run/vnc"),
        ("vnc", "none", None, None, None),
    ]
    assert [one["password"] for one in found] == [False, True, False, False]
    assert "secret7" not in repr(found)
    assert vnc.chosen("web1", found) == 1
    with pytest.raises(Refused, match="SPICE"):
        vnc.chosen("web1", found[:1])
    with pytest.raises(Refused, match="has no display"):
        vnc.chosen("web1", [])


def test_a_lock_is_one_process_and_dies_with_it(tmp_path: Path) -> None:
    lock = console.locked("web1", "/dev/pts/3", str(tmp_path))
    assert os.path.basename(lock) == "LCK.._pts_3"
    assert Path(lock).read_text() == f"{os.getpid():10d}\n"
    with pytest.raises(Refused, match="open in another program"):
        console.locked("web1", "/dev/pts/3", str(tmp_path))
    console.unlock(lock)
    assert not os.path.exists(lock)
    gone = subprocess.Popen(["true"])
    gone.wait()
    for text in (f"{gone.pid}\n", "", "rubbish", "99999999999999999999"):
        Path(lock).write_text(text)
        assert console.locked("web1", "/dev/pts/3", str(tmp_path)) == lock
    Path(lock).write_text("1\n")
    console.unlock(lock)
    assert os.path.exists(lock), "somebody else's"
    assert console.locked("web1", "/dev/pts/3", str(tmp_path / "none")) == "", "as libvirtd: no folder, no lock"


def test_what_was_captured(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert consoles.captured(str(log), 5) == []
    Path(f"{log}.0").write_bytes(b"one\r\n")
    log.write_bytes(b"two\r\n\x1b[31mthree\x1b[0m\r\nlogin: ")
    assert consoles.captured(str(log), 3) == ["two", "three", "login: "]
    assert consoles.captured(str(log), 99) == ["one", "two", "three", "login: "]
    assert consoles.captured(str(log), 0) == []
    assert consoles.ending(str(log), 1000).endswith(b"login: ")
    assert consoles.ending(str(log), 12) == b"login: "
