"""Changing disks in place so that it can be taken back: the change is made in a layer above, and then brought in.

1. An empty overlay of each disk is made, and whoever changes the machine writes there. Until 3 the disks are as they
   were, and to take it back is to throw the overlays away.
2. What the disk itself holds wherever the overlay has something new is copied into a second overlay: the picture of
   before.
3. The first overlay is committed into the disk. Killed in the middle, the picture is committed instead, which may be
   done again and again: the disk is as it was.

All of that costs what was changed, some megabytes, whatever the size of the disk. Every file has a name that holds the
job's id. qemu-img(1); qemu-io's -C reads through an overlay and keeps what it read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from maglica.host_worker.disk.modes import Source
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work, must

NEAR = 8 << 20  # bytes between two pieces that are copied in one
MOST = 64 << 20  # bytes that are copied at once: qemu-io holds them in memory


class Layer(NamedTuple):
    """A disk with what lies above it."""

    disk: str
    format: str
    above: str  # the change
    before: str  # the picture of before


def over(sources: Sequence[Source], host: Host, work: Work) -> list[Layer]:
    """Make an empty layer above each disk, none of which may be in use."""
    layers = []
    for source in sources:
        stem = source.path if source.file else os.path.join(_folder(host), os.path.basename(source.path))
        layer = Layer(source.path, source.disk.format, f"{stem}.{work.job}.part", f"{stem}.{work.job}.before")
        work.undo("remove_part", path=layer.above)
        _overlay(layer.above, layer, work)
        layers.append(layer)
    return layers


def _folder(host: Host) -> str:
    """A device has no room beside it."""
    folder = os.path.join(host.paths.state, f"host-{host.name}", "layers")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def _overlay(path: str, layer: Layer, work: Work) -> None:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", layer.disk, "-F", layer.format, "--", path]
    must(work.run(argv), f"layer above {layer.disk}")


def bring_in(layers: Sequence[Layer], uuid: str, work: Work) -> None:
    """Steps 2 and 3. The undo asks the domain of this uuid: its mark `altered` says whether the change is to stay."""
    for layer in layers:
        told: list[str] = []  # all of it, however scattered the disk is: what has ended keeps its last words only
        argv = ["qemu-img", "map", "-f", "qcow2", "--output=json", "--", layer.above]
        must(work.run(argv, on_output=told.append), layer.above)
        changed = pieces(json.loads("".join(told)))
        if not changed:
            continue
        work.undo("settle_disk", path=layer.before, uuid=uuid, job=work.job)
        _overlay(layer.before, layer, work)
        reads = [word for start, length in changed for word in ("-c", f"read -q {start} {length}")]
        must(work.run(["qemu-io", "-f", "qcow2", "-C", *reads, "-c", "flush", layer.before]), f"copy of {layer.disk}")
        must(work.run(["qemu-img", "commit", "-q", "-d", "-f", "qcow2", "--", layer.above]), f"change of {layer.disk}")


def throw_away(layers: Sequence[Layer]) -> None:
    """The change stays, or was none: both layers have had their time."""
    for layer in layers:
        for path in (layer.above, layer.before):
            if os.path.exists(path):
                os.unlink(path)


def pieces(mapped: Sequence[dict[str, object]]) -> list[tuple[int, int]]:
    """(start, length) of what a layer holds itself, as `qemu-img map` tells it: near ones in one, none too long."""
    found: list[list[int]] = []
    for one in mapped:
        start, length = int(str(one["start"])), int(str(one["length"]))
        if one["depth"] != 0 or not one.get("present", True):
            continue
        if found and start - found[-1][1] <= NEAR:
            found[-1][1] = start + length
        else:
            found.append([start, start + length])
    return [(at, min(MOST, end - at)) for start, end in found for at in range(start, end, MOST)]
