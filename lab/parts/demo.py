"""The demonstration: what maglica does, on hypervisors that this machine lends for two minutes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from . import commands, daemons, host, names
from .names import CHECKOUT
from .shell import LabError, run, say, wait_until

NAME = "demo"
IMAGE = "tiny.original"
GUESTS = ("vm1.example.jp", "vm2.example.jp")
BOOT_LIMIT = 90.0
TEST_HOSTS = ("host1", "host2")

# What the hosts of the demonstration without root believe to have: libvirt's test driver plays it
TEST_DRIVER = """<node>
  <domain type='test'>
    <name>web{number}.example.jp</name><memory unit='MiB'>512</memory><vcpu>1</vcpu><os><type>hvm</type></os>
  </domain>
  <domain type='test'>
    <name>db{number}.example.jp</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu><os><type>hvm</type></os>
  </domain>
</node>
"""

NEXT_STEPS = """
That was all real: libvirt, QEMU and libguestfs on two hypervisors made of namespaces. To try next:

  make lab HOSTS=3                       the same, and it stays
  eval "$(lab/env)"                      bin/maglica talks to it
  maglica vm clone --image=tiny.original --hostname=web1.example.jp
  lab/enter host1 virsh list --all       look into a host
  make lab-down                          remove every trace
  make test                              the whole suite

README.md goes on from here to your own hypervisors."""


def demo(arguments: Sequence[str]) -> int:
    """lab/demo: the whole demonstration, with the lab where that is possible."""
    if arguments:
        raise LabError("the demonstration takes no arguments", 2)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        commands.need_namespaces()
    except LabError as error:
        say(f"{error}.\nWithout it, this demonstrates on libvirt's test driver: hosts that only pretend.\n")
        return _on_test_driver()
    return _on_lab()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(words: Sequence[str], config: Path | None = None) -> None:
    """Print a command as a user would type it, then run it; LabError when it fails."""
    print(f"\n$ {shlex.join(words)}", flush=True)
    bare = CHECKOUT / ("bin" if words[0] == "maglica" else ".") / words[0]
    env = dict(os.environ)
    if config:
        env["MAGLICA_CONFIG"] = str(config)
    status = subprocess.run([bare, *words[1:]], env=env, check=False).returncode
    if status != 0:
        raise LabError(f"the demonstration ends here: `{shlex.join(words)}` ended with status {status}")


@contextmanager
def _afterwards(words: Sequence[str]) -> Iterator[None]:
    """Run a command at the end, whatever the end is; a second Ctrl-C does not stop it."""
    try:
        yield
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            _show(words)
        finally:
            signal.signal(signal.SIGINT, before)


def _on_lab() -> int:
    begin = time.monotonic()
    with _afterwards(["lab/down", f"--name={NAME}"]):
        _show(["lab/up", f"--name={NAME}", "--hosts=2"])
        lab, _ = names.read(NAME)
        try:
            _tour(lab)
        except LabError:
            daemons.show_logs([daemons.CLIENT, *(each.name for each in lab.hosts)], lab.log)
            raise
    print(NEXT_STEPS)
    print(f"\n(The demonstration took {time.monotonic() - begin:.0f} s.)")
    return 0


def _tour(lab: names.Lab) -> None:
    """From nothing to two guests and back."""
    config = lab.cli_config
    _show(["maglica", "host", "list"], config)
    _show(["maglica", "image", "list"], config)
    for guest in GUESTS:
        _show(["maglica", "vm", "clone", f"--image={IMAGE}", f"--hostname={guest}"], config)
    _hear_guests(lab)
    _show(["maglica", "vm", "list"], config)
    for guest in GUESTS:
        _show(["maglica", "vm", "stop", guest], config)
        _show(["maglica", "vm", "remove", f"--name={guest}", "--yes"], config)


def _hear_guests(lab: names.Lab) -> None:
    """Wait until each guest has told its serial console who it is; that is what a clone is for."""
    print("\nEach guest says on its own serial console who it is:", flush=True)
    answer = run(
        *(CHECKOUT / "bin/maglica", "vm", "list", "-o", "json"),
        env={**os.environ, "MAGLICA_CONFIG": str(lab.cli_config)},
    )
    places = {item["name"]: item["host"] for item in json.loads(answer)["items"]}
    for guest in GUESTS:
        log = host.console(lab, lab.host(places[guest]), guest)
        said: list[str] = []
        if not wait_until(lambda log=log, said=said: _greeting(log, said), BOOT_LIMIT, 0.2):  # type: ignore[misc]
            raise LabError(f"{guest} said nothing on its console within {BOOT_LIMIT:g} s ({log})")
        print(f"  {said[0]}", flush=True)
        if f"hostname={guest} " not in said[0]:
            raise LabError(f"{guest} takes itself for somebody else: {said[0]}")


def _greeting(log: Path, said: list[str]) -> bool:
    """True when the guest has greeted; its words are put into `said`."""
    if log.exists():
        said[:] = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("maglica-guest: ")]
    return bool(said)


def _on_test_driver() -> int:
    """Two host workers on libvirt's test driver and a client worker, all of this user's own, on 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="maglica-demo-") as name, _processes() as started:
        folder = Path(name)
        config = _start_test_workers(folder, started)
        _show(["maglica", "host", "list"], config)
        _show(["maglica", "vm", "list"], config)
        _show(["maglica", "vm", "info", "web1.example.jp"], config)
        _show(["maglica", "vm", "stop", "web1.example.jp"], config)
        _show(["maglica", "vm", "list"], config)
        _show(["maglica", "vm", "start", "web1.example.jp"], config)
        _show(["maglica", "job", "list"], config)
    print("\nTo try next: the same command as root, on two real hypervisors: sudo make demo")
    return 0


@contextmanager
def _processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Collects processes; they are ended at the end."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start_test_workers(folder: Path, started: list[subprocess.Popen[bytes]]) -> Path:
    """Start the daemons, wait until all is up, and return the settings file for bin/maglica."""
    pub_port, rep_port = _free_ports(2)
    client = {**daemons.client_section("127.0.0.1", pub_port, rep_port), "security": "none"}
    config = folder / "maglica.conf"
    daemons.write_config(config, {"client": client})
    settings: dict[str, Mapping[str, Mapping[str, object]]] = {
        "client": {"client": {**client, "bind": "127.0.0.1"}, "paths": daemons.paths_section(folder / "client")}
    }
    for number, name in enumerate(TEST_HOSTS, 1):
        play = folder / f"{name}.xml"
        play.write_text(TEST_DRIVER.format(number=number))
        worker = {"name": name, "libvirt_uri": f"test://{play}"}
        settings[name] = {
            "client": client,
            "host_worker": worker,
            "paths": daemons.paths_section(folder / name),
        }
    for label, sections in settings.items():
        kind = "client" if label == "client" else "host"
        own = folder / f"{label}.conf"
        daemons.write_config(own, sections)
        print(f"$ bin/maglica_{kind}_worker --config={own} &", flush=True)
        for part in ("state", "run", "keys"):
            (folder / label / part).mkdir(parents=True)
        with (folder / f"{label}.log").open("wb") as log:
            command = (daemons.program(f"maglica_{kind}_worker"), "--config", own)
            started.append(subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True))
    daemons.wait_for_hosts(config, TEST_HOSTS, lambda label: folder / f"{label}.log")
    return config


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
