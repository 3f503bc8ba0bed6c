"""Knocking at a port, with real sockets; and the neighbour table."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from maglica.host_worker.domain import neighbours

PATIENCE = 0.5


@contextmanager
def serving(greet: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            greet(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        thread.join(5)
        server.close()


def in_pieces(connection: socket.socket) -> None:
    for piece in (b"Welcome\r\nSS", b"H-2.0-Open", b"SSH_9.2\r\n"):
        connection.sendall(piece)
        time.sleep(0.05)


def mail(connection: socket.socket) -> None:
    connection.sendall(b"220 smtp\r\n")
    time.sleep(1)


@pytest.mark.parametrize(
    ("greet", "ssh", "said"),
    [
        (lambda connection: connection.sendall(b"SSH-2.0-dropbear\r\n"), True, "speaks ssh"),
        (in_pieces, True, "speaks ssh"),
        (
            lambda connection: connection.sendall(b"220 smtp\r\n") or time.sleep(1),
            False,
            "is open and says something else",
        ),
        (lambda connection: time.sleep(1), False, "is open and says nothing"),
        (lambda connection: None, False, "is open and closes at once"),
    ],
    ids=["ssh", "in pieces", "smtp", "silent", "closing"],
)
def test_what_a_server_says(greet: Callable[[socket.socket], None], ssh: bool, said: str) -> None:
    with serving(greet) as port:
        found = neighbours.knock("127.0.0.1", port, PATIENCE, PATIENCE)
    assert (found.answers, found.ssh) == (True, ssh)
    assert found.said == f"port {port} {said}"


def test_a_flood_instead_of_a_greeting_ends() -> None:
    def flood(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            pass

    began = time.monotonic()
    with serving(flood) as port:
        found = neighbours.knock("127.0.0.1", port, PATIENCE, PATIENCE)
    assert (found.ssh, time.monotonic() - began < 2 * PATIENCE) == (False, True)


def test_a_closed_port_is_an_answer_and_a_full_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert neighbours.knock("127.0.0.1", port, PATIENCE, PATIENCE) == (True, False, f"port {port} refuses")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # nobody accepts: the next one waits for ever
            found = neighbours.knock("127.0.0.1", port, 0.2)
    assert (found.answers, found.said) == (False, f"port {port} does not answer")


def test_an_address_without_a_way_to_it() -> None:
    found = neighbours.knock("::ffff:0.0.0.0:1", 22, PATIENCE, PATIENCE)
    assert (found.answers, found.ssh) == (False, False)
    assert found.said


TABLE = [
    "192.168.101.21   0x1         0x2         52:54:00:63:61:BD     *        virbr0",
    "192.168.101.22   0x1         0x0         00:00:00:00:00:00     *        virbr0",
    "192.168.101.2    0x1         0x6         52:54:00:63:61:02     *        virbr0",
    "",
]


def test_the_neighbour_table_knows_complete_entries_only() -> None:
    assert neighbours.find("192.168.101.21", TABLE) == "52:54:00:63:61:bd"
    assert neighbours.find("192.168.101.22", TABLE) is None
    assert neighbours.find("192.168.101.2", TABLE) == "52:54:00:63:61:02"
    assert neighbours.find("192.168.101.23", TABLE) is None
    assert neighbours.owner("198.51.100.77") is None
