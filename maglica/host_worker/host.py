"""What a job function is given of this host."""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple

from maglica.config import HostWorkerSection, PathsSection
from maglica.host_worker.disk.storage import Storage
from maglica.host_worker.guest.disk import Terms
from maglica.host_worker.guest.warm import WarmAppliances
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.image.serving import Serving
from maglica.host_worker.needs import Needs
from maglica.host_worker.reading import Reading
from maglica.host_worker.work import Work


class Host(NamedTuple):
    name: str
    hypervisor: Hypervisor
    settings: HostWorkerSection
    acceleration: str  # kvm or tcg
    why: str  # why that is thought
    storage: Storage
    client: str = "127.0.0.1"  # where its client worker is
    paths: PathsSection = PathsSection()
    needs: Needs | None = None  # what jobs ask other hosts for
    serving: Serving | None = None  # what is served to other hosts
    warm: WarmAppliances | None = None  # kept for the next clone of an image
    reading: Reading | None = None  # what was read in disks for a look

    def terms(self, work: Work, at_most: float) -> Terms:
        """On what terms an appliance of this host works for a job; `at_most` so many seconds."""
        deadline = min(work.left, at_most)
        return Terms(self.acceleration == "kvm", deadline, work.substep, work.cancelled, work.mark)

    def short_folder(self) -> str:
        """A folder for sockets and one-time keys, whose path is short: a socket's may have 107 characters. What is in
        it is nobody's any more when a host worker starts.
        """
        path = os.path.join(self.paths.state, f"host-{self.name}", "t")
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def clear_short_folder(self) -> None:
        """Remove what the last host worker left there."""
        folder = self.short_folder()
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
