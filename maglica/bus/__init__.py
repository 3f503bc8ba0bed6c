"""The sockets. The only folder that imports zmq.

PUB on the client worker is a doorbell and may lose messages; REP is the ledger. Behind them stand XPUB (which shows who
has subscribed) and ROUTER (which can answer out of order and later); a plain SUB and a plain REQ see no difference.

Both are encrypted by CURVE (https://rfc.zeromq.org/spec/26/). Who may connect is asked of a `Gate` in the loop of
whoever serves, and the public key of the peer comes with every request and subscription.

`events.py` what comes in · `server.py` the client worker's side · `client.py` the library's · `listener.py` a host
worker's · `talking.py` the library's for streams · `knocking.py` why nobody answers · `sockets.py` what all of them do.
"""

from maglica.bus.client import Client
from maglica.bus.events import Breach, Event, Gate, Request, Route, Subscription
from maglica.bus.knocking import KEY_REFUSED
from maglica.bus.listener import Listener
from maglica.bus.server import UNREAD, Server
from maglica.bus.sockets import endpoint, new_pair
from maglica.bus.talking import Talker

__all__ = [
    "KEY_REFUSED", "UNREAD", "Breach", "Client", "Event", "Gate", "Listener", "Request", "Route", "Server",
    "Subscription", "Talker", "endpoint", "new_pair",
]  # fmt: skip
