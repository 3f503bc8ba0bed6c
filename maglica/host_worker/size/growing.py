"""Growing what lies at the end of a running guest's disk, by its agent and its own programs."""

from __future__ import annotations

from typing import Any

from maglica.errors import Failed
from maglica.host_worker.host import Host
from maglica.host_worker.hypervisor.size import FileSystem
from maglica.host_worker.inside import running
from maglica.host_worker.work import Work

BY_HAND = "the disk is larger; in the guest: growpart /dev/DISK N, then resize2fs /dev/DISKN, or xfs_growfs MOUNTPOINT"
GROWN_WITHIN = 1800.0  # seconds that a guest may take
MOST = 16 << 10  # bytes of what it prints

# $1: the device of a mounted file system as the kernel names it, $2: where it is mounted, $3: its type. The last line
# is its size before and after, in bytes. Exit 3: no program for the partition; 4: none for this file system.
SCRIPT = r"""
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
set -e
has() { command -v "$1" >/dev/null 2>&1; }
size() { set -- $(stat -f -c '%b %S' "$1"); echo $(($1 * $2)); }
case "$3" in
    ext2 | ext3 | ext4) has resize2fs || exit 4 ;;
    xfs) has xfs_growfs || exit 4 ;;
    btrfs) has btrfs || exit 4 ;;
    *) exit 4 ;;
esac
before=$(size "$2")
sys=$(readlink -f "/sys/class/block/$1")
if [ -e "$sys/partition" ]; then
    disk=$(basename "$(dirname "$sys")") number=$(cat "$sys/partition")
    if has growpart; then
        growpart "/dev/$disk" "$number" || [ $? -eq 1 ]
    elif has sfdisk; then
        echo ', +' | sfdisk --quiet --no-reread --force -N "$number" "/dev/$disk"
    else
        exit 3
    fi
    if has partx; then partx --update --nr "$number" "/dev/$disk"; fi
fi >&2
case "$3" in
    ext*) resize2fs "/dev/$1" ;;
    xfs) xfs_growfs "$2" ;;
    btrfs) btrfs filesystem resize max "$2" ;;
esac >&2
echo "$before $(size "$2")"
"""
LACKS = {
    3: "the guest has neither growpart (cloud-guest-utils) nor sfdisk: install one of them, then ",
    4: "the guest has no program that grows a file system of that type: ",
}


def in_guest(name: str, target: str, host: Host, work: Work) -> dict[str, Any]:
    """Grow the file system at the end of that disk: `grown`, `what`, `file_system_bytes`, and `note`, what is left
    to be done. Raises `Failed` where there is no agent to ask, or it may not run programs.
    """
    mounted = {one.device: one for one in host.hypervisor.file_systems(name) if target in one.targets}
    if not mounted:
        return {"note": f"no file system of disk {target} is mounted in the guest; {BY_HAND}"}
    chosen = mounted[_last(name, sorted(mounted), host, work)]
    where = f"{chosen.kind} on {chosen.device} at {chosen.point}"
    ran = _run(name, SCRIPT, (chosen.device, chosen.point, chosen.kind), host, work)
    if ran.status in LACKS:
        return {"what": where, "note": f"{LACKS[ran.status]}{_by_hand(chosen)}"}
    if ran.status:
        raise Failed("environment_error", _last_line(ran.stderr) or f"it ended with status {ran.status}")
    before, after = map(int, _last_line(ran.stdout).split())
    note = None if after > before else f"nothing grew: something else may lie behind {chosen.device}"
    return {"grown": after > before, "what": where, "file_system_bytes": after, "note": note}


def _by_hand(chosen: FileSystem) -> str:
    command = {"xfs": f"xfs_growfs {chosen.point}", "btrfs": f"btrfs filesystem resize max {chosen.point}"}
    return (
        f"grow the partition of /dev/{chosen.device}, and {command.get(chosen.kind, f'resize2fs /dev/{chosen.device}')}"
    )


def _last(name: str, devices: list[str], host: Host, work: Work) -> str:
    """The one of them that lies last on its disk."""
    if len(devices) == 1:
        return devices[0]
    script = 'for d; do echo "$(cat /sys/class/block/$d/start 2>/dev/null || echo 0) $d"; done | sort -n'
    return _last_line(_run(name, script, tuple(devices), host, work).stdout).split()[-1]


def _run(name: str, script: str, words: tuple[str, ...], host: Host, work: Work) -> running.Ran:
    pid = running.begin(host.hypervisor, name, [*running.SHELL, script, "sh", *words], MOST)
    within = min(GROWN_WITHIN, work.left)
    return running.finish(
        host.hypervisor, name, pid, MOST, within, stop=lambda: "cancelled" if work.cancelled() else ""
    )


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
