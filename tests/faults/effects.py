"""A job whose effects cannot be miscounted: files of a real file system, and a log that is only ever appended to.

`vm mark` is declared and filed as every action is, but only in the processes that `daemon.py` starts. It claims its VM
by a file that must not exist yet, makes two files after noting how to take them back, and gives the VM free again.
libvirt's test driver would not do: its world ends with its process, and a second execution would look like a first.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from maglica import declare, kinds
from maglica.declare import Action, Where, arg
from maglica.errors import Failed

PARTS = (1, 2)


class VmMark(Action):
    """Make two files that belong to a VM, or make them and fail."""

    NAME = "vm mark"  # also where it is not filed: in the test that asks for it

    name: str = arg(kinds.VM, "the VM", subject=True)
    fail: bool = arg(kinds.BOOL, "fail when everything was made", default=False)
    seconds: float = arg(kinds.DURATION, "how long it takes", default=0.0)


def file_in_table() -> None:
    """Make it an action of this process: the same that `maglica/actions/` and `maglica/host_worker/jobs/` hold."""
    declare.load_all()
    declare.action(where=Where.OWNER, changes=True, locks=("vm:{name}",))(VmMark)


def mark(folder: Path, hit: Any, want: VmMark, host: Any, work: Any) -> dict[str, Any]:
    """The job function of `vm mark`, given the folder for its effects and `hit`, which is told the name of each point.

    `tests/faults/daemon.py` gives both.
    """
    home = folder / want.name
    home.mkdir(parents=True, exist_ok=True)
    work.will({"mark": want.name})
    with work.step("enter"):
        work.undo("remove_part", path=str(home / "busy"))
        note(folder, "begin", work.job, want.name)
        if not made(home / "busy"):
            note(folder, "overlap", work.job, want.name)
    for part in PARTS:
        with work.step(f"make {part}"):
            path = home / f"{work.job}.{part}"
            work.undo("remove_part", path=str(path))
            hit("hw.before_effect")
            note(folder, "made", work.job, str(part))
            if not made(path):
                note(folder, "twice", work.job, str(part))
            hit("hw.after_effect")
        until = time.monotonic() + want.seconds / len(PARTS) + 0.003
        while time.monotonic() < until:
            work.check()
            time.sleep(0.002)
    if want.fail:
        raise Failed("environment_error", "failed as it was told to")
    with work.step("leave"):
        work.point_of_no_return()
        os.unlink(home / "busy")
    return {"name": want.name, "changed": True}


def made(path: Path) -> bool:
    """Make a file; False when it is there already."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def note(folder: Path, *words: str) -> None:
    """One line more in the log of effects, on the disk when this returns."""
    fd = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_DSYNC, 0o600)
    try:
        os.write(fd, (" ".join(words) + "\n").encode())
    finally:
        os.close(fd)


class Seen(NamedTuple):
    """What the log and the file system say happened."""

    begun: Counter[str]  # job -> how often it began
    order: dict[str, list[str]]  # VM -> the jobs that began, in that order
    made: Counter[tuple[str, str]]  # (job, part) -> how often it was made
    wrong: list[str]  # what a job itself found wrong
    files: dict[str, set[str]]  # job -> the parts that exist now
    busy: list[str]  # VMs that a job still claims


def seen(folder: Path) -> Seen:
    found = Seen(Counter(), defaultdict(list), Counter(), [], defaultdict(set), [])
    log = folder / "log"
    for line in log.read_text().splitlines() if log.exists() else []:
        word, job, about = line.split(" ")
        if word == "begin":
            found.begun[job] += 1
            found.order[about].append(job)
        elif word == "made":
            found.made[job, about] += 1
        else:
            found.wrong.append(line)
    for path in folder.glob("*/*"):
        if path.name == "busy":
            found.busy.append(path.parent.name)
        else:
            job, part = path.name.split(".")
            found.files[job].add(part)
    return found
