"""Disks as files of another format: `vm clone --format` in place of a VM, and `image export`."""

from __future__ import annotations

import os
import re
from typing import Any

from maglica.actions.image import ImageExport
from maglica.actions.vm.clone import VmClone
from maglica.errors import Refused
from maglica.host_worker.clone import plan
from maglica.host_worker.clone.plan import ClonePlan
from maglica.host_worker.disk import copying
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.domain import domain_xml, look
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must

# The options of qemu-img for a file that is to be small; raw has none.
COMPRESSED = {"qcow2": ["-c"], "vmdk": ["-o", "subformat=streamOptimized"]}


def path(want: VmClone, host: Host) -> str:
    return os.path.join(host.settings.export_dir, f"{want.hostname}.{want.format}")


def export(
    want: VmClone, todo: ClonePlan, paths: dict[str, str], guest: dict[str, Any] | None, host: Host, work: Work
) -> dict[str, Any]:
    """Write the first disk as a file of another format. No VM is made; the copies go only after the file is whole."""
    first = todo.copies[0]
    target = path(want, host)
    part = _write(paths[first.target], first.format, target, str(want.format), [], first.allocation_bytes, work)
    told = {
        "name": want.hostname,
        "host": host.name,
        "image": want.image,
        "path": target,
        "url": _url(target, host),
        "bytes": os.path.getsize(part),
        "guest": guest,
        "seconds": work.seconds(),
    }
    with work.step("name", sign=sign("has_name", told, path=target, inode=os.stat(part).st_ino)):
        work.point_of_no_return()
        copying.forget(todo, host, work)  # before the name, which says that all is done; the file is whole
        copying.link(part, target, work)
    return told


def export_image(want: ImageExport, host: Host, work: Work) -> dict[str, Any]:
    """Write every disk of an image as a file. The files get their names together, the last one ends the job."""
    found = _sources(want, host)
    targets = [_target(want, source, host, only=len(found) == 1) for source in found]
    for target in targets:
        if os.path.lexists(target):
            raise Refused("already_exists", f"the file {target} exists on {host.name}", "remove it there first")
    work.will({"export": want.name, "files": targets})
    options = COMPRESSED[want.format] if want.compress else []
    parts = [
        _write(source.path, source.disk.format, target, want.format, options, source.allocation_bytes, work)
        for source, target in zip(found, targets, strict=True)
    ]
    files = [
        {"target": source.disk.target, "path": target, "url": _url(target, host), "bytes": os.path.getsize(part)}
        for source, target, part in zip(found, targets, parts, strict=True)
    ]
    told = {"name": want.name, "host": host.name, "format": want.format, "files": files, "changed": True}
    last = sign("has_name", told, path=targets[-1], inode=os.stat(parts[-1]).st_ino)
    with work.step("name", sign=last):
        work.point_of_no_return()
        for part, target in zip(parts, targets, strict=True):
            copying.link(part, target, work)
    return {**told, "seconds": work.seconds()}


def _sources(want: ImageExport, host: Host) -> list[Source]:
    state = host.hypervisor.state(want.name)
    image = domain_xml.read(host.hypervisor.definition(want.name))
    if state in look.ACTIVE or not domain_xml.is_image(image, False):
        raise Refused(
            "wrong_state", f"{want.name} on {host.name} is {state}", "only images that are shut off are exported"
        )
    found = look.sources(host.hypervisor, image, host.storage)
    if not host.hypervisor.has_files or not found:
        raise Refused("environment_error", f"{want.name} on {host.name} has no real disks ({host.hypervisor.uri})")
    return found


def _target(want: ImageExport, source: Source, host: Host, *, only: bool) -> str:
    base = plan.stem(want.name) if only else f"{plan.stem(want.name)}-{source.disk.target}"
    return os.path.join(host.settings.export_dir, f"{base}.{plan.EXTENSIONS.get(want.format, want.format)}")


def _url(target: str, host: Host) -> str | None:
    url = host.settings.export_url
    return f"{url.rstrip('/')}/{os.path.basename(target)}" if url else None


def _write(source: str, format: str, target: str, wanted: str, options: list[str], size: int, work: Work) -> str:
    """Convert a disk to a file beside `target` whose name holds the job's id; its path. `size`: for the progress."""
    part = f"{target}.{work.job}.part"

    def progress(text: str) -> None:
        found = re.findall(r"\((\d+\.\d+)/100%\)", text)
        if found:
            work.progress(int(float(found[-1]) / 100 * size), max(1, size))

    with work.step("convert", f"to {target}"):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        work.undo("remove_part", path=part)
        argv = ["qemu-img", "convert", "-p", "-f", format, "-O", wanted, *options, "--", source, part]
        must(work.run(argv, on_output=progress), f"export to {target}")
        os.chmod(part, 0o600)  # it may hold a password's hash; whoever publishes it decides who may read it
    return part
