"""What is to be sent once this turn of the loop is committed."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from maglica import wire
from maglica.bus import Route
from maglica.client_worker.now import Now
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError
from maglica.wire import Message

log = logging.getLogger("maglica.client_worker")


class Reply(NamedTuple):
    """An answer on its way to whoever asked."""

    route: Route
    message: Message


class Ring(NamedTuple):
    """A publication on its way to a host."""

    topic: bytes
    message: Message


class Drop(NamedTuple):
    """Everybody who listens is to be cut off: somebody who may no longer is among them. The others come back."""


class Outbox(list[Reply | Ring | Drop]):
    """Answers and bells, in the order in which they shall leave, each in the version that its reader speaks."""

    def __init__(self) -> None:
        super().__init__()
        self._askers: dict[Route, int] = {}  # whose question has another version than ours
        self._hosts: dict[str, int] = {}

    def asked_in(self, route: Route, version: int) -> None:
        """A question came in that version: so shall its answer."""
        if version != wire.VERSION:
            self._askers[route] = version

    def unanswered(self, route: Route) -> None:
        """Nobody waits there."""
        self._askers.pop(route, None)

    def host_speaks(self, host: str, version: int) -> None:
        self._hosts[host] = version

    def reply(self, route: Route, message: Message) -> None:
        version = self._askers.pop(route, wire.VERSION)
        self.append(Reply(route, {"v": version, **message}))

    def publish(self, host: str, message: Message) -> None:
        # Of a host that has not spoken yet, nothing is known but that it understands the oldest.
        self.append(Ring(wire.topic(host), {"v": self._hosts.get(host, wire.OLDEST), **message}))

    def ring(self, host: str) -> None:
        """Tell a host that there is something for it; once a turn is enough."""
        bell = Ring(wire.topic(host), {"v": self._hosts.get(host, wire.OLDEST), "op": "bell", "host": host})
        if bell not in self:
            self.append(bell)

    def drop(self) -> None:
        self.append(Drop())

    def take_back(self, mark: int) -> None:
        """Leave nothing of what was put here after the first `mark`: those who wait, wait on."""
        for item in self[mark:]:
            if isinstance(item, Reply):
                self.asked_in(item.route, item.message["v"])
        del self[mark:]

    def take(self) -> list[Reply | Ring | Drop]:
        """Everything, leaving nothing."""
        taken = list(self)
        self.clear()
        return taken


def result(action: Action, value: dict[str, Any], now: Now) -> Message:
    """What is told of a question that was answered, or of a plan."""
    return wire.ok(kind=action.NAME.replace(" ", "."), observed_at=now.text, **value)


def failure(error: Exception) -> Message:
    """What is told of an error. The one catch-all of this process: an unexpected one goes into the log."""
    if isinstance(error, MaglicaError):
        return wire.failure(error)
    log.error("unexpected error in a request", exc_info=error)
    return wire.failure(Failed("internal_error", "unexpected error in the client worker", "its log has the details"))
