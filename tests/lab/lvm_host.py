"""A host with LVM where this machine's kernel has no device-mapper: a guest under emulation that boots the
distribution's kernel on this machine's own file system (read-only, by 9p; what it writes stays in its memory). It has
the same libvirtd, LVM and host worker, a volume group `vg0` with a thin pool and an image on it, and reaches the client
worker by QEMU's user network, where this machine's loopback is 10.0.2.2.
"""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

from lab.parts import kernel
from lab.parts.cpio import Archive
from maglica import keys
from tests.daemons import HOME, House
from tests.waiting import until

NAME = "lvm1"
CLIENT_WORKER = "10.0.2.2"
IMAGE = "thin.original"
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
ARGUMENTS = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable cryptomgr.notests"
BOOTS_WITHIN = 300.0

INITRAMFS = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
for module in $($B cat /modules/order); do $B insmod /modules/$module; done
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 machine /lower
$B mount -t tmpfs written /written
$B mkdir /written/upper /written/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/written/upper,workdir=/written/work root /root
$B umount /proc
$B mount -o move /dev /root/dev
$B mount -t tmpfs run /root/run
$B mkdir /root/run/control
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 control /root/run/control
exec $B switch_root /root /bin/sh /run/control/init
"""

INIT = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /run/lock
mount -t devpts pts /dev/pts
exec > /run/control/log 2>&1
hostname NAME
ip link set lo up
modprobe -a virtio_net virtio_blk dm_thin_pool
/lib/systemd/systemd-udevd --daemon
udevadm trigger
udevadm settle --timeout=60
nic=$(ls /sys/class/net | grep -v lo)
ip addr add 10.0.2.15/24 dev $nic
ip link set $nic up
rm -f /etc/libvirt/qemu/networks/autostart/* /etc/libvirt/storage/autostart/*
mkdir -p /var/log/libvirt/qemu
virtlogd -d
libvirtd -d
while :; do
    for script in /run/control/*.sh; do
        [ -e "$script" ] || continue
        name=${script%.sh}
        sh "$script" > "$name.out" 2>&1 < /dev/null
        echo $? > "$name.new"
        rm "$script"
        mv "$name.new" "$name.status"
    done
    sleep 0.2
done
"""

