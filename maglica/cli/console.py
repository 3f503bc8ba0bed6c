"""`vm console`: a guest's serial console in this terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

from maglica.bus import Talker
from maglica.cli.answer import Answer
from maglica.cli.cells import printable
from maglica.cli.session import Session
from maglica.declare import Action
from maglica.errors import Refused
from maglica.viewing import Anew, Better, Event, Gap, Opened, Output, Over, Trouble, Viewing

LEAVE = b"\x1d"  # Ctrl-]
BELL = b"\a"
PLAIN = b"\x1b[0m\x1b[?25h"  # no colours, and a cursor: what the guest switched on ends here
STDIN, STDOUT = 0, 1


def console(actions: list[Action], session: Session) -> int:
    want: Any = actions[0]
    if want.log:
        return _log(want, session)
    typing = os.isatty(STDIN)
    if not typing and not want.watch:
        raise Refused(
            "wrong_input", "vm console: standard input is no terminal", "--watch only looks on, --log prints and ends"
        )
    talker = session.connection.talker()
    try:
        return _Console(want, talker, session, typing).run()
    finally:
        talker.close()


def _log(want: Any, session: Session) -> int:
    told = session.connection.call("vm console-log", {"name": want.name, "lines": want.lines})
    item = told["item"]
    text = "".join(f"{line}\n" for line in item["lines"])
    return session.show(Answer("vm.console", item=item, text=text))


class _Console:
    """One session at a console."""

    def __init__(self, want: Any, talker: Talker, session: Session, typing: bool) -> None:
        self._talker, self._session = talker, session
        self._viewing = Viewing(want, time.monotonic(), look=want.watch)
        self._typing, self._watch, self._lines = typing, want.watch, want.lines
        self._before = b""  # what was there before, until all of it has come
        self._first = True  # that is still to be shown
        self._silent = False
        self._opened = False
        self._ended: Over | None = None
        self._leaving = False

    def run(self) -> int:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_signals())
            raw = stack.enter_context(_Raw(self._typing, self._watch))
            try:
                while not self._ended and not self._leaving:
                    self._turn(raw)
            except KeyboardInterrupt:  # only where Ctrl-C is not the guest's
                if not self._opened:
                    raise
            finally:
                self._talker.send(self._viewing.bye())
        return self._left()

    def _left(self) -> int:
        error = self._ended.error if self._ended else None
        if error is None:
            return 0
        if self._opened and error.code == "wrong_state":  # a guest that goes off is a usual end
            self._session.note(error.message)
            return 0
        raise error

    def _turn(self, raw: _Raw) -> None:
        viewing, now = self._viewing, time.monotonic()
        message = viewing.message(now)
        if message:
            self._talker.send(message)
        reading = [STDIN] if self._typing and self._opened else []
        heard = self._talker.receive(min(1.0, viewing.pause(now)), reading)
        now = time.monotonic()
        events: list[Event] = []
        for answer in heard.answers:
            events += viewing.answered(answer, now)
        for event in [*events, *viewing.tick(now)]:
            self._happened(event, raw)
        if self._first and self._opened and viewing.have >= viewing.live:
            self._first = False
            _write(last_lines(self._before, self._lines))
        if STDIN in heard.readable:
            self._type()

    def _happened(self, event: Event, raw: _Raw) -> None:
        if isinstance(event, Output):
            if not event.before:
                _write(event.data)
            elif self._first:
                self._before += event.data
        elif isinstance(event, Opened):
            self._silent = bool(event.silent)
            how = "you may watch, not type" if self._silent and not self._watch else "connected"
            why = f" ({event.silent})" if self._silent and not self._watch else ""
            leave = "Ctrl-] leaves" if self._typing else "Ctrl-C leaves"
            raw.enter()  # first: whoever reads the line may type at once, and the guest alone echoes
            self._say(f"{event.vm} on {event.host}: {how}{why}; {leave}", raw, "")
            self._opened = True
        elif isinstance(event, Gap):
            _write(b"\r\n[maglica: %d bytes left out, they came too fast]\r\n" % event.bytes)
        elif isinstance(event, Anew):
            lost = f"; of what was typed, {event.unsure} bytes may not have arrived" if event.unsure else ""
            self._say(f"the console was opened anew: what came meanwhile may be missing{lost}", raw)
        elif isinstance(event, Trouble):
            self._say(event.why, raw)
        elif isinstance(event, Better):
            self._say("it goes on", raw)
        else:
            self._ended = event

    def _type(self) -> None:
        data = os.read(STDIN, 4096)
        typed, left, _ = data.partition(LEAVE)
        self._leaving = bool(left) or not data
        if self._silent:
            return
        if self._viewing.type(typed) < len(typed):
            _write(BELL)  # the guest reads nothing: what does not fit is lost, as with a real terminal

    def _say(self, text: str, raw: _Raw, begin: str = "\r\n") -> None:
        """A line on stderr; `begin` ends the guest's own, where keys go to the guest."""
        sys.stdout.flush()
        end = "\r\n" if raw.entered else "\n"
        begin = begin if raw.entered else ""
        sys.stderr.write(f"{begin}maglica: {printable(text)}{end}")
        sys.stderr.flush()


class _Raw:
    """This terminal, with every key going to the guest from `enter` on; as it was before, whatever happens."""

    def __init__(self, typing: bool, watch: bool) -> None:
        self._typing, self._watch = typing, watch
        self._was: list[Any] = []

    @property
    def entered(self) -> bool:
        return bool(self._was) and not self._watch

    def __enter__(self) -> _Raw:
        return self

    def enter(self) -> None:
        if self._typing:
            self._was = termios.tcgetattr(STDIN)
            # Who only watches may leave by Ctrl-C as well.
            (tty.setcbreak if self._watch else tty.setraw)(STDIN, termios.TCSANOW)

    def __exit__(self, *error: object) -> None:
        if self._was:
            if os.isatty(STDOUT):
                with contextlib.suppress(OSError):
                    os.write(STDOUT, PLAIN + b"\r\n")
            with contextlib.suppress(termios.error):  # the terminal itself is gone
                termios.tcsetattr(STDIN, termios.TCSANOW, self._was)


class _Ended(SystemExit):
    """Told to end by a signal."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """What ends this process otherwise unwinds it, so that the terminal is put back."""

    def end(number: int, frame: object) -> None:
        raise _Ended(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_lines(data: bytes, lines: int) -> bytes:
    """The last so many lines of a console; the one that the cursor is in counts."""
    if lines == 0:
        return b""
    found = data.split(b"\n")
    return b"\n".join(found[-lines:])


def _write(data: bytes) -> None:
    """To the terminal as it is: no text, no buffer."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(STDOUT, view) :]
        except BlockingIOError:
            time.sleep(0.01)  # somebody made the terminal so
