"""What a check-up wants to know of the machine that it runs on. Looking only; what it means is decided elsewhere."""

from __future__ import annotations

import os
import socket
import stat
import time
from typing import Any

Value = dict[str, Any]


def clock() -> float:
    """The time on the wall: seconds since 1970."""
    return time.time()


def folder(path: str) -> Value:
    """A folder of secrets and the files in it: modes as in chmod(1), whose they are, or `why` not. Links count as what
    they lead to; folders in it have nobody's secrets.
    """
    found: Value = {"path": path, "mode": None, "ours": None, "why": None, "files": []}
    try:
        found |= _entry(path)
        for name in sorted(os.listdir(path)):
            if os.path.isfile(os.path.join(path, name)):
                found["files"].append(_entry(os.path.join(path, name)))
    except OSError as error:
        found["why"] = error.strerror
    return found


def _entry(path: str) -> Value:
    seen = os.stat(path)
    return {"path": path, "mode": f"{stat.S_IMODE(seen.st_mode):04o}", "ours": seen.st_uid == os.geteuid()}


def room(path: str) -> Value:
    """The file system below a folder: bytes that are free for us, and all."""
    try:
        seen = os.statvfs(path)
    except OSError as error:
        return {"path": path, "free_bytes": None, "total_bytes": None, "why": error.strerror}
    return {
        "path": path, "free_bytes": seen.f_bavail * seen.f_frsize, "total_bytes": seen.f_blocks * seen.f_frsize,
        "why": None,
    }  # fmt: skip


def name(asked: str) -> Value:
    """What this machine's resolver says of a name or an address: its addresses, and the names of the first of them.

    May take as long as the resolver's own time-outs.
    """
    found: Value = {"asked": asked, "addresses": [], "names": [], "why": None}
    try:
        told = socket.getaddrinfo(asked, None, type=socket.SOCK_STREAM)
        found["addresses"] = sorted({str(one[4][0]) for one in told})
    except OSError as error:
        found["why"] = error.strerror
        return found
    try:
        first, aliases, _ = socket.gethostbyaddr(found["addresses"][0])
        found["names"] = [first, *aliases]
    except OSError as error:
        found["why"] = f"{found['addresses'][0]}: {error.strerror}"
    return found


def port(address: str, number: int, patience: float) -> str | None:
    """Why nothing can be sent to a port; None when somebody listens there."""
    try:
        socket.create_connection((address, number), patience).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None
