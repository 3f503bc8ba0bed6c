"""`image import`: fetch, inspect, convert, hash, define.

Everything is made under names that hold the job's id; a crash at any moment leaves nothing that the journal cannot
name. What came from elsewhere is only ever read under the format that `formats.py` found, and what is kept is a
qcow2 of our own making.
"""

from __future__ import annotations

import json
import os
import random
import re
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from maglica.actions.image import ImageImport
from maglica.errors import Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.disk import copying, formats, modes
from maglica.host_worker.domain import look, new_domain
from maglica.host_worker.domain.new_domain import Machine, New
from maglica.host_worker.host import Host
from maglica.host_worker.image import fetch, nbd
from maglica.host_worker.image.fetch import Fetched
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must

MEMORY = 1 << 30  # of the definition, when nothing is asked for
MOST = 64 << 40  # bytes of a disk: a header may claim anything
# What a hostile disk may make qemu-img use: address space, and seconds of a processor for a look.
LIMITED = ["prlimit", "--core=0", f"--as={4 << 30}"]
BRIEFLY = [*LIMITED, "--cpu=30"]


class Plan(NamedTuple):
    """What an import will do on this host."""

    name: str
    uuid: str
    pool: str
    path: str
    part: str
    fetched: str
    machine: Machine
    mac: str | None
    bridge: bool

    def shown(self, want: ImageImport) -> dict[str, Any]:
        return {"name": self.name, "source": want.source, "pool": self.pool, "disk": self.path}


def run(want: ImageImport, host: Host, work: Work) -> dict[str, Any]:
    todo = _plan(want, host, work.job)
    work.will(todo.shown(want))
    got = fetched(want.source, want.checksum, todo.fetched, host, work)
    format, size = _inspect(want, todo, work)
    _convert(todo, format, work)
    content = checksum(todo.part, "qcow2", host, work)
    mark = {
        "kind": "image", "source": want.source.partition("?")[0], "origin": f"sha256:{got.sha256}",
        "content": f"sha256:{content}", "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "job": work.job,
        **({"os": want.os} if want.os else {}),
    }  # fmt: skip
    told = {
        "name": want.name, "host": host.name, "uuid": todo.uuid, "pool": todo.pool, "path": todo.path,
        "format": format, "compression": got.compression or None, "fetched_bytes": got.bytes,
        "capacity_bytes": size, "allocation_bytes": os.stat(todo.part).st_blocks * 512,
        "origin": mark["origin"], "content": mark["content"], "changed": True,
    }  # fmt: skip
    with work.step("define", sign=sign("defined", told, uuid=todo.uuid)):
        work.point_of_no_return()
        os.chmod(todo.part, 0o444)
        copying.link(todo.part, todo.path, work)
        work.undo("undefine", uuid=todo.uuid)
        host.hypervisor.define(new_domain.definition(_new(want, todo, host, mark)))
    return {**told, "seconds": work.seconds()}


def _plan(want: ImageImport, host: Host, job: str) -> Plan:
    hypervisor = host.hypervisor
    if not hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks ({hypervisor.uri})", "choose another --on")
    refuse_known(want.name, host)
    size = 0
    if fetch.local(want.source):
        size = os.path.getsize(fetch.find(want.source, host.settings.import_dir))
    machine = hypervisor.machine_type(kvm=host.acceleration == "kvm")
    if want.efi and not machine.efi:
        raise Refused(
            "environment_error", f"{host.name} has no UEFI firmware for {machine.machine}", "install ovmf there"
        )
    bridge = is_bridge(want.network, host)
    pools = look.pools(hypervisor, host.settings, host.storage)
    pool = modes.roomiest(pools, want.pool or host.settings.pool, size)
    path = os.path.join(str(pool["path"]), f"{plan.stem(want.name)}.qcow2")
    if os.path.lexists(path):
        raise Refused("already_exists", f"the file {path} exists on {host.name}", "remove it, or choose another --name")
    mac = None if want.network == "none" else plan.random_mac(random.SystemRandom())
    return Plan(
        want.name, str(uuid.uuid4()), str(pool["name"]), path, f"{path}.{job}.part", f"{path}.{job}.fetched", machine,
        mac, bridge,
    )  # fmt: skip


def refuse_known(name: str, host: Host) -> None:
    """An image is never replaced: a new version gets a new name."""
    if any(known == name for known, _ in host.hypervisor.states()):
        raise Refused(
            "already_exists", f"{name} exists on {host.name}", "choose another name; versions are called NAME:VERSION"
        )


