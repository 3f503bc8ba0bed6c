"""What kind of snapshot is made, and whether one can be gone back to: values in, values out. `Refused` in words of
what libvirt and QEMU cannot do, before anything starts.

| | internal | external |
| --- | --- | --- |
| where | inside the qcow2 disks | disks are frozen, overlays are written to |
| disks | qcow2, all of them | any |
| a VM that runs | with its memory; it stands still meanwhile | with or without its memory |
| UEFI firmware | no | yes |
| going back | always | libvirt 9.9 and later |
| removing | always | libvirt 9.0 and later; what is in the overlay is merged |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from maglica.actions.snapshot import SnapshotCreate
from maglica.errors import Refused
from maglica.host_worker.snapshot.model import Snapshot, below

REVERTS_EXTERNAL = (9, 9)  # libvirt's NEWS: the release that can
REMOVES_EXTERNAL = (9, 0)


class Part(NamedTuple):
    """A disk that can be written to."""

    target: str
    path: str
    format: str
    file: bool


class Kind(NamedTuple):
    """What is made. `disk_only`: overlays and no memory."""

    external: bool
    memory: bool
    disk_only: bool


def kind(want: SnapshotCreate, parts: Sequence[Part], *, runs: bool, firmware: bool, agent: bool) -> Kind:
    """What is to be made. `firmware`: its variables are in a pflash file; `agent`: it has a channel for one."""
    name = want.name
    if not parts:
        raise Refused("wrong_state", f"{name} has no disk that can be written to", "there is nothing to be kept")
    memory = runs and (want.memory if want.memory is not None else not want.disk_only)
    external = want.external or want.disk_only or (runs and not memory)
    if want.quiesce:
        _refuse_quiesce(name, runs, agent)
    if not external:
        _refuse_internal(name, parts, runs=runs, firmware=firmware)
    return Kind(external, memory, external and not memory)


def _refuse_quiesce(name: str, runs: bool, agent: bool) -> None:
    if not runs:
        raise Refused("wrong_input", f"{name} is off: nobody is there to --quiesce", "leave it out")
    if not agent:
        raise Refused(
            "wrong_state", f"{name} has no channel for a guest agent, which --quiesce needs",
            "leave it out: the disks are then as after a power cut",
        )  # fmt: skip


def _refuse_internal(name: str, parts: Sequence[Part], *, runs: bool, firmware: bool) -> None:
    hint = "--disk-only freezes disks of any format, and writes to overlays from then on"
    wrong = next((part for part in parts if part.format != "qcow2"), None)
    if wrong:
        raise Refused(
            "wrong_state",
            f"disk {wrong.target} of {name} is {wrong.format}: only qcow2 disks can hold a snapshot",
            hint,
        )
    if firmware:
        raise Refused("wrong_state", f"{name} has UEFI firmware, of which libvirt makes no such snapshot", hint)


def reverting(one: Snapshot, release: tuple[int, int]) -> str:
    """Why a VM cannot go back to a snapshot; '' when it can."""
    if one.kind == "external" and release < REVERTS_EXTERNAL:
        return (
            f"libvirt {release[0]}.{release[1]} cannot go back to an external snapshot; {REVERTS_EXTERNAL[0]}."
            f"{REVERTS_EXTERNAL[1]} and later can"
        )
    return ""


def removing(one: Snapshot, every: Sequence[Snapshot], release: tuple[int, int], removed: Sequence[str] = ()) -> str:
    """Why a snapshot cannot be removed; '' when it can. `removed`: those of `every` that are removed before."""
    parent = next((other for other in every if other.label == one.parent), None)
    children = [other.label for other in every if other.parent == one.label and other.label not in removed]
    if one.kind == "external" and parent is not None and parent.kind == "internal":
        return f"{parent.label}, which it was made on, is internal, and libvirt does not merge into such disks"
    if one.kind == "external" and len(children) > 1:
        return f"several were made on it: {', '.join(sorted(children))}"
    if since := frozen(one, every, removed):
        return f"its disks were frozen since, by {since}"
    if one.kind == "external" and release < REMOVES_EXTERNAL:
        return (
            f"libvirt {release[0]}.{release[1]} cannot remove an external snapshot; {REMOVES_EXTERNAL[0]}."
            f"{REMOVES_EXTERNAL[1]} and later can"
        )
    return ""


def mixing(kind: Kind, current: Snapshot | None) -> str:
    """Why such a snapshot is not made on the current one; '' when it can be."""
    if kind.external and current is not None and current.kind == "internal":
        return f"its current snapshot {current.label} is internal, and libvirt never removes an external one on such"
    return ""


def frozen(one: Snapshot, every: Sequence[Snapshot], removed: Sequence[str] = ()) -> str | None:
    """The external snapshot that was made since, and froze the disks that an internal one is in: these must not be
    written to any more. `removed`: those that are removed before."""
    if one.kind == "external":
        return None
    later = [found for found in every if found.label in below(one.label, every) and found.label not in removed]
    return next((found.label for found in later if found.kind == "external"), None)


def overlay(name: str, part: Part, label: str, folder: str) -> str:
    """The file that is written to from now on."""
    return f"{folder}/{name}-{part.target}.{label}.qcow2"
