"""Serving the disks of an image to another host: one qemu-nbd a disk, read-only, by TLS with a key for this once.

qemu-nbd ends by itself when the one who was served hangs up. It is ended here when nobody has asked for the disk for a
while (a host that lost its power hangs nothing up), and by the next start of the host worker when this one was killed.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import threading
import time
from typing import Any

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker import commands
from maglica.host_worker.image import nbd

log = logging.getLogger("maglica.host_worker")

LEASE = 120.0  # seconds for which a disk is served without being asked for again
USER = "maglica"
READY_WITHIN = 10.0  # seconds that qemu-nbd may take to open a disk and its port
CLIENTS = 4  # connections at once: one that says nothing must not keep the right one out
DIGEST_WITHIN = 6 * 3600.0


class Served:
    """One disk that is served. Its checksum is found out beside that."""

    def __init__(self, process: commands.Running, folder: str, told: dict[str, Any]) -> None:
        self.process, self.folder, self.told = process, folder, told
        self.until = 0.0
        self.gone = False
        self._digest: str | None = None
        self._error: MaglicaError | None = None

    def hash(self, path: str, format: str, mark: str) -> None:
        """Read the disk; in a thread of its own."""
        try:
            self._digest = nbd.digest(
                path, format, folder=os.path.dirname(self.folder), mark=mark, timeout=DIGEST_WITHIN, check=self._check
            )
        except MaglicaError as error:
            self._error = error

    def _check(self) -> None:
        if self.gone:
            raise Failed("cancelled", "nobody wants to know any more")

    def shown(self) -> dict[str, Any]:
        """What the other host is told."""
        if self._error is not None:
            raise self._error
        return {**self.told, "digest": self._digest}

    def overdue(self) -> bool:
        """Whether nobody has asked for it for too long. A qemu-nbd that has ended is no zombie from here on."""
        self.process.over()
        return time.monotonic() > self.until

    def end(self) -> None:
        self.gone = True
        self.process.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class Serving:
    """All disks that this host serves just now."""

    def __init__(self, mark: str, *, hashes: bool = True) -> None:
        """`mark`: in the environment of what is started, so that the next host worker finds it. `hashes`: whether a
        checksum is made of what is served.
        """
        self._mark = mark
        self._hashes = hashes
        self._lock = threading.Lock()
        self._served: dict[tuple[str, str], Served] = {}

    def serve(
        self, job: str, disk: str, path: str, format: str, *, folder: str, address: str, ports: str
    ) -> dict[str, Any]:
        """Serve a disk for a job of another host, or go on: where, and the key. `ports`: a range such as 5560-5579."""
        with self._lock:
            found = self._served.get((job, disk))
            if found is None:
                found = self._served[job, disk] = self._start(path, format, folder, address, ports)
                reader = threading.Thread(target=found.hash, args=(path, format, self._mark), daemon=True)
                if self._hashes:
                    reader.start()
                if len(self._served) == 1:
                    threading.Thread(target=self._watch, name="serving", daemon=True).start()
            found.until = time.monotonic() + LEASE
        return found.shown()

    def _start(self, path: str, format: str, folder: str, address: str, ports: str) -> Served:
        secret = secrets.token_hex(32)
        own = os.path.join(folder, secrets.token_hex(4))
        os.mkdir(own, 0o700)
        with open(
            os.open(f"{own}/keys.psk", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
        ) as file:
            file.write(f"{USER}:{secret}\n")
        try:
            for port in _free(address, ports):
                process = commands.start(_argv(own, address, port, format, path), mark=self._mark)
                if _listens(process, f"{own}/pid"):
                    log.info("serves %s at port %d", path, port)
                    return Served(process, own, {"address": address, "port": port, "user": USER, "secret": secret})
                said = process.end()
                if "ddress already in use" not in said:
                    raise Failed("environment_error", f"qemu-nbd does not serve {path}: {said.splitlines()[-1]}")
            raise Refused("no_capacity", f"none of the ports {ports} is free", "[host_worker] copy_ports sets them")
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise

    def _watch(self) -> None:
        """End what nobody asks for any more, until nothing is served."""
        while True:
            time.sleep(0.5)
            with self._lock:
                late = [key for key, one in self._served.items() if one.overdue()]
                ended = [self._served.pop(key) for key in late]
                left = bool(self._served)
            for one in ended:
                one.end()
            if not left:
                return

    def release(self, job: str) -> None:
        """A job of another host needs nothing more."""
        with self._lock:
            for key in self._served:
                if key[0] == job:
                    self._served[key].until = 0.0

    def close(self) -> None:
        """End all of it at once."""
        with self._lock:
            ended, self._served = list(self._served.values()), {}
        for one in ended:
            one.end()


def _argv(folder: str, address: str, port: int, format: str, path: str) -> list[str]:
    credentials = f"tls-creds-psk,id=tls0,endpoint=server,dir={folder.replace(',', ',,')}"
    return [
        "qemu-nbd", "--object", credentials, "--tls-creds", "tls0", "-r", "-e", str(CLIENTS), "-f", format,
        "-b", address, "-p", str(port), "-x", "disk", "--pid-file", f"{folder}/pid", "--", path,
    ]  # fmt: skip


def _listens(process: commands.Running, pid_file: str) -> bool:
    """Wait until qemu-nbd has written its pid, which it does when everything is open."""
    until = time.monotonic() + READY_WITHIN
    while time.monotonic() < until and not process.over():
        if os.path.exists(pid_file):
            return True
        time.sleep(0.01)
    return False


def _free(address: str, ports: str) -> list[int]:
    """The ports of a range that nobody listens on, in an order of chance: two hosts may share an address."""
    first, _, last = ports.partition("-")
    found = []
    for port in range(int(first), int(last or first) + 1):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
        found.append(port)
    secrets.SystemRandom().shuffle(found)
    return found


def own_address(client: str) -> str:
    """The address from which this host speaks to its client worker; nothing is sent to find out."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(client, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise Failed(
            "environment_error",
            f"the address of this host is not known: {error.strerror}",
            "set [host_worker] copy_address",
        ) from None
