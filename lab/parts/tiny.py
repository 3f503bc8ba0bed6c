"""The tiny guest: busybox on the distribution's kernel, laid out like a Debian so that it is customised like one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from . import disk, kernel
from .shell import run, say

SIZE = 256 << 20
DATA_SIZE = 64 << 20
ROOT_LABEL, DATA_LABEL = "tiny-root", "tiny-data"
ROOT_UUID = "7a1c0de0-0001-4000-8000-6d61676c6963"
DATA_UUID = "7a1c0de0-0002-4000-8000-6d61676c6963"
# All but the first line save the guest time on an emulated processor: what they switch off is of no use in a lab
ARGUMENTS = (
    f"root=LABEL={ROOT_LABEL} rw console=ttyS0 quiet panic=5 "
    "mitigations=off no_timer_check tsc=reliable nokaslr lsm=capability cryptomgr.notests"
)
# A fixed id: a clone that still has it was not customised
MACHINE_ID = "0123456789abcdef0123456789abcdef"

FOLDERS = (
    "bin sbin boot dev etc/init.d etc/network/if-pre-up.d etc/network/if-up.d etc/network/if-down.d "
    "etc/network/if-post-down.d etc/acpi/PWRF etc/ssh etc/udev/rules.d home lib/modules mnt proc "
    "root root/.ssh run sys tmp usr/bin usr/sbin usr/share/udhcpc var/lib/dhcp var/lib/dpkg var/lib/systemd "
    "var/log var/tmp"
)

OS_RELEASE = """PRETTY_NAME="Maglica tiny guest (Debian GNU/Linux 12)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
"""

INTERFACES = """# The network interfaces of this system.
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
"""

INITTAB = """::sysinit:/etc/init.d/rcS
ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/init.d/rcK
"""

# Everything up to the login prompt. The greeting comes before the prompt, or later by itself when the address is late.
START = """#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=0755 run /run
mkdir -p /dev/pts /dev/shm /run/network
mount -t devpts pts /dev/pts
mount -a
hostname -F /etc/hostname
[ -s /etc/machine-id ] || tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
for module in $(cat /lib/modules/order); do insmod /lib/modules/$module; done
acpid
# Two things that Debian's ifup does and busybox's does not: it takes an address with its prefix length, and tells a
# DHCP server the guest's name without having been told to
grep -q '^[[:space:]]*hostname' /etc/network/interfaces || added="\\thostname $(hostname)"
sed -E -e "s/ inet dhcp.*/&${added:+\\n$added}/" \\
    -e 's|(address +)([0-9.]+)/([0-9]+)|\\1\\2\\n    bnmask \\3|' \\
    /etc/network/interfaces > /run/network/interfaces
# busybox's ifup gives up after three questions, which a busy machine can spend before its DHCP server has spoken
again() {
    for try in 1 2 3 4 5 6; do
        ifdown -f -a -i /run/network/interfaces
        ifup -a -i /run/network/interfaces && break
    done
}
ifup -a -i /run/network/interfaces > /run/ifup.log 2>&1 || { again > /run/ifup.again 2>&1 & }
/sbin/announce 1 || { /sbin/announce 600 & }
"""

STOP = """#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
ifdown -a -i /run/network/interfaces 2>/dev/null
sync
umount -a -r 2>/dev/null
"""

# Exactly one line on the console, once there is an address. Arguments: how many tries, a tenth of a second each.
ANNOUNCE = """#!/bin/sh
tries=$1
while [ "$tries" -gt 0 ]; do
    address=$(ip -4 -o addr show scope global | sed -n 's|.* inet \\([0-9.]*\\)/.*|\\1|p' | head -n 1)
    if [ -n "$address" ]; then
        # The login prompt may be there, or come at this moment: a line of its own, written at once
        [ "$1" -eq 1 ] || begin='\\r\\n'
        printf "${begin}maglica-guest: hostname=%s address=%s\\r\\n" "$(hostname)" "$address" | cat > /dev/console
        exit 0
    fi
    tries=$((tries - 1))
    sleep 0.1
done
exit 1
"""

DHCP_SCRIPT = """#!/bin/sh
# Called by udhcpc with what it has learnt in the environment.
case $1 in
    deconfig)
        ip addr flush dev "$interface"
        ip link set "$interface" up
        ;;
    bound | renew)
        ip addr flush dev "$interface"
        ip addr add "$ip/$mask" dev "$interface"
        for gateway in $router; do ip route replace default via "$gateway" dev "$interface" && break; done
        : > /run/resolv.conf
        [ -z "$domain" ] || echo "search $domain" >> /run/resolv.conf
        for server in $dns; do echo "nameserver $server" >> /run/resolv.conf; done
        cat /run/resolv.conf > /etc/resolv.conf
        ;;
