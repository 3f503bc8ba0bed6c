#!/usr/bin/python3 -B
"""The first process of a host's namespaces: makes the host's own view of the machine, then only waits for orphans.

Started by host.py as `host_init.py FOLDER HOSTNAME`. When it ends, the kernel ends everything else in the namespaces.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

# What libvirt reads and writes, each host's own. /run as a whole: it also hides the machine's D-Bus, through which
# libvirt would find systemd-machined and register guests of several hosts under one name.
FOLDERS = {
    "run": "/run",
    "etc-libvirt": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
POOL_IMAGE = "pool.img"
FILES = ("hosts", "hostname", "machine-id")


def mount(*words: str) -> None:
    """Run mount(8); a failure ends this process, and lab/up shows its message."""
    subprocess.run(["mount", *words], check=True)


def make_view(folder: Path, hostname: str) -> None:
    """Everything that makes these namespaces another machine for libvirt."""
    mount("--make-rprivate", "/")
    for name, target in FOLDERS.items():
        mount("--bind", str(folder / name), target)
    if (folder / POOL_IMAGE).exists():
        mount("-o", "loop", str(folder / POOL_IMAGE), "/var/lib/libvirt/images")
    for name in FILES:
        if Path("/etc", name).is_file():
            mount("--bind", str(folder / name), f"/etc/{name}")
    # The network devices in /sys are those of the namespace that mounts it. The machine's control groups go with the
    # old /sys: guests of two hosts would otherwise meet in one group of the same name.
    subprocess.run(["umount", "--recursive", "--lazy", "/sys"], check=True)
    mount("-t", "sysfs", "sysfs", "/sys")
    subprocess.run(["hostname", hostname], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def wait_for_orphans() -> None:
    """Collect ended processes for ever: that is all the first process of a namespace has to do."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            signal.sigwaitinfo([signal.SIGCHLD])


def main() -> None:
    """Build the view, say so by a file, stay."""
    folder = Path(sys.argv[1])
    make_view(folder, sys.argv[2])
    (folder / "ready").touch()
    wait_for_orphans()


if __name__ == "__main__":
    main()
