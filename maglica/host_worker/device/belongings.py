"""Files that may lie in a storage pool and are no disks: what jobs are at work on, and what VMs have besides disks.

Whoever may plug in a file of a pool could read a guest's memory as a disk or a medium, with all passwords and keys that
are in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from maglica.errors import Refused
from maglica.host_worker.domain import saved
from maglica.host_worker.domain.domain_xml import Domain
from maglica.host_worker.host import Host
from maglica.host_worker.snapshot import model
from maglica.host_worker.snapshot.model import Snapshot

# What a name ends in that a job gives to a file until it has made something of it.
OF_JOBS = (
    ".part", ".removed", ".replaced", ".before", ".fetched", ".fetched.zst", ".user-data", ".meta-data",
    ".network-config",
)  # fmt: skip
# What a name ends in that stays, whoever is known to have it.
OF_VMS = {
    saved.ENDING: "the memory of a VM that was saved",
    saved.DUMP: "the memory of a VM that was dumped",
    model.MEMORY: "the memory that a snapshot of a VM keeps",
    "_VARS.fd": "what the firmware of a VM keeps",
}
ISO_AT = 32768 + 1  # where the first volume descriptor says what it is: ECMA-119 6.7, ECMA-167 2/9.1
ISO = (b"CD001", b"BEA01")


def refuse(path: str, name: str, host: Host) -> None:
    """Refuse such a file for the VM `name`, which may have what was its own disk."""
    if path.endswith(OF_JOBS):
        raise Refused("locked", f"{path} is what another job is working on", "wait for it")
    what = next((words for ending, words in OF_VMS.items() if path.endswith(ending)), None)
    what = what or next((words for file, words in _known(name, host) if os.path.realpath(file) == path), None)
    if what:
        hint = "choose another file; one that is a disk all the same needs another name, or another folder"
        raise Refused("protected", f"{path} is {what}, and no disk", hint)


def _known(name: str, host: Host) -> Iterator[tuple[str, str]]:
    """(file, what it is) of all that VMs are known to have besides the disks that are in their definitions."""
    for domain, _ in host.hypervisor.domains():
        yield from ((file, what) for file, what in _own(domain, domain.name == name) if file)
        with suppress(Refused):  # gone by now
            for label, text in host.hypervisor.snapshots(domain.name):
                yield from _snapshot(label, model.read(text), domain.name, domain.name == name)


def _snapshot(label: str, one: Snapshot, name: str, asks: bool) -> Iterator[tuple[str, str]]:
    if one.memory_file:
        yield one.memory_file, f"the memory that snapshot {label} of {name} keeps"
    if one.kind == "external" and not asks:
        for file in (*one.disks.values(), *one.overlays.values()):
            yield file, f"a part of snapshot {label} of {name}"


def _own(domain: Domain, asks: bool) -> Iterator[tuple[str | None, str]]:
    yield domain.mark.get(saved.MARK), f"the memory of {domain.name}, which was saved"
    yield domain.nvram, f"what the firmware of {domain.name} keeps"
    yield domain.console_log, f"what was written on the console of {domain.name}"
    if not asks:
        yield domain.mark.get("seed"), f"the seed of {domain.name}, with what is its own"


def refuse_no_iso(path: str, host: Host) -> None:
    """Refuse a medium that is none, judged by what stands where nobody but the maker of a file system writes."""
    if not host.hypervisor.has_files:
        return
    with open(path, "rb") as file:
        file.seek(ISO_AT)
        word = file.read(len(ISO[0]))
    if word not in ISO:
        hint = "expected an ISO 9660 or UDF file system; `maglica vm attach-disk` plugs in disks"
        raise Refused("wrong_input", f"{path} is no ISO file", hint)
