"""`image copy`, on the host that gets it: ask, fetch each disk by NBD over TLS, compare checksums, define.

The job is this host's. The other one only serves: what it is asked for, for as long as this job lives.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
import uuid
from typing import Any, NamedTuple

from maglica.actions.image import ImageCopy
from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.disk import copying, modes
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.domain.domain_xml import Edits
from maglica.host_worker.host import Host
from maglica.host_worker.image import foreign, importing, nbd
from maglica.host_worker.image.serving import USER
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must

RENEW = 15.0  # seconds between two words to the host that serves
FAREWELL = 3.0  # seconds for the last word
ANSWER_WITHIN = 60.0  # seconds that it has for an answer
NVRAM = "nvram"
NVRAM_FOLDER = "/var/lib/libvirt/qemu/nvram"  # libvirt's own


class Disk(NamedTuple):
    """A disk that is to come. `part` holds the job's id."""

    target: str
    format: str
    allocation_bytes: int
    part: str
    path: str


class Plan(NamedTuple):
    name: str
    uuid: str
    pool: str
    disks: list[Disk]
    nvram: Disk | None
    definition: str
    mark: dict[str, str]
    nics: int
    free_bytes: int  # what the pool has to give


def run(want: ImageCopy, host: Host, work: Work) -> dict[str, Any]:
    name = want.as_ or want.name
    if not host.hypervisor.has_files:
        raise Refused("environment_error", f"{host.name} has no real disks ({host.hypervisor.uri})")
    importing.refuse_known(name, host)
    work.will({"copy": want.name, "from": want.from_, "to": host.name, "as": name})
    try:
        return _run(name, want, host, work)
    finally:
        _release(host, work)


def _run(name: str, want: ImageCopy, host: Host, work: Work) -> dict[str, Any]:
    with work.step("ask", str(want.from_)):
        todo = _plan(name, foreign.told(_ask(want, host, work, None)), host, work.job)
    digests = {}
    done, total = 0, sum(disk.allocation_bytes for disk in todo.disks)
    with host.storage.promise(todo.pool, total, todo.free_bytes) as promise:
        for disk in [*todo.disks, *([todo.nvram] if todo.nvram else [])]:
            with work.step("copy", f"{disk.target} from {want.from_}"):
                _fetch(want, disk, host, work, done, max(1, total))
                done += disk.allocation_bytes
                promise.took(done)
            found = importing.checksum(disk.part, disk.format, host, work)
            with work.step("compare", disk.target):
                _compare(want, disk, found, host, work)
            digests[disk.target] = found
    return _define(want, todo, digests, host, work)


def _ask(want: ImageCopy, host: Host, work: Work, disk: str | None) -> dict[str, Any]:
    assert host.needs is not None, "a host worker that runs jobs can ask other hosts"
    try:
        return host.needs.ask(work.job, {"disk": disk}, ANSWER_WITHIN, work.check)
    except MaglicaError as error:
        if str(want.from_) not in error.message:
            error.message = f"{want.from_}: {error.message}"
        raise


def _release(host: Host, work: Work) -> None:
    """Tell the other host that nothing more is needed; should it not hear, what it serves ends with its lease."""
    try:
        if host.needs is not None:
            host.needs.ask(work.job, {"over": True}, FAREWELL, lambda: None)
    except MaglicaError:
        pass


def _plan(name: str, told: foreign.Told, host: Host, job: str) -> Plan:
    targets = frozenset(disk.target for disk in told.disks)
    definition = foreign.tamed(told.definition, name, targets, f"/var/log/libvirt/qemu/{name}.console.log")
    image = domain_xml.read(definition)
    if missing := targets - {disk.target for disk in image.disks}:
        what = f"the other host tells of a disk {min(missing)}, which {name} has not in its definition"
        raise Refused("wrong_input", what, "look at that image on its host")
    pools = look.pools(host.hypervisor, host.settings, host.storage)
    pool = modes.roomiest(pools, host.settings.pool, sum(disk.allocation_bytes for disk in told.disks))
    only = len(told.disks) == 1
    disks = [_disk(disk, name, str(pool["path"]), job, only=only) for disk in told.disks]
    nvram = _nvram(name, job) if told.nvram else None
    for disk in [*disks, *([nvram] if nvram else [])]:
        if os.path.lexists(disk.path):
            raise Refused(
                "already_exists", f"the file {disk.path} exists on {host.name}", "remove it, or say --as=NAME"
            )
    free = int(pool["free_bytes"]) - int(pool["reserve_bytes"])
    return Plan(
        name, str(uuid.uuid4()), str(pool["name"]), disks, nvram, definition, dict(image.mark), len(image.nics), free
    )


def _disk(told: foreign.Disk, name: str, folder: str, job: str, *, only: bool) -> Disk:
    base = plan.stem(name) if only else f"{plan.stem(name)}-{told.target}"
    path = os.path.join(folder, f"{base}.{plan.EXTENSIONS[told.format]}")
    return Disk(told.target, told.format, told.allocation_bytes, f"{path}.{job}.part", path)


