"""A host of the lab: namespaces with their own libvirtd, virtlogd, storage pool and guest network."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from . import definitions, network, process
from .host_init import FOLDERS, POOL_IMAGE
from .names import Host, Lab
from .shell import LabError, run, say, tail_of, wait_until, works

INIT_SCRIPT = Path(__file__).with_name("host_init.py")
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
URI = "qemu:///system"
LIBVIRTD_LIMIT = 60.0
POOL_SIZE = 16 << 30  # bytes of a pool that is a file system of its own; it is sparse

LIBVIRTD_CONF = """host_uuid = "{uuid}"
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "{port}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
"""

# Guests run as the lab's own root; security labels and ownership of another "machine" would only stick to this one.
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
remember_owner = 0
stdio_handler = "logd"
migration_address = "{address}"
migration_host = "{name}"
"""


def make(lab: Lab, host: Host, pool: str = "dir") -> None:
    """Start a host: namespaces, network, virtlogd, libvirtd, pool and guest network.

    `pool`: a folder (dir), or a file system of its own that shares blocks (btrfs).
    """
    _write_files(lab, host)
    if pool == "btrfs":
        _make_btrfs(host)
    label = f"init:{host.name}"
    outer = process.spawn(
        lab,
        f"unshare:{host.name}",
        ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "--propagation", "private"],
        [INIT_SCRIPT, host.folder, host.name],
    )
    init = process.remember(lab, label, process.only_child(outer.pid))
    if not wait_until(lambda: (host.folder / "ready").exists() or not init.alive(), 20, 0.02) or not init.alive():
        words = tail_of(lab.log(outer.label).read_text(errors="replace"))
        raise LabError(f"the namespaces of {host.name} could not be made: {words}", 3)
    network.plug_host(lab, host, init.pid)
    start_libvirt(lab, host)
    define_pool_and_network(lab, host)


