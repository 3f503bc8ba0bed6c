"""qemu-storage-daemon: disks that can be exchanged under a running appliance. The only file that speaks to it.

For each disk of the appliance there is a node `slotN`, a raw filter that is exported by NBD over a unix socket. Its
child is `parkN`, which reads as zeros and swallows what is written, or `cloneN`, a clone's disk. While a slot is parked
nothing of an image or a clone is open, so an idle appliance keeps nobody from using, changing or removing them.

Source: QEMU's documentation of qemu-storage-daemon(1) and of its QMP commands.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from maglica.errors import Failed, Refused

ANSWERS_WITHIN = 30.0
"""Seconds for one command; letting go of a disk writes out what the host's page cache holds of it."""

PROGRAM = "qemu-storage-daemon"
HINT = "install qemu-system-common (Debian, Ubuntu) or qemu-img (RHEL, Fedora)"


class StorageDaemon:
    """A running daemon with one slot for each of these sizes (bytes)."""

    def __init__(self, folder: str, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._attached = 0
        self.socket = os.path.join(folder, "nbd")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _start(theirs.fileno())
        ours.settimeout(ANSWERS_WITHIN)
        self._lines = ours.makefile("rw", encoding="utf-8")
        ours.close()
        try:
            self._open_slots()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> StorageDaemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def drives(self) -> list[tuple[str, str]]:
        """(socket, export name) of every slot."""
        return [(self.socket, f"slot{number}") for number in range(len(self._sizes))]

    def attach(self, disks: Sequence[Sequence[str]]) -> None:
        """Put these (path, format) into the slots. Each must have its slot's size."""
        if len(disks) != len(self._sizes):
            raise Failed("wrong_state", f"{len(disks)} disks for {len(self._sizes)} slots")
        for number, (path, format) in enumerate(disks):
            self._ask("blockdev-add", _node(f"clone{number}", path, format))
            self._attached = number + 1
        for node in self._ask("query-named-block-nodes", {}):
            slot, size = str(node["node-name"]).removeprefix("clone"), node["image"]["virtual-size"]
            if slot.isdigit() and size != self._sizes[int(slot)]:
                raise Failed("wrong_state", f"a disk has {size} bytes, its image {self._sizes[int(slot)]}")
        self._point("clone")

    def detach(self) -> None:
        """Park the slots and close the disks; what was written is on the storage then."""
        self._point("park")
        while self._attached:
            self._ask("blockdev-del", {"node-name": f"clone{self._attached - 1}"})
            self._attached -= 1

    def close(self) -> None:
        """End the daemon."""
        self._process.kill()
        self._process.wait()
        try:
            self._lines.close()
        except OSError:
            pass  # what was not sent yet is of no interest

    def _open_slots(self) -> None:
        self._answer()  # its greeting
        self._ask("qmp_capabilities", {})
        self._ask("nbd-server-start", {"addr": {"type": "unix", "data": {"path": self.socket}}})
        for number, size in enumerate(self._sizes):
            slot = f"slot{number}"
            park = {"driver": "null-co", "node-name": f"park{number}", "size": size, "read-zeroes": True}
            self._ask("blockdev-add", park)
            self._ask("blockdev-add", {"driver": "raw", "node-name": slot, "file": f"park{number}"})
            export = {"type": "nbd", "id": slot, "node-name": slot, "name": slot, "writable": True}
            self._ask("block-export-add", export)

    def _point(self, child: str) -> None:
        slots = [
            {"driver": "raw", "node-name": f"slot{number}", "file": f"{child}{number}"}
            for number in range(len(self._sizes))
        ]
        self._ask("blockdev-reopen", {"options": slots})

    def _ask(self, command: str, arguments: dict[str, Any]) -> Any:
        try:
            self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            self._lines.flush()
            answer = self._answer()
        except TimeoutError:
            raise Failed("timeout", f"{PROGRAM}: {command} took longer than {ANSWERS_WITHIN:g} s") from None
        except (OSError, ValueError) as error:
            raise Failed("environment_error", f"{PROGRAM}: {command}: {error}") from None
        if "error" in answer:
            raise Failed("environment_error", f"{PROGRAM}: {command}: {answer['error'].get('desc')}")
        return answer.get("return")

    def _answer(self) -> dict[str, Any]:
        while True:
            line = self._lines.readline()
            if not line:
                raise Failed("environment_error", f"{PROGRAM} has ended")
            message: dict[str, Any] = json.loads(line)
            if "event" not in message:
                return message


def _start(descriptor: int) -> subprocess.Popen[bytes]:
    """It ends with the thread that starts it, whatever becomes of that: setpriv asks the kernel for it."""
    chardev = f"socket,id=qmp,fd={descriptor}"
    argv = ["setpriv", "--pdeathsig", "KILL", "--", PROGRAM, "--chardev", chardev, "--monitor", "chardev=qmp"]
    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[descriptor])
    except OSError as error:
        raise Refused("environment_error", f"cannot run setpriv: {error.strerror}", "install util-linux") from None


def _node(name: str, path: str, format: str) -> dict[str, Any]:
    driver = "host_device" if stat.S_ISBLK(os.stat(path).st_mode) else "file"
    return {"driver": format, "node-name": name, "file": {"driver": driver, "filename": path}}
