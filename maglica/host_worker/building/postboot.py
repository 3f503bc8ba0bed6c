"""The script that a VM runs when it has booted for the first time: by its agent, as root, once."""

from __future__ import annotations

from typing import Any

from maglica.actions.vm.inside import MOST_KEPT
from maglica.errors import Failed
from maglica.host_worker.guest import filling
from maglica.host_worker.host import Host
from maglica.host_worker.inside import files, reach, running
from maglica.host_worker.work import Work

# $1 becomes a program, runs, and goes; a script without a first line that names its interpreter is /bin/sh's.
RUN = """chmod 700 -- "$1" || exit
trap 'rm -f -- "$1"' EXIT
"$1"
"""
KEPT = 4000  # characters of what it printed, in an error
FOLDER = "/root"  # /tmp may be mounted so that nothing there can be run


def run(script: str, within: float, name: str, host: Host, work: Work, *, keep: bool) -> dict[str, Any]:
    """Run it; its exit status and what it printed. `keep`: the VM stays also when the script fails.

    Raises `Failed` with its output when it ends badly or takes longer than `within` seconds.
    """
    reach.refuse(name, host, *files.WRITE)
    path = files.part(f"{FOLDER}/postboot", work.job)
    with work.step("postboot"):
        files.write(host.hypervisor, name, path, script.encode())
        pid = running.begin(host.hypervisor, name, ["/bin/sh", "-c", RUN, "sh", path], MOST_KEPT)
        try:
            ran = running.finish(
                host.hypervisor, name, pid, MOST_KEPT, within, stop=lambda: "cancelled" if work.cancelled() else ""
            )
        except running.Overdue as error:
            error.details = _told(error.ran) if error.ran else {}
            raise
    told = _told(ran)
    if ran.status == 0:
        return told
    last = filling.last_line(told["stderr"] or told["stdout"])
    raise Failed(
        "environment_error", f"--postboot ended with status {ran.status} in {name}: {last}",
        f"{name} stays as it is" if keep else "what was made is taken back; --keep-failed lets you look at it",
        details={**told, "output": (told["stdout"] + told["stderr"])[-KEPT:]},
    )  # fmt: skip


def _told(ran: running.Ran) -> dict[str, Any]:
    return {
        "exit_status": ran.status, "stdout": ran.stdout.decode(errors="replace"),
        "stderr": ran.stderr.decode(errors="replace"), "cut": ran.cut,
    }  # fmt: skip