def is_bridge(network: str, host: Host) -> bool:
    """Whether it is a bridge of the host's own, and no network of libvirt's; refused when it is neither."""
    known = host.hypervisor.networks()
    if network == "none" or network in known:
        return False
    if os.path.isdir(f"/sys/class/net/{network}/bridge"):
        return True
    raise Refused(
        "unknown_entity",
        f"{host.name} has neither a network nor a bridge called {network}",
        f"say --network=NAME; libvirt there knows {', '.join(known) or 'none'}; --network=none makes no card",
    )


def fetched(source: str, checksum: str | None, path: str, host: Host, work: Work) -> Fetched:
    """The step that gets a file from elsewhere, unpacked, under a name that holds the job's id."""
    with work.step("fetch", source) as step:
        work.undo("remove_part", path=path)
        got = fetch.fetch(
            source, path, folder=host.settings.import_dir, checksum=checksum, reserve=host.settings.pool_reserve,
            progress=work.progress, check=work.check,
        )  # fmt: skip
        if got.compression == "zst":
            _unpack_zst(path, work)
        step["note"] = f"{got.bytes} bytes{', ' + got.compression if got.compression else ''}, sha256:{got.sha256}"
    return got


def _unpack_zst(path: str, work: Work) -> None:
    packed = f"{path}.zst"
    work.undo("remove_part", path=packed)
    os.rename(path, packed)
    ended = work.run([*LIMITED, "zstd", "-d", "-q", "--sparse", "--memory=512MB", "-o", path, "--", packed])
    if ended.exit_status and "o space left" not in ended.stderr:
        words = (ended.stderr or "zstd failed").splitlines()[-1]
        raise Refused("wrong_input", f"it cannot be unpacked (zst): {words}", "is it whole?")
    must(ended, "unpacking")
    os.unlink(packed)


def _inspect(want: ImageImport, todo: Plan, work: Work) -> tuple[str, int]:
    """The format, and the size of the disk in bytes."""
    with work.step("inspect") as step:
        with open(todo.fetched, "rb") as file:
            head = file.read(formats.HEAD)
        format = formats.inspect(head, want.format, want.source)
        argv = [*BRIEFLY, "qemu-img", "info", "--output=json", "-f", format, "--", todo.fetched]
        output: list[str] = []
        ended = work.run(argv, on_output=output.append)
        if ended.exit_status != 0:
            words = (ended.stderr or "qemu-img ended").splitlines()[-1].replace(todo.fetched, want.source)
            raise Refused("wrong_input", f"{want.source} is no {format} that QEMU can read: {words}", "is it whole?")
        facts = json.loads("".join(output))
        if "backing-filename" in facts or "data-file" in facts.get("format-specific", {}).get("data", {}):
            raise Refused("wrong_input", f"{want.source} names files of this host", "import one that stands alone")
        size = int(facts["virtual-size"])
        if not 0 < size <= MOST:
            raise Refused("wrong_input", f"{want.source} is a disk of {size} bytes", f"expected 1 to {MOST}")
        step["note"] = f"{format}, {size} bytes"
    return format, size


def _convert(todo: Plan, format: str, work: Work) -> None:
    total = os.stat(todo.fetched).st_blocks * 512 or 1

    def progress(text: str) -> None:
        found = re.findall(r"\((\d+\.\d+)/100%\)", text)
        if found:
            work.progress(int(float(found[-1]) / 100 * total), total)

    with work.step("convert", f"to pool {todo.pool}"):
        work.undo("remove_part", path=todo.part)
        argv = [*LIMITED, "qemu-img", "convert", "-p", "-f", format, "-O", "qcow2", "--", todo.fetched, todo.part]
        must(work.run(argv, on_output=progress), f"conversion of {todo.name}")
        os.unlink(todo.fetched)


def checksum(path: str, format: str, host: Host, work: Work) -> str:
    """What the guest will see, as `nbd.digest` defines it."""
    with work.step("checksum"):
        return nbd.digest(
            path, format, folder=host.short_folder(), mark=work.mark, timeout=work.left, progress=work.progress,
            check=work.check,
        )  # fmt: skip


def _new(want: ImageImport, todo: Plan, host: Host, mark: dict[str, str]) -> New:
    return New(
        name=want.name, uuid=todo.uuid, machine=todo.machine, kvm=host.acceleration == "kvm", vcpus=want.vcpus or 1,
        memory_bytes=want.memory or MEMORY, disk=todo.path, mac=todo.mac, network=want.network, bridge=todo.bridge,
        efi=want.efi, console_log=f"/var/log/libvirt/qemu/{want.name}.console.log", mark=mark,
    )  # fmt: skip
