"""What a host tells of its jobs, and what it is told of them. Values in, values out."""

from __future__ import annotations

from typing import Any

from maglica.errors import Refused, from_wire, plain
from maglica.job import Job

# What a host may tell of a job, and of which type: it is kept for years and shown to people.
REPORTED = {"state": str, "step": str, "progress": dict, "steps": list, "commands": list, "result": dict, "error": dict}
NUMBER = (int, float, type(None))
STEP: dict[str, Any] = {"name": str, "seconds": NUMBER, "note": (str, type(None))}
COMMAND: dict[str, Any] = {"argv": list, "exit_status": NUMBER, "seconds": NUMBER, "stderr": (str, type(None))}


def refuse_malformed(report: Any) -> None:
    """A report of a job holds what it must, before anything of its message is recorded."""
    if not isinstance(report, dict) or not isinstance(report.get("id"), str):
        raise Refused("wrong_input", "sync: a report of a job has no id")
    for name, kind in REPORTED.items():
        if report.get(name) is not None and not isinstance(report[name], kind):
            found = type(report[name]).__name__
            raise Refused("wrong_input", f"sync: {name} of job {report['id']} is a {found}, expected {kind.__name__}")
    for name, fields in (("steps", STEP), ("commands", COMMAND)):
        if not all(_has(entry, fields) for entry in report.get(name) or []):
            raise Refused("wrong_input", f"sync: {name} of job {report['id']} has an entry that is none")
    if not plain({name: report.get(name) for name in ("steps", "commands", "result")}):
        raise Refused("wrong_input", f"sync: the report of job {report['id']} holds what JSON does not")


def _has(entry: Any, fields: dict[str, Any]) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in fields.items())


def error_of(report: dict[str, Any], job: str) -> dict[str, Any] | None:
    """The error that a host tells of a job's end, in the form that all errors have."""
    told = report.get("error")
    return {**from_wire(told).to_wire(), "job": job} if told else None


def take_progress(record: Job, report: dict[str, Any]) -> None:
    """Write into a record how far its host is."""
    record["step"] = report.get("step") or record["step"]
    record["progress"] = _progress(report.get("progress"))
    placed = [step for step in record["steps"][:1] if step.get("name") == "place"]  # a host may call a step so, too
    record["steps"] = placed + list(report.get("steps") or [])
    record["commands"] = list(report.get("commands") or [])


def _progress(told: Any) -> dict[str, int] | None:
    """How many of how many bytes, where it is that."""
    names = ("done_bytes", "total_bytes")
    if not isinstance(told, dict) or not all(isinstance(told.get(name), int) for name in names):
        return None
    return {name: told[name] for name in names}


def handed(record: Job) -> dict[str, Any]:
    """What a host needs of a job."""
    names = ("id", "attempt", "action", "args", "slot", "limit_seconds", "object")
    return {name: record[name] for name in names}  # type: ignore[literal-required]


def count(value: Any) -> int:
    """A number that a host told; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
