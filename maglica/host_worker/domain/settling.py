"""What a job that gives a VM another name or address left in the middle: finished or taken back, as its domain says.

The definition comes last, and bears the job's id as `altered` in our mark. Each function may be called twice.
"""

from __future__ import annotations

import logging
import os

from maglica.errors import Failed, MaglicaError
from maglica.host_worker import commands
from maglica.host_worker.disk import volumes
from maglica.host_worker.domain import contention, domain_xml
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.work import must

log = logging.getLogger("maglica.host_worker")

COMMIT_TIMEOUT = 600.0  # seconds


def altered(hypervisor: Hypervisor, uuid: str, job: str) -> bool:
    """Whether a job that gives a VM another identity got as far as its definition: then all of it is to stay."""
    return (hypervisor.mark_of(uuid) or {}).get("altered") == job


def settle_disk(hypervisor: Hypervisor, path: str, uuid: str, job: str) -> None:
    """The picture of what a disk held before: brought back unless the change is to stay, and deleted."""
    if not os.path.exists(path):
        return
    if hypervisor.has_domain(uuid) and not altered(hypervisor, uuid, job):
        argv = ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", "--", path]
        must(commands.run(argv, timeout=COMMIT_TIMEOUT), f"{path} cannot be brought back")
    os.unlink(path)


def settle_renamed(hypervisor: Hypervisor, old: str, new: str, inode: int, uuid: str, job: str) -> None:
    """A file that has two names: it keeps the one that its domain calls it by."""
    gone, kept = (old, new) if altered(hypervisor, uuid, job) else (new, old)
    try:
        if os.stat(gone).st_ino == inode and os.path.samefile(gone, kept):
            os.unlink(gone)
    except FileNotFoundError:
        pass


def settle_renamed_volume(
    hypervisor: Hypervisor, group: str, old: str, new: str, volume: str, uuid: str, job: str
) -> None:
    """A logical volume that was to have another name, known by its own uuid: it is called as its domain calls it."""
    gone, kept = (old, new) if altered(hypervisor, uuid, job) else (new, old)
    if volumes.uuid(group, gone) != volume:
        return
    ended = commands.run(volumes.rename(group, gone, kept), timeout=volumes.TIMEOUT)
    if ended.exit_status:
        raise Failed("environment_error", f"lvrename {group}/{gone} {kept}: {ended.stderr.strip()}")


def settle_name(hypervisor: Hypervisor, uuid: str, name: str, text: str, job: str) -> None:
    """A domain that was to have another name: it keeps its own unless the change is to stay."""
    if not altered(hypervisor, uuid, job):
        hypervisor.rename(uuid, name)
        hypervisor.redefine(uuid, text)


def start_again(hypervisor: Hypervisor, uuid: str) -> None:
    """A VM that ran and was shut down for the job. When libvirt is away it is tried again; a VM that would not start is
    no reason for that: there is nothing to be undone.

    Nobody can have started it elsewhere by our means meanwhile: the job holds the VM's lock until its end is told.
    """
    try:
        found = hypervisor.layout_of(uuid)
        if found and found[0] is None:
            contention.refuse(domain_xml.read(found[1]).name, found[1], hypervisor)
        hypervisor.start_again(uuid)
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        log.warning("the VM %s, which ran before, cannot be started again: %s", uuid, error)
