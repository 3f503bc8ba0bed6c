"""What can go wrong, as codes that never change their meaning.

Two families, one root. `Refused`: the request was looked at and turned down, nothing was touched. `Failed`: the work
began and did not succeed; what it had made was undone. Both travel over the bus as a map and arrive in the terminal
as the class they left as.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# code -> exit status of the command line. The README lists them; a test keeps the two the same.
EXIT_STATUS = {
    "wrong_input": 2,
    "unknown_entity": 4,
    "already_exists": 5,
    "ambiguous_name": 2,
    "wrong_state": 5,
    "locked": 5,
    "protected": 5,
    "no_capacity": 6,
    "environment_error": 1,
    "denied": 9,
    "unreachable": 8,
    "host_down": 1,
    "timeout": 7,
    "cancelled": 1,
    "lost": 1,
    "partial": 10,
    "version_mismatch": 11,
    "wrong_cluster": 5,
    "store_went_back": 5,
    "internal_error": 1,
}

# Codes where the very same request may succeed a little later without anybody changing it.
RETRYABLE = frozenset({"locked", "no_capacity", "unreachable", "host_down", "timeout"})

# Codes whose exit statuses say that nothing is decided yet. Of a job that has ended they are a failure like any other.
UNDECIDED = frozenset({"timeout", "unreachable"})

MAX_TEXT = 4000  # characters of a message or a hint


class MaglicaError(Exception):
    """The root of all errors that a user may see.

    `code` is a key of `EXIT_STATUS`; `hint` says what to do next, `details` holds values for programs (plain msgpack
    types only), `job` the id of the job that failed, when there is one.
    """

    kind = "failed"
    ended = False  # it is how a job ended

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        details: dict[str, Any] | None = None,
        job: str | None = None,
    ) -> None:
        super().__init__(clipped(message))
        self.code = code if code in EXIT_STATUS else "internal_error"
        self.message = clipped(message)
        self.hint = clipped(hint)
        self.details = details or {}
        self.job = job

    @property
    def retryable(self) -> bool:
        return self.code in RETRYABLE

    @property
    def exit_status(self) -> int:
        return 1 if self.ended and self.code in UNDECIDED else EXIT_STATUS[self.code]

    def to_wire(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "job": self.job,
            "details": self.details,
        }


def clipped(text: str) -> str:
    """A text for people: what a message repeats may be as long as a message of the bus."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


class Refused(MaglicaError):
    """Turned down before anything was touched."""

    kind = "refused"


class Failed(MaglicaError):
    """Began and did not succeed."""


def plain(value: Any) -> bool:
    """Whether a value is one of JSON's: what is told is kept in records and shown to people."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and plain(one) for name, one in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def from_wire(value: dict[str, Any]) -> MaglicaError:
    """Rebuild the error that `to_wire` described. An unknown code becomes `internal_error`, its text stays; details
    that are not `plain` are left out.
    """
    details, job = value.get("details"), value.get("job")
    family: type[MaglicaError] = Refused if value.get("kind") == "refused" else Failed
    return family(
        str(value.get("code", "internal_error")),
        str(value.get("message", "")),
        str(value.get("hint") or ""),
        details={name: one for name, one in details.items() if plain(one)} if isinstance(details, dict) else {},
        job=job if isinstance(job, str) else None,
    )


def end_of(record: Mapping[str, Any]) -> MaglicaError:
    """How a job ended, or a member of a group: the error of its record, whatever it is."""
    name = record.get("id") or record.get("job")
    error = from_wire(record["error"] or {"message": f"job {name} ended as {record['state']}"})
    error.ended = True
    return error
