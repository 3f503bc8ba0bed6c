"""The processes of a lab: started so that none escapes unrecorded, ended so that no stranger is ever hit.

A record is a process id together with the process's start time and the boot it belongs to: an id that the machine has
given to somebody else meanwhile is recognised.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .names import Lab, current_boot
from .shell import LabError, tail_of, wait_until

# Daemons see none of the user's environment, so that a lab is the same whoever starts it
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the command's name
# A new process waits for one line before it becomes what it shall be. When the lab's own process dies before the
# record is written, the line never comes and the new process ends by itself.
GATE = 'read -r go || exit 1; exec "$0" "$@" </dev/null'


@dataclass(frozen=True)
class Record:
    """A process that this lab has started."""

    label: str
    pid: int
    start: int
    boot: str

    def alive(self) -> bool:
        """True while exactly this process runs (a zombie does not)."""
        return self.boot == current_boot() and start_time(self.pid) == self.start

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still this process; the descriptor makes sure that no other one gets it."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def ended_within(self, limit: float) -> bool:
        """Wait until it has ended; False after `limit` seconds."""
        return wait_until(lambda: not self.alive(), limit, 0.02)


def start_time(pid: int) -> int | None:
    """The start of a process in ticks since boot; None when there is none or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[START_TIME_FIELD])


def _file(lab: Lab, label: str) -> Path:
    return lab.folder / "pids" / label


def remember(lab: Lab, label: str, pid: int) -> Record:
    """Record a running process under a label; LabError with its log when it has ended already."""
    start = start_time(pid)
    if start is None:
        raise LabError(f"{label} ended at once: {tail_of(_text(lab.log(label)))}")
    record = Record(label, pid, start, current_boot())
    partial = _file(lab, f"{label}.partial")
    partial.write_text(json.dumps([record.pid, record.start, record.boot]))
    partial.rename(_file(lab, label))
    return record


def recall(lab: Lab, label: str) -> Record | None:
    """The record under this label, whether its process lives or not."""
    try:
        pid, start, boot = json.loads(_file(lab, label).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return Record(label, int(pid), int(start), str(boot))


def recall_all(folder: Path) -> list[Record]:
    """All records in a lab's folder, also in one without a readable lab.json."""
    records = []
    for path in sorted((folder / "pids").glob("*")):
        try:
            pid, start, boot = json.loads(path.read_text())
        except ValueError:
            continue
        records.append(Record(path.name, int(pid), int(start), str(boot)))
    return records


def living(lab: Lab, label: str) -> Record | None:
    """The record under this label if its process lives."""
    record = recall(lab, label)
    return record if record and record.alive() else None


def spawn(
    lab: Lab, label: str, wrapper: Sequence[str], command: Sequence[str | Path], env: Mapping[str, str] = ENVIRONMENT
) -> Record:
    """Start `command` in the background, in a session of its own, writing to the log of `label`.

    `wrapper` is put before it and may fork (unshare --fork): what is recorded is the first process.
    """
    words = [*wrapper, "/bin/sh", "-c", GATE, *(str(word) for word in command)]
    log = lab.log(label)
    with log.open("ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=dict(env),
            start_new_session=True,
        )
    record = remember(lab, label, process.pid)
    assert process.stdin is not None
    with process.stdin as gate:
        gate.write(b"go\n")
    return record


def only_child(pid: int, limit: float = 10.0) -> int:
    """The id of the one child of a process, waited for: the first process of a new process-id namespace."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [child for child in process_ids() if parent(child) == pid]
        return bool(found)

    if not wait_until(look, limit, 0.01):
        raise LabError(f"process {pid} started no child within {limit:g} s")
    return found[0]


def process_ids() -> list[int]:
    """All process ids of this process-id namespace."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def parent(pid: int) -> int | None:
    """The parent's id; None when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def outer_pid(init: int, inner: int) -> int | None:
    """The id outside of the process that has the id `inner` in the namespace of the process `init`."""
    wanted = _namespace(init)
    for pid in process_ids():
        if _namespace(pid) == wanted and _inner_pid(pid) == inner:
            return pid
    return None


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _inner_pid(pid: int) -> int | None:
    for line in _text(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def end(record: Record, graceful: float) -> None:
    """End a process: SIGTERM and `graceful` seconds (none when 0), then SIGKILL. LabError when it survives that."""
    if graceful:
        record.send(signal.SIGTERM)
        if record.ended_within(graceful):
            return
    record.send(signal.SIGKILL)
    if not record.ended_within(10):
        raise LabError(f"{record.label} (process {record.pid}) does not end, not even by SIGKILL")