def _write_files(lab: Lab, host: Host) -> None:
    """The host's private folders and its configuration."""
    for name in FOLDERS:
        (host.folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib/images", "log/qemu"):
        (host.folder / name).mkdir(parents=True, exist_ok=True)
    settings = host.folder / "etc-libvirt"
    filters = Path("/etc/libvirt/nwfilter")
    if filters.is_dir():
        shutil.copytree(filters, settings / "nwfilter", dirs_exist_ok=True)
    values = {"uuid": host.uuid, "address": host.address, "name": host.name, "port": network.LIBVIRT_PORT}
    (settings / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(**values))
    (settings / "qemu.conf").write_text(QEMU_CONF.format(**values))
    lines = ["127.0.0.1 localhost", f"{lab.client_address} client"]
    lines += [f"{other.address} {other.name}" for other in lab.hosts]
    (host.folder / "hosts").write_text("".join(f"{line}\n" for line in lines))
    (host.folder / "hostname").write_text(f"{host.name}\n")
    (host.folder / "machine-id").write_text(host.uuid.replace("-", "") + "\n")


def _make_btrfs(host: Host) -> None:
    """The file that the host's first process mounts as its pool. The loop device goes with the host's mounts."""
    image = host.folder / POOL_IMAGE
    with image.open("wb") as file:
        file.truncate(POOL_SIZE)
    run("mkfs.btrfs", "-q", image)


def entering(lab: Lab, host: Host) -> list[str]:
    """The words that make a command run inside the host; LabError when the host does not run."""
    init = process.living(lab, f"init:{host.name}")
    if init is None:
        raise LabError(f"{host.name} of lab '{lab.name}' does not run; `lab/down` and `lab/up` make it anew")
    # --root and --wd: the lab may have been started in a chroot, and is entered from anywhere
    return ["nsenter", "--target", str(init.pid), *NAMESPACES, "--root", "--wd", "--"]


def run_inside(lab: Lab, host: Host, *command: str, limit: float = 60.0) -> str:
    """Run a command inside the host and return its stdout."""
    return run(*entering(lab, host), *command, limit=limit, env=process.ENVIRONMENT)


def spawn_inside(lab: Lab, host: Host, label: str, command: Sequence[str | Path]) -> process.Record:
    """Start a daemon inside the host, as a child of its first process, writing to the log of `label`."""
    words = [str(word) for word in command]
    log, number = lab.log(label), host.folder / "run" / f"lab-{label.replace(':', '-')}.pid"
    number.unlink(missing_ok=True)
    # setsid --fork: nothing outside waits for the daemon, and a process that ends leaves its orphans to the namespace
    script = 'exec >>"$1" 2>&1 </dev/null; echo $$ >"$0.partial"; mv "$0.partial" "$0"; shift; exec "$@"'
    run_inside(lab, host, "setsid", "--fork", "/bin/sh", "-c", script, str(number), str(log), *words)
    if not wait_until(number.exists, 10, 0.01):
        raise LabError(f"{label} could not be started in {host.name}")
    init = process.living(lab, f"init:{host.name}")
    pid = process.outer_pid(init.pid, int(number.read_text())) if init else None
    if pid is None:
        raise LabError(f"{label} ended at once: {tail_of(log.read_text(errors='replace'))}")
    return process.remember(lab, label, pid)


def start_libvirt(lab: Lab, host: Host) -> None:
    """Start virtlogd and libvirtd where they do not run, and wait until libvirtd answers."""
    for daemon, options in (("virtlogd", []), ("libvirtd", ["--listen"])):
        label = f"{daemon}:{host.name}"
        if process.living(lab, label) is None:
            # Left by a daemon that was killed; the new one would take the number for its own running twin
            (host.folder / "run" / f"{daemon}.pid").unlink(missing_ok=True)
            spawn_inside(lab, host, label, [daemon, *options])
    words = [*entering(lab, host), "virsh", "-q", "-c", URI, "uri"]
    if not wait_until(lambda: works(*words, limit=LIBVIRTD_LIMIT), LIBVIRTD_LIMIT):
        log = lab.log(f"libvirtd:{host.name}").read_text(errors="replace")
        raise LabError(f"libvirtd of {host.name} does not answer within {LIBVIRTD_LIMIT:g} s: {tail_of(log)}")


def virsh(lab: Lab, host: Host, *commands: str) -> str:
    """Run virsh commands on the host's libvirtd, all in one process; the first failure is raised."""
    return run_inside(lab, host, "virsh", "-q", "-c", URI, "; ".join(commands))


def define(lab: Lab, host: Host, kind: str, name: str, xml: str) -> None:
    """Hand a definition to libvirt; `kind` is virsh's word for it: pool, net or nothing for a domain."""
    folder = host.folder / "run" / "lab-definitions"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.xml").write_text(xml)
    verb = f"{kind}-define" if kind else "define"
    virsh(lab, host, f"{verb} /run/lab-definitions/{name}.xml")


def define_pool_and_network(lab: Lab, host: Host) -> None:
    """The pool and the network that libvirt calls `default`, active and started again with libvirtd."""
    define(lab, host, "pool", "default", definitions.pool("default", "/var/lib/libvirt/images"))
    virsh(lab, host, "pool-autostart default", "pool-start default")
    define(lab, host, "net", "default", definitions.network("default", host.guest_net, nat=True))
    try:
        virsh(lab, host, "net-autostart default", "net-start default")
    except LabError as error:
        say(f"{host.name}: no address translation here, guests reach their host only ({tail_of(str(error), 1)})")
        virsh(lab, host, "net-undefine default")
        define(lab, host, "net", "default", definitions.network("default", host.guest_net, nat=False))
        virsh(lab, host, "net-autostart default", "net-start default")


def console(lab: Lab, host: Host, guest: str) -> Path:
    """The file, as seen from outside the host, that the guest's console is logged to: libvirt is asked for it."""
    tree = ElementTree.fromstring(virsh(lab, host, f"dumpxml --domain {shlex.quote(guest)}"))
    node = tree.find("devices/serial/log")
    inner = Path("/", node.get("file", "") if node is not None else "")
    for name, target in FOLDERS.items():
        if inner.is_relative_to(target):
            return host.folder / name / inner.relative_to(target)
    raise LabError(f"the console of {guest} on {host.name} is not logged to a file")
