"""`snapshot revert`."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from typing import Any

from maglica.actions.snapshot import SnapshotRevert
from maglica.errors import Refused
from maglica.host_worker import commands
from maglica.host_worker.device import plugging
from maglica.host_worker.disk import dependants
from maglica.host_worker.domain import starting
from maglica.host_worker.host import Host
from maglica.host_worker.signs import sign
from maglica.host_worker.snapshot import files, planning
from maglica.host_worker.snapshot.model import Snapshot
from maglica.host_worker.work import Work


def revert(want: SnapshotRevert, host: Host, work: Work) -> dict[str, Any]:
    hypervisor = host.hypervisor
    subject = plugging.look(want.name, host)
    one = chosen(want.name, want.label, host)
    if why := planning.reverting(one, hypervisor.libvirt_release()):
        raise Refused(
            "environment_error", f"{want.name} cannot go back to {want.label}: {why}",
            "its frozen disks are files: `maglica snapshot info` names them",
        )  # fmt: skip
    if since := planning.frozen(one, files.all_of(hypervisor, want.name)):
        raise Refused(
            "wrong_state", f"{want.name} cannot go back to {want.label}: its disks were frozen since, by {since}",
            f"`maglica snapshot remove {want.name} --label={since}` merges what was written since, then it can",
        )  # fmt: skip
    paths = list(one.disks.values())
    _refuse_lost(want, one, host)
    for other in dependants.of(hypervisor, [*paths, *one.overlays.values()]):
        if other.domain != want.name:
            raise Refused(
                "protected", f"{want.name} cannot go back: {other.domain or other.path} rests on its disk {other.base}",
                "flatten or remove that one first",
            )  # fmt: skip
    text = _machine(want, host)
    starts = want.state != "same" or one.memory or one.state in ("running", "paused")
    if starts and subject.live is None:
        starting.look(want.name, host, ignore_changed_base=False, job=work.job, text=text)
    work.will({"revert": want.name, "to": want.label, "made_at": one.created_at, "state": want.state, "starts": starts})
    told = {"name": want.name, "host": host.name, "label": want.label, "state": None, "changed": True}
    was = hypervisor.current_snapshot(want.name) == want.label
    seen = None if was else sign("is_current_snapshot", told, uuid=subject.uuid, label=want.label)
    with starting.to_be_written(want.name, paths, host, text, lives=starts), work.step("revert", sign=seen):
        work.point_of_no_return()
        hypervisor.revert_to_snapshot(want.name, want.label, state=want.state, force=want.force, within=work.left)
    return {**told, "state": hypervisor.state(want.name)}


def chosen(name: str, label: str, host: Host) -> Snapshot:
    """The snapshot of that label."""
    found = files.all_of(host.hypervisor, name)
    one = next((one for one in found if one.label == label), None)
    if one is None:
        hint = f"it has {', '.join(sorted(one.label for one in found)) or 'none'}"
        raise Refused("unknown_entity", f"{name} has no snapshot {label}", hint)
    return one


def _machine(want: SnapshotRevert, host: Host) -> str | None:
    """What the VM was when that snapshot was made, and will be again; None where libvirt has not kept it."""
    for label, text in host.hypervisor.snapshots(want.name):
        kept = ET.fromstring(text).find("domain")
        if label == want.label and kept is not None:
            return ET.tostring(kept, encoding="unicode")
    return None


def _refuse_lost(want: SnapshotRevert, one: Snapshot, host: Host) -> None:
    """libvirt goes back disk by disk, and stops at one that has nothing to go back to: half of it would be lost."""
    if not host.hypervisor.has_files:
        return
    for target, path in one.disks.items():
        if not os.path.exists(path):
            raise Refused(
                "unknown_entity", f"{want.name} cannot go back to {want.label}: its disk {target}, {path}, is gone",
                "bring that file back",
            )  # fmt: skip
        if one.kind == "internal" and want.label not in inside(path):
            raise Refused(
                "wrong_state", f"{want.name} cannot go back: its disk {target}, {path}, holds no snapshot {want.label}",
                f"`maglica snapshot remove {want.name} --label={want.label} --metadata-only` forgets it",
            )  # fmt: skip


def inside(path: str) -> list[str]:
    """The snapshots that a qcow2 holds."""
    argv = ["qemu-img", "info", "--force-share", "--output=json", "-f", "qcow2", "--", path]
    output: list[str] = []
    commands.run(argv, timeout=30.0, on_output=output.append)
    try:
        told = json.loads("".join(output))
    except ValueError:
        return []
    return [str(one.get("name")) for one in told.get("snapshots", [])]
