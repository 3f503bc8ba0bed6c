"""The check-up: ask everybody about themselves, and print what `checks.py` makes of it."""

from __future__ import annotations

from typing import Any

from maglica import config, keys, machine
from maglica.cli import checks, output
from maglica.cli.answer import Answer
from maglica.cli.session import Session, look
from maglica.declare import Action
from maglica.errors import MaglicaError
from maglica.keys import Key

PATIENCE = 3.0  # seconds that a port has to be reached
LOOKS = 15.0  # seconds that hosts have for a look at themselves: resolvers take their time


def doctor(action: type[Action], session: Session) -> int:
    """The exit status: 1 when something is bad."""
    found = checks.all_of(_facts(session))
    items = [finding._asdict() for finding in found]
    page = output.table(items, list(action.COLUMNS), look(session.options), headers=session.options.headers)
    # Below the table, where a terminal does not cut them.
    cures = "".join(f"\n{one.check}, {one.about}:\n  {one.cure}\n" for one in found if one.cure)
    session.show(Answer("doctor", items=items, columns=action.COLUMNS, wide=action.WIDE, text=page + cures))
    return 1 if any(finding.state == checks.BAD for finding in found) else 0


def _facts(session: Session) -> checks.Facts:
    settings = session.settings
    key, wrong = _key(settings)
    address, pub_port, rep_port = config.reach(settings, key)
    facts = checks.Facts(address, pub_port, rep_port, settings.file)._replace(
        ports={port: machine.port(address, port, PATIENCE) for port in (pub_port, rep_port)},
        name=machine.name(address),
        folders=_own_folders(settings),
        error=wrong.to_wire() if wrong else None,
    )
    if facts.error or facts.ports[rep_port] is not None:
        return facts  # nobody can be asked
    try:
        return facts._replace(**_told(session))
    except MaglicaError as error:
        return facts._replace(error=error.to_wire())


def _key(settings: config.Settings) -> tuple[Key | None, MaglicaError | None]:
    """The key of whoever asks, or what is wrong with it."""
    if settings.client.security == "none":
        return None, None
    try:
        return keys.own(settings.client.key, config.usual_keys(settings)), None
    except MaglicaError as error:
        return None, error


def _own_folders(settings: config.Settings) -> list[dict[str, Any]]:
    """The folder of keys, where this user may look into it: elsewhere it is its daemon that looks."""
    told = machine.folder(settings.paths.keys)
    return [told] if told["ours"] else []


def _told(session: Session) -> dict[str, Any]:
    connection = session.connection
    told: dict[str, Any] = {
        "version": connection.hello()["version"],
        "hosts": connection.call("host list", {})["items"],
    }
    try:
        before = machine.clock()
        store = connection.call("job store", {})["item"]
        after = machine.clock()
        checked = connection.call("host check", {}, LOOKS)
    except MaglicaError as error:
        if error.code != "denied":
            raise
        return {**told, "denied": error.to_wire()}
    # Half of the way there and back is the best guess of when the other one looked at its clock.
    clock = (before + after) / 2 - store["clock"]
    return {
        **told, "store": store, "clock": clock, "checked": checked["items"], "missing": checked["missing_hosts"],
    }  # fmt: skip
