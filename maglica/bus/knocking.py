"""Why nobody answers: found out by a second, watched connection."""

from __future__ import annotations

import time

import zmq

from maglica import wire
from maglica.bus.sockets import left, requester
from maglica.errors import Refused
from maglica.keys import Key, fingerprint

KNOCK = 0.8  # seconds that somebody has to answer that; both together stay below 3 s


# What a knock finds out.
ANSWERED = "answered"
SILENT = "silent"  # nothing accepts connections
UNKNOWN = "unknown"  # this process itself had no time to look, or a name server takes its time
BUSY = "busy"  # something does, and says nothing yet
KEY_REFUSED = "key refused"
OTHER_SERVER = "other server"
KEY_WANTED = "key wanted"

# What is seen when a connection is tried, whatever comes of it: begun, refused, or to be tried again.
TRIED = (zmq.EVENT_CONNECT_DELAYED, zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED)

KNOCKS = {
    KEY_REFUSED: (
        "the client worker at {where} does not accept the key {key}",
        "it was revoked, has expired or was never known there: people get a new one by `maglica key new NAME`,"
        " hosts by `maglica host invite NAME`",
    ),
    OTHER_SERVER: (
        "whoever answers at {where} is not the client worker that the key {key} is for",
        "is the address right, is its bus encrypted ([client] security), has it been installed anew?",
    ),
    KEY_WANTED: (
        "the client worker at {where} wants a key, and the settings here say security = none",
        "remove [client] security from the settings, and give a key",
    ),
}


def refusal(found: str, where: str, key: Key | None) -> Refused:
    """The error that says what a knock found out."""
    message, hint = KNOCKS[found]
    shown = f"{key.name} ({fingerprint(key.public)})" if key else "none"
    return Refused("denied", message.format(where=where, key=shown), hint, details={"knock": found})


def knock(context: zmq.Context[zmq.Socket[bytes]], address: str, port: int, key: Key | None, seconds: float) -> str:
    """Find out within some seconds why nobody answers: a new connection, watched."""
    from zmq.utils.monitor import recv_monitor_message  # needed only when something is wrong

    socket = requester(context, address, port, key, watched=True)
    monitor = socket.get_monitor_socket(zmq.EVENT_ALL)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    # That nobody is there wants something to be seen: on a busy machine libzmq's thread may not have run at all.
    until, breaks, found = time.monotonic() + seconds, 0, UNKNOWN
    try:
        socket.send(wire.encode({"op": "ping"}))
        while time.monotonic() < until:
            ready = dict(poller.poll(left(until)))
            if socket in ready:
                return ANSWERED
            if monitor not in ready:
                continue
            event = recv_monitor_message(monitor)["event"]
            if event in TRIED and found == UNKNOWN:
                found = SILENT
            if event == zmq.EVENT_CONNECTED:
                found = BUSY  # the client worker's loop decides on handshakes, and it may be waiting for its disk
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                return KEY_REFUSED
            if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                return OTHER_SERVER if key else KEY_WANTED
            # A client worker that stops in the middle of a handshake looks the same, once.
            breaks += event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            if breaks == 2:
                return OTHER_SERVER if key else KEY_WANTED
        return found
    finally:
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)
