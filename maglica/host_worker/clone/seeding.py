"""The seed of a clone that cloud-init customises: a small ISO image beside its disks, attached as a CD-ROM.

Nothing opens the clone's disks, so that no appliance is needed. Whether the image has cloud-init is known where its
disks were opened to make it (`image seal`, `image upgrade`); of any other, who asks for it says so, and the first boot
shows it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maglica.actions.vm.clone import VmClone
from maglica.errors import Failed, Refused
from maglica.host_worker.clone.plan import ClonePlan
from maglica.host_worker.disk import copying
from maglica.host_worker.guest import cloud_init
from maglica.host_worker.guest.request import request_of
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work, must

TOOLS = ("xorrisofs", "genisoimage", "mkisofs")  # all take the same options
VOLUME_ID = slice(32768 + 40, 32768 + 72)  # of an ISO image: ECMA-119, 8.4.8


def path_of(todo: ClonePlan) -> str:
    """Where the seed will lie: beside the first disk, named after the VM."""
    return os.path.join(os.path.dirname(todo.copies[0].path), f"{todo.name}-seed.iso")


def refuse(want: VmClone, todo: ClonePlan, mark: Mapping[str, str], host: Host) -> None:
    """Refuse what cannot be, before anything is copied. `mark` is the image's."""
    if mark.get("cloud_init") == "no":
        raise Refused(
            "wrong_input", f"{todo.image} has no cloud-init, which could take a seed: it had none when it was made",
            "use --customize=guestfs, or an image that has it",
        )  # fmt: skip
    if not host.hypervisor.has_files or not todo.copies:
        raise Refused(
            "environment_error", f"{host.name} has no real disks ({host.hypervisor.uri})", "use --customize=none"
        )
    if path_of(todo).startswith("/dev/"):
        raise Refused(
            "environment_error", f"the disks of {todo.name} are no files: a seed has no place beside them",
            "choose a pool of files with --pool, or use --customize=guestfs",
        )  # fmt: skip
    if _tool() is None:
        raise Refused(
            "environment_error", f"{host.name} has none of {', '.join(TOOLS)}, which make a seed for cloud-init",
            "install xorriso there, or use --customize=guestfs",
        )  # fmt: skip
    if os.path.lexists(path_of(todo)):
        raise Refused("already_exists", f"the file {path_of(todo)} exists", "remove it, or choose another --hostname")
    cloud_init.seed(request_of(want.values(), todo.macs), todo.uuid)


def make(want: VmClone, todo: ClonePlan, work: Work) -> tuple[str, dict[str, Any]]:
    """Make the seed under a name that holds the job's id; the path that it has, and what is known of the guest."""
    files = cloud_init.seed(request_of(want.values(), todo.macs), todo.uuid)
    part = f"{path_of(todo)}.{todo.job}.part"
    tool = _tool() or TOOLS[0]
    with work.step("customize", "a seed for cloud-init"):
        # It may hold hashes of passwords: nobody but root (and the guest) reads it, and after a crash all of it goes.
        _write(part, "", work)
        grafts = []
        for name, text in files.items():
            own = f"{path_of(todo)}.{todo.job}.{name}"
            _write(own, text, work)
            grafts.append(f"{name}={_escaped(own)}")
        argv = [tool, "-quiet", "-o", part, "-V", cloud_init.LABEL, "-J", "-r", "-graft-points", *grafts]
        must(work.run(argv), f"seed of {todo.name}")
        _check(part, files)
        for graft in files:
            os.unlink(f"{path_of(todo)}.{todo.job}.{graft}")
    return part, {"os": None, "network": "cloud-init", "host_keys": "first-boot", "verified": False, "seconds": {}}


def name(part: str, todo: ClonePlan, work: Work) -> str:
    """Give the seed its final name."""
    copying.link(part, path_of(todo), work)
    return path_of(todo)


def _tool() -> str | None:
    return next((tool for tool in TOOLS if shutil.which(tool)), None)


def _write(path: str, text: str, work: Work) -> None:
    work.undo("remove_part", path=path)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _escaped(path: str) -> str:
    """A path as a graft point has it (mkisofs(8))."""
    return path.replace("\\", "\\\\").replace("=", "\\=")


def _check(path: str, files: dict[str, str]) -> None:
    """Read it again: the label that cloud-init looks for, and every file, which an ISO image holds in one piece."""
    data = Path(path).read_bytes()
    label = data[VOLUME_ID].decode("ascii", "replace").strip()
    missing = [name for name, text in files.items() if text.encode() not in data]
    if label != cloud_init.LABEL or missing:
        raise Failed(
            "wrong_state", f"the seed {path} was read again and is not as it should be: "
            f"{', '.join(missing) or f'its label is {label!r}'}",
        )  # fmt: skip
