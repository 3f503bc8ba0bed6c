"""Commands that a clone runs once, at its first boot. Pure: values in, values out.

Each command is a file of its own; a script runs them in order as root, writes what they say to a log, the journal and
the console, and takes a command's file away before it runs it: whatever happens in its middle, no command runs twice.
At the end unit, script and folder are gone; the log stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from maglica.errors import Refused
from maglica.host_worker.guest.model import (
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    Link,
    LinkIs,
    MakeDir,
    WriteFile,
)

Part = tuple[list[Edit], list[Expectation]]

NAME = "maglica-first-boot"
FOLDER = f"/etc/{NAME}.d"
SCRIPT = f"/usr/local/sbin/{NAME}"
LOG = f"/var/log/{NAME}.log"
UNIT = f"/etc/systemd/system/{NAME}.service"
WANTS = "/etc/systemd/system/multi-user.target.wants"
SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
RC = {
    "debian": ("/etc/init.d", "/etc/rc{}.d/S99"),
    "rhel": ("/etc/rc.d/init.d", "/etc/rc.d/rc{}.d/S99"),
}
LEVELS = (2, 3, 4, 5)
SEE = (
    *SYSTEMD, WANTS, "/usr/local", "/usr/local/sbin", FOLDER, f"{FOLDER}/*", SCRIPT, UNIT,
    *(folder for folder, _ in RC.values()), "/etc/rc.d/rc?.d", "/etc/rc?.d",
)  # fmt: skip

TEXT = f"""#!/bin/sh
# Written by maglica: runs the commands of {FOLDER} once, in order, and removes itself.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
DEBIAN_FRONTEND=noninteractive
export PATH HOME DEBIAN_FRONTEND
cd /
failed=0
say() {{
    echo "{NAME}: $*"
    echo "$(date) $*" >> {LOG}
}}
umask 077
for file in {FOLDER}/*; do
    [ -f "$file" ] || continue
    number=${{file##*/}}
    command=$(cat "$file")
    rm -f "$file"
    sync
    say "command $number begins"
    (umask 022; exec /bin/sh -c "$command") >> {LOG} 2>&1 < /dev/null
    status=$?
    [ $status -eq 0 ] || failed=1
    say "command $number ended with status $status"
done
rm -f {UNIT} {WANTS}/{NAME}.service
rm -f /etc/init.d/{NAME} /etc/rc.d/init.d/{NAME} /etc/rc?.d/S99{NAME} /etc/rc.d/rc?.d/S99{NAME}
rm -rf {FOLDER}
rm -f {SCRIPT}
[ $failed -eq 0 ] && say "done" || say "done, and some failed"
exit $failed
"""

SERVICE = f"""[Unit]
Description=Commands of the first boot (maglica)
Wants=network-online.target
After=network-online.target
ConditionPathExists={SCRIPT}

[Service]
Type=oneshot
ExecStart=/bin/sh {SCRIPT}
TimeoutStartSec=infinity
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
"""

INIT = f"""#!/bin/sh
# chkconfig: 2345 99 01
# description: commands of the first boot (maglica)
### BEGIN INIT INFO
# Provides: {NAME}
# Required-Start: $network $remote_fs $syslog
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop:
# Short-Description: commands of the first boot
### END INIT INFO
case "$1" in
    start) [ ! -f {SCRIPT} ] || /bin/sh {SCRIPT} ;;
esac
"""


def part(facts: GuestFacts, commands: Sequence[str]) -> Part:
    """The unit, or where systemd is not the script of init, and a file for each command."""
    if not commands:
        return [], []
    if len(commands) > 999:
        raise Refused("wrong_input", f"{len(commands)} commands for the first boot are more than 999")
    edits: list[Edit] = [] if facts.has(FOLDER) else [MakeDir(FOLDER, 0o700)]
    edits += [MakeDir(path) for path in ("/usr/local", "/usr/local/sbin") if not facts.has(path)]
    files = [(f"{FOLDER}/{number:03}", f"{command}\n", 0o600) for number, command in enumerate(commands, 1)]
    files.append((SCRIPT, TEXT, 0o755))
    links: list[tuple[str, str]] = []
    if facts.has(*SYSTEMD):
        files.append((UNIT, SERVICE, 0o644))
        edits += [] if facts.has(WANTS) else [MakeDir(WANTS)]
        links.append((f"{WANTS}/{NAME}.service", UNIT))
    else:
        files, links = _with_init(facts, files)
    edits += [WriteFile(path, text, mode) for path, text, mode in files]
    edits += [Link(path, target) for path, target in links]
    expected: list[Expectation] = [FileIs(path, text, mode, (0, 0)) for path, text, mode in files]
    return edits, [*expected, *(LinkIs(path, target) for path, target in links)]


def _with_init(
    facts: GuestFacts, files: list[tuple[str, str, int]]
) -> tuple[list[tuple[str, str, int]], list[tuple[str, str]]]:
    folder, start = RC[facts.system.family or "debian"]
    if not facts.has(folder):
        raise Refused(
            "environment_error", "the image has neither systemd nor init scripts: cannot run commands at its first boot"
        )
    script = f"{folder}/{NAME}"
    levels = [level for level in LEVELS if facts.has(start.format(level).rsplit("/", 1)[0])]
    if not levels:
        raise Refused("environment_error", f"the image has init scripts in {folder}, but no run levels")
    return [*files, (script, INIT, 0o755)], [(f"{start.format(level)}{NAME}", script) for level in levels]
