"""What comes out of a guest: the output of commands, and files."""

from __future__ import annotations

import base64
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from maglica.actions.vm.inside import VmReadFile
from maglica.cli.answer import Answer, Value
from maglica.cli.session import Session
from maglica.declare import Action
from maglica.errors import Failed, Refused

if TYPE_CHECKING:
    from maglica.cli.outcome import Outcome

MOST = 1 << 30  # bytes of one file
WITHIN = 60.0  # seconds for a piece of it


def came_to_an_end(outcome: Outcome) -> bool:
    """Whether a command ran and ended by itself, whatever its status."""
    return "exit_status" in _of(outcome) and "overdue" not in _of(outcome)


def _of(outcome: Outcome) -> Value:
    """What is known of the command of a job: from its result, or from its error."""
    record: Any = outcome.job.record if outcome.job else {}
    return record.get("result") or (record.get("error") or {}).get("details") or {}


def tell(outcome: Outcome, session: Session) -> int:
    """The output and the exit status of the guest's command as if it had run here."""
    told = _of(outcome)
    if session.options.output not in ("table", "wide"):
        session.show(Answer("vm.exec", item={**told, "job": outcome.job.id if outcome.job else None}))
    else:
        show(told, session)
    return int(told["exit_status"])


def show(told: Value, session: Session) -> None:
    """Write what a command printed to where it printed it."""
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        encoded = told.get(f"{name}_base64")
        data = base64.b64decode(encoded) if encoded else str(told.get(name) or "").encode()
        _write(stream.buffer, data)
    if told.get("cut"):
        session.complain(["it printed more than this: let it write into a file in the guest, and `maglica vm get` it"])


def show_what_there_is(outcome: Outcome, session: Session) -> None:
    """What a command printed that took too long; its error is told afterwards."""
    if session.options.output in ("table", "wide"):
        show(_of(outcome), session)


def show_several(rows: list[Value], session: Session) -> None:
    """The output of one command in several guests, one after the other."""
    for row in rows:
        told = row["result"] or (row["error"] or {}).get("details") or {}
        if "exit_status" in told:
            session.write(f"== {row['name']}: exit status {told['exit_status']}\n")
            show(told, session)


def _write(stream: BinaryIO, data: bytes) -> None:
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed("environment_error", f"cannot write the result: {error.strerror}") from None


# ---- files ------------------------------------------------------------------------------------------------------


def get(action: Action, session: Session) -> int:
    """Bring a file here, piece by piece; it gets its name when it is whole."""
    values = action.values()
    to = _target(values["path"], values["to"])
    if to == "-":
        _bring(values, sys.stdout.buffer, session)
        return 0
    part = f"{to}.{os.getpid()}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                size = _bring(values, file, session)
            os.replace(part, to)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise
    except OSError as error:
        raise Failed("environment_error", f"cannot write {to}: {error.strerror}") from None
    item = {"name": values["name"], "path": values["path"], "file": to, "bytes": size}
    return session.show(Answer("vm.get", item=item, text=f"{to}\n"))


def _target(path: str, to: str | None) -> str:
    name = os.path.basename(path)
    if not name:
        raise Refused("wrong_input", f"vm get: {path} is not the path of a file")
    if to is None or os.path.isdir(to):
        return os.path.join(to or "", name)
    return to


def _bring(values: Value, file: BinaryIO, session: Session) -> int:
    """Write the file that is asked for; how many bytes it has."""
    size = 0
    while True:
        asked = VmReadFile(name=values["name"], path=values["path"], offset=size)
        told = session.connection.read(asked, session.options.timeout or WITHIN)["item"]
        data = base64.b64decode(told["base64"])
        _write(file, data)
        size += len(data)
        if told["ends"]:
            return size
        if size >= MOST:
            raise Refused("wrong_input", f"{values['path']} has more than {MOST >> 30} GiB", "split it in the guest")
