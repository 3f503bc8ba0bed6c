"""The file that `vm save` writes a guest's memory to: where it is, and whether it still fits the disks.

The definition's mark says where it is (`saved`). The guest does not run between `save` and `restore`, so nothing may
write to its disks meanwhile: its memory holds what it knows of them, and would write that over what somebody else did.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from maglica.errors import Failed, Refused
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.hypervisor import Hypervisor

ENDING = ".saved"
DUMP = ".core"  # of what `vm dump` makes
MARK = "saved"
# How a file of libvirt begins that it has not written to its end.
PART = b"LibvirtQemudPart"


def is_whole(path: str) -> bool:
    """Whether a file is there, and libvirt has come to its end."""
    try:
        with open(path, "rb") as file:
            begin = file.read(len(PART))
    except OSError:
        return False
    return bool(begin) and begin != PART


def written_since(path: str, disks: Sequence[str]) -> str | None:
    """A disk that was written after the memory was saved; of devices nobody can tell."""
    saved_at = os.stat(path).st_mtime_ns
    for disk in disks:
        try:
            found = os.stat(disk)
        except OSError:
            continue
        if os.path.isfile(disk) and found.st_mtime_ns > saved_at:
            return disk
    return None


def refuse(domain: Domain, disks: Sequence[str]) -> str | None:
    """Refuse to boot a VM whose memory was saved: it would be worth nothing any more. Otherwise a file that is worth
    nothing already, and can go."""
    path = domain.mark.get(MARK)
    if path is None or not is_whole(path) or written_since(path, disks):
        return path
    raise Refused(
        "wrong_state",
        f"{domain.name} was saved to {path}",
        f"`maglica vm restore {domain.name}` lets it go on; `maglica vm start {domain.name} --discard` forgets that",
    )


def refuse_change(domain: Domain, hypervisor: Hypervisor, *, runs: bool) -> None:
    """Every verb that changes the disks or the devices of a VM comes by here: refused while it is off and its memory is
    kept. That goes on with the devices it had, and writes what it knows of the disks over what somebody else did there.
    """
    path = None if runs else domain.mark.get(MARK)
    managed = not runs and hypervisor.has_managed_save(domain.name)
    if managed or (path and is_whole(path)):
        raise Refused(
            "wrong_state",
            f"the memory of {domain.name} was saved, and counts on its disks and devices as they are",
            f"`maglica vm {'start' if managed else 'restore'} {domain.name}` lets it go on first;"
            f" `maglica vm start {domain.name} --discard` forgets what was saved, and boots",
        )


def forget(hypervisor: Hypervisor, name: str, path: str) -> None:
    """Delete the file and the word of it."""
    mark = domain_xml.read(hypervisor.definition(name)).mark
    if mark.get(MARK) == path:
        hypervisor.set_mark(name, {key: value for key, value in mark.items() if key != MARK})
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def settle(hypervisor: Hypervisor, name: str, uuid: str, path: str) -> None:
    """After a crash while it was written: what libvirt has finished stays, what was in vain goes."""
    if not hypervisor.has_domain(uuid):
        return
    if hypervisor.transfer(name):
        raise Failed("locked", f"libvirt is still writing {path}", "it is looked at again")
    if hypervisor.state(name) == "shut-off" and is_whole(path):
        return
    forget(hypervisor, name, path)
