"""Building VMs."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.build import VmBuild
from maglica.host_worker.building import making
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def vm_build(want: VmBuild, host: Host, work: Work) -> dict[str, Any]:
    """A crash in the middle leaves nothing of a new VM, and of one that is built anew the old or the new one, whole."""
    return making.build(want, host, work)
