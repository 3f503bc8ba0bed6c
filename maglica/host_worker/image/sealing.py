"""`image seal` and `image upgrade`: a new image out of a VM's or an image's disks.

Both copy first and work on the copy: what they start from stays as it is, whatever happens, and an image that others
rest on is never changed. Everything is made under names that hold the job's id; the definition comes last.
"""

from __future__ import annotations

import os
import random
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from maglica.actions.image import default_name
from maglica.errors import Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.disk import copying, modes
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.domain.domain_xml import Domain, Edits
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.guest import disk as guest_disk
from maglica.host_worker.host import Host
from maglica.host_worker.image import importing
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must


class Part(NamedTuple):
    """A disk of the new image: a qcow2 of our own making."""

    target: str
    source: str
    source_format: str
    part: str
    path: str


class Plan(NamedTuple):
    """What it will be."""

    name: str
    source: Domain
    definition: str
    uuid: str
    pool: str
    parts: list[Part]
    sizes: list[int]  # bytes that each of them takes
    free_bytes: int  # what the pool has to give

    def shown(self) -> dict[str, Any]:
        disks = [{"target": part.target, "path": part.path, "format": "qcow2"} for part in self.parts]
        return {"from": self.source.name, "name": self.name, "pool": self.pool, "disks": disks}


def run(source: str, name: str | None, host: Host, work: Work, *, upgrade: bool) -> dict[str, Any]:
    """Copy, edit (with `upgrade`: after its packages were upgraded), verify, define."""
    todo = _plan(source, name, host, work.job, upgrade=upgrade)
    work.will(todo.shown())
    _copy(todo, host, work)
    report = _prepare(todo, host, work, upgrade=upgrade)
    mark = {
        "kind": "image", "source": f"{'upgrade' if upgrade else 'seal'} of {source}", "job": work.job,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "cloud_init": "yes" if report["cloud_init"] else "no",
    }  # fmt: skip
    if len(todo.parts) == 1:
        mark["content"] = f"sha256:{importing.checksum(todo.parts[0].part, 'qcow2', host, work)}"
    told = {
        "name": todo.name, "host": host.name, "from": source, "uuid": todo.uuid, "pool": todo.pool,
        "disks": todo.shown()["disks"], "content": mark.get("content"), "os": report["os"],
        "verified": report["verified"], "removed": len(report["edits"]), "changed": True,
        **({"upgraded": report["upgraded"]} if upgrade else {}),
    }  # fmt: skip
    with work.step("define", sign=sign("defined", told, uuid=todo.uuid)):
        work.point_of_no_return()
        for part in todo.parts:
            os.chmod(part.part, 0o444)
            copying.link(part.part, part.path, work)
        work.undo("undefine", uuid=todo.uuid)
        host.hypervisor.define(domain_xml.rewrite(todo.definition, _edits(todo, mark)))
    return {**told, "seconds": work.seconds()}


def _plan(source: str, name: str | None, host: Host, job: str, *, upgrade: bool) -> Plan:
    hypervisor = host.hypervisor
    if not hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks ({hypervisor.uri})")
    state = hypervisor.state(source)
    if state in ACTIVE:
        raise Refused("wrong_state", f"{source} is {state}", "stop it first: its disks must not change meanwhile")
    definition = hypervisor.definition(source)
    domain = domain_xml.read(definition)
    if domain_xml.is_image(domain, active=False) != upgrade:
        what = "is no image" if upgrade else "is an image already"
        hint = f"`maglica image {'seal' if upgrade else 'upgrade'} {source}` is for that"
        raise Refused("wrong_state", f"{source} {what}", hint)
    if domain.nvram:
        raise Refused("environment_error", f"{source} boots by UEFI: its firmware's variables cannot be sealed yet")
    wanted = name or default_name(source, f"{datetime.now(UTC):%Y-%m-%d}", upgrade=upgrade)
    importing.refuse_known(wanted, host)
    found = look.sources(hypervisor, domain, host.storage)
    if not found or any(disk.foreign for disk in domain.disks):
        raise Refused("environment_error", f"{source} has disks that cannot be copied", "expected files or devices")
    needed = sum(one.allocation_bytes for one in found)
    pools = look.pools(hypervisor, host.settings, host.storage)
    pool = modes.roomiest(pools, host.settings.pool, needed)
    parts = []
    for one in found:
        suffix = "" if len(found) == 1 else f"-{one.disk.target}"
        path = os.path.join(str(pool["path"]), f"{plan.stem(wanted)}{suffix}.qcow2")
        if os.path.lexists(path):
            raise Refused(
                "already_exists", f"the file {path} exists on {host.name}", "remove it, or choose another --as"
            )
        parts.append(Part(one.disk.target, one.path, one.disk.format, f"{path}.{job}.part", path))
    free = int(pool["free_bytes"]) - int(pool["reserve_bytes"])
    sizes = [one.allocation_bytes for one in found]
    return Plan(wanted, domain, definition, str(uuid.uuid4()), str(pool["name"]), parts, sizes, free)


def _copy(todo: Plan, host: Host, work: Work) -> None:
    """Whole copies: an image rests on nothing. Meanwhile nobody starts or changes what is copied, or takes the room."""
    total, done = sum(todo.sizes), 0
    with (
        host.storage.using([part.source for part in todo.parts], f"{todo.source.name} cannot be copied"),
        host.storage.promise(todo.pool, total, todo.free_bytes) as promise,
        work.step("copy", f"to pool {todo.pool}"),
    ):
        for part, size in zip(todo.parts, todo.sizes, strict=True):
            work.undo("remove_part", path=part.part)

            def tell(copied: int, before: int = done) -> None:
                promise.took(before + copied)
                work.progress(before + copied, max(1, total))

            argv = ["qemu-img", "convert", "-p", "-f", part.source_format, "-O", "qcow2", "--", part.source, part.part]
            must(work.run(argv, on_output=copying.in_bytes(size, tell)), f"copy of {part.source}")
            done += size


def _prepare(todo: Plan, host: Host, work: Work, *, upgrade: bool) -> dict[str, Any]:
    disks = [guest_disk.Disk(part.part, "qcow2") for part in todo.parts]
    timeout = host.settings.upgrade_timeout if upgrade else host.settings.customize_timeout
    with work.step("upgrade" if upgrade else "seal") as step:
        report = guest_disk.prepare(disks, host.terms(work, timeout), upgrade=upgrade)
        step["note"] = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
    return report


def _edits(todo: Plan, mark: dict[str, str]) -> Edits:
    chance = random.SystemRandom()
    return Edits(
        name=todo.name,
        uuid=todo.uuid,
        macs=[plan.random_mac(chance) for _ in todo.source.nics],
        disks={part.target: (part.path, "qcow2") for part in todo.parts},
        nvram=None,
        vcpus=None,
        memory_bytes=None,
        emulated=False,  # a definition keeps the way in which its machine runs
        mark=mark,
    )
