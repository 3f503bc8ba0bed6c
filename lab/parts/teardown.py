"""The end of a lab: exactly what it started and made, in whatever state it is found."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import network, process
from .names import Lab, base_folder, lab_folder
from .shell import LabError

GRACE = 5.0  # seconds that a daemon outside of the hosts gets to end by itself


def remove(name: str) -> bool:
    """Remove the lab of that name; False when there was none. Works on remains of an `up` that was interrupted."""
    folder = lab_folder(name)
    interface = Lab(name, folder, 0, 0, "", False).interface
    found = folder.is_dir() or Path("/sys/class/net", interface).exists()
    _end_processes(folder)
    network.remove(interface)
    if folder.is_dir():
        _delete(folder)
    return found


def _end_processes(folder: Path) -> None:
    """The client worker first and politely; a host by its first process, which takes guests and all with it."""
    records = [record for record in process.recall_all(folder) if record.alive()]
    for record in records:
        if record.label == "client":
            process.end(record, GRACE)
    for kind in ("init:", "unshare:", network.SWITCH):
        for record in records:
            if record.label.startswith(kind):
                process.end(record, 0)
    for record in records:
        if not record.ended_within(10):
            raise LabError(f"{record.label} (process {record.pid}) survived the end of its host")


def _delete(folder: Path) -> None:
    """Delete the lab's folder, lab.json last: what is interrupted here can be repeated."""
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name == "lab.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    folder.rmdir()
    try:
        base_folder().rmdir()
    except OSError:
        pass  # other labs live there
