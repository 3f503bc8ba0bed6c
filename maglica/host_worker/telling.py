"""What is told in the place of something that cannot be told or kept: values in, values out.

A name that a guest chose, a number beyond all sizes, what another host put into an error: whatever has come into an
answer or a report, it ends neither the loop that tells it nor the job that it is about.
"""

from __future__ import annotations

import json
from typing import Any

from maglica import wire
from maglica.errors import Failed, MaglicaError
from maglica.host_worker.journal import Entry
from maglica.host_worker.unexpected import unexpected

MOST = wire.MAX_BYTES // 2  # bytes of one report: it shares a message with others, and nobody takes a longer one
PIECES: dict[str, Any] = {"commands": [], "steps": [], "progress": None, "step": None}  # a report is one without them

Message = wire.Message


def check(value: Any) -> None:
    """Raise what is wrong with a value that the journal shall keep and the client worker shall understand."""
    kept = json.loads(json.dumps(value))
    try:
        wire.decode(wire.encode({"done": [kept]}), MOST)
    except MaglicaError as error:  # it is nobody's refusal
        raise ValueError(error.message) from None


def fits(value: Any) -> bool:
    """Whether that raises nothing."""
    try:
        check(value)
    except Exception:
        return False
    return True


def words(text: str) -> str:
    """A text in which what can neither be kept nor told is escaped: the bytes of a name that is no UTF-8, say."""
    return text.encode(errors="backslashreplace").decode()


def answer(told: Message, what: str, host: str) -> Message:
    """An answer to a question, or the error that it cannot be told. `what`: as for `unexpected`."""
    try:
        wire.encode(told)
    except Exception as error:
        return wire.failure(unexpected(error, what, host))
    return told


def bare(message: Message) -> Message:
    """A message without what cannot be encoded."""
    found = {}
    for name, value in message.items():
        try:
            wire.encode({name: value})
        except Exception:
            continue
        found[name] = value
    return found


def report(told: Message) -> Message:
    """A report of a job, if need be without the pieces that cannot be told; its id, state, result and error stay."""
    if fits(told):
        return told
    some = {**told, **{name: empty for name, empty in PIECES.items() if name in told and not fits(told[name])}}
    none = {**told, **{name: empty for name, empty in PIECES.items() if name in told}}
    return next((one for one in (some, {**some, "commands": []}) if fits(one)), none)


def outcome(told: Message, what: str, host: str) -> Message:
    """How a job ended, as it can be written down: an internal error where its own result or error cannot."""
    found = report(told)
    try:
        check(found)
        return found
    except Exception as error:
        failed = unexpected(error, what, host)
    left = ((told["error"] or {}).get("details") or {}).get("left_behind")
    failed.details = {"left_behind": left} if left and fits(left) else {}
    return report({**told, "state": "failed", "result": None, "error": failed.to_wire()})


def kept(entry: Entry, host: str) -> Message:
    """The outcome in an entry of the journal, which an earlier release may have written. What has happened has
    happened: its state stays, and some words say that nothing else can be told.
    """
    told = report(entry.outcome or {})
    if fits(told):
        return told
    note = f"{host} cannot tell more: it is no message"
    done = told["state"] == "done"
    result = {"name": entry.object, "changed": None, "note": note} if done else None
    error = None if done else Failed("internal_error", note, "look at what it was about with `maglica vm info`")
    return report({**told, "result": result, "error": error.to_wire() if error else None})
