"""What libvirt records of a snapshot, and how a new one is described. Text in, values or text out.

https://libvirt.org/formatsnapshot.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

MEMORY = ".memory"  # what the file is called that keeps a guest's memory


class Snapshot(NamedTuple):
    """One snapshot. `kind`: internal (kept inside the qcow2 disks) or external (disks frozen, overlays written to)."""

    label: str
    parent: str | None
    state: str  # running, paused, shut-off, or disk-only for a snapshot of running disks alone
    created_at: str | None
    description: str | None
    kind: str
    memory: bool
    memory_file: str | None
    disks: dict[str, str]  # target -> the file that is frozen, or that holds the snapshot
    overlays: dict[str, str]  # target -> the file that was written to from then on; external ones only


_STATES = {"shutoff": "shut-off", "disk-snapshot": "disk-only"}


def read(text: str) -> Snapshot:
    """What a snapshot's XML says."""
    root = ET.fromstring(text)
    memory = root.find("memory")
    how = memory.get("snapshot", "no") if memory is not None else "no"
    state = root.findtext("state", "")
    made = root.findtext("creationTime", "")
    parts = root.findall("./disks/disk")
    external = how == "external" or any(part.get("snapshot") == "external" for part in parts)
    taken = [part.get("name", "") for part in parts if part.get("snapshot") in ("internal", "external")]
    paths = _paths(root.find("domain"))
    return Snapshot(
        label=root.findtext("name", ""),
        parent=root.findtext("./parent/name"),
        state=_STATES.get(state, state),
        created_at=_time(made),
        description=root.findtext("description") or None,
        kind="external" if external else "internal",
        memory=how in ("internal", "external"),
        memory_file=memory.get("file") if memory is not None else None,
        disks={target: path for target, path in paths.items() if not parts or target in taken},
        overlays=_overlays(parts),
    )


def _time(seconds: str) -> str | None:
    if not seconds.isdigit():
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _paths(domain: ET.Element | None) -> dict[str, str]:
    """target -> file of each disk that can be written to."""
    found = {}
    for disk in domain.findall("./devices/disk") if domain is not None else ():
        source, target = disk.find("source"), disk.find("target")
        if disk.get("device", "disk") == "disk" and source is not None and target is not None:
            path = source.get("file") or source.get("dev")
            if path and disk.find("readonly") is None:
                found[target.get("dev", "")] = path
    return found


def _overlays(parts: Sequence[ET.Element]) -> dict[str, str]:
    found = {}
    for part in parts:
        source = part.find("source")
        if part.get("snapshot") == "external" and source is not None:
            path = source.get("file") or source.get("dev")
            if path:
                found[part.get("name", "")] = path
    return found


class New(NamedTuple):
    """A snapshot that is to be made. `overlays`: target -> new file, for an external one; `left_out`: targets of which
    nothing is kept."""

    label: str
    description: str | None
    memory: bool
    memory_file: str | None
    overlays: dict[str, str]
    left_out: Sequence[str]
    kept: Sequence[str]  # targets that an internal snapshot is made in


def element(new: New) -> str:
    """The XML of a new snapshot."""
    root = ET.Element("domainsnapshot")
    ET.SubElement(root, "name").text = new.label
    if new.description:
        ET.SubElement(root, "description").text = new.description
    how = "external" if new.memory_file else "internal" if new.memory else "no"
    memory = ET.SubElement(root, "memory", snapshot=how)
    if new.memory_file:
        memory.set("file", new.memory_file)
    disks = ET.SubElement(root, "disks")
    for target in new.left_out:
        ET.SubElement(disks, "disk", name=target, snapshot="no")
    for target in new.kept:
        ET.SubElement(disks, "disk", name=target, snapshot="internal")
    for target, path in new.overlays.items():
        disk = ET.SubElement(disks, "disk", name=target, snapshot="external", type="file")
        ET.SubElement(disk, "driver", type="qcow2")
        ET.SubElement(disk, "source", file=path)
    return ET.tostring(root, encoding="unicode")


def tree(snapshots: Sequence[Snapshot]) -> list[tuple[Snapshot, int]]:
    """(snapshot, how deep) from the roots on, children below their parent, the older first."""
    known = {one.label for one in snapshots}
    children: dict[str | None, list[Snapshot]] = {}
    for one in sorted(snapshots, key=lambda one: (one.created_at or "", one.label)):
        children.setdefault(one.parent if one.parent in known else None, []).append(one)
    found: list[tuple[Snapshot, int]] = []

    def walk(parent: str | None, depth: int) -> None:
        for one in children.get(parent, []):
            found.append((one, depth))
            walk(one.label, depth + 1)

    walk(None, 0)
    return found


def below(label: str, snapshots: Sequence[Snapshot]) -> list[str]:
    """All that were made from it, at any depth, the deepest first."""
    found = []
    for one in snapshots:
        if one.parent == label:
            found += [*below(one.label, snapshots), one.label]
    return found


def told(one: Snapshot, depth: int, current: str | None) -> dict[str, Any]:
    """As a list shows it."""
    return {
        "snapshot": "  " * (depth - 1) + "└ " * (depth > 0) + one.label,
        "label": one.label,
        "parent": one.parent,
        "kind": one.kind,
        "state": one.state,
        "memory": one.memory,
        "created_at": one.created_at,
        "description": one.description,
        "current": one.label == current,
    }
