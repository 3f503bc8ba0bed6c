"""A piece of a stream of bytes that is kept: its bytes are numbered from the first one on. No sockets, no clock.

Both ends of a stream, and the client worker between them, have such windows. A message brings bytes with the number of
the first one; so whatever comes twice, late or out of order changes nothing, and what was lost is asked for again.
"""

from __future__ import annotations

SIZE = 64 * 1024  # bytes that one side keeps of one direction
PIECE = 32 * 1024  # bytes of one message


class Window:
    """The bytes from number `start` up to `end`, at most `size` of them."""

    __slots__ = ("_data", "size", "start")

    def __init__(self, start: int = 0, size: int = SIZE) -> None:
        self.start = start
        self.size = size
        self._data = bytearray()

    @property
    def end(self) -> int:
        """The number of the next byte."""
        return self.start + len(self._data)

    @property
    def room(self) -> int:
        """Bytes that it takes without losing others."""
        return self.size - len(self._data)

    def put(self, data: bytes) -> int:
        """Append what there is room for; how many bytes that were."""
        taken = min(len(data), self.room)
        self._data += data[:taken]
        return taken

    def push(self, data: bytes) -> None:
        """Append all of it; the oldest bytes make room."""
        self._data += data
        self.forget(self.end - self.size)

    def take(self, at: int, data: bytes, *, push: bool = False) -> int:
        """Append what is new in bytes from number `at` on; how many these were. Nothing, when bytes before it are
        missing: they come again. `push`: the oldest ones make room, otherwise what has none is left out.
        """
        if at > self.end:
            return 0
        new = data[self.end - at :]
        if push:
            self.push(new)
            return len(new)
        return self.put(new)

    def skip_to(self, at: int) -> None:
        """Go on at number `at`: what is missing before it does not exist any more."""
        if at > self.end:
            self._data.clear()
            self.start = at

    def forget(self, before: int) -> None:
        """Let go of the bytes before that number."""
        gone = min(before, self.end) - self.start
        if gone > 0:
            del self._data[:gone]
            self.start += gone

    def since(self, at: int, most: int = PIECE) -> tuple[int, bytes]:
        """(number of the first one, bytes) from `at` on, or from the first that is still there."""
        at = min(max(at, self.start), self.end)
        return at, bytes(self._data[at - self.start : at - self.start + most])
