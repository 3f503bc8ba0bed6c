"""Who this host is for the client worker: its key, and how it gets one by an invitation."""

from __future__ import annotations

import logging
import os
import sys

from maglica import VERSION, config, keys
from maglica.bus import KEY_REFUSED, Client, new_pair
from maglica.errors import Refused
from maglica.keys import Invitation, Key

log = logging.getLogger("maglica.host_worker")

JOIN_WITHIN = 30.0  # seconds that the client worker may take to let us in
FROM_STDIN = "-"


def hide(token: str) -> None:
    """Start this program anew with the token on its standard input: everybody may read a command line (proc(5))."""
    reading, writing = os.pipe()
    os.write(writing, token.encode())
    os.close(writing)
    os.dup2(reading, 0)
    words = [FROM_STDIN if word == token else word.replace(f"={token}", f"={FROM_STDIN}") for word in sys.orig_argv]
    os.execv(sys.executable, [sys.executable, *words[1:]])


def identity(settings: config.Settings, token: str | None) -> tuple[str, Key | None]:
    """(the name of this host, its key). `token`: an invitation that is to be used first, where it was not yet.

    Without a setting the name is that of the only key here, otherwise the machine's full host name.
    """
    if settings.client.security == "none":
        return config.host_name(settings), None
    folder, name = settings.paths.keys, settings.host_worker.name
    if token:
        return _joined(keys.invitation(token), folder, name)
    found = keys.host_files(folder)
    if name is None and len(found) == 1:
        key = keys.load(found[0])
        return key.name, key
    name = config.host_name(settings)
    path = keys.host_file(folder, name)
    if path not in found:
        raise Refused(
            "denied",
            f"host {name} has no key: {path} does not exist",
            f"where the client worker is administrated: maglica host invite {name}; then here what that prints",
        )
    return name, keys.load(path)


def _joined(invited: Invitation, folder: str, name: str | None) -> tuple[str, Key]:
    """Use an invitation. Once it has been used, the key that came of it is taken."""
    if name is not None and name != invited.host:
        raise Refused(
            "wrong_input", f"the invitation is for host {invited.host}, this one is called {name}", "check --name"
        )
    path = keys.host_file(folder, invited.host)
    if os.path.exists(path):
        key = keys.load(path)
        if key.invitation == invited.digest:
            return key.name, key
    # The key is on disk before it is brought: an answer that was lost can be asked for again.
    coming = path + ".joining"
    key = keys.load(coming) if os.path.exists(coming) else Key("", "", "")
    if key.invitation != invited.digest:
        pair = new_pair()
        key = Key(
            invited.host, pair.public, pair.secret, invited.server,
            invited.address, invited.pub_port, invited.rep_port, invited.digest,
        )  # fmt: skip
        keys.save(coming, key)
    client = Client(invited.address, invited.rep_port, key)
    try:
        message = {"op": "join", "host": invited.host, "secret": invited.secret, "version": VERSION}
        client.ask(message, JOIN_WITHIN)
    except Refused as error:
        if error.details.get("knock") != KEY_REFUSED:
            raise
        # Nobody is expected there at all, so that nobody tells us more.
        raise Refused(
            "denied",
            f"the client worker at {invited.address} does not expect host {invited.host}: its invitation was used, has"
            " expired or was withdrawn",
            f"there: maglica host invite {invited.host}; if it was used and not by you, maglica host revoke"
            f" {invited.host} before",
        ) from None
    finally:
        client.close()
    keys.settle(coming, path)
    log.info("joined host=%s client=%s key=%s; --join is needed no more", key.name, invited.address, path)
    return key.name, key
