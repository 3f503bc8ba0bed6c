"""The lab's commands: arguments in, exit status out. Each file in lab/ calls one of them."""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from . import daemons, host, images, names, network, process, teardown
from .names import CHECKOUT, Host, Lab
from .shell import LabError, missing_commands, run, say

NEEDED_COMMANDS = (
    *("ip", "unshare", "nsenter", "setsid", "mount", "umount"),
    *("libvirtd", "virtlogd", "virsh", "dnsmasq", "qemu-img", "qemu-system-x86_64", "mke2fs", "grub-mkimage"),
)
NO_ROOT, NOT_THERE = 3, 1


def guarded(command: Callable[[Sequence[str]], int]) -> None:
    """Run a command and leave with its exit status; a LabError becomes one sentence."""
    # The system's programs, also for a root whose PATH knows only the user's
    os.umask(0o022)  # the lab's settings are read by users, and its folders by daemons that drop their rights
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
    try:
        sys.exit(command(sys.argv[1:]))
    except LabError as error:
        say(f"lab: {error}")
        sys.exit(error.status)
    except KeyboardInterrupt:
        say("lab: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def _parser(text: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"lab/{Path(sys.argv[0]).name}", description=text)
    parser.add_argument(
        "--name",
        default=os.environ.get("MAGLICA_LAB_NAME") or names.DEFAULT_NAME,
        type=names.checked_name,
        help="which lab (default: MAGLICA_LAB_NAME, or '%(default)s')",
    )
    return parser


def need_root() -> None:
    """LabError with status 3 unless this process may make namespaces."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root, because it makes network namespaces and mounts; try it with sudo", NO_ROOT)


def need_namespaces() -> None:
    """LabError when packages are missing, or (status 3) when this machine does not give out namespaces."""
    need_root()
    if missing := missing_commands(NEEDED_COMMANDS):
        raise LabError(f"not installed: {', '.join(missing)}; `make deps` installs what the lab needs")
    if not any(line.split()[4] == "/" for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        # Mounts of the hosts would then spread over the machine around the chroot, and stay
        raise LabError("this is a chroot that is no mount point; `mount --bind DIR DIR` before `chroot DIR`", NO_ROOT)
    try:
        run("unshare", *host.NAMESPACES, "--fork", "--mount-proc", "--propagation", "private", "true")
    except LabError as error:
        raise LabError(f"namespaces, which the lab is made of, are not to be had here: {error}", NO_ROOT) from None


def up(arguments: Sequence[str]) -> int:
    """lab/up: make a lab and leave it running."""
    parser = _parser("Make several real hypervisors on this machine and leave them running.")
    parser.add_argument("--hosts", type=int, default=2, help="how many (default: %(default)s)")
    parser.add_argument("--image", action="append", metavar="IMAGE,…", help="images to define on every host (tiny)")
    parser.add_argument(
        "--pool",
        choices=["dir", "btrfs"],
        default="dir",
        help="the hosts' storage pool: a folder, or a btrfs on a loop device, where clones share blocks (dir)",
    )
    parser.add_argument("--no-workers", action="store_true", help="libvirt only, without maglica's daemons")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a setting for maglica's daemons, e.g. client.beat=1s",
    )
    options = parser.parse_args(arguments)
    extra = _settings(options.set)
    if not 1 <= options.hosts <= names.MOST_HOSTS:
        raise LabError(f"--hosts={options.hosts}: a lab has 1 to {names.MOST_HOSTS} hosts", 2)
    wanted = [word for words in options.image or ["tiny"] for word in words.split(",") if word]
    for word in wanted:
        images.chosen(word)
    need_namespaces()
    if options.pool == "btrfs" and (missing := missing_commands(("mkfs.btrfs",))):
        raise LabError(f"not installed: {', '.join(missing)}; `make deps` installs what the lab needs")
    begin = time.monotonic()
    if _is_up(options.name, options.hosts):
        say(f"lab '{options.name}' is up already")
        return 0
    teardown.remove(options.name)
    for word in wanted:
        images.built(word)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        lab = _make(options.name, options.hosts, wanted, None if options.no_workers else extra, options.pool)
    except BaseException:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        teardown.remove(options.name)
        raise
    say(f"lab '{lab.name}' is up after {time.monotonic() - begin:.1f} s: {', '.join(each.name for each in lab.hosts)}")
    say(f'next: eval "$({_own_path("env")} --name={lab.name})" && maglica image list')
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _own_path(command: str) -> str:
    """How the user would call a command of the lab from where he is."""
    path = os.path.relpath(CHECKOUT / "lab" / command)
    return path if "/" in path else f"./{path}"


def _is_up(name: str, count: int) -> bool:
    """True when a complete lab of this name runs; LabError when it has another size."""
    try:
        lab, ready = names.read(name)
    except LabError:
        return False
    if not ready or not all(process.living(lab, f"init:{each.name}") for each in lab.hosts):
        return False
    if lab.count != count:
        raise LabError(f"lab '{name}' is up with {lab.count} hosts; `lab/down --name={name}` first")
    return True


def _settings(words: Sequence[str]) -> dict[str, dict[str, object]]:
    """--set=SECTION.KEY=VALUE as sections; maglica itself checks what they say."""
    sections: dict[str, dict[str, object]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        section, dot, key = place.rpartition(".")
        if not (equals and dot):
            raise LabError(f"--set={word}: expected SECTION.KEY=VALUE, for example client.beat=1s", 2)
        sections.setdefault(section, {})[key] = value
    return sections


def _make(name: str, count: int, wanted: Sequence[str], settings: daemons.Settings | None, storage: str) -> Lab:
    """Everything between nothing and a lab that answers. The hosts are made side by side.

    `settings` are for maglica's daemons; None: start none.
    """
    lab = _reserve(name, count, settings is not None)
    network.make_switch(lab)

    def make_host(each: Host) -> None:
        host.make(lab, each, storage)
        for word in wanted:
            images.install(lab, each, word)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        list(pool.map(make_host, lab.hosts))
    if settings is not None:
        daemons.configure(lab, settings)
        daemons.start_all(lab)
    lab.save(ready=True)
    return lab


def _reserve(name: str, count: int, workers: bool) -> Lab:
    """Choose the lab's network and write lab.json; two labs that start at once do not choose the same."""
    folder = names.lab_folder(name)
    with _locked(names.base_folder()):
        lab = Lab(name, folder, network.free_subnet(name), count, names.current_boot(), workers)
        try:
            folder.mkdir()
        except FileExistsError:
            raise LabError(f"somebody else is making the lab '{name}' right now ({folder} exists)") from None
        for part in ("pids", "log"):
            (folder / part).mkdir()
        lab.save(ready=False)
    return lab


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder (made where missing) against other labs that start."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def down(arguments: Sequence[str]) -> int:
    """lab/down: remove every trace of a lab."""
    options = _parser("End a lab with all its guests and remove every trace of it.").parse_args(arguments)
    need_root()
    found = teardown.remove(options.name)
    say(f"lab '{options.name}' is gone" if found else f"there is no lab '{options.name}'")
    return 0


def status(arguments: Sequence[str]) -> int:
    """lab/status: which processes of a lab run. Exit status 1 when the lab is not up."""
    options = _parser("Show whether a lab is up, and its processes.").parse_args(arguments)
    lab, ready = names.read(options.name)
    alive = {record.label for record in process.recall_all(lab.folder) if record.alive()}
    complete = ready and alive.issuperset(daemons.labels(lab))
    print(f"lab '{lab.name}': {'up' if complete else 'not complete'}, {lab.count} hosts, 10.77.{lab.subnet}.0/24")
    for label in daemons.labels(lab):
        record = process.recall(lab, label)
        print(f"  {label:<18} {f'process {record.pid}' if record and label in alive else 'does not run'}")
    return 0 if complete else NOT_THERE


def env(arguments: Sequence[str]) -> int:
    """lab/env: shell lines that point bin/maglica at a lab."""
    options = _parser('Print shell lines that point bin/maglica at a lab: eval "$(lab/env)".').parse_args(arguments)
    lab, _ = names.read(options.name)
    print(f"export MAGLICA_CONFIG={shlex.quote(str(lab.cli_config))}")
    print(f"export MAGLICA_LAB_NAME={shlex.quote(lab.name)}")
    print(f'export PATH={shlex.quote(str(CHECKOUT / "bin"))}:"$PATH"')
    return 0


def enter(arguments: Sequence[str]) -> int:
    """lab/enter: become a command that runs inside a host."""
    parser = _parser("Run a command inside a host of a lab (a shell, when none is given).")
    parser.add_argument("host")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    need_root()
    lab, _ = names.read(options.name)
    words = host.entering(lab, lab.host(options.host)) + (options.command or [os.environ.get("SHELL", "/bin/sh")])
    os.execvp(words[0], words)


def daemon(arguments: Sequence[str]) -> int:
    """lab/daemon: start and stop single daemons. Exit status 0 also when there was nothing to do."""
    parser = _parser("Start, stop (SIGTERM), kill (SIGKILL) or restart single daemons of a lab.")
    parser.add_argument("verb", choices=["start", "stop", "kill", "restart"])
    parser.add_argument("daemons", nargs="+", metavar="client|host1|libvirtd:host1|…")
    options = parser.parse_args(arguments)
    need_root()
    lab, _ = names.read(options.name)
    for label in options.daemons:
        daemons.checked(lab, label)
        _one_daemon(lab, options.verb, label)
    return 0


def _one_daemon(lab: Lab, verb: str, label: str) -> None:
    if verb in ("stop", "restart"):
        changed = daemons.stop(lab, label)
    elif verb == "kill":
        changed = daemons.kill(lab, label)
    if verb in ("start", "restart"):
        changed = daemons.start(lab, label)
    if not changed:
        say(f"{label}: nothing to do, it {'runs already' if verb == 'start' else 'does not run'}")


def log(arguments: Sequence[str]) -> int:
    """lab/log: what a daemon, or a guest on its console, has written."""
    parser = _parser("Print the log of a daemon, or with console:host1:GUEST what a guest wrote to its console.")
    parser.add_argument("daemon", metavar="client|host1|libvirtd:host1|console:host1:GUEST|…")
    parser.add_argument("--path", action="store_true", help="print the file's name instead")
    options = parser.parse_args(arguments)
    lab, _ = names.read(options.name)
    path = _log_path(lab, options.daemon)
    if options.path:
        print(path)
        return 0
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 16):
                sys.stdout.buffer.write(part)
    except FileNotFoundError:
        raise LabError(f"{path} does not exist: nothing has been written yet") from None
    return 0