esac
"""

TEXTS = {
    "etc/debian_version": "12.0\n",
    "etc/os-release": OS_RELEASE,
    "etc/issue": "Maglica tiny guest \\n \\l\n\n",
    "etc/hostname": "tiny\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\ttiny\n",
    "etc/machine-id": f"{MACHINE_ID}\n",
    "etc/resolv.conf": "",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/securetty": "ttyS0\n",
    "etc/shells": "/bin/sh\n",
    "etc/network/interfaces": INTERFACES,
    "etc/inittab": INITTAB,
    "var/lib/dpkg/status": "",
    # What a system that has run leaves behind, and a clone must not inherit
    "var/lib/dhcp/dhclient.eth0.leases": 'lease {\n  interface "eth0";\n  fixed-address 192.0.2.17;\n}\n',
    "var/lib/systemd/random-seed": "not random at all, and the same in every clone that keeps it\n",
    "etc/udev/rules.d/70-persistent-net.rules": (
        'SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="52:54:00:00:00:01", NAME="eth0"\n'
    ),
}

SCRIPTS = {
    "etc/init.d/rcS": START,
    "etc/init.d/rcK": STOP,
    "etc/acpi/PWRF/00000080": "#!/bin/sh\nexec /sbin/poweroff\n",
    "sbin/announce": ANNOUNCE,
    "etc/udhcpc/default.script": DHCP_SCRIPT,
    "usr/share/udhcpc/default.script": DHCP_SCRIPT,
}


def build(target: Path, cache: Path, data: bool = False) -> None:
    """Build the image `target` (qcow2); with `data` its system also mounts a second disk (see `build_data`)."""
    chosen = kernel.find(cache)
    say(f"building {target.name} with kernel {chosen.version}")
    modules = kernel.Modules(chosen)
    with tempfile.TemporaryDirectory(prefix="maglica-lab-") as name:
        tree, raw = Path(name, "tree"), Path(name, "disk.raw")
        _fill(tree, modules, data)
        disk.grub_config(tree, chosen.image, kernel.initramfs(modules), ARGUMENTS)
        disk.write(raw, tree, SIZE, ROOT_LABEL, ROOT_UUID)
        disk.to_qcow2(raw, target)


def build_data(target: Path) -> None:
    """Build the second disk of the `multi` image: a file system without a partition table, with one file in it."""
    with tempfile.TemporaryDirectory(prefix="maglica-lab-") as name:
        tree, raw = Path(name, "tree"), Path(name, "disk.raw")
        tree.mkdir()
        (tree / "content").write_text("the data disk of the image\n")
        with raw.open("wb") as file:
            file.truncate(DATA_SIZE)
        disk.file_system(raw, tree, DATA_LABEL, DATA_UUID, offset=0, size=DATA_SIZE)
        disk.to_qcow2(raw, target)


def _fill(tree: Path, modules: kernel.Modules, data: bool) -> None:
    """Write the guest's root file system into the folder `tree`."""
    tree.mkdir()
    for folder in FOLDERS.split():
        (tree / folder).mkdir(parents=True, exist_ok=True)
    _programs(tree)
    for path, text in TEXTS.items():
        (tree / path).write_text(text)
    for path, text in SCRIPTS.items():
        script = tree / path
        script.parent.mkdir(parents=True, exist_ok=True)
        script.unlink(missing_ok=True)  # the link to busybox of the same name
        script.write_text(text)
        script.chmod(0o755)
    (tree / "etc/fstab").write_text(_fstab(data))
    _secrets(tree)
    order = [name for name in modules.ordered(kernel.LATE_MODULES) if name not in modules.ordered(kernel.EARLY_MODULES)]
    for name in order:
        (tree / f"lib/modules/{name}.ko").write_bytes(modules.content(name))
    (tree / "lib/modules/order").write_text("".join(f"{name}.ko\n" for name in order))
    if data:
        (tree / "data").mkdir()


def _programs(tree: Path) -> None:
    """Busybox and a link for each of its applets, in /sbin where system programs are expected."""
    source = kernel.busybox()
    shutil.copyfile(source, tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    for path in run(source, "--list-full").split():
        folder = "sbin" if "sbin/" in path else "bin"
        link = tree / folder / Path(path).name
        if link.name not in ("busybox", "linuxrc"):
            link.symlink_to("/bin/busybox")
    (tree / "init").symlink_to("/sbin/init")
    (tree / "var/run").symlink_to("/run")


def _fstab(data: bool) -> str:
    """The root by its label, and the data disk when the image has one."""
    lines = [f"LABEL={ROOT_LABEL} / ext4 errors=remount-ro 0 1"]
    if data:
        lines.append(f"LABEL={DATA_LABEL} /data ext4 defaults,nofail 0 2")
    return "".join(f"{line}\n" for line in lines)


def _secrets(tree: Path) -> None:
    """A locked root, and real ssh host keys where this machine can make them: a clone must lose both keys."""
    shadow = tree / "etc/shadow"
    shadow.write_text("root:!:19700:0:99999:7:::\nnobody:*:19700:0:99999:7:::\n")
    shadow.chmod(0o640)
    (tree / "root").chmod(0o700)
    (tree / "root/.ssh").chmod(0o700)
    (tree / "tmp").chmod(0o1777)
    (tree / "var/tmp").chmod(0o1777)
    if shutil.which("ssh-keygen"):
        for kind in ("ed25519", "ecdsa"):
            key = tree / f"etc/ssh/ssh_host_{kind}_key"
            run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "root@tiny", "-f", key)
