"""The distribution's kernel for the guests: which one, which of its modules, and the small initramfs around them."""

from __future__ import annotations

import gzip
import lzma
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .cpio import Archive
from .shell import LabError, run, say

# What the guest needs before it can see its root, and what its root loads afterwards. A name that this kernel has built
# in, or does not know (it has come or gone between releases), is left out.
EARLY_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
LATE_MODULES = ("virtio_net", "button", "evdev", "virtio_balloon")
NEEDED = ("virtio_pci", "virtio_blk", "ext4")

INIT = """#!/bin/busybox sh
# Load what the root file system needs, mount it, go there. Nothing else happens here.
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
for module in $($B cat /modules/order); do $B insmod /modules/$module; done
root=
for word in $($B cat /proc/cmdline); do
    case $word in root=*) root=${word#root=} ;; esac
done
tries=0
while ! $B mount -o MODE "$($B findfs "$root" 2>/dev/null || echo "$root")" /root 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then echo "initramfs: no root file system at '$root'"; $B poweroff -f; fi
    $B sleep 0.1
done
$B umount /proc
$B mount -o move /dev /root/dev
exec $B switch_root /root /sbin/init
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel image and the folder of its modules (`/lib/modules/VERSION`)."""

    version: str
    image: Path
    modules: Path


def version_key(version: str) -> list[tuple[int, str]]:
    """A key that sorts 6.1.0-9 before 6.1.0-56."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", version) if part]


def kernels_in(root: Path) -> list[Kernel]:
    """The kernels under a root folder that have their modules beside them, oldest first."""
    found = []
    for image in (root / "boot").glob("vmlinuz-*"):
        version = image.name.removeprefix("vmlinuz-")
        for modules in (root / "lib/modules" / version, root / "usr/lib/modules" / version):
            if (modules / "modules.builtin").exists():
                found.append(Kernel(version, image, modules))
                break
    return sorted(found, key=lambda kernel: version_key(kernel.version))


def find(cache: Path) -> Kernel:
    """The newest kernel of this machine; without one, the distribution's package unpacked in the cache."""
    for root in (Path("/"), cache / "kernel"):
        if found := kernels_in(root):
            return found[-1]
    _unpack_package(cache / "kernel")
    if found := kernels_in(cache / "kernel"):
        return found[-1]
    raise LabError("no Linux kernel with its modules found in /boot and /lib/modules")


def _unpack_package(target: Path) -> None:
    """Download the distribution's kernel packages and unpack (not install) them under `target`."""
    say("no kernel in /boot: fetching the distribution's kernel package")
    target.mkdir(parents=True, exist_ok=True)
    for name in _kernel_packages():
        # The folder's owner is root and apt drops its rights for the download, which it would complain about
        run("apt-get", "-o", "APT::Sandbox::User=root", "download", name, cwd=target, limit=300)
    for package in target.glob("*.deb"):
        run("dpkg-deb", "-x", package, target)
        package.unlink()
    for folder in [*(target / "lib/modules").glob("*"), *(target / "usr/lib/modules").glob("*")]:
        run("depmod", "-b", target, folder.name)


def _kernel_packages() -> list[str]:
    """The names of the packages that hold the newest kernel and its modules, found through the meta package."""
    for meta in ("linux-image-amd64", "linux-image-virtual"):
        try:
            depends = run("apt-cache", "depends", meta)
        except LabError:
            continue
        if match := re.search(r"Depends: (linux-image-(\S*\d\S*))", depends):
            modules = f"linux-modules-{match[2]}"
            more = [modules] if modules in run("apt-cache", "pkgnames", "linux-modules-") else []
            return [match[1], *more]
    raise LabError("the package lists name no kernel package; `apt-get update` first")


class Modules:
    """The modules of one kernel: what they need, and their uncompressed contents."""

    def __init__(self, kernel: Kernel) -> None:
        self._folder = kernel.modules
        self._needs: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}
        for line in (kernel.modules / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._paths[_module_name(path)] = path
            self._needs[_module_name(path)] = [_module_name(need) for need in needs.split()]
        builtin = (kernel.modules / "modules.builtin").read_text().split()
        self._builtin = {_module_name(path) for path in builtin}

    def ordered(self, names: tuple[str, ...]) -> list[str]:
        """The names with everything they need, in loading order, without what is built in or unknown."""
        order: list[str] = []
        for name in names:
            if name in NEEDED and name not in self._builtin and name not in self._paths:
                raise LabError(f"the kernel in {self._folder} has no module '{name}'")
            self._append(name, order)
        return order

    def _append(self, name: str, order: list[str]) -> None:
        if name in order or name not in self._paths:
            return
        for need in self._needs[name]:
            self._append(need, order)
        order.append(name)

    def content(self, name: str) -> bytes:
        """The module as the kernel's plain ELF object, whatever the distribution packs it with."""
        path = self._folder / self._paths[name]
        if path.suffix == ".xz":
            return lzma.decompress(path.read_bytes())
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if path.suffix == ".zst":
            return _zstd(path)
        return path.read_bytes()


def _zstd(path: Path) -> bytes:
    """Unpack by the zstd program: Python has learnt this format only lately."""
    target = Path(f"/tmp/maglica-lab-{os.getpid()}.ko")
    try:
        run("zstd", "-dqf", path, "-o", target)
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)


def _module_name(path: str) -> str:
    """kernel/fs/ext4/ext4.ko.xz -> ext4; the kernel takes - and _ for the same."""
    return Path(path).name.split(".", 1)[0].replace("-", "_")


def busybox() -> Path:
    """The statically linked busybox of this machine."""
    for path in (Path("/bin/busybox"), Path("/usr/bin/busybox")):
        if path.exists() and "statically" in _kind(path):
            return path
    raise LabError("a statically linked busybox is needed; `make deps` installs busybox-static")


def _kind(path: Path) -> str:
    """Tell static from dynamic by the ELF's program interpreter, without the `file` program."""
    return "dynamically" if b"/lib64/ld-linux" in path.read_bytes()[:4096] else "statically"


def initramfs(modules: Modules, mode: str = "rw") -> bytes:
    """A compressed initramfs that mounts root=… (a device, LABEL= or UUID=) with `mode` and starts its /sbin/init."""
    archive = Archive()
    for name in ("bin", "dev", "proc", "root", "modules"):
        archive.folder(name)
    archive.character_device("dev/console", 5, 1)
    archive.copy("bin/busybox", busybox())
    order = modules.ordered(EARLY_MODULES)
    for name in order:
        archive.file(f"modules/{name}.ko", modules.content(name))
    archive.file("modules/order", "".join(f"{name}.ko\n" for name in order).encode())
    archive.file("init", INIT.replace("MODE", mode).encode(), 0o755)
    return gzip.compress(archive.data(), 6, mtime=0)
