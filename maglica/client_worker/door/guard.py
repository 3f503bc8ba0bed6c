"""Looks at the connections of the two ports from a thread of its own, and ends those that take too much.

libzmq bounds the size of a frame, and neither the parts of a message that does not end nor the subscriptions of a
subscriber; and it takes subscriptions in the thread that polls, for as long as they keep coming, so that only another
thread can do something about it. Which connections are ended is decided in limits.py. The only file that looks at
/proc/self and TCP_INFO.

Ending is shutdown(2): libzmq, whose sockets these are, then finds that the peer has gone and frees what it held.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import socket
import stat
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from maglica.client_worker.door.limits import Cut, Seen, Watch

log = logging.getLogger("maglica.client_worker")

GLANCE = 0.025  # seconds between two glances at memory and file descriptors
LOOK = 1.0  # seconds after which the connections are looked at even when both stay as they are
GROWTH = 8 << 20  # bytes of growth that are a reason to look at once
ALARM = 2.0  # seconds after a cut during which every glance is a look: whoever was cut off comes back
CROWD = 64  # new file descriptors that are one
AT_A_TIME = 100  # connections looked at before the loop has its turn
TRIM_AFTER = 0.5  # seconds that libzmq has to free what it held, before free memory is given back to the kernel
LINES = 30  # log lines a minute

PAGE = os.sysconf("SC_PAGE_SIZE")
ESTABLISHED, CLOSE_WAIT = 1, 8
_INFO = struct.Struct("@B119xQQ8xI")  # of tcp_info: state, bytes_acked, bytes_received, notsent_bytes


class _Peer(NamedTuple):
    subscriber: bool
    address: str
    port: int


class Guard:
    """One per client worker. `emptied` tells how often its loop has taken all there was, `nudge` makes it turn."""

    def __init__(
        self, pub_port: int, rep_port: int, memory_limit: int, emptied: Callable[[], int], nudge: Callable[[], None]
    ) -> None:
        self._ports = {pub_port: True, rep_port: False}
        self._emptied, self._nudge = emptied, nudge
        self._file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._watch = Watch(memory_limit, self._file_limit)
        self._heard: dict[int, int] = {}
        self._keys: dict[int, str] = {}  # whose the last message by a descriptor was
        self._ended: deque[Cut] = deque()  # for the audit
        self._floods: set[int] = set()
        self._known: dict[int, _Peer] = {}  # by inode
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        # A number of our own under which connections are looked at: also when no other is left.
        self._hand = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._empty = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._low = self._resident()
        self._looked = self._trim = float("-inf")
        self._trim_due = False
        self._alarm = float("-inf")
        self._crowd = 0
        self._lines: list[float] = []
        self._unsaid = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    # ------------------------------------------------------------------- for the loop of the client worker

    def start(self) -> None:
        self._thread.start()

    def heard(self, fd: int, public: str) -> None:
        """A whole message of this key came by this connection."""
        self._heard[fd] = self._heard.get(fd, 0) + 1
        self._keys[fd] = public

    def flooding(self, fd: int) -> None:
        """Whoever has this connection goes on asking although it is refused."""
        self._floods.add(fd)

    def cuts(self) -> Iterator[Cut]:
        """What was cut off since this was asked last, as far as the log has it."""
        while self._ended:
            yield self._ended.popleft()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        for fd in (self._memory, self._hand, self._empty):
            os.close(fd)

    # ------------------------------------------------------------------------------------------ its thread

    def _run(self) -> None:
        while not self._stopping.wait(GLANCE):
            try:
                self._glance(time.monotonic())
            except Exception as error:  # a guard that dies of one surprise would guard nothing
                log.error("unexpected error in the guard", exc_info=error)

    def _glance(self, now: float) -> None:
        memory, highest = self._resident(), self._lowest_free()
        self._low = min(self._low, memory)
        grown = memory - self._low >= GROWTH
        if grown or self._floods or now < self._alarm or highest >= self._crowd + CROWD or now - self._looked >= LOOK:
            if grown:
                self._nudge()
            self._low, self._crowd, self._looked = memory, highest, now
            cuts = self._look(memory, now)
            if cuts:
                self._alarm = now + ALARM
            self._end(cuts, now)
        elif highest < self._crowd:
            self._crowd = highest
        if self._trim_due and now >= self._trim:
            self._trim_due = False
            _trim()

    def _look(self, memory: int, now: float) -> list[Cut]:
        # Before the connections: what they have sent by then is compared with what the loop had by now.
        emptied, heard = self._emptied(), dict(self._heard)
        floods, self._floods = self._floods, set()
        fds = self._open_files()
        seen: list[Seen] = []
        try:
            for number, fd in enumerate(fds):
                found = self._see(fd, heard.get(fd, 0))
                if found:
                    seen.append(found)
                if number % AT_A_TIME == AT_A_TIME - 1:
                    time.sleep(0.0005)
        finally:
            os.dup2(self._empty, self._hand, inheritable=False)
        there = {one.inode for one in seen}
        self._known = {inode: peer for inode, peer in self._known.items() if inode in there}
        others = len(fds) - len(seen)
        cuts = self._watch.look(seen, emptied=emptied, memory=memory, others=others, now=now)
        named = {cut.seen.inode for cut in cuts}
        for one in seen:
            if one.fd in floods and not one.subscriber and one.inode not in named:
                cuts.append(Cut(one, "flood", one.taken))
        return cuts

    def _open_files(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir("/proc/self/fd")]
        except OSError:
            return list(range(self._file_limit))  # not one descriptor is left to read the list with

    def _see(self, fd: int, heard: int) -> Seen | None:
        """A connection of ours, or None. libzmq may close it at any moment and open another one of that number: it is
        looked at under a number of our own, which holds it meanwhile.
        """
        if fd in (self._hand, self._empty, self._memory):
            return None
        try:
            os.dup2(fd, self._hand, inheritable=False)
            state = os.fstat(self._hand)
            if not stat.S_ISSOCK(state.st_mode):
                return None
            with _borrowed(self._hand) as held:
                peer = self._known.get(state.st_ino) or self._meet(state.st_ino, held)
                if peer is None:
                    return None
                phase, given, received, waiting = _INFO.unpack(
                    held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
                )
                if phase not in (ESTABLISHED, CLOSE_WAIT):
                    return None
                unread = struct.unpack("i", fcntl.ioctl(self._hand, termios.FIONREAD, bytes(4)))[0]
        except OSError:
            return None  # closed by now, or no TCP
        return Seen(
            state.st_ino, fd, peer.subscriber, peer.address, peer.port, received - unread, given, waiting, heard,
            self._keys.get(fd, ""),
        )  # fmt: skip

    def _meet(self, inode: int, held: socket.socket) -> _Peer | None:
        ours = held.getsockname()
        if not isinstance(ours, tuple) or ours[1] not in self._ports:
            return None
        theirs = held.getpeername()
        self._known[inode] = _Peer(self._ports[ours[1]], theirs[0], theirs[1])
        return self._known[inode]

    def _end(self, cuts: Iterable[Cut], now: float) -> None:
        for cut in cuts:
            try:
                os.dup2(cut.seen.fd, self._hand, inheritable=False)
                if os.fstat(self._hand).st_ino == cut.seen.inode:
                    with _borrowed(self._hand) as held:
                        held.shutdown(socket.SHUT_RDWR)
                        _discard(held)
                        self._say(cut, now)
                        self._trim, self._trim_due = now + TRIM_AFTER, True
            except OSError:
                pass  # it has just gone by itself
        os.dup2(self._empty, self._hand, inheritable=False)

    def _say(self, cut: Cut, now: float) -> None:
        self._lines = [when for when in self._lines if now - when < 60.0]
        if len(self._lines) >= LINES:
            self._unsaid += 1
            return
        if self._unsaid:
            log.warning("cut off %d more connections", self._unsaid)
            self._unsaid = 0
        self._lines.append(now)
        log.warning(
            "cut off address=%s port=%d endpoint=%s reason=%s amount=%d",
            cut.seen.address, cut.seen.port, "PUB" if cut.seen.subscriber else "REP",
            cut.reason.replace(" ", "_"), cut.amount,
        )  # fmt: skip
        self._ended.append(cut)
        self._nudge()

    def _resident(self) -> int:
        return int(os.pread(self._memory, 100, 0).split()[1]) * PAGE

    def _lowest_free(self) -> int:
        """Roughly how many files are open: the number that the next one would get."""
        try:
            fd = os.dup(self._memory)
        except OSError:
            return self._file_limit
        os.close(fd)
        return fd


class _borrowed:
    """A socket object for a descriptor that stays open."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.detach()


def _discard(held: socket.socket) -> None:
    """Drop what the kernel has received: libzmq would go on reading it, with all that follows."""
    place = bytearray(1 << 16)
    try:
        while held.recv_into(place, flags=socket.MSG_DONTWAIT | socket.MSG_TRUNC):
            pass
    except OSError:
        pass  # nothing is left


def _trim() -> None:
    """Give free memory back to the kernel; the C library keeps it otherwise (glibc; others have nothing to call)."""
    try:
        import ctypes  # may need memory that is both written and executed, which a hardened unit does not give

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, MemoryError, OSError, AttributeError) as error:
        log.debug("free memory stays with this process: %s", error)
