"""What is to be sent once this turn of the loop is committed."""

from __future__ import annotations

from typing import NamedTuple

from maglica import wire
from maglica.bus import Route
from maglica.wire import Message


class Reply(NamedTuple):
    """An answer on its way to whoever asked."""

    route: Route
    message: Message


class Ring(NamedTuple):
    """A publication on its way to a host."""

    topic: bytes
    message: Message


class Outbox(list[Reply | Ring]):
    """Answers and bells, in the order in which they shall leave."""

    def reply(self, route: Route, message: Message) -> None:
        self.append(Reply(route, message))

    def publish(self, host: str, message: Message) -> None:
        self.append(Ring(wire.topic(host), message))

    def ring(self, host: str) -> None:
        """Tell a host that there is something for it; once a turn is enough."""
        bell = Ring(wire.topic(host), {"op": "bell", "host": host})
        if bell not in self:
            self.append(bell)

    def take(self) -> list[Reply | Ring]:
        """Everything, leaving nothing."""
        taken = list(self)
        self.clear()
        return taken
