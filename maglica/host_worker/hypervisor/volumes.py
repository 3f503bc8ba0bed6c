"""Pools and volumes."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from maglica.errors import Failed, MaglicaError
from maglica.host_worker.domain import domain_xml
from maglica.host_worker.hypervisor.connection import ANSWER_WITHIN, Connection, libvirt

POOL_WITHIN = 60.0  # seconds that a pool is waited for in which libvirt makes a volume
REFRESH_EVERY = 30.0  # seconds between two searches for the same volume


class Volumes(Connection):
    """Pools and volumes, and the files that they are."""

    def __init__(self, uri: str, *, answer_within: float = ANSWER_WITHIN) -> None:
        super().__init__(uri, answer_within=answer_within)
        self._refreshing = threading.Lock()
        self._refreshed: dict[tuple[str, str], float] = {}  # (pool, volume) that was looked for -> when

    def volume_path(self, pool: str, volume: str) -> str:
        """Where a volume lies. One that libvirt does not know yet is looked for in its pool, but seldom: its list of a
        pool is as old as its last look.
        """

        def ask(connection: Any) -> str:
            return str(connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())

        try:
            return self._ask(ask)
        except Failed as unknown:
            if unknown.code != "unknown_entity" or not self.has_files or not self._may_refresh(pool, volume):
                raise
        self.refresh_pool(pool)
        return self._ask(ask)

    def _may_refresh(self, pool: str, volume: str) -> bool:
        now, key = time.monotonic(), (pool, volume)
        with self._lock:
            if now < self._refreshed.get(key, 0.0) + REFRESH_EVERY:
                return False
            self._refreshed[key] = now
            return True

    def refresh_pool(self, name: str) -> None:
        """Let libvirt look at a pool again. It refuses while a volume is being made there: that is waited for."""

        def order(connection: Any) -> None:
            connection.storagePoolLookupByName(name).refresh(0)

        until = time.monotonic() + POOL_WITHIN
        with self._refreshing:
            while True:
                try:
                    return self._tell(order)
                except MaglicaError as busy:
                    if "asynchronous jobs" not in busy.message:
                        raise
                    if time.monotonic() > until:
                        words = f"pool {name}: libvirt has been making a volume in it for {POOL_WITHIN:.0f} s"
                        raise Failed("locked", words, "try again when it is done") from None
                time.sleep(0.2)

    def pools(self) -> list[dict[str, Any]]:
        """Active pools: `name`, `type`, `path`, `capacity_bytes`, `free_bytes`."""

        def ask(connection: Any) -> list[dict[str, Any]]:
            flag = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
            return [self._pool(pool) for pool in connection.listAllStoragePools(flag)]

        return self._ask(ask)

    def _pool(self, pool: Any) -> dict[str, Any]:
        _, capacity, _, free = pool.info()
        kind, path = domain_xml.pool(pool.XMLDesc(0))
        if self.has_files and kind in domain_xml.FILE_POOLS and path and os.path.isdir(path):
            # libvirt's own figures are those of the last refresh; a refresh would lock the pool for a while.
            room = os.statvfs(path)
            capacity, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        return {"name": pool.name(), "type": kind, "path": path, "capacity_bytes": capacity, "free_bytes": free}

    def clone_volume(self, source: str, pool: str, name: str) -> str:
        """Copy the volume at a path into a new volume of a pool, by libvirt itself; its path."""

        def order(connection: Any) -> str:
            original = connection.storageVolLookupByPath(source)
            text = domain_xml.volume(name, original.XMLDesc(0))
            return str(connection.storagePoolLookupByName(pool).createXMLFrom(text, original, 0).path())

        return self._tell(order)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> str:
        """Make an empty volume; its path."""

        def order(connection: Any) -> str:
            text = domain_xml.empty_volume(name, size_bytes)
            return str(connection.storagePoolLookupByName(pool).createXML(text, 0).path())

        return self._tell(order)

    def delete_volume(self, pool: str, name: str) -> None:
        """Delete a volume, where there is one."""

        def order(connection: Any) -> None:
            try:
                connection.storagePoolLookupByName(pool).storageVolLookupByName(name).delete(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise

        self._tell(order)

    def delete_volume_at(self, path: str) -> None:
        """Delete the volume at a path, where there is one."""

        def order(connection: Any) -> None:
            try:
                connection.storageVolLookupByPath(path).delete(0)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise

        self._tell(order)
