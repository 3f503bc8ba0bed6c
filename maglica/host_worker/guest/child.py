"""The process that opens a guest's disks: `python -m maglica.host_worker.guest.child`, started by
`conversation.py`.

The only file that imports guestfs. It reads one JSON line from stdin and answers with JSON lines on stdout
({"event": "step" | "done" | "error", …}). stdin stays open: its end means that the parent is gone, and then this
process ends with its appliance, so that nothing writes to a disk that nobody answers for.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.guest import (
    altering,
    customize,
    filling,
    growing,
    hooks,
    inspection,
    preparing,
    serving,
)
from maglica.host_worker.guest.host_keys import HostKeys
from maglica.host_worker.guest.inspection import Layout, kind_of, read_text
from maglica.host_worker.guest.model import (
    Absent,
    Edit,
    Expectation,
    GuestFacts,
    GuestRequest,
    HasLabel,
    Label,
    Link,
    LinkIs,
    MakeDir,
    MakeHostKeys,
    Plan,
    Remove,
    Seen,
    System,
    WriteFile,
)
from maglica.host_worker.guest.serving import Hands

NEEDED_MOUNTS = re.compile(r"/(boot|etc|lib|root|usr|var)?(/|$)")
"""Other file systems (/home, /srv, …) hold nothing that is read or changed: they stay untouched."""

PLANS = {"rename": altering.rename, "readdress": altering.readdress}
"""The verbs that change no more than that of a machine; all others plan a machine of its own."""

WRITE = ("customise", "build", "seal", "upgrade", "grow", *PLANS)
"""The verbs that change the disks."""

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""

HINT_APPLIANCE = (
    "run libguestfs-test-tool as the user of the host worker; it needs a kernel in /boot that it may read "
    "and room in /var/tmp"
)
HINT_GUESTFS = "install python3-guestfs (Debian, Ubuntu) or python3-libguestfs (RHEL, Fedora)"


class Steps:
    """Announces each step and measures it; `seconds` goes into the report."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._send = send

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """What libguestfs complains about in here (always RuntimeError) becomes an error that names the step."""
        self._send({"event": "step", "name": name})
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            raise _translated(name, str(error)) from error
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)


def _translated(step: str, text: str) -> MaglicaError:
    # The lines after the first advise to debug with variables that disk.py does not hand down.
    text = text.split("\n", 1)[0]
    if step == "launch":
        return Refused("environment_error", f"the libguestfs appliance did not start: {text}", HINT_APPLIANCE)
    return Failed("environment_error", f"libguestfs, step {step}: {text}")


# ---- the conversation -------------------------------------------------------------------------------------------


def main() -> int:
    """Exit status 0 when a report or an error was sent."""
    send = _private_stdout()
    signal.signal(signal.SIGTERM, _leave)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_hear_parent, args=(tasks,), name="hear-parent", daemon=True).start()
    task = tasks.get()
    if task["verb"] == "keep":
        serving.serve(task, tasks.get, send, Hands(open_drives, work, lambda: Steps(send)))
        return 0
    try:
        send({"event": "done", "report": run(task, Steps(send))})
    except MaglicaError as error:
        send({"event": "error", "error": error.to_wire()})
    return 0


