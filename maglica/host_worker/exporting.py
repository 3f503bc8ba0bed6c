"""`vm clone --format`: the first disk as a file of another format, in place of a VM."""

from __future__ import annotations

import os
from typing import Any

from maglica.actions.vm import VmClone
from maglica.host_worker import copying
from maglica.host_worker.host import Host
from maglica.host_worker.plan import ClonePlan
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must


def path(want: VmClone, host: Host) -> str:
    return os.path.join(host.settings.export_dir, f"{want.hostname}.{want.format}")


def export(
    want: VmClone, todo: ClonePlan, paths: dict[str, str], guest: dict[str, Any] | None, host: Host, work: Work
) -> dict[str, Any]:
    """Write the first disk as a file of another format. No VM is made; the copies go only after the file is whole."""
    first = todo.copies[0]
    target = path(want, host)
    part = f"{target}.{work.job}.part"
    with work.step("convert", f"to {target}"):
        os.makedirs(host.settings.export_dir, exist_ok=True)
        work.undo("remove_part", path=part)
        argv = ["qemu-img", "convert", "-f", first.format, "-O", str(want.format), "--", paths[first.target], part]
        must(work.run(argv), f"export of {want.hostname}")
        os.chmod(part, 0o600)  # it may hold a password's hash; whoever publishes it decides who may read it
    url = host.settings.export_url
    told = {
        "name": want.hostname,
        "host": host.name,
        "image": want.image,
        "path": target,
        "url": f"{url.rstrip('/')}/{os.path.basename(target)}" if url else None,
        "bytes": os.path.getsize(part),
        "guest": guest,
        "seconds": work.seconds(),
    }
    with work.step("name", sign=sign("has_name", told, path=target, inode=os.stat(part).st_ino)):
        work.point_of_no_return()
        copying.link(part, target, work)
        copying.forget(todo, host, work)
    return told
