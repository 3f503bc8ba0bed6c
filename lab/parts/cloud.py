"""The big guest with cloud-init, made of the one without: sealed, and waiting for a NoCloud seed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from . import disk
from .shell import run, say

BUILD_LIMIT = 600.0
PACKAGES = ("cloud-init", "systemd-resolved", "sudo")  # it tells the second of name servers, the third of users

# The lab's hosts have no other source of data; to look for them, and to make an RSA key, cost an emulated guest half a
# minute each. There are no locales to choose from.
SETTINGS = "datasource_list: [NoCloud, None]\nssh_genkeytypes: [ed25519]\nlocale: C.UTF-8\n"

# $1: the raw disk, $2: where its partition begins (bytes), $3: an empty folder, $4: cloud-init's settings; then the
# packages. They are fetched by this machine's apt, which knows its mirror and has its lists, and installed by the
# guest's own, which knows their order.
INSTALL = """set -eu
disk=$1 offset=$2 tree=$3 settings=$4
shift 4
mount -o "loop,offset=$offset" "$disk" "$tree"
mount -t proc proc "$tree/proc"
archives=$tree/var/cache/apt/archives
apt-get -qq --yes --no-install-recommends --download-only -o APT::Sandbox::User=root -o Debug::NoLocking=1 \\
    -o "Dir::State::status=$tree/var/lib/dpkg/status" -o "Dir::Cache::archives=$archives" install "$@"
printf '#!/bin/sh\\nexit 101\\n' > "$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
cd "$archives"
chroot "$tree" sh -c 'apt-get -qq --yes --no-download --no-install-recommends install /var/cache/apt/archives/*.deb'
rm "$tree/usr/sbin/policy-rc.d" ./*.deb
printf %s "$settings" > "$tree/etc/cloud/cloud.cfg.d/90-lab.cfg"
# Sealed: cloud-init makes host keys, systemd a machine-id. Its network comes from the seed and from nowhere else.
: > "$tree/etc/machine-id"
rm -f "$tree"/etc/ssh/ssh_host_* "$tree/etc/systemd/network/10-dhcp.network"
rm -rf "$tree/usr/share/doc" "$tree/usr/share/man" "$tree/usr/share/locale"
cd /
fstrim "$tree"
umount "$tree/proc" "$tree"
"""


def build(target: Path, cache: Path, plain: Path) -> None:
    """Build the image `target` (qcow2) of the image `plain`, which stays as it is. Takes half a minute."""
    say(f"installing {', '.join(PACKAGES)} into a copy of {plain.name}")
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
        raw, tree = Path(name, "disk.raw"), Path(name, "tree")
        tree.mkdir()
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", plain, raw, limit=BUILD_LIMIT)
        run(
            # A mount namespace of its own: whatever happens, none of these mounts stays
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", INSTALL, "install"),
            *(raw, str(disk.PARTITION_START * disk.SECTOR), tree, SETTINGS, *PACKAGES),
            limit=BUILD_LIMIT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        )
        disk.to_qcow2(raw, target)
