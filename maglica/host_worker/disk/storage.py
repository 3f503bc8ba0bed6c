"""What a host worker remembers of its storage while it runs: what was tried, what is promised, what is in use.

One object for all jobs and reads of a host; threads share it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from maglica.errors import MaglicaError, Refused
from maglica.host_worker.disk import reflink, volumes
from maglica.host_worker.disk.modes import Fullness, Source, Volume

FULLNESS_FOR = 2.0
"""Seconds for which it is believed how full a thin pool is: all that a survey asks is one question."""


Key = str | tuple[int, int]


def _keys(paths: Sequence[str]) -> list[tuple[Key, str]]:
    """What files are known by, each with its path: whatever links lead to it, and as what it is now; another file may
    come to lie in its place meanwhile.
    """
    found: list[tuple[Key, str]] = []
    for path in paths:
        found.append((os.path.realpath(path), path))
        try:
            seen = os.stat(path)
        except OSError:
            continue  # it is no file of this host, or gone
        found.append(((-1, seen.st_rdev) if stat.S_ISBLK(seen.st_mode) else (seen.st_dev, seen.st_ino), path))
    return found


class Promise:
    """Room of a pool that a job will take, less what it has taken."""

    def __init__(self, total: int) -> None:
        self.left = total
        self._total = total

    def took(self, done: int) -> None:
        """So many bytes of it are on the disk by now, and missing from what is free there."""
        self.left = max(0, self._total - done)


class Storage:
    """See above."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unshared: dict[tuple[object, ...], str] = {}
        self._volumes: dict[tuple[str, int], Volume | None] = {}
        self._fullness: dict[tuple[str, str | None], tuple[float, Fullness | None]] = {}
        self._promises: dict[str, list[Promise]] = {}
        self._in_use: Counter[Key] = Counter()
        self._changing: Counter[Key] = Counter()
        self._used: set[Key] = set()
        self._coming: set[str] = set()
        self._pools: dict[str, threading.Lock] = {}

    # ------------------------------------------------------------------------------------------- what was tried

    def unshared(self, sources: Sequence[Source], folder: str) -> str:
        """Why the blocks of these files cannot be shared by files in that folder; '' when they can.

        Tried once for each pair of file systems, as the kernel tells their identity, and kind of file.
        """
        for source in sources:
            if source.file and (why := self._tried(source.path, folder)):
                return why
        return ""

    def _tried(self, path: str, folder: str) -> str:
        try:
            here, there = os.stat(path), os.stat(folder)
            key = (here.st_dev, reflink.nocow(path), there.st_dev, os.statvfs(folder).f_fsid, folder)
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        if key not in self._unshared:
            self._unshared[key] = reflink.impossible(path, folder)
        return self._unshared[key]

    def volume(self, path: str) -> Volume | None:
        """The logical volume that a device is; None: it is none, or this host has no LVM."""
        try:
            key = (path, os.stat(path).st_rdev)
        except OSError:
            return None
        if key not in self._volumes:
            try:
                self._volumes[key] = volumes.at(path)
            except MaglicaError:
                return None  # not now
        return self._volumes[key]

    def fullness(self, volume: Volume) -> Fullness | None:
        """How full a volume's thin pool is, as it was at most two seconds ago; None where nobody can tell."""
        key = (volume.group, volume.thin_pool)
        seen, found = self._fullness.get(key, (0.0, None))
        if not seen or time.monotonic() > seen + FULLNESS_FOR:
            found = volumes.fullness(volume)
            self._fullness[key] = (time.monotonic(), found)
        return found

    # --------------------------------------------------------------------------------------- what is promised

    def promised(self, pool: str) -> int:
        """Bytes of a pool that jobs at work will still take."""
        with self._lock:
            return sum(promise.left for promise in self._promises.get(pool, []))

    @contextmanager
    def promise(self, pool: str, needed: int, free: int) -> Iterator[Promise]:
        """Have room of a pool to oneself. `free`: what it had to give when it was looked at, without promises."""
        promise = Promise(needed)
        with self._lock:
            taken = sum(other.left for other in self._promises.get(pool, []))
            if needed > free - taken:
                raise Refused(
                    "no_capacity",
                    f"{-(-needed >> 20)} MiB of disk are needed, pool {pool} has {max(0, free - taken) >> 20} MiB"
                    " to give beside what other jobs take just now",
                    "wait for them, make room in it, or choose another host with --on",
                )
            self._promises.setdefault(pool, []).append(promise)
        try:
            yield promise
        finally:
            with self._lock:
                self._promises[pool].remove(promise)

    # ------------------------------------------------------------------------------------------ what is in use

    @contextmanager
    def using(self, paths: Sequence[str], what: str) -> Iterator[None]:
        """Files that a job reads, or comes to rest on: meanwhile no other job changes them. `what` reads them."""
        mine = _keys(paths)
        with self._lock:
            changed = next((path for key, path in mine if self._changing[key]), None)
            if changed:
                raise Refused("locked", f"{what}: another job is just changing {changed}", "try again in a moment")
            self._in_use.update(key for key, _ in mine)
            self._used.update(key for key, _ in mine)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.subtract(key for key, _ in mine)

    def was_used(self, paths: Sequence[str]) -> bool:
        """Whether any of these files has ever been read, or come to be rested on, by a job: then it has to be asked
        once more, while they are being changed, whether something rests on them by now.
        """
        mine = _keys(paths)
        with self._lock:
            return any(key in self._used for key, _ in mine)

    @contextmanager
    def changing(self, paths: Sequence[str], what: str) -> Iterator[None]:
        """Files that a job changes, deletes, or has a guest write to: meanwhile no other job reads them."""
        mine = _keys(paths)
        with self._lock:
            used = next((path for key, path in mine if self._in_use[key]), None)
            if used:
                raise Refused("locked", f"{what}: another job is just copying {used}", "try again in a moment")
            self._changing.update(key for key, _ in mine)
        try:
            yield
        finally:
            with self._lock:
                self._changing.subtract(key for key, _ in mine)

    @contextmanager
    def bringing_to_life(self, keys: Sequence[str], what: str) -> Iterator[None]:
        """What a VM that is being started will have for itself (`contention.keys`): no other one is meanwhile that
        would have it, too.
        """
        mine = set(keys)
        with self._lock:
            if mine & self._coming:
                told = f"{what}: another VM that has a disk or a MAC address of it is just being started"
                raise Refused("locked", told, "look again in a moment which of them runs")
            self._coming |= mine
        try:
            yield
        finally:
            with self._lock:
                self._coming -= mine

    def pool(self, name: str) -> threading.Lock:
        """Held by whoever has libvirt or LVM change something in that pool."""
        with self._lock:
            return self._pools.setdefault(name, threading.Lock())
