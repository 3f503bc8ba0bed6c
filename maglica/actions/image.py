"""Images: inactive domains that VMs are cloned from."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import Action, Where, action, arg


@action(
    where=Where.EVERY,
    columns=("name", "host"),
    wide=("vcpus", "memory_bytes", "capacity_bytes", "disks", "uuid"),
    example="maglica image list -o wide",
)
class ImageList(Action):
    """List the original images: inactive domains whose name ends in .original, or that are marked as images."""

    all: bool = arg(kinds.BOOL, "every inactive domain, whatever its name", default=False)
