"""Consoles and displays of real guests, carried over the bus."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

import maglica
from maglica.nouns import Cloud
from tests.cli.typing_in import Typed
from tests.test_streams import Viewer

from .conftest import HOME, Lab, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

DISPLAY = """<domain type="qemu"><name>{name}</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type></os><devices>{graphics}
<video><model type="vga"/></video><memballoon model="none"/></devices></domain>"""
VNC = '<graphics type="vnc" autoport="yes" listen="127.0.0.1" passwd="secret7"/>'


class Here:
    """The environment of a command in this lab, as `Typed` wants it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "MAGLICA_CONFIG": self._lab.config, "NO_COLOR": "1", **more}


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[str]:
    """A tiny guest at its prompt."""
    with maglica.connect(config_file=lab.config) as cloud:
        until(lambda: all(host["libvirt"] == "ok" for host in cloud.host.list()), 60, "hosts up")
    done = lab.cli(
        "vm", "clone", "--image=tiny.original", "--hostname=term1", "--on=host1", "--mode=linked", "--customize=none",
        "--wait=console:login:", "--wait-timeout=3m", timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lab.on("host1", "mkdir -p /run/lock")  # the lab's hosts have none, and libvirtd makes none
    yield "term1"
    lab.cli("vm", "remove", "term1", "--force", "--yes")


def typing(lab: Lab, *words: str) -> Typed:
    here: Any = Here(lab)
    return Typed(here, "vm", "console", *words)


def test_two_look_at_a_guest_and_one_types_and_the_client_worker_is_killed(lab: Lab, cloud: Cloud, guest: str) -> None:
    """What is typed is echoed by the guest's own terminal, to both; nothing of it is lost, or typed twice."""
    with typing(lab, guest) as typed, Viewer(cloud, name=guest) as other:
        before = termios.tcgetattr(typed._mine)
        typed.see("term1 on host1: connected")
        other.see(b"login: ")
        typed.press("\r")
        typed.see("login: ")
        typed.press("somebody")
        typed.see("login: [^\n]*somebody")
        other.see(b"somebody")
        lab.daemon("kill", "client")
        typed.press("-else")
        typed.see("the client worker does not answer", 30)
        lab.daemon("start", "client")
        typed.see("it goes on", 60)
        typed.press("\r")
        typed.see("-else\r\nPassword: ")
        other.see(b"somebody-else\r\nPassword: ", 60)
        assert typed.text.count("-else") == 1
        typed.press("\x1d")
        assert typed.end() == 0
        assert termios.tcgetattr(typed._mine) == before


def test_a_key_stroke_through_everything(cloud: Cloud, guest: str) -> None:
    took = []
    with Viewer(cloud, name=guest) as viewer:
        viewer.see(b"login: ", 60)
        viewer.viewing.type(b"\r")  # whoever was here before left it at the question for a password, perhaps
        until(
            lambda: viewer.turn() or (viewer.shown.endswith(b"login: ") and viewer.viewing.typed.room == 65536), 90, ""
        )
        for _ in range(30):
            seen = len(viewer.shown)
            began = time.perf_counter()
            viewer.viewing.type(b"x")
            while len(viewer.shown) == seen:
                viewer.turn()
            took.append(time.perf_counter() - began)
            time.sleep(0.02)
        viewer.viewing.type(b"\x15")
        viewer.see(b"\b \b")
    took.sort()
    print(f"key stroke with a guest under emulation: median {1000 * took[15]:.1f} ms, worst {1000 * took[-1]:.1f} ms")
    assert took[15] < 0.5, "on a machine that does much else"


def test_one_console_at_a_time_with_virsh(lab: Lab, cloud: Cloud, guest: str) -> None:
    """Two readers of one terminal would have half of it each: libvirtd and we respect one lock."""
    with Viewer(cloud, name=guest) as viewer:
        viewer.see(b"login: ", 60)
        virsh = f'timeout -k 1 10 script -qec "virsh console {guest}" /dev/null </dev/null'
        assert "is locked by lock file" in lab.on("host1", virsh, check=False)
    until(lambda: "LCK" not in lab.on("host1", "ls /run/lock"), 30, "let go of")
    held = lab.on("host1", "sleep 60 >/dev/null 2>&1 & echo $!").strip()
    device = lab.on("host1", f"virsh ttyconsole {guest}").strip()
    lab.on("host1", f"printf '%10d\\n' {held} >/run/lock/LCK..{device.removeprefix('/dev').replace('/', '_')}")
    done = lab.cli("vm", "console", guest, "--watch")
    assert (done.returncode, "open in another program" in done.stderr) == (5, True), done.stderr
    lab.on("host1", f"kill {held}")
    with Viewer(cloud, name=guest) as viewer:
        viewer.see(b"login: ", 60)  # whose process is gone has no lock


def test_the_log_and_the_end_of_a_guest(lab: Lab, cloud: Cloud, guest: str) -> None:
    assert "login:" in lab.cli("vm", "console", guest, "--log").stdout
    with typing(lab, guest) as typed:
        typed.see("connected")
        cloud.vm.destroy(name=guest)
        assert typed.end() == 0
        assert "term1 went off" in typed.text
    assert "login:" in lab.cli("vm", "console", guest, "--log").stdout
    with typing(lab, guest) as typed:
        assert typed.end() == 5
        assert "its console says nothing" in typed.text.replace("\r\n", " ")


@contextlib.contextmanager
def defined(lab: Lab, name: str, graphics: str) -> Iterator[None]:
    text = DISPLAY.format(name=name, graphics=graphics)
    lab.on("host1", f"cat >/run/d.xml <<'X'\n{text}\nX\nvirsh define /run/d.xml && virsh start {name}")
    try:
        yield
    finally:
        lab.on("host1", f"virsh destroy {name}; virsh undefine {name}", check=False)


def test_a_display_is_reached_through_a_local_port(lab: Lab, cloud: Cloud) -> None:
    """Its VNC server listens on the host's own loopback, which this machine cannot reach."""
    with defined(lab, "screen1", VNC):
        shown = lab.cli("vm", "display", "screen1")
        assert "vnc" in shown.stdout
        item = cloud.vm.display(name="screen1")["displays"][0]
        assert (item["address"], item["password"]) == ("127.0.0.1", True)
        assert item["port"] >= 5900
        assert "secret7" not in shown.stdout + str(item)
        process = subprocess.Popen(
            [str(HOME / "bin" / "maglica"), "vm", "vnc", "screen1"],
            stdout=subprocess.PIPE, text=True, env=Here(lab).environment(),
        )  # fmt: skip
        try:
            assert process.stdout
            port = int(process.stdout.readline().partition(":")[2])
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", port), 20) as link:
                    link.settimeout(20)
                    assert link.recv(12) == b"RFB 003.008\n"
                    link.sendall(b"RFB 003.008\n")
                    assert link.recv(2) == b"\x01\x02", "one kind of authentication: VNC's own, for the password"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            process.stdout.close()


def test_what_is_no_vnc_is_refused(lab: Lab, guest: str) -> None:
    done = lab.cli("vm", "vnc", guest)
    assert done.returncode == 5
    assert "has no display" in done.stderr
