"""This terminal and this command's connection: what the functions of the command line are handed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from maglica.cli import output
from maglica.cli.answer import PARTIAL, Answer, Value
from maglica.cli.options import Globals
from maglica.cli.output import Look
from maglica.errors import Failed

if TYPE_CHECKING:
    from maglica.cloud import Connection
    from maglica.config import Settings


class Session:
    """Settings are read and the connection is opened when they are first needed: help needs neither."""

    def __init__(self, options: Globals) -> None:
        self.options = options
        self._settings: Settings | None = None
        self._connection: Connection | None = None

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            from maglica import config

            self._settings = config.from_environment(self.options.client, self.options.config, self.options.key)
        return self._settings

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            settings = self.settings
            with ctrl_c_waits():
                from maglica.cloud import Connection
            self._connection = Connection(settings)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def show(self, answer: Answer) -> int:
        """Print an answer; the exit status that it deserves."""
        self.write(output.render(answer, self.options, look(self.options)))
        return self.miss(answer.missing_hosts)

    def miss(self, hosts: list[Value]) -> int:
        """Tell which hosts did not answer; the exit status: a view of some hosts only must not be taken for the whole
        one, by a script either.
        """
        self.complain([f"{missing['host']} did not answer: {missing['why']}" for missing in hosts])
        return PARTIAL if hosts else 0

    def write(self, text: str) -> None:
        """Result: stdout."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed("environment_error", f"cannot write the result: {error.strerror}") from None

    def note(self, text: str) -> None:
        """What a person may want to know: stderr."""
        if not self.options.quiet:
            say(text)

    def complain(self, texts: list[str]) -> None:
        """What nobody should miss: stderr, also with --quiet."""
        for text in texts:
            say(text)


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Hold Ctrl-C back while zmq and msgpack are imported: amid their own start it may crash Python, or be lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def say(text: str) -> None:
    """A line on stderr."""
    from maglica.cli.cells import printable

    sys.stdout.flush()
    sys.stderr.write(f"maglica: {printable(text)}\n")  # guests and hosts have their words in it
    sys.stderr.flush()


def look(options: Globals) -> Look:
    """What stdout is like."""
    tty = sys.stdout.isatty()
    return Look(
        terminal_width(sys.stdout.fileno()) if tty else None, colored(options, tty), datetime.now().astimezone()
    )


def colored(options: Globals, tty: bool) -> bool:
    """Whether to use colours; https://no-color.org for the variable."""
    if options.color != "auto":
        return options.color == "always"
    return tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width(fd: int) -> int:
    """The columns of a terminal; 80 when it does not tell."""
    try:
        return os.get_terminal_size(fd).columns or 80
    except OSError:
        return 80


def terminal_height(fd: int) -> int:
    """The lines of a terminal; 24 when it does not tell."""
    try:
        return os.get_terminal_size(fd).lines or 24
    except OSError:
        return 24
