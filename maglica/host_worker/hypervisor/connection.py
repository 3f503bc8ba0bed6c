"""The connection to the local libvirtd; errors of libvirt are translated here and go no further.

One connection per process, shared by all threads (libvirt allows it), opened at the first use and again when it broke:
the test driver keeps its world per connection, so a second one would see another.

Nothing here waits for ever: a call that has not come back at its deadline is given up and left in its thread, and the
next ones get a new connection. libvirt's own keepalive is not used, see docs/design.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from maglica.errors import Failed, MaglicaError, Refused
from maglica.host_worker.deadline import Calls, Overdue

try:
    import libvirt
    import libvirt_qemu
except ImportError:  # said at the first use, in words that help
    libvirt = libvirt_qemu = None

# The other files of this folder take the modules from here.
__all__ = ["ANSWER_WITHIN", "STATES", "Connection", "Hung", "libvirt", "libvirt_qemu", "or_else", "translated"]

T = TypeVar("T")

OPEN_WITHIN = 5.0  # seconds that a connection may take, and that anybody waits for one
ANSWER_WITHIN = 15.0  # seconds that a question may take: a list of some thousand domains takes some
OBEY_WITHIN = 300.0  # seconds that an order may take: a guest with much memory starts for minutes
MOST_HUNG = 16  # calls left to themselves; each holds a thread
AGENT_WITHIN = 10.0  # seconds that a guest's agent has for what libvirt asks it
SETTLE = 1.0  # seconds that orders which may still be on their way have, before a new connection is used


# virDomainState -> the words of the tables
STATES = ("unknown", "running", "idle", "paused", "in-shutdown", "shut-off", "crashed", "pm-suspended")


class Hung(Failed):
    """libvirt has not answered in time; whether it will, nobody knows."""


class Connection:
    """The connection, and how it is asked and told. `answer_within`: seconds that a question may take."""

    def __init__(self, uri: str, *, answer_within: float = ANSWER_WITHIN) -> None:
        self.uri = uri
        self._answer_within = answer_within
        self._calls = Calls(MOST_HUNG)
        self._opening: Future[Any] | None = None
        self._opening_since = 0.0
        self._in_doubt = False  # an order was sent, and the connection broke before its answer
        self.driver = uri.split(":")[0].split("+")[0]
        self._connection: Any = None
        self._lock = threading.Lock()
        if libvirt is not None:
            # Errors come as exceptions; without this libvirt prints each of them as well.
            libvirt.registerErrorHandler(lambda context, error: None, None)

    @property
    def has_files(self) -> bool:
        """Whether disks are files and devices of this machine; the test driver only pretends to have some."""
        return self.driver != "test"

    def _connect(self) -> Any:
        """The connection. One thread opens it; a libvirtd that hangs would swallow every thread that tries."""
        with self._lock:
            if self._connection is not None:
                return self._connection
            if self._opening is None:
                self._opening = Future()
                self._opening_since = time.monotonic()
                threading.Thread(target=self._open, args=(self._opening,), name="libvirt open", daemon=True).start()
            opening = self._opening
            left = self._opening_since + OPEN_WITHIN - time.monotonic()
        try:
            return opening.result(max(0.0, left))
        except TimeoutError:
            raise self._silent(time.monotonic() - self._opening_since) from None

    def _open(self, opening: Future[Any]) -> None:
        try:
            connection = self._opened()
        except BaseException as error:
            with self._lock:
                self._opening = None
            opening.set_exception(error)
            return
        with self._lock:
            self._connection, self._opening, self._in_doubt = connection, None, False
        opening.set_result(connection)

    def _opened(self) -> Any:
        if libvirt is None:
            raise Failed("environment_error", "the libvirt module for Python is missing", "install python3-libvirt")
        try:
            connection = libvirt.open(self.uri)
            if self._in_doubt:
                # What was sent on the connection that broke is carried out by a libvirtd that moves again. It shall
                # come before what is asked, or undone, from here on.
                time.sleep(SETTLE)
                connection.getLibVersion()
        except libvirt.libvirtError as error:
            raise self._unreachable(error) from None
        return connection

    def _silent(self, seconds: float) -> Hung:
        return Hung(
            "host_down",
            f"libvirt: has not answered for {seconds:.0f} s ({self.uri})",
            "libvirtd is there but hangs: `systemctl status libvirtd`, its log, and the storage it uses",
        )

    def _unreachable(self, error: Exception) -> Failed:
        return Failed(
            "host_down",
            f"libvirt: unreachable ({self.uri}: {error})",
            "is libvirtd running on that host? `systemctl status libvirtd`",
        )

    def _ask(self, question: Callable[[Any], T]) -> T:
        """Ask something that may be asked twice: a connection that broke since is opened again."""
        try:
            return self._call(question, self._answer_within)
        except Failed as failed:
            if failed.code != "host_down" or isinstance(failed, Hung):
                raise
            return self._call(question, self._answer_within)

    def _tell(self, order: Callable[[Any], T], within: float = OBEY_WITHIN) -> T:
        """Give an order, once, and only to a libvirt that listens: what was never given is not in doubt.

        `within`: seconds that it may take; one that moves a guest's memory takes as long as its job may.
        """
        self._ask(lambda connection: connection.getLibVersion())
        given: list[bool] = []

        def give(connection: Any) -> T:
            given.append(True)
            return order(connection)

        try:
            return self._call(give, within)
        except Failed as failed:
            if failed.code == "host_down" and given:
                self._in_doubt = True
                failed.message += "; whether it did what it was told is not known"
            raise

    def _call(self, work: Callable[[Any], T], within: float) -> T:
        connection = self._connect()
        try:
            return self._calls.run(lambda: work(connection), within)
        except Overdue:
            if self.has_files:  # the test driver has no other world
                self._forget(connection)  # it serves few calls at a time: the next shall not queue behind this one
            raise self._silent(within) from None
        except libvirt.libvirtError as error:
            if not self._alive(connection):
                self._forget(connection)
                raise self._unreachable(error) from None
            raise translated(error) from None

    @staticmethod
    def _alive(connection: Any) -> bool:
        try:
            return bool(connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _forget(self, connection: Any) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _domain(self, connection: Any, name: str) -> Any:
        try:
            return connection.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise Refused("unknown_entity", f"there is no VM {name} on this host") from None
            raise

    def _with_agent(self, connection: Any, name: str, within: float = AGENT_WITHIN) -> Any:
        """The domain, for a call for which libvirt asks its guest's agent, which has so many seconds. Without a word
        libvirt waits for ever: a guest could keep a call, and a worker of libvirtd, until somebody ends it.

        https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainAgentSetResponseTimeout
        """
        domain = self._domain(connection, name)
        with suppress(libvirt.libvirtError):  # before libvirt 5.10, and of another driver
            domain.agentSetResponseTimeout(max(1, int(within)), 0)
        return domain

    @staticmethod
    def _affect(domain: Any, apply: str) -> int:
        """libvirt's flags for what is to be changed (`kinds.APPLY`); `Refused` for `live` of a VM that is off."""
        live, config = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
        runs = bool(domain.isActive())
        if apply == "live" and not runs:
            raise Refused(
                "wrong_state", f"{domain.name()} is off: nothing of it is live", "use --apply=config, or start it"
            )
        return int({"both": live | config if runs else config, "live": live, "config": config}[apply])


