"""`vm check`: ask all hosts what their VMs are known by, and print what `duplicates.py` makes of it."""

from __future__ import annotations

import time
from typing import Any

from maglica.cli import checks, duplicates, output
from maglica.cli.answer import PARTIAL, Answer
from maglica.cli.session import Session, look
from maglica.declare import Action, nearest
from maglica.errors import EXIT_STATUS, Refused

PATIENCE = 15.0  # seconds that hosts have: agents may be slow
DEEP = 600.0  # seconds that hosts have to read disks
PAUSE = 1.0  # seconds between two questions how far they are


def check(actions: list[Action], session: Session) -> int:
    """The exit status: 5 when something is shared, 10 when a host did not answer."""
    values = actions[0].values()
    wanted = [str(action.values()["name"]) for action in actions if action.values()["name"]]
    if not wanted and not values["all"]:
        raise Refused("wrong_input", "vm check: which VM?", "name some, or use --all")
    message, vms = _asked(None, session)
    about = None if values["all"] else {duplicates.label(vm) for name in wanted for vm in _meant(name, vms)}
    if values["deep"]:
        names = sorted({vm["name"] for vm in vms if about is None or duplicates.label(vm) in about})
        message, vms = _read(names, session)
    return _shown(duplicates.findings(vms, about), type(actions[0]), message, session)


def _asked(deep: list[str] | None, session: Session) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    message = session.connection.call("vm identify", {"deep": deep}, PATIENCE)
    return message, list(message["items"])


def _read(names: list[str], session: Session) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ask until the hosts have read all disks, or the time is up: then those are unknown."""
    until = time.monotonic() + (session.options.timeout or DEEP)
    said = -1
    while True:
        message, vms = _asked(names, session)
        left = sum(bool(vm.get("reading")) for vm in vms)
        if not left or time.monotonic() >= until:
            return message, vms
        if left != said:
            said = left
            session.note(f"the disks of {left} VMs are still to be read")
        time.sleep(PAUSE)


def _meant(name: str, vms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The VMs that a name means: NAME, NAME@HOST, or NAME up to a dot. Several are several findings."""
    bare, _, host = name.partition("@")
    here = [vm for vm in vms if host in ("", vm["host"])]
    found = [vm for vm in here if vm["name"] == bare] or [vm for vm in here if vm["name"].startswith(f"{bare}.")]
    if not found:
        close = nearest(bare, {vm["name"] for vm in vms})
        hint = f"did you mean {close}?" if close else "`maglica vm list` shows them; images are not checked"
        raise Refused("unknown_entity", f"there is no VM {name}", hint)
    return found


def _shown(found: list[checks.Finding], action: type[Action], message: dict[str, Any], session: Session) -> int:
    items = [finding._asdict() for finding in found]
    page = output.table(items, list(action.COLUMNS), look(session.options), headers=session.options.headers)
    # Below the table, where a terminal does not cut them.
    cures = "".join(f"\n{one.check}, {one.about}, {one.found}:\n  {one.cure}\n" for one in found if one.cure)
    answer = Answer(
        "vm.check",
        items=items,
        observed_at=message.get("observed_at"),
        missing_hosts=message.get("missing_hosts"),
        columns=action.COLUMNS,
        wide=action.WIDE,
        text=page + cures,
    )
    partial = session.show(answer) == PARTIAL
    if any(finding.state == checks.BAD for finding in found):
        return EXIT_STATUS["already_exists"]
    return PARTIAL if partial else 0
