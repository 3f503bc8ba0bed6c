"""A VM's serial console: the pseudo-terminal, or the socket, that QEMU made for it.

It is opened as libvirtd opens it for `virsh console`: one reader at a time, by the lock file in /var/lock that libvirtd
respects and makes, too (https://www.pathname.com/fhs/pub/fhs-2.3.html#VARLOCKLOCKFILES).
"""

from __future__ import annotations

import os
import socket
import tty

from maglica.declare import Action
from maglica.errors import Failed, Refused
from maglica.host_worker.domain import console, displays, domain_xml
from maglica.host_worker.host import Host
from maglica.host_worker.streams.source import Opened

LOCKS = "/var/lock"
BEFORE = 32 * 1024  # bytes of its log that are shown first


def opened(action: Action, host: Host) -> Opened:
    """The console of a VM that runs."""
    name = str(action.values()["name"])
    live, state = host.hypervisor.live_definition(name)
    terminal = displays.terminal(live)
    if terminal is None:
        raise Refused("wrong_state", f"{name} has no serial console", "its definition needs a <console> or <serial>")
    if state in ("shut-off", "crashed", "unknown"):
        hint = f"`maglica vm start {name}` starts it, `maglica vm console {name} --log` prints what it said before"
        raise Refused("wrong_state", f"{name} is {state}: its console says nothing", hint)
    if terminal.kind not in ("pty", "unix") or not terminal.path:
        kind = terminal.kind or "unknown"
        raise Refused(
            "wrong_state", f"{name}'s console is of the type {kind}", "only those of the types pty and unix are carried"
        )
    log = domain_xml.read(live).console_log
    lock = locked(name, terminal.path)
    try:
        # The log first: a few bytes may be missing between the two, and none is there twice.
        before = console.ending(log, BEFORE) if log else b""
        file = _pty(terminal.path) if terminal.kind == "pty" else _socket(terminal.path)
    except OSError as error:
        unlock(lock)
        text = f"cannot open {terminal.path}, the console of {name}: {error.strerror}"
        raise Failed("environment_error", text, "the host worker has to be root on that host") from None
    return Opened(file, before, True, f"{name} went off, or was moved to another host", lambda: unlock(lock))


def _pty(path: str) -> int:
    file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    tty.setraw(file)
    return file


def _socket(path: str) -> int:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.setblocking(False)  # QEMU listens with a backlog of one: somebody else has it
        link.connect(path)
    except OSError:
        link.close()
        raise
    return link.detach()


def locked(name: str, device: str, folder: str = LOCKS) -> str:
    """Lock a device for this process; the lock file. `Refused` while another process that lives has it."""
    path = os.path.join(folder, "LCK.." + device.removeprefix("/dev").replace("/", "_"))
    for _ in range(2):
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            holder = _holder(path)
            if holder:
                raise Refused(
                    "locked",
                    f"the console of {name} is open in another program on its host (process {holder})",
                    "is it `virsh console`? Leave that with Ctrl-]",
                ) from None
            _remove(path)
        except OSError:
            return ""  # no such folder: libvirtd locks nothing there either
        else:
            with os.fdopen(file, "w") as lock:
                lock.write(f"{os.getpid():10d}\n")
            return path
    return ""


def unlock(path: str) -> None:
    """Let go of a lock, if it still is ours."""
    if path and _holder(path) in (0, os.getpid()):
        _remove(path)


def _holder(path: str) -> int:
    """The process that has a lock; 0 when it does not live any more."""
    try:
        with open(path, encoding="ascii") as file:
            holder = int(file.read(32))
        os.kill(holder, 0)
    except PermissionError:
        return holder
    except (OSError, ValueError, OverflowError):
        return 0
    return holder


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