DOMAIN = f"""<domain type='qemu'><name>{IMAGE}</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg0/{IMAGE}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""

# The check of a thin pool is a program that not every machine has
PREPARE = f"""set -e
echo 'global {{ thin_check_executable = "" }}' > /etc/lvm/lvmlocal.conf
vgcreate vg0 /dev/vda
lvcreate --yes --size 200M --thinpool thin vg0
lvcreate --yes --virtualsize 64M --thinpool thin --name {IMAGE} vg0
printf 'what is on the image' | dd of=/dev/vg0/{IMAGE} bs=1M conv=sync oflag=direct
virsh pool-define-as lvm logical --source-name vg0 --target /dev/vg0
virsh pool-start lvm
virsh define /run/control/image.xml
"""


class LvmHost:
    """The guest, and the host worker in it. `folder` is its own."""

    def __init__(self, house: House, folder: Path) -> None:
        self._house = house
        self._folder = folder
        self._control = folder / "control"
        self._control.mkdir(parents=True)
        self._scripts = 0
        self._joined = False
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start it, and wait for LVM and libvirtd in it."""
        (self._control / "init").write_text(INIT.replace("NAME", NAME))
        (self._control / "image.xml").write_text(DOMAIN)
        settings = self._house.config.read_text().replace("address = 127.0.0.1", f"address = {CLIENT_WORKER}")
        (self._control / "maglica.conf").write_text(settings.replace(str(self._house.folder), "/var/lib/maglica-test"))
        found = kernel.kernels_in(Path("/"))[-1]
        (self._folder / "initrd").write_bytes(_initramfs(kernel.Modules(found)))
        with (self._folder / "disk.raw").open("wb") as disk:
            disk.truncate(1 << 30)
        with (self._folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(_argv(self._folder, found.image), stdout=log, stderr=log)
        self.run(PREPARE, BOOTS_WITHIN)

    def run(self, script: str, timeout: float = 120.0) -> str:
        """Run a shell script in it; what it printed."""
        self._scripts += 1
        stem = self._control / f"{self._scripts:03}"
        (new := stem.with_suffix(".part")).write_text(script)
        new.rename(stem.with_suffix(".sh"))
        until(lambda: stem.with_suffix(".status").exists() or self._ended(), timeout, script, pause=0.1)
        told = stem.with_suffix(".out").read_text()
        assert stem.with_suffix(".status").read_text() == "0\n", f"{script}: {told}"
        return told

    def start_worker(self) -> None:
        """Start the host worker, which joins when it has not yet, and wait until it is up."""
        join = "" if self._joined else f"--join={self._invitation()}"
        self._joined = True
        worker = f"{HOME}/bin/maglica_host_worker --config=/run/control/maglica.conf --name={NAME} {join}"
        for before in _of_its_unit("ExecStartPre"):
            self.run(before.lstrip("+-"))
        self.run(f"setsid {_as_its_unit()} {worker} >> /run/control/worker.log 2>&1 & echo $! > /run/worker.pid")
        with self._house.connect() as cloud:
            until(lambda: any(host["state"] == "up" for host in cloud.host.list()), 120, "the host is up", pause=0.5)

    def _invitation(self) -> str:
        """As an administrator makes it, for somebody to whom the client worker has another address."""
        with self._house.connect() as cloud:
            found = keys.invitation(cloud.host.invite(name=NAME)["token"])
        return found._replace(address=CLIENT_WORKER).token()

    def volumes(self) -> set[str]:
        return set(self.run("lvs --noheadings --options lv_name vg0").split())

    def domains(self) -> set[str]:
        return set(self.run("virsh list --all --name").split())

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _ended(self) -> bool:
        assert self._process is not None
        said = (self._folder / "console.log", self._folder / "qemu.log")
        assert self._process.poll() is None, "".join(path.read_text(errors="replace")[-2000:] for path in said)
        return False


def _of_its_unit(key: str) -> list[str]:
    """What the host worker's unit says, each time that it says it."""
    lines = (HOME / "etc" / "maglica-host-worker.service").read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def _as_its_unit() -> str:
    """The command that starts another one with no more capabilities than the host worker's unit leaves it: LVM needs
    some that hardly anything else does."""
    left = " ".join(_of_its_unit("CapabilityBoundingSet")).lower().replace("cap_", "+").split()
    return f"setpriv --no-new-privs --bounding-set=-all,{','.join(left)}"


def _initramfs(modules: kernel.Modules) -> bytes:
    archive = Archive()
    for name in ("bin", "dev", "proc", "root", "modules", "lower", "written"):
        archive.folder(name)
    archive.character_device("dev/console", 5, 1)
    archive.copy("bin/busybox", kernel.busybox())
    order = modules.ordered(MODULES)
    for name in order:
        archive.file(f"modules/{name}.ko", modules.content(name))
    archive.file("modules/order", "".join(f"{name}.ko\n" for name in order).encode())
    archive.file("init", INITRAMFS.encode(), 0o755)
    return gzip.compress(archive.data(), 6)


def _argv(folder: Path, image: Path) -> list[str]:
    return [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "max"),
        *("-smp", "2", "-m", "1536"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{folder}/console.log"),
        *("-kernel", str(image), "-initrd", f"{folder}/initrd", "-append", ARGUMENTS),
        *("-fsdev", "local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=machine,mount_tag=machine"),
        *("-fsdev", f"local,id=control,path={folder}/control,security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=control,mount_tag=control"),
        *("-drive", f"file={folder}/disk.raw,if=virtio,format=raw,cache=unsafe"),
        *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"),
    ]  # fmt: skip
