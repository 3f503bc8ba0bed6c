"""What comes in at the client worker, and who decides whether it may. No sockets."""

from __future__ import annotations

from typing import NamedTuple, Protocol

Route = tuple[bytes, ...]


class Request(NamedTuple):
    """A request as it came in: where its answer goes, its bytes, and whose it is (no key on an open bus).

    `fd`: the file descriptor of its connection, which may be closed by now or be another one's; -1 when not known.
    """

    route: Route
    body: bytes
    public: str = ""
    address: str = ""
    fd: int = -1


class Subscription(NamedTuple):
    """Somebody who may began to listen to a topic."""

    topic: bytes


class Breach(NamedTuple):
    """A subscriber sent what no subscriber sends."""

    public: str
    address: str
    fd: int


Event = Request | Subscription | Breach


class Gate(Protocol):
    """Who may come in, and who may hear what; asked at every connection and every subscription."""

    def admits(self, public: str, address: str, *, listens: bool) -> bool:
        """Whether a peer with this public key may connect at all; `listens`: to the PUB port."""
        ...

    def may_hear(self, public: str, topic: bytes) -> bool:
        """Whether that key's owner may listen to a topic."""
        ...
