"""What answers at an address: asked from this host, by a connection, and looked up in its neighbour table."""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

SSH = 22
PATIENCE = 2.0  # seconds that a guest has to accept a connection
GREETING = 6.0  # seconds that its server has for the first line: on a host that is busy a new process takes its time
PREAMBLE = 4096  # bytes that a server may send before its version, RFC 4253 section 4.2

_TABLE = "/proc/net/arp"
_COMPLETE = 0x2  # ATF_COM, linux/if_arp.h


class Knock(NamedTuple):
    """What came of a knock. `answers`: something came back, be it a refusal. `ssh`: it speaks ssh."""

    answers: bool
    ssh: bool
    said: str


def knock(address: str, port: int = SSH, patience: float = PATIENCE, greeting: float = GREETING) -> Knock:
    """Connect to a port, and read what it says first."""
    try:
        with socket.create_connection((address, port), patience) as connection:
            return _greeted(connection, port, time.monotonic() + greeting)
    except ConnectionRefusedError:
        return Knock(True, False, f"port {port} refuses")
    except TimeoutError:
        return Knock(False, False, f"port {port} does not answer")
    except OSError as error:
        return Knock(False, False, f"{error.strerror or error}".lower())


def _greeted(connection: socket.socket, port: int, until: float) -> Knock:
    said = b""
    try:
        while len(said) < PREAMBLE and (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            data = connection.recv(256)
            if not data:
                return Knock(True, False, f"port {port} is open and closes at once")
            said += data
            if any(line.startswith(b"SSH-") for line in said.split(b"\n")):
                return Knock(True, True, f"port {port} speaks ssh")
    except OSError:  # a time-out, or a reset in its middle
        pass
    return Knock(True, False, f"port {port} is open and {'says something else' if said else 'says nothing'}")


def owner(address: str) -> str | None:
    """The MAC address that this host's neighbour table has for an IPv4 address; None when it has none."""
    try:
        with open(_TABLE, encoding="ascii") as file:
            rows = file.read().splitlines()[1:]
    except OSError:
        return None
    return find(address, rows)


def find(address: str, rows: list[str]) -> str | None:
    """The same in lines of /proc/net/arp, proc(5): address, type, flags, MAC, mask, device."""
    for row in rows:
        words = row.split()
        if len(words) >= 4 and words[0] == address and int(words[2], 16) & _COMPLETE:
            return words[3].lower()
    return None
