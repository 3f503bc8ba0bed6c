"""Images."""

from __future__ import annotations

import os
from typing import Any

from maglica.actions.image import (
    ImageCopy,
    ImageDependents,
    ImageExport,
    ImageImport,
    ImageInfo,
    ImageList,
    ImageRemove,
    ImageSeal,
    ImageServe,
    ImageUpgrade,
)
from maglica.errors import Refused
from maglica.host_worker.domain import domain_xml, look, removing
from maglica.host_worker.domain.look import ACTIVE
from maglica.host_worker.host import Host
from maglica.host_worker.image import exporting, facts, importing, receiving, sealing, serving
from maglica.host_worker.work import Work


def image_list(want: ImageList, host: Host) -> dict[str, Any]:
    return {"items": look.images(host.hypervisor, host.storage, every=want.all)}


def image_info(want: ImageInfo, host: Host) -> dict[str, Any]:
    return {"items": facts.of_image(host, want.name)}


def image_import(want: ImageImport, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves files that hold the job's id, or a disk without a domain; both are removed."""
    return importing.run(want, host, work)


def image_copy(want: ImageCopy, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves files that hold the job's id, or disks without a domain; all are removed."""
    return receiving.run(want, host, work)


def image_seal(want: ImageSeal, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves files that hold the job's id, or disks without a domain; all are removed."""
    return sealing.run(want.name, want.as_, host, work, upgrade=False)


def image_upgrade(want: ImageUpgrade, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves files that hold the job's id, or disks without a domain; all are removed."""
    return sealing.run(want.name, want.as_, host, work, upgrade=True)


def image_export(want: ImageExport, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves files that hold the job's id, or the first of several; all are removed."""
    return exporting.export_image(want, host, work)


def image_dependents(want: ImageDependents, host: Host) -> dict[str, Any]:
    return {"items": removing.dependents(want.name, host)}


def image_remove(want: ImageRemove, host: Host, work: Work) -> dict[str, Any]:
    """A crash before the definition is gone puts the disks back; after that they are deleted at the next start."""
    return removing.image(want.name, host, work, keep_disks=want.keep_disks)


def image_serve(want: ImageServe, host: Host) -> dict[str, Any]:
    """Not only a look: what it starts ends with its lease, see `serving.py`."""
    if want.over:
        if host.serving:
            host.serving.release(want.job)
        return {"item": {}}
    definition = host.hypervisor.definition(want.name)
    domain, state = domain_xml.read(definition), host.hypervisor.state(want.name)
    if state in ACTIVE or not domain_xml.is_image(domain, False):
        raise Refused(
            "wrong_state", f"{want.name} on {host.name} is {state}", "only an image that is shut off is copied"
        )
    sources = {source.disk.target: source for source in look.sources(host.hypervisor, domain, host.storage)}
    nvram = domain.nvram if domain.nvram and os.path.exists(domain.nvram) else None
    if want.disk is None:
        disks = [
            {"target": target, "format": source.disk.format, "allocation_bytes": source.allocation_bytes}
            for target, source in sources.items()
        ]
        return {"item": {"definition": definition, "disks": disks, "nvram": nvram is not None}}
    if want.disk == receiving.NVRAM and nvram:
        path, format = nvram, "raw"
    elif want.disk in sources:
        path, format = sources[want.disk].path, sources[want.disk].disk.format
    else:
        raise Refused("unknown_entity", f"{want.name} on {host.name} has no disk {want.disk}")
    if host.serving is None:
        raise Refused("environment_error", f"{host.name} serves nothing")
    return {"item": host.serving.serve(
        want.job, want.disk, path, format, folder=host.short_folder(), ports=host.settings.copy_ports,
        address=host.settings.copy_address or serving.own_address(host.client),
    )}  # fmt: skip
