"""The files that overlays rest on: known, kept from being written, and known again.

A change of such a file damages every overlay on it, silently. So its write permission is taken while something rests on
it, and a linked clone keeps a sign of what it rests on, which is compared before it is started.

The permission stays as it is when libvirt starts a clone: it changes the owner of the files of a chain, never their
mode. It binds every QEMU that does not run as root, which is libvirt's default; what root does, the sign shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Sequence
from errno import ENOTSUP
from typing import Any, NamedTuple

log = logging.getLogger("maglica.host_worker")

HEAD = 64 << 10  # bytes from the beginning that are part of a sign
SAMPLES, SAMPLE = 16, 4096  # and so many pieces of this size, spread over the file
WRITERS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
KEPT = "user.maglica.mode"  # the attribute that keeps the mode which a file had before


class Base(NamedTuple):
    """A file as it was when a clone began to rest on it."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    sign: str


def look(path: str) -> Base:
    """How a file is now. Raises OSError."""
    with open(path, "rb") as file:
        found = os.fstat(file.fileno())
        size = file.seek(0, os.SEEK_END)  # of a device, stat tells none
        digest = hashlib.sha256(os.pread(file.fileno(), HEAD, 0))
        for number in range(SAMPLES):
            digest.update(os.pread(file.fileno(), SAMPLE, max(0, size - SAMPLE) * (number + 1) // SAMPLES))
    return Base(path, size, found.st_mtime_ns, found.st_ino, digest.hexdigest()[:16])


def compare(then: Base) -> str:
    """What became of a base since: '' when it is as it was, otherwise what is wrong, in words.

    Another inode alone is no difference: a file that came back from a backup with its time and content is as good.
    """
    try:
        now = look(then.path)
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if now.size != then.size:
        return f"has {now.size} bytes, and had {then.size}"
    if now.sign != then.sign:
        return "has another content"
    if now.mtime_ns != then.mtime_ns:
        return "was written since" if now.inode == then.inode else "is another file, of another time"
    return ""


def to_mark(bases: Iterable[Base]) -> str:
    """As the clone's definition keeps them."""
    return json.dumps([list(base) for base in bases], separators=(",", ":"))


def from_mark(text: str | None) -> list[Base]:
    """What a definition keeps; nothing where it makes no sense."""
    try:
        return [Base(str(p), int(s), int(m), int(i), str(g)) for p, s, m, i, g in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []


# -------------------------------------------------------------------------------------------------- write permission


def is_kept(path: str) -> bool:
    """Whether a file may be written by nobody."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and not found.st_mode & WRITERS


def is_ours(path: str) -> bool:
    """Whether it was us who took that permission."""
    try:
        return is_kept(path) and bool(os.getxattr(path, KEPT))
    except OSError:
        return False


def keep(path: str) -> None:
    """Take everybody's permission to write a file. Who may read it stays as it is."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and found.st_mode & WRITERS:
            with contextlib.suppress(OSError):  # a file system without attributes: its owner's permission comes back
                os.setxattr(path, KEPT, f"{stat.S_IMODE(found.st_mode):o}".encode())
            os.chmod(path, stat.S_IMODE(found.st_mode) & ~WRITERS)
            log.info("file=%s rested upon from now on: read-only", path)


def release(path: str, *, unknown: bool = False) -> None:
    """Give the permission back that `keep` took. What somebody else has made read-only stays so; `unknown`: not where
    there are no attributes to tell who did."""
    with contextlib.suppress(OSError):
        mode = _kept_mode(path, unknown)
        if mode is not None:
            os.chmod(path, mode)
            with contextlib.suppress(OSError):
                os.removexattr(path, KEPT)
            log.info("file=%s nothing rests on it any more: mode %o", path, mode)


def _kept_mode(path: str, unknown: bool) -> int | None:
    try:
        return int(os.getxattr(path, KEPT), 8) & 0o777
    except ValueError:
        return None
    except OSError as error:
        if unknown and error.errno == ENOTSUP and is_kept(path):
            return stat.S_IMODE(os.stat(path).st_mode) | stat.S_IWUSR
        return None


# --------------------------------------------------------------------------------------------------------- who rests


class Dependant(NamedTuple):
    """Something that rests on a file: a domain's disk, or an overlay in a pool that no domain has (None)."""

    domain: str | None
    path: str
    base: str


def dependants(
    bases: Sequence[str], chains: Iterable[tuple[str | None, Sequence[str]]], own: Sequence[str] = ()
) -> list[Dependant]:
    """Who rests on these files. `chains`: (domain or None, a disk's file and what is behind it); `own`: files whose
    chains are the bases' own."""
    found: dict[tuple[str, str], str | None] = {}
    for domain, links in chains:
        for link in links[1:]:
            if link in bases and links[0] not in own:
                found.setdefault((links[0], link), domain)
    return sorted(
        (Dependant(domain, path, base) for (path, base), domain in found.items()),
        key=lambda one: (one.domain is None, one.domain or "", one.path),
    )


def told(dependant: Dependant) -> dict[str, Any]:
    return {"vm": dependant.domain, "path": dependant.path, "base": dependant.base}
