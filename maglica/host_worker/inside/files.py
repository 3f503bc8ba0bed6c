"""Files of a guest, read and written through its agent.

A file is written beside its place and then gets its name: whoever looks sees the old one or the new one, whole.
"""

from __future__ import annotations

import base64
import os
from typing import NamedTuple

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.hypervisor import Hypervisor
from maglica.host_worker.inside import running

PIECE = 64 << 10  # bytes that an agent is given at once
WITHIN = 10  # seconds that it has for them
READ = ("guest-file-open", "guest-file-seek", "guest-file-read", "guest-file-close")
WRITE = ("guest-file-open", "guest-file-write", "guest-file-close", *running.NAMES)

# What there is at $1: kind, mode, owner and SHA-256, a line each; of a link, what it leads to.
LOOK = """if [ -d "$1" ]; then echo directory; elif [ -f "$1" ]; then echo file; elif [ -e "$1" ]; then echo other
elif [ -d "$(dirname -- "$1")" ]; then echo nothing; else echo nowhere; fi
if [ -f "$1" ]; then stat -L -c '%a
%U:%G' -- "$1"; sha256sum < "$1"; readlink -f -- "$1"; fi
"""
# An empty file of that very name that nobody else can read, and that was not there.
MAKE = 'umask 077; set -C; : > "$1"'
# $1 becomes $2 with the mode $3 and the owner $4, if its content has the SHA-256 $5.
PLACE = """set -e
[ "$(sha256sum < "$1" | cut -d' ' -f1)" = "$5" ] || { echo 'the content has not arrived whole' >&2; exit 1; }
[ -z "$4" ] || chown -- "$4" "$1"
chmod -- "$3" "$1"
sync -d "$1" 2>/dev/null || :
mv -f -- "$1" "$2"
if command -v restorecon >/dev/null 2>&1; then restorecon -- "$2" >/dev/null 2>&1 || :; fi
"""
REMOVE = 'rm -f -- "$1"'


class Seen(NamedTuple):
    """What there is at a path of a guest."""

    kind: str  # file, directory, other; nothing in a directory, or nowhere
    mode: int | None = None
    owner: str | None = None  # USER:GROUP
    sha256: str | None = None
    path: str | None = None  # of the file itself, where links lead to it


def seen(text: str) -> Seen:
    """What `LOOK` has printed."""
    kind, *rest = text.splitlines() or [""]
    if kind != "file" or len(rest) < 4:
        return Seen(kind)
    return Seen(kind, int(rest[0], 8), rest[1], rest[2].split()[0], rest[3])


def look(hypervisor: Hypervisor, name: str, path: str) -> Seen:
    """Look at a path."""
    return seen(_ran(hypervisor, name, f"look at {path}", LOOK, path).stdout.decode(errors="replace"))


def refuse(there: Seen, name: str, path: str) -> None:
    """`Refused` where no file can be put."""
    if there.kind == "directory":
        raise Refused("wrong_state", f"{path} is a directory in {name}", f"--to={path.rstrip('/')}/FILE")
    if there.kind == "other":
        raise Refused("wrong_state", f"{path} is neither a file nor a directory in {name}", "choose another --to")
    if there.kind != "nothing" and there.kind != "file":
        hint = f"`maglica vm exec {name} -- mkdir -p {os.path.dirname(path)}` makes it"
        raise Refused("unknown_entity", f"there is no directory {os.path.dirname(path)} in {name}", hint)


def owned(there: str | None, wanted: str | None) -> bool:
    """Whether an owner USER:GROUP is the one that is wanted: USER, USER:GROUP, or any."""
    return wanted is None or there == wanted or (there or "").partition(":")[0] == wanted


def placed(there: Seen, sha256: str, mode: int, owner: str | None) -> bool:
    """Whether a file is what it should be."""
    return there.sha256 == sha256 and there.mode == mode and owned(there.owner, owner)


def part(path: str, job: str) -> str:
    """The name of a file while it is written."""
    return os.path.join(os.path.dirname(path), f".{job}.maglica")


def write(hypervisor: Hypervisor, name: str, path: str, data: bytes) -> None:
    """Make a file with that content, for its owner alone; it must not be there yet."""
    _ran(hypervisor, name, f"make {path}", MAKE, path)
    handle = hypervisor.agent_order(name, "guest-file-open", WITHIN, path=path, mode="a")
    try:
        for at in range(0, len(data), PIECE):
            _write_piece(hypervisor, name, handle, data[at : at + PIECE])
    finally:
        _close(hypervisor, name, handle)


def _write_piece(hypervisor: Hypervisor, name: str, handle: int, data: bytes) -> None:
    while data:
        encoded = base64.b64encode(data).decode()
        told = hypervisor.agent_order(name, "guest-file-write", WITHIN, handle=handle, buf_b64=encoded)
        count = int(told["count"])
        if not 0 < count <= len(data):
            raise Failed("no_capacity", f"{name} has taken {count} of {len(data)} bytes", "is its disk full?")
        data = data[count:]


def place(
    hypervisor: Hypervisor, name: str, source: str, target: str, mode: int, owner: str | None, sha256: str
) -> None:
    """Let a file take its place, if its content is what it should be."""
    _ran(hypervisor, name, f"write {target}", PLACE, source, target, f"{mode:o}", owner or "", sha256)


def remove(hypervisor: Hypervisor, name: str, path: str) -> None:
    """Remove a file; harmless when it is gone."""
    _ran(hypervisor, name, f"remove {path}", REMOVE, path)


def read(hypervisor: Hypervisor, name: str, path: str, offset: int, most: int) -> tuple[bytes, bool]:
    """At most `most` bytes of a file from there on, and whether it ends there."""
    try:
        handle = hypervisor.agent(name, "guest-file-open", WITHIN, path=path, mode="r")
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        raise Refused("unknown_entity", f"{path} in {name}: {words(error)}") from None
    found = b""
    try:
        if offset:
            hypervisor.agent(name, "guest-file-seek", WITHIN, handle=handle, offset=offset, whence="set")
        ends = False
        while len(found) < most and not ends:
            # A second try would read what follows.
            count = min(PIECE * 4, most - len(found))
            told = hypervisor.agent_order(name, "guest-file-read", WITHIN, handle=handle, count=count)
            data = base64.b64decode(told["buf-b64"])
            ends = bool(told["eof"]) or not data
            found += data
    except MaglicaError as error:
        if error.code == "host_down":
            raise
        raise Failed("environment_error", f"{path} in {name} cannot be read: {words(error)}") from None
    finally:
        _close(hypervisor, name, handle)
    return found, ends


def _close(hypervisor: Hypervisor, name: str, handle: int) -> None:
    try:
        hypervisor.agent(name, "guest-file-close", WITHIN, handle=handle)
    except MaglicaError:
        pass  # the guest has gone, or its agent; what counts is told by what was asked before


def _ran(hypervisor: Hypervisor, name: str, what: str, script: str, *words: str) -> running.Ran:
    ran = running.run(hypervisor, name, script, *words)
    if ran.status:
        said = ran.stderr.decode(errors="replace").strip().splitlines() or [f"status {ran.status}"]
        code = "no_capacity" if "No space left" in said[-1] else "environment_error"
        raise Failed(code, f"cannot {what} in {name}: {said[-1]}")
    return ran


def words(error: MaglicaError) -> str:
    """What the agent itself said, without libvirt's preface."""
    text = error.message.removeprefix("libvirt: ")
    return text.partition("agent command failed: ")[2].partition("': ")[2] or text
