"""The local libvirtd. This folder alone imports libvirt; it gives and takes plain values, sizes in bytes."""

from __future__ import annotations

from maglica.host_worker.hypervisor.agent import Agent
from maglica.host_worker.hypervisor.block_jobs import BlockJobs
from maglica.host_worker.hypervisor.connection import STATES, Hung
from maglica.host_worker.hypervisor.devices import Devices
from maglica.host_worker.hypervisor.domains import Domains
from maglica.host_worker.hypervisor.identity import Identity
from maglica.host_worker.hypervisor.memory import Memory
from maglica.host_worker.hypervisor.node import Node
from maglica.host_worker.hypervisor.power import Power
from maglica.host_worker.hypervisor.screens import Screens
from maglica.host_worker.hypervisor.size import Size
from maglica.host_worker.hypervisor.snapshots import Snapshots
from maglica.host_worker.hypervisor.tuning import Tuning
from maglica.host_worker.hypervisor.volumes import Volumes
from maglica.host_worker.hypervisor.watching import Watching

__all__ = ["STATES", "Hung", "Hypervisor"]


class Hypervisor(
    Domains, Power, Memory, Watching, Devices, Snapshots, Agent, BlockJobs, Volumes, Size, Tuning, Node, Screens,
    Identity,
):  # fmt: skip
    """What we ask of libvirt: one connection, its questions and orders by subject."""
