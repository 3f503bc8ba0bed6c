"""A wire between two peers that a test can cut."""

from __future__ import annotations

import selectors
import socket
import threading


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
        self._ends: list[socket.socket] = []
        self._choose = selectors.DefaultSelector()
        self._choose.register(self._door, selectors.EVENT_READ)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        for end in [self._door, *self._ends]:
            end.close()
        self._choose.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._choose.select(0.05):
                if key.fileobj is self._door:
                    self._accept()
                else:
                    self._carry(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._door.accept()
        far = socket.create_connection(("127.0.0.1", self._to))
        self.connections += 1
        self._ends += [near, far]
        self._choose.register(near, selectors.EVENT_READ, far)
        self._choose.register(far, selectors.EVENT_READ, near)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            data = one.recv(65536)
            if data and not self.cut:
                other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (one, other):
                if end in self._choose.get_map():
                    self._choose.unregister(end)
                end.close()
