"""What a host tells of its jobs, and what it is told of them. Values in, values out."""

from __future__ import annotations

from typing import Any

from maglica.errors import Refused
from maglica.job import Job

# What a host may tell of a job, and of which type: it is kept for years and shown to people.
REPORTED = {"state": str, "step": str, "progress": dict, "steps": list, "commands": list, "result": dict, "error": dict}


def refuse_malformed(report: Any) -> None:
    """A report of a job holds what it must, before anything of its message is recorded."""
    if not isinstance(report, dict) or not isinstance(report.get("id"), str):
        raise Refused("wrong_input", "sync: a report of a job has no id")
    for name, kind in REPORTED.items():
        if report.get(name) is not None and not isinstance(report[name], kind):
            found = type(report[name]).__name__
            raise Refused("wrong_input", f"sync: {name} of job {report['id']} is a {found}, expected {kind.__name__}")
    for name, must in (("steps", "name"), ("commands", "argv")):
        if not all(isinstance(entry, dict) and must in entry for entry in report.get(name) or []):
            raise Refused("wrong_input", f"sync: {name} of job {report['id']} has an entry without {must}")


def take_progress(record: Job, report: dict[str, Any]) -> None:
    """Write into a record how far its host is."""
    record["step"] = report.get("step") or record["step"]
    record["progress"] = report.get("progress")
    placed = [step for step in record["steps"] if step.get("name") == "place"]
    record["steps"] = placed + list(report.get("steps") or [])
    record["commands"] = list(report.get("commands") or [])


def handed(record: Job) -> dict[str, Any]:
    """What a host needs of a job."""
    names = ("id", "attempt", "action", "args", "slot", "limit_seconds", "object")
    return {name: record[name] for name in names}  # type: ignore[literal-required]


def count(value: Any) -> int:
    """A number that a host told; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
