"""Scripts that are run in a new system before its first boot: in the appliance, by its own programs, as root.

No service is started by them (Debian's packages ask policy-rc.d, RHEL's look whether systemd runs), and they reach the
network of the host. Each is removed after it has run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maglica.errors import Failed, Refused
from maglica.host_worker.guest import filling
from maglica.host_worker.guest.growing import Step
from maglica.host_worker.guest.inspection import kind_of
from maglica.host_worker.guest.upgrading import NO_SERVICES

SCRIPT = "/var/tmp/maglica-hook"
KEPT = 4000  # characters of what each printed


AGENTS = ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga")


def refuse_without_agent(guest: Any) -> None:
    """Refuse a system that nobody could speak to when it has booted, before it is waited for in vain."""
    if all(kind_of(guest, path) is None for path in AGENTS):
        raise Refused(
            "environment_error", "the system has no QEMU guest agent, which runs --postboot",
            "install the package qemu-guest-agent in it, by a --hook too; or use --run-at-first-boot",
        )  # fmt: skip


def run(guest: Any, hooks: Sequence[str], hostname: str, step: Step) -> list[dict[str, Any]]:
    """Run them in their order; what each printed. The first that fails ends it: `Failed` with its output."""
    found = []
    for number, script in enumerate(hooks, 1):
        with step(f"hook {number}" if len(hooks) > 1 else "hook"):
            guest.write(SCRIPT, script.encode())
            guest.chmod(0o700, SCRIPT)
            # `( … )`: a script without a first line that names its interpreter is the shell's.
            status, said = filling.run(
                guest, f"{NO_SERVICES}export DEBIAN_FRONTEND=noninteractive MAGLICA_HOSTNAME={hostname}\n{SCRIPT}"
            )
            guest.rm_f(SCRIPT)
        if status:
            raise Failed(
                "environment_error",
                f"hook {number} of {len(hooks)} ended with status {status}: {filling.last_line(said)}",
                "what was made is taken back; the job's log has its words",
                details={"hook": number, "exit_status": status, "output": said[-KEPT:]},
            )
        found.append({"exit_status": status, "output": said[-KEPT:]})
    return found
