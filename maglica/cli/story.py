"""A job's record -> its story as plain text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from maglica import declare
from maglica.cli.cells import duration, printable, written
from maglica.job import DONE, FINAL, Job

TAIL = 20  # lines of what a command said last


def story(record: Job) -> str:
    """Who asked for what, each step with its time, each command with its exit status and last words, and the end."""
    lines = [_head(record), *(f"  {name}: {value}" for name, value in _facts(record))]
    for step in record["steps"]:
        lines.append(_step(step))
    if record["state"] not in FINAL and record["step"]:
        lines.append(f"step {record['step']}: since {record['updated_at']}")
    for command in record["commands"]:
        lines += _command(command)
    lines.append(_end(record))
    return printable("\n".join(lines)) + "\n"


def _head(record: Job) -> str:
    return f"job {record['id']}: {record['action']} {record['object'] or ''}".rstrip()


def _facts(record: Job) -> list[tuple[str, str]]:
    facts = [
        ("asked by", f"{record['owner']} at {record['created_at']}"),
        ("reason", record["reason"]),
        ("arguments", " ".join(given(record))),
        ("host", record["host"]),
        ("started", record["started_at"]),
        ("ended", record["ended_at"]),
    ]
    return [(name, value) for name, value in facts if value]


def typed(action: str, name: str, value: Any) -> str:
    """The value of an argument as it would be typed."""
    field = declare.find(action).action.FIELDS.get(name)
    return " ".join(written(field.kind.name if field else "", value).split())


def asked(request: dict[str, Any]) -> str:
    """What was asked for, as it would be typed."""
    return " ".join([str(request["action"]), *_typed(str(request["action"]), request["args"])])


def given(record: Job) -> Iterator[str]:
    """The arguments as they would be typed; those that are as they would have been anyway are left out."""
    return _typed(record["action"], record["args"])


def _typed(action: str, args: dict[str, Any]) -> Iterator[str]:
    fields = declare.find(action).action.FIELDS
    for name, value in args.items():
        field = fields.get(name)
        if value is not None and (field is None or value != field.default):
            text = " ".join(written(field.kind.name if field else "", value).split())
            yield f"--{name.rstrip('_').replace('_', '-')}={shlex.quote(text if len(text) <= 80 else text[:79] + '…')}"


def _step(step: dict[str, Any]) -> str:
    seconds = step.get("seconds")
    took = "" if seconds is None else f" ({duration(float(seconds))})"
    note = f": {step['note']}" if step.get("note") else ""
    return f"step {step.get('name', '?')}{took}{note}"


def _command(command: dict[str, Any]) -> list[str]:
    argv = " ".join(shlex.quote(str(word)) for word in command.get("argv") or [])
    seconds = command.get("seconds")
    took = "" if seconds is None else f" after {duration(float(seconds))}"
    status = command.get("exit_status")
    lines = [f"$ {argv}", f"  exit status {'?' if status is None else status}{took}"]
    last = str(command.get("stderr") or "").rstrip().splitlines()[-TAIL:]
    return lines + [f"  | {line}" for line in last]


def _end(record: Job) -> str:
    if record["state"] not in FINAL:
        return f"TASK {record['state'].upper()}"
    if record["state"] == DONE:
        return "TASK OK"
    error = record["error"] or {}
    message = error.get("message") or record["state"]
    hint = f"\n  {error['hint']}" if error.get("hint") else ""
    details = error.get("details") or {}
    return f"TASK ERROR: {message}{hint}{_output(details)}{_console(details)}"


def _output(details: dict[str, Any]) -> str:
    """What a script or program inside a guest has printed last."""
    if not isinstance(details.get("output"), str):
        return ""
    lines = [f"  | {line}" for line in details["output"].rstrip().splitlines()[-TAIL:]] or ["  nothing"]
    return "\n".join(["\nwhat it printed, the last lines:", *lines])


def _console(details: dict[str, Any]) -> str:
    """What a guest wrote to its serial console last, where a job waited for it in vain."""
    if not isinstance(details.get("console"), list):
        return ""
    lines = [f"  | {line}" for line in details["console"]] or ["  it is empty"]
    return "\n".join([f"\nconsole of {details.get('vm', 'the VM')}, the last lines:", *lines])
