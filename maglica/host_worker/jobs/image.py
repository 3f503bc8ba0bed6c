"""Images."""

from __future__ import annotations

from typing import Any

from maglica.actions.image import ImageList
from maglica.host_worker import look
from maglica.host_worker.host import Host


def image_list(want: ImageList, host: Host) -> dict[str, Any]:
    return {"items": look.images(host.hypervisor, every=want.all)}
