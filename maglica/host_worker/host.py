"""What a job function is given of this host."""

from __future__ import annotations

from typing import NamedTuple

from maglica.config import HostWorkerSection, PathsSection
from maglica.host_worker.hypervisor import Hypervisor


class Host(NamedTuple):
    name: str
    hypervisor: Hypervisor
    settings: HostWorkerSection
    acceleration: str  # kvm or tcg
    why: str  # why that is thought
    client: str = "127.0.0.1"  # where its client worker is
    paths: PathsSection = PathsSection()