def _private_stdout() -> Callable[[dict[str, Any]], None]:
    """stdout for events only: whatever else writes to descriptor 1 (libguestfs, supermin) goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(event: dict[str, Any]) -> None:
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    return send


def _leave(number: int, frame: object) -> NoReturn:
    """SIGTERM reached the whole group: the appliance is going down too, so libguestfs returns and can tidy up."""
    raise SystemExit(128 + number)


def _hear_parent(tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Hand on what the parent says, and end when it does: stdin is open for as long as it lives."""
    # Not by sys.stdin: a thread that is in the middle of that when the process ends makes Python abort.
    rest = b""
    while data := os.read(0, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            tasks.put(json.loads(line))
    # The parent would have done it. What libguestfs keeps elsewhere goes when SIGTERM lets this process tidy up.
    shutil.rmtree(os.environ.get("LIBGUESTFS_TMPDIR", ""), ignore_errors=True)
    group = os.getpgrp()
    if group != os.getpid():
        # Not started by disk.py (a person at a terminal, say): other processes of the group are not ours.
        os._exit(1)
    os.killpg(group, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(group, signal.SIGKILL)


# ---- the work ---------------------------------------------------------------------------------------------------


def run(task: Mapping[str, Any], steps: Steps) -> dict[str, Any]:
    """`task`: {"verb": …, "disks": [[path, format]…], "request": {…} | None}; the verbs are customise, build, verify,
    inspect, seal, upgrade, grow, rename and readdress. `build` has besides {"build": {"archive", "grow", "hooks"}}."""
    verb, more = task["verb"], task.get("build") or {}
    request = GuestRequest.from_map(task["request"]) if task["request"] else None
    with steps.step("launch"):
        network = verb == "upgrade" or bool(more.get("hooks"))
        guest = open_disks(task["disks"], read_only=verb not in WRITE, network=network)
    try:
        if more.get("archive"):
            filling.fill(guest, more["archive"], steps.step)
        grown = growing.grow(guest, steps.step) if verb == "grow" or more.get("grow") else {}
        if verb == "grow":
            report = grown
        else:
            with steps.step("inspect"):
                layout = inspection.layout(guest)
            report = work(guest, layout, verb, request, steps, more)
        with steps.step("close"):
            # Reports what could not be written; close() alone would not.
            guest.shutdown()
    finally:
        guest.close()
    return {**report, "seconds": steps.seconds}


def work(
    guest: Any,
    layout: Layout,
    verb: str,
    request: GuestRequest | None,
    steps: Steps,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One operating system of a launched and inspected appliance, from mounting it to the second reading. `more`: what
    `build` does besides."""
    with HostKeys() as keys:
        if request and verb in ("customise", "build") and layout.system.family == "debian":
            # Most of these need some, and to make them takes as long as to read the disk.
            keys.begin(customize.HOST_KEY_KINDS, customize.key_comment(request))
        return _work(guest, layout, verb, request, steps, keys, more or {})


def _work(
    guest: Any,
    layout: Layout,
    verb: str,
    request: GuestRequest | None,
    steps: Steps,
    keys: HostKeys,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    with steps.step("read"):
        # A script of somebody's own may write anywhere.
        wanted = [point for point, _ in layout.mounts] if more.get("hooks") else customize.folders(request)
        mount = partial(_mount, guest, layout, wanted=wanted)
        mount(read_only=verb not in WRITE)
        facts = gather(guest, layout.system, request)
    if verb in ("seal", "upgrade"):
        hands = preparing.Hands(
            lambda see: gather(guest, layout.system, None, see=see), partial(_apply_all, guest, keys=keys),
            partial(_reopen, guest, mount), partial(_check, guest), steps.step,
        )  # fmt: skip
        return preparing.prepare(guest, layout.system, hands, upgrade=verb == "upgrade")
    report: dict[str, Any] = {"os": facts.system.to_map(), "host_keys": None, "verified": False, "edits": []}
    if request is None:
        report["machine_id"] = facts.text("/etc/machine-id").strip()
        return {**report, "network": customize.network_tool(facts) if facts.system.family else None}
    plan = PLANS.get(verb, customize.plan)(facts, request)
    report |= {"network": plan.network, "host_keys": plan.host_keys, "was": list(plan.was)}
    if verb in WRITE and (plan.edits or more):
        with steps.step("edit"):
            _apply_all(guest, plan, keys)
        if more.get("hooks"):
            assert request is not None
            report["hooks"] = hooks.run(guest, more["hooks"], request.hostname, steps.step)
            for edit in customize.machine_id(gather(guest, layout.system, request))[0]:
                apply(guest, edit)  # packages that were installed may have made one
        if more.get("agent"):
            hooks.refuse_without_agent(guest)
        if more.get("archive"):
            filling.boot(guest, steps.step)
        with steps.step("verify"):
            _reopen(guest, mount)
            _check(guest, plan.expectations)
    if verb == "verify":
        with steps.step("verify"):
            _check(guest, customize.cold(plan.expectations))
    else:
        report["edits"] = [edit.describe() for edit in plan.edits]
    return {**report, "verified": verb != "inspect"}


def open_disks(disks: Sequence[Sequence[str]], *, read_only: bool, network: bool = False) -> Any:
    """A launched appliance with these (path, format); close it when done.

    The format is always told: a guest that can write to its raw disk could make it look like anything.
    """
    guest = _handle()
    for path, image_format in disks:
        guest.add_drive_opts(path, format=image_format, readonly=read_only)
    guest.set_network(network)
    guest.launch()
    return guest


def open_drives(drives: Sequence[tuple[str, str]], memory: int) -> Any:
    """A launched appliance with what is exported by NBD as these (socket, name), and with so many bytes of memory."""
    guest = _handle()
    guest.set_memsize(memory >> 20)
    for socket, name in drives:
        guest.add_drive_opts(name, format="raw", protocol="nbd", server=[f"unix:{socket}"])
    guest.launch()
    return guest


def _handle() -> Any:
    try:
        import guestfs
    except ImportError as error:
        raise Refused("environment_error", f"libguestfs is not there: {error}", HINT_GUESTFS) from error
    guest = guestfs.GuestFS(python_return_dict=True)
    # QEMU's and the appliance's own words: the parent keeps the last of them for the details of an error.
    guest.set_event_callback(_to_stderr, guestfs.EVENT_APPLIANCE | guestfs.EVENT_LIBRARY | guestfs.EVENT_WARNING)
    return guest


def _to_stderr(event: int, handle: int, text: bytes | str, numbers: object) -> None:
    # Bytes or text, by the version of libguestfs. Not buffered: it must be out before the error is told.
    os.write(2, text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))


def _mount(guest: Any, layout: Layout, *, wanted: Sequence[str], read_only: bool) -> None:
    """/ first, then what lies below it. A journal that was not closed is replayed by the appliance's kernel.

    `wanted`: folders in which something is written beside what every clone gets.
    """
    mount = guest.mount_ro if read_only else guest.mount
    for point, device in layout.mounts:
        if NEEDED_MOUNTS.match(point) or any(f"{folder}/".startswith(f"{point}/") for folder in wanted):
            mount(device, point)


def _reopen(guest: Any, mount: Callable[..., None]) -> None:
    """Nothing of what was just written may be answered from memory."""
    guest.umount_all()
    guest.drop_caches(3)
    mount(read_only=True)


# ---- reading ----------------------------------------------------------------------------------------------------


def gather(guest: Any, system: System, request: GuestRequest | None, *, see: Sequence[str] = ()) -> GuestFacts:
    """All that the plan may ask about, and what else is to be seen."""
    read, wanted = customize.patterns(request, system)
    readable = {path for pattern in read for path in _glob(guest, pattern)}
    paths = readable | {path for pattern in (*wanted, *see) for path in _glob(guest, pattern)}
    links = {path: str(guest.readlink(path)) for path in sorted(paths) if _is_link(guest, path)}
    texts = {path: read_text(guest, path) for path in sorted(readable)}
    files = {path: text for path, text in texts.items() if text is not None}
    return GuestFacts(system, files, links, frozenset(paths))


def _glob(guest: Any, pattern: str) -> list[str]:
    return [str(path) for path in guest.glob_expand(pattern, directoryslash=False)]


def _is_link(guest: Any, path: str) -> bool:
    return kind_of(guest, path) == stat.S_IFLNK


def look(guest: Any, expectations: Sequence[Expectation]) -> dict[str, Seen]:
    """What is on the disk now where something is expected."""
    found: dict[str, Seen] = {}
    for wish in expectations:
        if isinstance(wish, HasLabel):
            found[wish.path] = replace(found.get(wish.path, Seen()), label=_label(guest, wish.path))
        else:
            found[wish.path] = _seen(guest, wish)
    return found


def _seen(guest: Any, wish: Expectation) -> Seen:
    if isinstance(wish, Absent):
        return Seen(paths=tuple(_glob(guest, wish.path)))
    if isinstance(wish, LinkIs):
        return Seen(target=str(guest.readlink(wish.path)) if _is_link(guest, wish.path) else None)
    text = read_text(guest, wish.path)
    if text is None:
        return Seen()
    facts = guest.statns(wish.path)
    return Seen(text=text, mode=facts["st_mode"] & 0o7777, owner=(facts["st_uid"], facts["st_gid"]))


def _label(guest: Any, path: str) -> str | None:
    found = {one["attrname"]: one["attrval"] for one in guest.lgetxattrs(path)} if guest.exists(path) else {}
    label: bytes | str | None = found.get("security.selinux")
    return (label.decode() if isinstance(label, bytes) else label).rstrip("\0") if label else None


def _check(guest: Any, expectations: Sequence[Expectation]) -> None:
    problems = customize.unmet(expectations, look(guest, expectations))
    if problems:
        raise Failed(
            "wrong_state",
            f"the disk was read again and is not as it should be: {'; '.join(problems[:3])}",
            details={"problems": problems},
        )


# ---- writing ----------------------------------------------------------------------------------------------------


def _apply_all(guest: Any, plan: Plan, keys: HostKeys) -> None:
    """Keys are made first: what may be missing on this host is noticed before the disk is touched."""
    files = [write for edit in plan.edits if isinstance(edit, MakeHostKeys) for write in keys.made(edit)]
    for edit in plan.edits:
        for one in files if isinstance(edit, MakeHostKeys) else [edit]:
            apply(guest, one)


def apply(guest: Any, edit: Edit) -> None:
    match edit:
        case WriteFile(path, text, mode, owner):
            guest.write(path, text.encode("utf-8", "surrogateescape"))
            _belongs(guest, path, mode, owner)
        case Remove(path):
            # rm_rf starts a program in the appliance, which takes a tenth of a second without KVM.
            (guest.rm_rf if kind_of(guest, path) == stat.S_IFDIR else guest.rm_f)(path)
        case MakeDir(path, mode, owner):
            guest.mkdir_p(path)
            _belongs(guest, path, mode, owner)
        case Link(path, target):
            guest.ln_sf(target, path)
        case Label(path, context):
            # Without the zero byte that programs end it with: libguestfs takes none, the kernel needs none.
            guest.lsetxattr("security.selinux", context, len(context), path)


def _belongs(guest: Any, path: str, mode: int | None, owner: tuple[int, int] | None) -> None:
    """The owner first: to change it takes setuid bits away."""
    if owner is not None:
        guest.chown(*owner, path)
    if mode is not None:
        guest.chmod(mode, path)


if __name__ == "__main__":
    sys.exit(main())
