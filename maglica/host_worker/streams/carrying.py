"""Everything that is open for people to look at. One thread reads all of it; the loop, which alone talks to the bus,
tells what was read, and types. Something is opened in a thread of its own: libvirt may hang.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable

from maglica import declare, wire
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError
from maglica.host_worker.host import Host
from maglica.host_worker.streams import console, vnc
from maglica.host_worker.streams.source import Opened, Source
from maglica.host_worker.unexpected import unexpected

log = logging.getLogger("maglica.host_worker")

OPENERS: dict[str, Callable[[Action, Host], Opened]] = {"vm console": console.opened, "vm vnc": vnc.opened}
MOST = 64  # open at once on one host
BLOCK = 32 * 1024  # bytes that are read at once
# Bytes a second that are read of a console. A guest that prints faster waits for its serial port, as it would for a
# real one, and neither this process nor anybody else for it.
CONSOLE_PACE = 2 << 20
FREE = 4096  # bytes that may be read without a pause


class Carrying:
    """All sources of this host. `wake` makes the loop look at `outgoing`."""

    def __init__(self, host: Callable[[], Host], wake: Callable[[], None]) -> None:
        self._host, self._wake = host, wake
        self._lock = threading.RLock()
        self._sources: dict[str, Source] = {}
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self._stopping = False

    # ------------------------------------------------------------------------------------- the loop's side

    def wanted(self, message: wire.Message, now: float) -> None:
        """Somebody wants to look at something: open it unless it is open."""
        what = message["stream"]
        with self._lock:
            source = self._sources.get(what)
            if source is not None and not (source.over and source.opened is None):
                source.rung(now)
                return
            if self._stopping:
                return
            source = self._sources[what] = Source(what, now)
            if len(self._sources) > MOST:
                source.end(Failed("no_capacity", f"{MOST} consoles and displays are open on {self._host().name}"))
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._read_all, name="streams", daemon=True)
                self._thread.start()
        threading.Thread(target=self._open, args=(source, message), name="open stream", daemon=True).start()

    def outgoing(self, now: float) -> list[wire.Message]:
        """What is to be told now."""
        found = []
        with self._lock:
            for source in list(self._sources.values()):
                if source.ready and source.forgotten(now):
                    self._close(source, "nobody came back")
                    continue
                message = source.message(now)
                if message is not None:
                    found.append(message)
        return found

    def pause(self, now: float) -> float:
        """Seconds until there is something to be told that nothing else wakes the loop for."""
        with self._lock:
            return min((source.due(now) for source in self._sources.values()), default=3600.0)

    def answered(self, message: wire.Message, now: float) -> None:
        """Act on the client worker's answer: type what was typed, close what nobody looks at."""
        with self._lock:
            source = self._sources.get(str(message.get("stream")))
            if source is None:
                return
            typed = source.answered(message, now)
            if typed and source.opened and not source.over:
                source.pending += typed
                self._write(source)
                if source.pending:
                    self._nudge()
            if message.get("close") and message.get("life") == source.life:
                self._close(source, "nobody looks")
            elif source.opened and not source.opened.shared:
                self._nudge()  # there may be room again

    def close(self) -> None:
        """Everything is closed; the host worker ends."""
        with self._lock:
            self._stopping = True
            for source in list(self._sources.values()):
                self._close(source, "the host worker ends")
        self._nudge()

    # --------------------------------------------------------------------------------------- opening, closing

    def _open(self, source: Source, message: wire.Message) -> None:
        opened, error = None, None
        try:
            action = declare.build(message["action"], message["args"])
            opened = OPENERS[action.NAME](action, self._host())
        except MaglicaError as failed:
            error = failed
        except Exception as unforeseen:
            error = unexpected(unforeseen, f"stream='{source.what}'", self._host().name)
        with self._lock:
            if opened is not None and self._sources.get(source.what) is source and not self._stopping:
                source.begin(opened)
                log.info("opened %s", source.what)
            elif opened is not None:
                _shut(opened)
            else:
                source.end(error)
        self._nudge()
        self._wake()

    def _close(self, source: Source, why: str) -> None:
        if self._sources.get(source.what) is source:
            del self._sources[source.what]
        if source.opened:
            log.info("closed %s: %s", source.what, why)
            _shut(source.opened)
            source.opened = None
        self._nudge()

    # ------------------------------------------------------------------------------------ reading, writing

    def _nudge(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _read_all(self) -> None:
        """The thread that reads whatever is open."""
        while not self._stopping:
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            now, pause = time.monotonic(), 1.0
            files: dict[int, Source] = {}
            with self._lock:
                for source in self._sources.values():
                    if source.opened is None or source.over:
                        continue
                    late = source.resume - now
                    if late > 0:
                        pause = min(pause, late)
                    flags = (select.POLLIN if source.reads and late <= 0 else 0) | (
                        select.POLLOUT if source.pending else 0
                    )
                    if flags:
                        files[source.opened.file] = source
                        poll.register(source.opened.file, flags)
            ready = poll.poll(pause * 1000 + 1)
            news = False
            with self._lock:
                for file, flags in ready:
                    if file == self._bell:
                        os.eventfd_read(self._bell)
                        continue
                    source = files[file]
                    # It may have been closed meanwhile, and its number may be another's.
                    if source.opened is None or source.opened.file != file or source.over:
                        continue
                    if flags & select.POLLOUT:
                        self._write(source)
                    if flags & ~select.POLLOUT:
                        news |= self._read(source)
            if news:
                self._wake()

    def _read(self, source: Source) -> bool:
        """Read once; whether there is something to be told."""
        assert source.opened is not None
        size = BLOCK if source.opened.shared else min(BLOCK, source.read.room)
        if size == 0:
            return False
        try:
            data = os.read(source.opened.file, size)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # of a pty: its other end is closed
        if not data:
            source.end(Failed("wrong_state", source.opened.gone) if source.opened.gone else None)
            return True
        if source.opened.shared:
            source.read.push(data)
            if len(data) > FREE:
                source.resume = time.monotonic() + len(data) / CONSOLE_PACE
        else:
            source.read.put(data)
        return True

    def _write(self, source: Source) -> None:
        assert source.opened is not None
        try:
            while source.pending:
                del source.pending[: os.write(source.opened.file, source.pending[:4096])]
        except BlockingIOError:
            pass
        except OSError:
            source.pending.clear()  # reading finds out what happened to it


def _shut(opened: Opened) -> None:
    try:
        os.close(opened.file)
    except OSError:
        pass
    opened.close()
