"""The big guest: the running release of Debian or Ubuntu by debootstrap, with systemd, networkd and an ssh server."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from . import disk, kernel
from .shell import LabError, run, say

SIZE = 3 << 30
ROOT_LABEL = "system"
ROOT_UUID = "7a1c0de0-0003-4000-8000-6d61676c6963"
BUILD_LIMIT = 1800.0
ARGUMENTS = (
    f"root=LABEL={ROOT_LABEL} rw console=ttyS0 quiet panic=5 "
    "mitigations=off no_timer_check tsc=reliable nokaslr cryptomgr.notests systemd.show_status=0"
)
KERNELS = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
PACKAGES = ("systemd-sysv", "udev", "dbus", "iproute2", "openssh-server", "qemu-guest-agent")
BOOT_LOADER = ("grub-pc-bin", "grub2-common")
# Nobody misses these in a lab, and a guest under emulation boots seconds faster without them
MASKED_UNITS = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "motd-news.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-networkd-wait-online.service", "systemd-pstore.service"),
    *("getty@tty1.service", "systemd-timesyncd.service", "systemd-update-utmp.service"),
)
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log/apt")

NETWORK = """[Match]
Name=en* eth*

[Network]
DHCP=yes
"""

# Exactly one line on the console, once there is an address
ANNOUNCE = """#!/bin/sh
while :; do
    address=$(ip -4 -o addr show scope global | sed -n 's|.* inet \\([0-9.]*\\)/.*|\\1|p' | head -n 1)
    [ -z "$address" ] || break
    sleep 0.2
done
# The login prompt may be there already: begin a line of its own
printf '\\r\\nmaglica-guest: hostname=%s address=%s\\r\\n' "$(hostname)" "$address" > /dev/console
"""

ANNOUNCE_UNIT = """[Unit]
Description=Tell the console this guest's name and address
After=systemd-networkd.service

[Service]
ExecStart=/usr/local/sbin/announce

[Install]
WantedBy=multi-user.target
"""


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def image_name() -> str:
    """The name of the image's domain, e.g. debian12.original."""
    values = _os_release()
    return f"{values.get('ID', 'linux')}{values.get('VERSION_ID', '')}.original"


def inputs(cache: Path) -> str:
    """What makes another image of it: another release."""
    return image_name()


def _mirror(codename: str) -> str:
    """Where this machine gets its own packages of the release from."""
    text = run("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
    for line in text.splitlines():
        release, component, uri = line.split(maxsplit=2)
        if (release, component) == (codename, "main"):
            return uri
    raise LabError(f"apt's sources name no mirror of '{codename} main'")


def build(target: Path, cache: Path) -> None:
    """Build the image `target` (qcow2). Takes minutes; the downloaded packages are kept in the cache."""
    values = _os_release()
    package = KERNELS.get(values.get("ID", ""))
    if package is None:
        raise LabError("the lab builds the release of Debian or Ubuntu that it runs on, and this is neither")
    codename = values["VERSION_CODENAME"]
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
        tree, raw = Path(name, "tree"), Path(name, "disk.raw")
        _bootstrap(tree, codename, [*PACKAGES, package], cache / "packages")
        _configure(tree, image_name().removesuffix(".original").replace(".", ""))
        _boot(tree)
        disk.write(raw, tree, SIZE, ROOT_LABEL, ROOT_UUID)
        disk.to_qcow2(raw, target)


def build_archive(target: Path, cache: Path) -> None:
    """Build `target`, a tar.gz of the same system as its own root file system, with GRUB, as `vm build` takes it."""
    values = _os_release()
    with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as name:
        tree = Path(name, "tree")
        packages = [*PACKAGES, KERNELS[values.get("ID", "")], *BOOT_LOADER]
        _bootstrap(tree, values["VERSION_CODENAME"], packages, cache / "packages")
        _configure(tree, "archive")
        found = kernel.kernels_in(tree)[-1]
        # The lab's small initramfs under the name by which GRUB's menu finds one
        (tree / f"boot/initrd.img-{found.version}").write_bytes(kernel.initramfs(kernel.Modules(found)))
        run("tar", "-C", tree, "--xattrs", "--acls", "-I", "gzip -1", "-cf", target, ".", limit=600)


def _bootstrap(tree: Path, codename: str, packages: list[str], downloads: Path) -> None:
    """Run debootstrap in a mount namespace of its own: whatever happens, none of its mounts stays."""
    downloads.mkdir(exist_ok=True)
    mirror = _mirror(codename)
    say(f"debootstrap of {codename} from {mirror}: this takes a minute or two")
    run(
        *("unshare", "--mount", "--propagation", "private"),
        *("debootstrap", "--variant=minbase", f"--cache-dir={downloads}", f"--include={','.join(packages)}"),
        *(codename, tree, mirror),
        limit=BUILD_LIMIT,
        # The lab's own small initramfs is used; building the distribution's takes longer than all the rest
        env={**os.environ, "INITRD": "No", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )


def _configure(tree: Path, hostname: str) -> None:
    """What an installer would have asked for."""
    texts = {
        "etc/hostname": f"{hostname}\n",
        "etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n",
        "etc/fstab": f"LABEL={ROOT_LABEL} / ext4 errors=remount-ro 0 1\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/systemd/network/10-dhcp.network": NETWORK,
        "etc/systemd/system/announce.service": ANNOUNCE_UNIT,
        "usr/local/sbin/announce": ANNOUNCE,
    }
    for path, text in texts.items():
        (tree / path).write_text(text)
    (tree / "usr/local/sbin/announce").chmod(0o755)
    for unit in MASKED_UNITS:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    run("chroot", tree, "systemctl", "enable", "systemd-networkd", "announce")
    run("chroot", tree, "passwd", "--quiet", "--lock", "root")
    for folder in UNUSED:
        shutil.rmtree(tree / folder, ignore_errors=True)
    (tree / "var/cache/apt/archives/partial").mkdir(parents=True)
    (tree / "var/lib/apt/lists/partial").mkdir(parents=True)


def _boot(tree: Path) -> None:
    """The system's own kernel under the lab's initramfs."""
    found = kernel.kernels_in(tree)
    if not found:
        raise LabError("debootstrap installed no kernel")
    initrd = kernel.initramfs(kernel.Modules(found[-1]))
    disk.grub_config(tree, found[-1].image, initrd, ARGUMENTS)