def _log_path(lab: Lab, label: str) -> Path:
    kind, _, rest = label.partition(":")
    if kind == "console":
        name, _, guest = rest.partition(":")
        return host.console(lab, lab.host(name), guest)
    if label.startswith("init:"):
        label = f"unshare:{rest}"
    return lab.log(label)


ARCHIVE = "archive"


def build_image(arguments: Sequence[str]) -> int:
    """lab/build-image: build into the cache and print the files."""
    parser = argparse.ArgumentParser(prog="lab/build-image", description="Build an image of the lab into the cache.")
    parser.add_argument("image", choices=[*images.known(), ARCHIVE], help=f"{ARCHIVE}: Debian's root as a tar.gz")
    options = parser.parse_args(arguments)
    need_root()
    for path in [images.archive()] if options.image == ARCHIVE else images.built(options.image):
        print(path)
    return 0


def add_image(arguments: Sequence[str]) -> int:
    """lab/add-image: define an image on hosts of a running lab."""
    parser = _parser("Define an image on hosts of a running lab (on all, when none is named).")
    parser.add_argument("image", choices=list(images.known()))
    parser.add_argument("hosts", nargs="*")
    options = parser.parse_args(arguments)
    need_root()
    lab, _ = names.read(options.name)
    for each in [lab.host(name) for name in options.hosts] or lab.hosts:
        images.install(lab, each, options.image)
        say(f"{images.chosen(options.image).domain} is on {each.name}")
    return 0
