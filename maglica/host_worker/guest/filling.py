"""A new disk out of an archive of a root file system: partitioned, filled, and made to boot. In a launched appliance.

The archive is unpacked in there, never on the host: whatever it holds, it reaches this one disk.

Sources: fstab(5), grub-install(8), grub-mkconfig(8), "Simple configuration" in GRUB's manual; for what an ext4 may have
so that older kernels and boot loaders read it, ext4(5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from maglica.errors import Failed, Refused
from maglica.host_worker.guest.growing import Step
from maglica.host_worker.guest.inspection import kind_of, read_text

START = 2048  # sectors before the partition: 1 MiB, where the boot loader has its place
# Named one by one: every release of mke2fs adds to its own choice what the GRUB in an archive may not read yet.
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize"
)
LOG = "/var/tmp/maglica-build.log"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MODULES = "/usr/lib/grub/i386-pc"
DROP_IN, DEFAULTS = "/etc/default/grub.d", "/etc/default/grub"
# A machine may have no screen: GRUB's menu and the kernel speak on the serial port as well, and in text alone.
CONSOLE = """GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=tty0 console=ttyS0"
GRUB_TERMINAL="serial console"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_GFXPAYLOAD_LINUX=text
GRUB_DISABLE_OS_PROBER=true
GRUB_TIMEOUT=1
"""
HINT_ROOT = "it is made inside of the root file system: tar -C ROOT --xattrs --acls -czf base.tar.gz ."
HINT_BARE = "--barebones makes an empty machine to be installed; `image import` takes whole disks"


class Loader(NamedTuple):
    """How a family of distributions calls GRUB."""

    install: str
    configure: str
    file: str


LOADERS = (
    Loader("grub-install", "grub-mkconfig", "/boot/grub/grub.cfg"),
    Loader("grub2-install", "grub2-mkconfig", "/boot/grub2/grub.cfg"),
)


def fill(guest: Any, archive: str, step: Step) -> None:
    """Partition the one disk, make a file system on it, and unpack the archive there. Nothing stays mounted."""
    disk = str(guest.list_devices()[0])
    device = f"{disk}1"
    with step("partition"):
        guest.part_init(disk, "mbr")
        guest.part_add(disk, "p", START, -1)
        guest.part_set_bootable(disk, 1, True)
        guest.mkfs("ext4", device, features=FEATURES)
    with step("unpack"):
        guest.mount(device, "/")
        try:
            guest.tar_in(archive, "/", xattrs=True, acls=True)
        except RuntimeError as error:
            raise _unpacked_badly(str(error)) from error
        refuse(lambda path: kind_of(guest, path) is not None, [str(one) for one in guest.glob_expand("/boot/vmlinu*")])
        text = fstab(read_text(guest, "/etc/fstab") or "", str(guest.vfs_uuid(device)))
        guest.write("/etc/fstab", text.encode("utf-8", "surrogateescape"))
        guest.umount_all()


def _unpacked_badly(text: str) -> Refused | Failed:
    if "No space left" in text:
        return Failed("no_capacity", "the archive does not fit onto the disk", "say a larger --disk")
    words = next((line for line in text.splitlines() if line.startswith("tar:")), text.splitlines()[0])
    return Refused("wrong_input", f"the archive cannot be unpacked: {words}", "expected a tar archive, packed or not")


def refuse(exists: Callable[[str], bool], kernels: Sequence[str]) -> None:
    """Refuse what is no root file system, or would never boot."""
    if not (exists("/etc/os-release") or exists("/usr/lib/os-release")) or not exists("/usr"):
        raise Refused("wrong_input", "the archive holds no root file system: there is no /etc/os-release", HINT_ROOT)
    if not kernels:
        raise Refused("wrong_input", "the archive holds no kernel: there is no /boot/vmlinuz…", HINT_BARE)
    loader(exists)


def loader(exists: Callable[[str], bool]) -> Loader:
    """The GRUB for a BIOS that the archive brings; `Refused` without one."""
    if exists(MODULES):
        for one in LOADERS:
            if exists(f"/usr/sbin/{one.install}") or exists(f"/sbin/{one.install}"):
                return one
    raise Refused(
        "wrong_input", f"the archive holds no boot loader: there is no grub-install, or no {MODULES}",
        "install grub-pc-bin and grub2-common (Debian, Ubuntu) or grub2-pc (RHEL, Fedora) in it;"
        f" {HINT_BARE}",
    )  # fmt: skip


def fstab(old: str, uuid: str) -> str:
    """/etc/fstab with the new root; what is no disk of another machine stays."""
    kept = []
    for line in old.splitlines():
        fields = line.split()
        if len(fields) < 2 or line.lstrip().startswith("#"):
            continue
        disk = fields[0].startswith(("/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ZFS="))
        if not disk and fields[1] != "/":
            kept.append(line)
    return "\n".join([f"UUID={uuid} / ext4 errors=remount-ro 0 1", *kept]) + "\n"


def boot(guest: Any, step: Step) -> None:
    """Install the boot loader of the system that is mounted at /, with its menu, and with the serial console."""
    with step("boot loader"):
        found = loader(lambda path: kind_of(guest, path) is not None)
        if kind_of(guest, DROP_IN) is None and found is LOADERS[0]:
            guest.mkdir_p(DROP_IN)
        if found is LOADERS[0]:
            guest.write(f"{DROP_IN}/50-maglica.cfg", CONSOLE.encode())
        else:
            guest.write(DEFAULTS, ((read_text(guest, DEFAULTS) or "") + CONSOLE).encode("utf-8", "surrogateescape"))
        disk = str(guest.list_devices()[0])
        commands = [f"{found.install} --target=i386-pc --no-floppy {disk}", f"{found.configure} -o {found.file}"]
        status, said = run(guest, "\n".join(commands))
        if status:
            raise Failed(
                "environment_error", f"the boot loader of the archive cannot be installed: {last_line(said)}",
                "the job's log has its words", details={"output": said[-4000:]},
            )  # fmt: skip


def run(guest: Any, script: str) -> tuple[int, str]:
    """Run a shell script in the guest's file system, by its own programs: (exit status, what it printed)."""
    around = f"export LC_ALL=C {PATH}\n(set -e\n{script}\n) > {LOG} 2>&1 < /dev/null\necho $?\n"
    status = int(str(guest.sh(around)).split()[-1])
    said = str(guest.sh(f"tail -c 8000 {LOG}; rm -f {LOG}"))
    return status, said


def last_line(said: str) -> str:
    """What to show of what a program printed, where there is room for a line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or ["it said nothing"])[-1][:300]
