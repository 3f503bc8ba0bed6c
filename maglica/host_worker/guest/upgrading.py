"""The package managers of distributions: what upgrades everything, and what there is. Pure: values in, values out.

The scripts run in the guest's own file system, inside the appliance: its programs, this machine's processor. No service
is started (Debian asks policy-rc.d, RHEL's packages look whether systemd runs), and no question is asked.
"""

from __future__ import annotations

from maglica.errors import Refused
from maglica.host_worker.guest.model import System

LOG = "/var/tmp/maglica-upgrade.log"  # what is written there goes with the seal
POLICY = "/usr/sbin/policy-rc.d"

LIST = {
    "debian": r"dpkg-query -W -f '${Package}:${Architecture} ${Version}\n' | sort",
    "rhel": r"rpm -qa --qf '%{NAME}.%{ARCH} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n' | sort",
}
"""Prints a line for each package that is installed: its name, a blank, its version."""

NO_SERVICES = f"""made=
if [ ! -e {POLICY} ]; then
    printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY} && made=yes
fi
trap '[ -z "$made" ] || rm -f {POLICY}' EXIT
"""
"""Until the shell ends Debian's packages start no service: invoke-rc.d(8)."""

DEBIAN = f"""export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec > {LOG} 2>&1 < /dev/null
{NO_SERVICES}set -e
apt-get -y -o Acquire::Retries=2 -o APT::Update::Error-Mode=any update
apt-get -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold dist-upgrade
apt-get -y clean
"""

RHEL = f"""export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec > {LOG} 2>&1 < /dev/null
set -e
if command -v dnf; then manager=dnf; else manager=yum; fi
$manager -y upgrade
$manager clean all
"""


def script(system: System) -> str:
    """What upgrades all packages of this system."""
    return DEBIAN if system.family == "debian" else RHEL


def refuse(system: System) -> None:
    """Refuse a system whose package manager is not known."""
    if system.family not in LIST:
        raise Refused(
            "wrong_input",
            f"do not know the package manager of {system.product or 'this system'} (distro {system.distro!r})",
            "clone it, upgrade the clone, and `maglica image seal` that",
        )


def reason(log: str) -> str:
    """What a package manager's last words mean: its first error, or its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E: ", "Error: ", "error: ", "Errors during"))]
    return (errors or lines[-1:] or ["it said nothing"])[0][:300]


def changed(before: str, after: str) -> list[str]:
    """What another package list has: `NAME OLD -> NEW`, `NAME NEW` for what is new, `NAME OLD ->` for what is gone."""
    old, new = (dict(line.split(" ", 1) for line in text.splitlines() if " " in line) for text in (before, after))
    found = [f"{name} {old.get(name, '')}{' -> ' if name in old else ''}{new.get(name, '')}".strip()
             for name in sorted({*old, *new}) if old.get(name) != new.get(name)]  # fmt: skip
    return found