def _nvram(name: str, job: str) -> Disk:
    os.makedirs(NVRAM_FOLDER, exist_ok=True)
    path = os.path.join(NVRAM_FOLDER, f"{plan.stem(name)}_VARS.fd")
    return Disk(NVRAM, "raw", 0, f"{path}.{job}.part", path)


class _Lease:
    """Says again and again that a disk is still wanted; `lost` when the other host is no longer there to serve it."""

    def __init__(self, want: ImageCopy, disk: Disk, host: Host, work: Work) -> None:
        self._asked = want, host, work, disk.target
        self._over = threading.Event()
        self.lost: MaglicaError | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> _Lease:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _renew(self) -> None:
        refused = 0
        while not self._over.wait(RENEW):
            try:
                _ask(*self._asked)
                refused = 0
            except MaglicaError as error:
                # A client worker that is away for a while is none of our business.
                refused += error.code not in ("timeout", "unreachable")
                if refused > 2:
                    self.lost = error
                    return


def _fetch(want: ImageCopy, disk: Disk, host: Host, work: Work, done: int, total: int) -> None:
    address, port, secret = foreign.server(_ask(want, host, work, disk.target))
    folder = os.path.join(host.short_folder(), work.job)
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    try:
        # Never an argument: everybody on this machine may read those.
        with open(os.open(f"{folder}/keys.psk", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{USER}:{secret}\n")
        work.undo("remove_part", path=disk.part)
        with _Lease(want, disk, host, work) as lease:
            try:
                ended = work.run(
                    _argv(folder, address, port, disk), on_output=_progress(disk, work, done, total),
                    stop=lambda: lease.lost is not None,
                )  # fmt: skip
            except Failed:
                if lease.lost is None:
                    raise
                raise Failed(
                    "host_down",
                    f"{want.from_} does not serve {want.name} any more: {lease.lost.message}",
                    lease.lost.hint,
                ) from None
        must(ended, f"copy of {want.name} from {want.from_}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _argv(folder: str, address: str, port: int, disk: Disk) -> list[str]:
    credentials = f"tls-creds-psk,id=tls0,endpoint=client,dir={folder.replace(',', ',,')},username={USER}"
    source = f"driver=nbd,host={address},port={port},export=disk,tls-creds=tls0"
    return [
        "qemu-img", "convert", "-p", "--object", credentials, "--image-opts", source, "-O", disk.format, "--", disk.part
    ]  # fmt: skip


def _progress(disk: Disk, work: Work, done: int, total: int) -> Any:
    def progress(text: str) -> None:
        found = re.findall(r"\((\d+\.\d+)/100%\)", text)
        if found:
            work.progress(done + int(float(found[-1]) / 100 * disk.allocation_bytes), total)

    return progress


def _compare(want: ImageCopy, disk: Disk, found: str, host: Host, work: Work) -> None:
    """What came must be what the other host has on its disk; it reads that meanwhile, and may take its time."""
    pause = threading.Event()
    while True:
        there = foreign.digest(_ask(want, host, work, disk.target))
        if there is not None:
            break
        work.check()
        pause.wait(0.5)
    if there != found:
        raise Failed(
            "environment_error",
            f"{disk.target} of {want.name} is not what {want.from_} has: sha256:{found} came,"
            f" sha256:{there} was read there",
            "is somebody writing to it, or is one of the two disks failing?",
        )


def _define(want: ImageCopy, todo: Plan, digests: dict[str, str], host: Host, work: Work) -> dict[str, Any]:
    content = nbd.together({target: found for target, found in digests.items() if target != NVRAM})
    had = todo.mark.get("content", content)
    if had != content:
        raise Failed(
            "wrong_state",
            f"{want.name} on {want.from_} has changed since it was made: {had} then, {content} now",
            "take it from another host with --from=HOST, or import it again under another name",
        )
    chance = random.SystemRandom()
    mark = {**todo.mark, "kind": "image", "content": content, "copied_from": str(want.from_), "job": work.job}
    edits = Edits(
        name=todo.name, uuid=todo.uuid, macs=[plan.random_mac(chance) for _ in range(todo.nics)],
        disks={disk.target: (disk.path, disk.format) for disk in todo.disks},
        nvram=todo.nvram.path if todo.nvram else None, vcpus=None, memory_bytes=None,
        emulated=host.acceleration == "tcg", mark=mark,
    )  # fmt: skip
    told = {
        "name": todo.name, "host": host.name, "from": want.from_, "uuid": todo.uuid, "pool": todo.pool,
        "disks": [{"target": disk.target, "path": disk.path, "format": disk.format} for disk in todo.disks],
        "allocation_bytes": sum(os.stat(disk.part).st_blocks * 512 for disk in todo.disks),
        "content": content, "changed": True,
    }  # fmt: skip
    with work.step("define", sign=sign("defined", told, uuid=todo.uuid)):
        work.point_of_no_return()
        for disk in [*todo.disks, *([todo.nvram] if todo.nvram else [])]:
            os.chmod(disk.part, 0o600 if disk.target == NVRAM else 0o444)
            copying.link(disk.part, disk.path, work)
        work.undo("undefine", uuid=todo.uuid)
        host.hypervisor.define(domain_xml.rewrite(todo.definition, edits))
    return {**told, "seconds": work.seconds()}
