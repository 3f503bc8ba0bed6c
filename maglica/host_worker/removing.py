"""Deleting a domain with its disks: they are set aside, the definition is forgotten, then they are deleted."""

from __future__ import annotations

import os
from collections.abc import Sequence

from maglica.host_worker import dependants, look, volumes
from maglica.host_worker.domain_xml import Domain
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.work import Work, must


def remove(domain: Domain, doomed: Sequence[str], host: Host, work: Work) -> None:
    """A crash before the definition is gone puts the disks back; after that they are deleted at the next start."""
    told = {"name": domain.name, "host": host.name, "changed": True, "deleted": list(doomed)}
    behind = [link for path in doomed for link in look.chain(path)[1:]] if host.hypervisor.has_files else []
    with (
        host.storage.changing(doomed, f"{domain.name} cannot be removed"),
        work.step("remove", sign=sign("is_gone", told, uuid=domain.uuid)),
    ):
        _remove(domain, doomed, host, work)
        dependants.release(host.hypervisor, behind)


def _remove(domain: Domain, doomed: Sequence[str], host: Host, work: Work) -> None:
    if not host.hypervisor.has_files:
        work.point_of_no_return()
        host.hypervisor.undefine(domain.name)
        for path in doomed:
            host.hypervisor.delete_volume_at(path)
        return
    aside = []
    for path in doomed:
        if os.path.isfile(path):
            new = f"{path}.{work.job}.removed"
            work.undo("settle_removed", path=new, original=path, uuid=domain.uuid)
            os.rename(path, new)
            aside.append(new)
    work.point_of_no_return()
    host.hypervisor.undefine(domain.name)
    for path in aside:
        os.unlink(path)
    if domain.mark.get("mode") == "thin":  # made by us; another device may be anything
        for path in doomed:
            volume = host.storage.volume(path)
            if volume is not None:
                must(work.run(volumes.remove(volume.group, volume.name)), f"removal of {path}")
