"""Does KVM really work here? `/dev/kvm` may exist, and even answer, on machines where no guest ever runs: nested ones,
mostly. Some run a boot sector in real mode and hang as soon as a kernel turns paging on; some fail on a register.

So the most telling guest at hand is run, with a deadline: a Linux kernel from `/boot`, which panics for want of a disk
and so ends QEMU; where there is none, a boot sector of four instructions.
"""

from __future__ import annotations

import glob
import os
import platform
import tempfile

from maglica.errors import MaglicaError
from maglica.host_worker import commands

DEADLINE = 15.0  # seconds; under KVM it takes about 1, under TCG about 4

# mov al, 0x10; out 0xf4, al; jmp $ — QEMU's isa-debug-exit then ends with status (0x10 << 1) | 1.
SECTOR = bytes([0xB0, 0x10, 0xE6, 0xF4, 0xEB, 0xFE]).ljust(510, b"\0") + b"\x55\xaa"
SECTOR_RAN = (0x10 << 1) | 1


def works(accelerator: str) -> tuple[bool, str]:
    """Whether a guest runs with QEMU's `kvm` or `tcg`, and why that is thought."""
    if accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False, "/dev/kvm cannot be opened" if os.path.exists("/dev/kvm") else "/dev/kvm does not exist"
    if platform.machine() != "x86_64":
        return True, "not probed on this architecture"
    kernel = newest_kernel()
    try:
        return _boot_kernel(accelerator, kernel) if kernel else _boot_sector(accelerator)
    except MaglicaError as error:
        if error.code == "timeout":
            return False, f"a guest hangs (ended after {DEADLINE:g} s)"
        return False, error.message


def newest_kernel() -> str | None:
    """The newest kernel in /boot that we may read."""
    found = [path for path in glob.glob("/boot/vmlinuz-*") if os.access(path, os.R_OK)]
    return max(found, key=os.path.getmtime, default=None)


def _qemu(accelerator: str) -> list[str]:
    # -cpu host is what libvirt gives a guest with host-passthrough, and the first thing to fail.
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-m", "256",
        "-machine", f"pc,accel={accelerator}", "-cpu", "host" if accelerator == "kvm" else "max",
    ]  # fmt: skip


def _boot_kernel(accelerator: str, kernel: str) -> tuple[bool, str]:
    append = "console=ttyS0 panic=-1"
    ended = commands.run(
        [*_qemu(accelerator), "-serial", "stdio", "-kernel", kernel, "-append", append], timeout=DEADLINE
    )
    if ended.exit_status == 0 and "Kernel panic" in ended.stdout:
        return True, "a kernel booted"
    return False, _words(ended)


def _boot_sector(accelerator: str) -> tuple[bool, str]:
    with tempfile.NamedTemporaryFile(prefix="maglica-probe-") as file:
        file.write(SECTOR)
        file.flush()
        drive = f"file={file.name},format=raw,if=ide,snapshot=on"
        debug = ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        ended = commands.run([*_qemu(accelerator), *debug, "-drive", drive], timeout=DEADLINE)
    return (True, "a boot sector ran") if ended.exit_status == SECTOR_RAN else (False, _words(ended))


def _words(ended: commands.Ended) -> str:
    last = (ended.stderr or "it said nothing").splitlines()[-1]
    return f"a guest does not run: QEMU ended with status {ended.exit_status}: {last[:160]}"


def probe(wanted: str, cache: str) -> tuple[str, str]:
    """(`kvm` or `tcg`, why). `wanted` is the setting: `auto` probes, anything else is taken at its word.

    The answer of a probe is kept in the file `cache` until the machine boots again.
    """
    if wanted != "auto":
        return wanted, "as [host_worker] acceleration says"
    boot = _read("/proc/sys/kernel/random/boot_id")
    known = _read(cache).splitlines()
    if len(known) == 3 and known[0] == boot and known[1] in ("kvm", "tcg"):
        return known[1], known[2]
    usable, why = works("kvm")
    found = ("kvm", why) if usable else ("tcg", f"KVM does not work here: {why}; guests are emulated")
    _write(cache, "\n".join((boot, *found)))
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        pass  # it is only asked again at the next start