def or_else(question: Callable[[], T], otherwise: T) -> T:
    """The answer, or something else where the driver cannot tell."""
    try:
        return question()
    except libvirt.libvirtError as error:
        words = ("NO_SUPPORT", "OPERATION_INVALID", "OPERATION_UNSUPPORTED", "ARGUMENT_UNSUPPORTED", "INVALID_ARG")
        known = [getattr(libvirt, f"VIR_ERR_{word}") for word in (*words, "INTERNAL_ERROR")]
        if error.get_error_code() in known:
            return otherwise
        raise


def translated(error: Any) -> MaglicaError:
    """A libvirt error in our words; its own text stays."""
    codes = {
        libvirt.VIR_ERR_NO_DOMAIN: "unknown_entity",
        libvirt.VIR_ERR_NO_STORAGE_POOL: "unknown_entity",
        libvirt.VIR_ERR_NO_STORAGE_VOL: "unknown_entity",
        libvirt.VIR_ERR_DOM_EXIST: "already_exists",
        libvirt.VIR_ERR_STORAGE_VOL_EXIST: "already_exists",
        libvirt.VIR_ERR_OPERATION_INVALID: "wrong_state",
        libvirt.VIR_ERR_NO_SUPPORT: "environment_error",
        libvirt.VIR_ERR_OPERATION_TIMEOUT: "locked",
    }
    code = codes.get(error.get_error_code(), "environment_error")
    text = str(error)
    if "No space left on device" in text:
        code = "no_capacity"
    return Failed(code, f"libvirt: {text}", "the host's libvirtd log may tell more")
