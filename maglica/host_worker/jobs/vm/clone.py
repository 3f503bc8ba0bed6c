"""Making VMs of images."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.clone import VmClone, VmFlatten
from maglica.host_worker.clone import cloning
from maglica.host_worker.disk import flattening
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def vm_clone(want: VmClone, host: Host, work: Work) -> dict[str, Any]:
    return cloning.clone(want, host, work)


def vm_flatten(want: VmFlatten, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves each disk as it was or flat; both hold the same."""
    return flattening.flatten(want.name, host, work, bandwidth=want.bandwidth)
