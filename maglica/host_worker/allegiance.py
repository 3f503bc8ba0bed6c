"""What a host remembers of its client worker: a small file beside the journal.

It is a hint that guards against an old backup, not a record: when it cannot be written, work goes on.
"""

from __future__ import annotations

import json
import logging
import os

from maglica.cluster import Cluster

log = logging.getLogger("maglica.host_worker")

WRITE_EVERY = 5.0  # seconds: a file for each job would be an fsync for each job


class Allegiance:
    """The client worker that this host works for.

    `key`: the public key by which it does; '' on an open bus. Whoever joins gets a new one, and begins anew (`joined`).
    """

    def __init__(self, folder: str, key: str = "") -> None:
        self._key = key
        self._path = os.path.join(folder, "client_worker.json")
        self._written = self._read()
        self._write_after = 0.0
        self.known = self._written

    def _read(self) -> Cluster:
        try:
            with open(self._path, encoding="utf-8") as file:
                told = json.load(file)
            if told.get("key", "") != self._key:
                log.info("this host has joined with another key: what it knew of a client worker is forgotten")
                return Cluster()
            return Cluster(str(told["cluster"]), int(told["epoch"]), str(told["last_job"]))
        except FileNotFoundError:
            return Cluster()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is not readable (%s): which client worker this host knew is forgotten", self._path, error)
            return Cluster()

    def joined(self, key: str) -> None:
        """The host was invited anew: whoever expects this key is its client worker, and what it knew is forgotten."""
        self._key = key
        self.known = self._written = Cluster()

    def refresh(self) -> Cluster:
        """What is known, after somebody may have run `forget` beside us."""
        if self._written.name and not os.path.exists(self._path):
            log.warning("which client worker this host knew was forgotten on request")
            self.known = self._written = Cluster()
        return self.known

    def accept(self, now: Cluster) -> None:
        """This is the one, from now on."""
        if now.name:  # an older release has none
            self.known = now._replace(last_job=max(self.known.last_job, now.last_job))
            self._write()

    def handed(self, jobs: list[str], now: float) -> None:
        """Jobs came from it. `now`: seconds that only grow."""
        if jobs and self.known.name:
            self.known = self.known._replace(last_job=max(self.known.last_job, *jobs))
        if self.known != self._written and now >= self._write_after:
            self._write_after = now + WRITE_EVERY
            self._write()

    def _write(self) -> None:
        new = self._path + ".new"
        try:
            with open(new, "w", encoding="utf-8", opener=_private) as file:
                json.dump({**self.known.told(), "key": self._key}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error.strerror)
            return
        self._written = self.known

    def close(self) -> None:
        """What came since the last writing."""
        if self.known != self._written:
            self._write()


def forget(folder: str) -> bool:
    """Make a host forget its client worker, whether or not its worker runs; whether it knew one."""
    try:
        os.unlink(os.path.join(folder, "client_worker.json"))
    except FileNotFoundError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
