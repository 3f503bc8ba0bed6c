"""The library's socket: one question, one answer."""

from __future__ import annotations

import time

import zmq

from maglica import wire
from maglica.bus.knocking import KNOCK, KNOCKS, SILENT, UNKNOWN, knock, refusal
from maglica.bus.sockets import endpoint, left, requester
from maglica.errors import Failed
from maglica.keys import Key

FIRST_LOOK = 0.4  # seconds until a client that was never answered looks whether its key is accepted
PATIENCE = 2.0  # seconds until an unanswered client asks whether anybody is there at all
RESEND = 10.0  # seconds after which an unanswered request is given again


class Client:
    """The library's side: one question, one answer. Not to be shared between threads.

    `key`: whose questions they are; None for a bus that is open.
    """

    def __init__(self, address: str, port: int, key: Key | None = None) -> None:
        self.address, self.port, self.key = address, port, key
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._answered = False
        self._found = ""  # the last look at who is there

    def ask(self, message: wire.Message, timeout: float) -> wire.Message:
        """Send a request and return its answer; the error in it is raised.

        `timeout` in seconds. Within 3 s it is known whether a client worker is there at all (`unreachable`); one that
        is there and busy is waited for, and the request is repeated on a new connection: every request may be. The
        answer to an earlier one is as good, and may be about to come.
        """
        deadline = time.monotonic() + timeout
        data = wire.encode(message)
        earlier: list[zmq.Socket[bytes]] = []
        try:
            while True:
                answer = self._exchange(data, earlier, min(deadline, time.monotonic() + RESEND))
                if answer is not None:
                    return wire.result(wire.decode(answer, wire.MAX_ANSWER_BYTES))
                if time.monotonic() >= deadline:
                    raise self._overdue(timeout)
        finally:
            for socket in earlier:
                socket.close()  # it must not be answered later, when nobody waits for it

    def _overdue(self, timeout: float) -> Failed:
        if not self._answered and self._found == UNKNOWN:
            return Failed(
                "unreachable",
                f"nobody is heard from {self._where()} within {timeout:g} s",
                "a name server that does not answer may be the reason, or a network that loses everything",
            )
        hint = "it is there but busy; try again, or look at its log"
        return Failed("timeout", f"the client worker at {self._where()} gave no answer within {timeout:g} s", hint)

    def _exchange(self, data: bytes, earlier: list[zmq.Socket[bytes]], until: float) -> bytes | None:
        """Ask, and hear the answer to this question or an `earlier` one; unanswered it becomes one of these."""
        socket = self._fresh()
        try:
            socket.send(data)
            patience = min(until, time.monotonic() + PATIENCE)
            if not self._answered and not socket.poll(left(patience, FIRST_LOOK)):
                self._look(patience)
            answer = self._heard([socket, *earlier], patience)
            if answer is not None:
                return answer
            found = self._look(until)
            while found == UNKNOWN and time.monotonic() < until:
                found = self._look(until)
            if found == SILENT:
                raise Failed(
                    "unreachable",
                    f"no client worker answers at {self._where()}",
                    "is maglica_client_worker running there? --client, MAGLICA_CLIENT or [client] address say where",
                )
            answer = self._heard([socket, *earlier], until)
            if answer is not None:
                return answer
        except BaseException:
            self._hang_up()
            raise
        earlier.append(socket)
        self._socket = None
        return None

    def _heard(self, sockets: list[zmq.Socket[bytes]], until: float) -> bytes | None:
        """The answer, when it comes in time by one of these."""
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        while ready := poller.poll(left(until)):
            for socket, _ in ready:
                try:
                    answer: bytes = socket.recv(zmq.NOBLOCK)
                except zmq.Again:
                    continue  # the late answer to what was asked before: looking for ours has thrown it away
                self._answered = True
                return answer
        return None

    def _look(self, until: float) -> str:
        """Knock, and raise what is wrong with the keys."""
        found = knock(self._context, self.address, self.port, self.key, min(KNOCK, max(0.1, until - time.monotonic())))
        self._found = found
        if found in KNOCKS:
            raise refusal(found, self._where(), self.key)
        return found

    def _fresh(self) -> zmq.Socket[bytes]:
        """A socket that may send: the one from before when its question was answered, otherwise a new one."""
        if self._socket is None or not self._socket.poll(0, zmq.POLLOUT):
            self._hang_up()
            self._socket = self._open()
        return self._socket

    def _hang_up(self) -> None:
        """Forget a question that was not answered: it must not be delivered later, when nobody waits for it."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _open(self) -> zmq.Socket[bytes]:
        return requester(self._context, self.address, self.port, self.key)

    def _where(self) -> str:
        return endpoint(self.address, self.port)

    def close(self) -> None:
        # Not term(): that would wait for ever for a socket which Ctrl-C left open between its making and its use.
        self._context.destroy(linger=0)
