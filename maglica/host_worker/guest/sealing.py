"""What makes an image of a machine that has lived: everything that was its own goes. Pure: values in, values out.

Beside what a clone gets rid of anyway (`customize.py`) these are logs, shell histories, temporary files and package
caches; the list is virt-sysprep(1)'s, without what belongs to the person who made the machine: users, keys that may log
in, and mail stay. The host name stays as well: every clone gets another.
"""

from __future__ import annotations

from maglica.errors import Refused
from maglica.host_worker.guest import customize, first_boot, selinux
from maglica.host_worker.guest.model import (
    Absent,
    Edit,
    Expectation,
    FileIs,
    GuestFacts,
    Plan,
    Remove,
    WriteFile,
)
from maglica.host_worker.guest.network import NET_RULES, network_tool

GONE = (
    *customize.LEASES,
    *customize.SECRETS,
    *customize.NAMES_OF_STORAGE,
    *customize.CLOUD_INIT,
    customize.CLOUD_INIT_SETTINGS,
    *NET_RULES,
    customize.HOST_KEYS,
    customize.DROPBEAR_KEYS,
    "/var/log/journal/*",
    "/var/log/*.[0-9]",
    "/var/log/*.gz",
    "/var/log/*.xz",
    "/var/log/*-20[0-9][0-9][0-9][0-9][0-9][0-9]*",
    "/var/log/*.old",
    "/var/log/anaconda*",
    "/var/log/installer",
    "/var/log/audit/*",
    "/var/log/sa/*",
    first_boot.LOG,
    "/root/.bash_history",
    "/root/.zsh_history",
    "/root/.python_history",
    "/root/.lesshst",
    "/root/.viminfo",
    "/home/*/.bash_history",
    "/home/*/.zsh_history",
    "/home/*/.python_history",
    "/home/*/.lesshst",
    "/home/*/.viminfo",
    "/tmp/*",
    "/tmp/.[!.]*",
    "/var/tmp/*",
    "/var/tmp/.[!.]*",
    "/var/cache/apt/archives/*.deb",
    "/var/cache/apt/archives/partial/*",
    "/var/cache/apt/*.bin",
    "/var/cache/dnf/*",
    "/var/cache/yum/*",
    "/var/cache/PackageKit/*",
    "/var/lib/systemd/coredump/*",
    "/var/crash/*",
    "/core",
    "/var/lib/rhsm/facts/*",
)
"""Patterns of what is removed."""

EMPTIED = ("/var/log/*.log", "/var/log/syslog", "/var/log/messages", "/var/log/secure", "/var/log/maillog",
           "/var/log/cron", "/var/log/spooler", "/var/log/dmesg", "/var/log/debug", "/var/log/mail.*",
           *customize.OLD_LOGS)  # fmt: skip
"""Patterns of what stays as an empty file: a daemon that lost its log would not always make another."""

CLOUD_INIT = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")
"""Where the program is that takes a seed."""

SEE = (*GONE, *EMPTIED, *CLOUD_INIT, customize.INITIATOR)


def plan(facts: GuestFacts) -> Plan:
    """Everything that goes, and the empty machine-id. Raises `Refused` for a system whose ways are not known."""
    if facts.system.family is None:
        raise Refused(
            "wrong_input",
            f"do not know how to seal {facts.system.product or 'this system'} (distro {facts.system.distro!r})",
            "prepare it by hand, and mark it: `virsh metadata`",
        )
    edits: list[Edit] = [Remove(path) for path in facts.find(*GONE)]
    gone = {edit.path for edit in edits if isinstance(edit, Remove)}
    emptied = [path for path in facts.find(*EMPTIED) if path not in gone and path not in facts.links]
    edits += [WriteFile(path, "") for path in emptied]
    expected: list[Expectation] = [Absent(pattern) for pattern in GONE]
    expected += [FileIs(path, "") for path in emptied]
    for more_edits, more_expected in (customize.machine_id(facts), customize.initiator(facts)):
        edits += more_edits
        expected += more_expected
    labels, labelled = selinux.part(facts, edits)
    return Plan((*edits, *labels), (*expected, *labelled), network_tool(facts), "none")
