"""Consoles and displays over the bus, with real daemons and real sockets; a socket of the test plays the guest."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from maglica import declare
from maglica.nouns import Cloud
from maglica.viewing import Event, Gap, Opened, Output, Over, Viewing
from tests.cli.typing_in import Typed
from tests.daemons import RUNNING, SHUT_OFF, House, node, until

VM = "web1.example.jp"
SCREEN = b"RFB 003.008\n"


class Guest:
    """What QEMU is for a host worker: a socket with a console behind it, where it listens, and a log."""

    def __init__(self, folder: Path) -> None:
        self.path, self.log = str(folder / "tty"), folder / "console.log"
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(self.path)
        self._door.listen(1)
        self._door.settimeout(10)
        self._link: socket.socket | None = None
        self.heard = b""
        self.echoes = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            try:
                link, _ = self._door.accept()
                with link:
                    self._link = link
                    while data := link.recv(65536):
                        self.heard += data
                        if self.echoes:
                            link.sendall(data)
            except OSError:
                pass

    @property
    def linked(self) -> bool:
        return self._link is not None

    def say(self, text: bytes) -> None:
        until(lambda: self._link and self._link.fileno() >= 0, 10, "somebody at the console")
        assert self._link
        self._link.settimeout(60)
        self._link.sendall(text)

    def go_off(self) -> None:
        assert self._link
        self._link.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._stopping = True
        for one in (self._door, self._link):
            if one:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    @property
    def devices(self) -> str:
        return (
            f"<console type='unix'><source mode='bind' path='{self.path}'/><log file='{self.log}'/>"
            "<target type='virtio' port='0'/></console>"
        )


def world(house: House, name: str, devices: dict[str, str], **states: int) -> None:
    """A world of the test driver in which these VMs have these devices more."""
    text = node({vm: states.get(vm.partition(".")[0], RUNNING) for vm in devices})
    for vm, more in devices.items():
        begin = text.index(f"<name>{vm}</name>")
        end = text.index("</devices>", begin)
        text = text[:end] + more + text[end:]
    (house.folder / f"{name}.xml").write_text(text)


@pytest.fixture
def guest(house: House) -> Guest:
    """A VM with a console on host1."""
    found = house.add(Guest(house.folder))
    found.log.write_bytes(b"line one\r\nline two\r\nlogin: ")
    world(house, "host1", {VM: found.devices, "off1": found.devices, "bare1": ""}, off1=SHUT_OFF)
    house.start()
    house.start_host("host1")
    return found


class Viewer:
    """A client's end, driven by the test."""

    def __init__(self, cloud: Cloud, action: str = "vm console", name: str = VM, **more: Any) -> None:
        self.talker = cloud.talker()
        self.viewing = Viewing(declare.build(action, {"name": name}), time.monotonic(), **more)
        self.events: list[Event] = []

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *error: object) -> None:
        self.talker.send(self.viewing.bye())
        self.talker.close()

    def turn(self, pause: float = 0.05) -> None:
        now = time.monotonic()
        message = self.viewing.message(now)
        if message:
            self.talker.send(message)
        for answer in self.talker.receive(min(pause, self.viewing.pause(now))).answers:
            self.events += self.viewing.answered(answer, time.monotonic())
        self.events += self.viewing.tick(time.monotonic())

    @property
    def shown(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Output))

    def see(self, text: bytes, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.shown:
            assert time.monotonic() < deadline, (text, self.shown[-500:], [type(e).__name__ for e in self.events[-9:]])
            self.turn()

    def has(self, kind: type, timeout: float = 20.0) -> Any:
        deadline = time.monotonic() + timeout
        while not any(isinstance(event, kind) for event in self.events):
            assert time.monotonic() < deadline, (kind, self.events)
            self.turn()
        return next(event for event in self.events if isinstance(event, kind))


def test_a_console_shows_what_came_before_and_comes_and_takes_what_is_typed(house: House, guest: Guest) -> None:
    with Typed(house, "vm", "console", VM) as typed:
        typed.see(f"maglica: {VM} on host1: connected; Ctrl-] leaves")
        typed.see("line one\r\nline two\r\nlogin: ")
        typed.press("root\r\x03")
        until(lambda: guest.heard == b"root\r\x03", 10, "the keys, Ctrl-C among them")
        guest.say(b"Password: ")
        typed.see("Password: ")
        assert typed.text.count("line one") == 1
        typed.press("\x1d")
        assert typed.end() == 0
    with house.connect() as cloud:
        lines = [(line["action"], line["object"], line["message"]) for line in cloud.audit.list()]
        assert ("vm console", VM, "typed") in lines


def test_a_key_stroke_is_quick(house: House, guest: Guest) -> None:
    """Through everything: client, client worker, host worker, guest and back. The figure is in docs/measurements.md."""
    guest.echoes = True
    took = []
    with house.connect() as cloud, Viewer(cloud) as viewer:
        viewer.see(b"login: ")
        for number in range(60):
            seen = len(viewer.shown)
            began = time.perf_counter()
            viewer.viewing.type(b"%d" % (number % 10))
            while len(viewer.shown) == seen:
                viewer.turn()
            took.append(time.perf_counter() - began)
            time.sleep(0.01)
    took.sort()
    print(f"key stroke: median {1000 * took[30]:.2f} ms, 95th {1000 * took[56]:.2f} ms, worst {1000 * took[-1]:.2f} ms")
    assert took[30] < 0.02


def test_several_look_at_one_console_and_each_types(house: House, guest: Guest) -> None:
    with house.connect() as cloud, Viewer(cloud) as one:
        one.see(b"login: ")
        guest.say(b"first ")
        one.see(b"first ")
        with Viewer(cloud) as two:
            two.see(b"login: first ")
            guest.say(b"second ")
            one.see(b"second ")
            two.see(b"second ")
            before = [event for event in two.events if isinstance(event, Output) and event.before]
            assert b"".join(event.data for event in before).endswith(b"login: first ")
            one.viewing.type(b"abc")
            until(lambda: one.turn() or b"abc" in guest.heard, 10)
            two.viewing.type(b"xyz")
            until(lambda: two.turn() or guest.heard == b"abcxyz", 10)
    until(lambda: "closed console" in house.hosts["host1"].log, 10, "closed when nobody looks")


def test_who_may_only_read_watches_and_cannot_type(house: House, guest: Guest) -> None:
    key = str(house.folder / "reader.key")
    assert house.cli("key", "new", "rita", "--role=reader", f"--file={key}").returncode == 0
    with Typed(house, "vm", "console", VM, MAGLICA_KEY=key) as typed:
        typed.see("you may watch, not type")
        typed.see("it takes the role operator")
        typed.press("rm -rf /\r")
        guest.say(b"still here")
        typed.see("still here")
        # A client that types all the same is refused.
        with house.connect() as cloud:
            assert cloud.key.revoke(name="rita")["changed"]
        typed.see("maglica: .* may not vm console|no longer good", 10)
        assert typed.end(10) == 9
    assert guest.heard == b""


def test_the_client_worker_refuses_what_a_reader_types(house: House, guest: Guest) -> None:
    key = str(house.folder / "reader.key")
    assert house.cli("key", "new", "rita", "--role=reader", f"--file={key}").returncode == 0
    import maglica

    with maglica.connect(config_file=str(house.config), key=key) as cloud, Viewer(cloud) as viewer:
        assert "operator" in viewer.has(Opened).silent
        viewer.viewing.type(b"x")
        assert viewer.has(Over).error.code == "denied"
    assert guest.heard == b""


def test_the_terminal_is_put_back_whatever_ends_it(house: House, guest: Guest) -> None:
    for end in ("leave", "term", "hup", "off"):
        with Typed(house, "vm", "console", VM) as typed:
            before = termios.tcgetattr(typed._mine)
            typed.see("connected")
            until(lambda: not termios.tcgetattr(typed._mine)[3] & termios.ECHO, 10, "raw")
            if end == "leave":
                typed.press("\x1d")
            elif end == "off":
                guest.go_off()
            else:
                typed.process.send_signal(signal.SIGTERM if end == "term" else signal.SIGHUP)
            status = typed.end(10)
            assert status == {"leave": 0, "term": 143, "hup": 129, "off": 0}[end], typed.text
            assert termios.tcgetattr(typed._mine) == before, end
            if end == "off":
                assert f"{VM} went off" in typed.text
            assert "Traceback" not in typed.text


def test_a_console_survives_the_restart_of_the_client_worker(house: House, guest: Guest) -> None:
    guest.echoes = True
    with Typed(house, "vm", "console", VM) as typed:
        typed.see("connected")
        typed.press("before ")
        typed.see("before ")
        house.client_worker.kill()
        typed.press("between ")
        guest.say(b"meanwhile ")
        typed.see("the client worker does not answer", 15)
        house.client_worker.start()
        typed.see("it goes on", 30)
        typed.see("between ")
        typed.press("after ")
        typed.see("after ")
        # Nothing is lost, and nothing comes twice.
        assert guest.heard == b"before between after "
        for word in ("before ", "meanwhile ", "between ", "after "):
            assert typed.text.count(word) == 1, word
        assert "anew" not in typed.text


def test_a_console_goes_on_after_a_restart_of_the_host_worker(house: House, guest: Guest) -> None:
    with Typed(house, "vm", "console", VM) as typed:
        typed.see("connected")
        house.hosts["host1"].kill()
        house.hosts["host1"].start()
        typed.see("the console was opened anew", 30)
        typed.press("after\r")
        until(lambda: guest.heard == b"after\r", 10)
        guest.say(b"and on")
        typed.see("and on")
        assert typed.text.count("line one") == 1


def test_a_guest_that_prints_for_ever_delays_nobody(house: House, guest: Guest) -> None:
    """Bounded memory everywhere, a mark where something was left out, and others are as quick as before."""
    stop = threading.Event()

    def print_for_ever() -> None:
        number = 0
        try:
            while not stop.is_set():
                guest.say(b"".join(b"line %012d\r\n" % (number + n) for n in range(2000)))
                number += 2000
        except OSError:
            pass

    with house.connect() as cloud, Viewer(cloud) as slow, Viewer(cloud) as quick:
        slow.has(Opened)
        quick.see(b"login: ")
        printer = threading.Thread(target=print_for_ever, daemon=True)
        printer.start()
        quick.see(b"line 000000010000", 30)
        took = []
        until_then = time.monotonic() + 5
        while time.monotonic() < until_then:
            began = time.perf_counter()
            cloud.hello()
            took.append(time.perf_counter() - began)
            quick.turn(0.0)
            time.sleep(0.0005)  # a machine that is quick enough would ask more often than one key may
        took.sort()
        while not any(isinstance(event, Gap) for event in slow.events):
            slow.turn()
        stop.set()
        printer.join(10)
        print(f"beside a flood: median {1000 * took[len(took) // 2]:.2f} ms, worst {1000 * took[-1]:.2f} ms")
        assert took[len(took) * 9 // 10] < 0.1
        shown = len(quick.shown)
        assert shown < 5 * 4 * (1 << 20), "faster than anybody reads"
        memory = Path(f"/proc/{house.client_worker.process.pid}/status").read_text()
        peak = int(next(line for line in memory.splitlines() if line.startswith("VmHWM")).split()[1])
        assert peak < 120_000, peak


def test_the_log_is_printed_also_of_a_vm_that_is_off(house: House, guest: Guest) -> None:
    done = house.cli("vm", "console", "off1", "--log")
    assert (done.returncode, done.stdout) == (0, "line one\nline two\nlogin: \n"), done.stderr
    done = house.cli("vm", "console", VM, "--log", "--lines=2", "-o", "json")
    assert '"lines": [\n      "line two"' in done.stdout or '"line two", "login: "' in done.stdout, done.stdout
    done = house.cli("vm", "console", "bare1", "--log")
    assert done.returncode == 5
    assert "not kept in a file" in done.stderr


def test_what_cannot_be_opened_is_said(house: House, guest: Guest) -> None:
    for words, status, text in (
        (("off1",), 5, "off1 is shut-off: its console says nothing"),
        (("bare1",), 5, "bare1 has no serial console"),
        (("nosuch1",), 4, "nosuch1"),
    ):
        with Typed(house, "vm", "console", *words) as typed:
            assert typed.end(20) == status, typed.text
            assert text in typed.text.replace("\r\n", " "), typed.text
    done = house.cli("vm", "console", VM)
    assert done.returncode == 2
    assert "no terminal" in done.stderr


def test_watching_needs_no_terminal(house: House, guest: Guest) -> None:
    process = house.spawn("vm", "console", VM, "--watch")
    guest.say(b"\r\nhello\r\n")
    assert process.stdout
    lines: list[str] = []
    while "hello" not in lines:
        lines.append(process.stdout.readline().rstrip("\r\n"))
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


# ------------------------------------------------------------------------------------------------ displays


class Screen:
    """A VNC server as far as nobody looks closely: a greeting, and then it gives back what it gets."""

    def __init__(self) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._stopping = False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._stopping:
            try:
                link, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):  # a host worker that is killed resets it
            link.sendall(SCREEN)
            while data := link.recv(65536):
                link.sendall(data)

    def stop(self) -> None:
        self._stopping = True
        self._door.close()


@pytest.fixture
def screen(house: House) -> Screen:
    found = house.add(Screen())
    graphics = f"<graphics type='vnc' port='{found.port}' autoport='no' listen='127.0.0.1' passwd='secret7'/>"
    spice = "<graphics type='spice' port='5911' autoport='no' listen='127.0.0.1'/>"
    world(house, "host1", {VM: graphics, "spicy1": spice, "bare1": ""})
    house.start()
    house.start_host("host1")
    return found


def tunnel(house: House, *words: str) -> tuple[subprocess.Popen[str], int]:
    process = house.spawn("vm", "vnc", VM, *words)
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith("127.0.0.1:"), process.stderr and process.stderr.read()
    return process, int(line.partition(":")[2])


def received(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := link.recv(min(65536, size - len(found)))):
        found += data
    return found


def test_a_display_is_shown_and_its_password_is_not(house: House, screen: Screen) -> None:
    done = house.cli("vm", "display", VM, "-o", "json")
    assert f'"port": {screen.port}' in done.stdout
    assert '"password": true' in done.stdout
    assert "secret7" not in done.stdout + house.cli("vm", "display", VM).stdout
    assert "has no display" in house.cli("vm", "display", "bare1").stdout


def test_vnc_is_carried_byte_by_byte(house: House, screen: Screen) -> None:
    process, port = tunnel(house)
    with socket.create_connection(("127.0.0.1", port), 10) as one, socket.create_connection(("127.0.0.1", port)) as two:
        for link in (one, two):
            link.settimeout(20)
            assert received(link, len(SCREEN)) == SCREEN
        data = os.urandom(3 << 20)
        sender = threading.Thread(target=one.sendall, args=(data,))
        began = time.perf_counter()
        sender.start()
        assert received(one, len(data)) == data
        print(f"vnc: {2 * len(data) / (time.perf_counter() - began) / (1 << 20):.1f} MiB/s, both ways together")
        two.sendall(b"still there")
        assert received(two, 11) == b"still there"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_vnc_survives_the_restart_of_the_client_worker(house: House, screen: Screen) -> None:
    _, port = tunnel(house)
    with socket.create_connection(("127.0.0.1", port), 10) as link:
        link.settimeout(60)
        assert received(link, len(SCREEN)) == SCREEN
        data = os.urandom(1 << 20)
        sender = threading.Thread(target=link.sendall, args=(data,))
        sender.start()
        first = received(link, 200_000)
        house.client_worker.kill()
        house.client_worker.start()
        assert first + received(link, len(data) - len(first)) == data


def test_other_displays_are_refused_with_words(house: House, screen: Screen) -> None:
    done = house.cli("vm", "vnc", "spicy1")
    assert done.returncode == 5
    assert "SPICE" in done.stderr
    done = house.cli("vm", "vnc", "bare1")
    assert done.returncode == 5
    key = str(house.folder / "reader.key")
    assert house.cli("key", "new", "rita", "--role=reader", f"--file={key}").returncode == 0
    process = house.spawn("vm", "vnc", VM, MAGLICA_KEY=key)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 9, (out, err)
    assert "operator" in err
