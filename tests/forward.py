"""A wire between two peers that a test can cut, tear, and make slow."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time


class Forward:
    """Forwards every connection to a port of the loopback, until it is told to keep what it gets to itself.

    Cut means silent, not closed: both ends believe that they are connected, as with a firewall that forgot them.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self.connections = 0  # that were ever made
        self.cut = False
        self.slow = 0.0  # seconds that everything takes longer
        self._tear = threading.Event()
        self._ends: list[socket.socket] = []
        self._choose = selectors.DefaultSelector()
        self._choose.register(self._door, selectors.EVENT_READ)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tear(self) -> None:
        """Break every connection, in the middle of what is being sent where something is."""
        self._tear.set()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        for end in [self._door, *self._ends]:
            end.close()
        self._choose.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._tear.is_set():
                self._tear.clear()
                for key in list(self._choose.get_map().values()):
                    if key.data is not None:
                        self._reset(key.fileobj, key.data)  # type: ignore[arg-type]
            for key, _ in self._choose.select(0.05):
                if key.fileobj is self._door:
                    self._accept()
                else:
                    self._carry(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._door.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            near.close()  # nobody listens there
            return
        self.connections += 1
        self._ends += [near, far]
        self._choose.register(near, selectors.EVENT_READ, far)
        self._choose.register(far, selectors.EVENT_READ, near)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            data = one.recv(65536)
            if data and not self.cut:
                time.sleep(self.slow)
                if self._tear.is_set():
                    other.sendall(data[: len(data) // 2])
                else:
                    other.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(one, other)

    def _reset(self, *ends: socket.socket) -> None:
        for end in ends:
            if end.fileno() >= 0:
                # Closing with this sends RST, and what is still in the buffers is gone.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(*ends)

    def _close(self, *ends: socket.socket) -> None:
        for end in ends:
            if end.fileno() >= 0:
                if end in self._choose.get_map():
                    self._choose.unregister(end)
                end.close()
