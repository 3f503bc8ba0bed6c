"""`vm vnc`: a local port that leads to a VM's VNC display."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from maglica.bus import Talker
from maglica.cli.session import Session, say
from maglica.declare import Action
from maglica.errors import Failed
from maglica.viewing import Better, Event, Opened, Output, Over, Trouble, Viewing

LOCAL = "127.0.0.1"
FIRST, LAST = 5900, 5999
BLOCK = 16 * 1024


def vnc(actions: list[Action], session: Session) -> int:
    want: Any = actions[0]
    talker = session.connection.talker()
    listener = None
    try:
        seen = _try(want, talker)
        listener = listen(want.port)
        where = "{}:{}".format(*listener.getsockname())
        session.write(f"{where}\n")
        session.note(f"{seen.vm} on {seen.host}; a viewer finds it at {where}. Ctrl-C closes it")
        _Tunnel(want, talker, listener, session).run()
    except KeyboardInterrupt:
        if listener is None:
            raise
        return 0  # the usual end
    finally:
        if listener:
            listener.close()
        talker.close()
    return 0


def _try(want: Any, talker: Talker) -> Opened:
    """Open the display once, so that what is wrong is said here: a VNC viewer only sees a connection end."""
    viewing = Viewing(want, time.monotonic())
    try:
        while True:
            message = viewing.message(time.monotonic())
            if message:
                talker.send(message)
            for answer in talker.receive(viewing.pause(time.monotonic())).answers:
                for event in viewing.answered(answer, time.monotonic()):
                    if isinstance(event, Opened):
                        return event
                    if isinstance(event, Over):
                        raise event.error or Failed("lost", f"the display of {want.name} was closed at once")
            for event in viewing.tick(time.monotonic()):
                if isinstance(event, Over) and event.error:
                    raise event.error
    finally:
        if not viewing.over:
            talker.send(viewing.bye())


def listen(port: int | None) -> socket.socket:
    """A socket of this machine alone. `port` None: the first free one of VNC's."""
    for number in [port] if port else [*range(FIRST, LAST + 1), 0]:
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            link.bind((LOCAL, number))
            link.listen(8)
        except OSError as error:
            link.close()
            if port:
                text = f"cannot listen on {LOCAL}:{port}: {error.strerror}"
                raise Failed("environment_error", text, "--port=… takes another one") from None
            continue
        link.setblocking(False)
        return link
    raise Failed("environment_error", f"no port of {LOCAL} is free", "--port=… takes a certain one")


class _Visitor:
    """One connection of a viewer, and its stream."""

    def __init__(self, link: socket.socket, want: Any) -> None:
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link = link
        self.viewing = Viewing(want, time.monotonic())
        self.out = bytearray()  # for the viewer, who has not read it
        self.gone = False  # the viewer hung up
        self.over = False  # the display did


class _Tunnel:
    """All connections of one local port."""

    def __init__(self, want: Any, talker: Talker, listener: socket.socket, session: Session) -> None:
        self._want, self._talker, self._listener, self._session = want, talker, listener, session
        self._visitors: dict[int, _Visitor] = {}  # by file descriptor

    def run(self) -> None:
        """Until Ctrl-C."""
        try:
            while True:
                self._turn()
        finally:
            for visitor in list(self._visitors.values()):
                self._end(visitor)

    def _turn(self) -> None:
        now, pause = time.monotonic(), 1.0
        for visitor in self._visitors.values():
            # What the viewer has not read is not asked for again: so the display waits for it.
            message = visitor.viewing.message(now, full=len(visitor.out) >= BLOCK)
            if message:
                self._talker.send(message)
            pause = min(pause, visitor.viewing.pause(now))
        reading = [file for file, one in self._visitors.items() if one.viewing.typed.room]
        writing = [file for file, one in self._visitors.items() if one.out]
        heard = self._talker.receive(pause, [self._listener.fileno(), *reading], writing)
        now = time.monotonic()
        for answer in heard.answers:
            for visitor in self._visitors.values():
                if answer.get("key") == visitor.viewing.key:
                    self._happened(visitor, visitor.viewing.answered(answer, now))
        for file, visitor in list(self._visitors.items()):
            self._happened(visitor, visitor.viewing.tick(now))
            if file in heard.readable:
                self._read(visitor)
            if visitor.out:
                self._write(visitor)
            if visitor.gone or (visitor.over and not visitor.out):
                self._end(visitor)
        if self._listener.fileno() in heard.readable:
            self._accept()

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except OSError:
            return
        visitor = _Visitor(link, self._want)
        self._visitors[link.fileno()] = visitor

    def _happened(self, visitor: _Visitor, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Output):
                visitor.out += event.data
            elif isinstance(event, Over):
                visitor.over = True
                if event.error:
                    self._session.complain([event.error.message])
            elif isinstance(event, Trouble):
                say(event.why)
            elif isinstance(event, Better):
                say("it goes on")

    def _read(self, visitor: _Visitor) -> None:
        try:
            data = os.read(visitor.link.fileno(), min(BLOCK, visitor.viewing.typed.room))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        visitor.viewing.type(data)
        visitor.gone = not data

    def _write(self, visitor: _Visitor) -> None:
        try:
            del visitor.out[: visitor.link.send(visitor.out)]
        except BlockingIOError:
            pass
        except OSError:
            visitor.gone = True

    def _end(self, visitor: _Visitor) -> None:
        del self._visitors[visitor.link.fileno()]
        if not visitor.over:
            self._talker.send(visitor.viewing.bye())
        visitor.link.close()
