"""Images."""

from __future__ import annotations

from typing import Any

from maglica.actions.image import ImageImport, ImageList
from maglica.host_worker import importing, look
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def image_list(want: ImageList, host: Host) -> dict[str, Any]:
    return {"items": look.images(host.hypervisor, every=want.all)}


def image_import(want: ImageImport, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves files that hold the job's id, or a disk without a domain; both are removed."""
    return importing.run(want, host, work)
