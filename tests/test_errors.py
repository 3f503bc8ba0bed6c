"""Errors: codes, families, exit statuses, and the way over the wire."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from maglica import errors, wire
from maglica.errors import EXIT_STATUS, RETRYABLE, Failed, MaglicaError, Refused, end_of, from_wire

PACKAGE = Path(errors.__file__).parent

# docs: conventions of the command line. 0 is success, 3 is left to `systemctl`'s meaning, 130 is Ctrl-C.
STATUSES = {
    1: {"environment_error", "host_down", "cancelled", "lost", "internal_error"},
    2: {"wrong_input", "ambiguous_name"},
    4: {"unknown_entity"},
    5: {"already_exists", "wrong_state", "locked", "protected", "wrong_cluster", "store_went_back"},
    6: {"no_capacity"},
    7: {"timeout"},
    8: {"unreachable"},
    9: {"denied"},
    10: {"partial"},
    11: {"version_mismatch"},
}


def test_codes_and_exit_statuses() -> None:
    assert {code: status for status, codes in STATUSES.items() for code in codes} == EXIT_STATUS
    readme = (PACKAGE.parent / "README.md").read_text()
    told = readme.partition("an error has a code")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", told)) == EXIT_STATUS.keys()
    for status in STATUSES:
        assert f" {status} " in readme.partition("Exit codes:")[2].partition("\n\n")[0]
    assert set(EXIT_STATUS) >= RETRYABLE


@pytest.mark.parametrize("code", EXIT_STATUS)
def test_of_a_job_that_has_ended_none_says_that_it_goes_on(code: str) -> None:
    error = end_of({"id": "j", "state": "failed", "error": Failed(code, "text").to_wire()})
    assert error.exit_status == (1 if code in ("timeout", "unreachable") else EXIT_STATUS[code])
    assert end_of({"job": "j", "state": "lost", "error": None}).message == "job j ended as lost"


@pytest.mark.parametrize("code", EXIT_STATUS)
@pytest.mark.parametrize("family", [Refused, Failed])
def test_an_error_arrives_as_it_left(code: str, family: type[MaglicaError]) -> None:
    sent = family(code, "text ü", "hint", details={"a": [1, {"b": None}]}, job="1b7q2k0m4z")
    arrived = from_wire(wire.decode(wire.encode({"error": sent.to_wire()}))["error"])
    assert type(arrived) is family
    assert isinstance(arrived, MaglicaError)
    assert (arrived.code, arrived.message, arrived.hint) == (code, "text ü", "hint")
    assert (arrived.details, arrived.job) == ({"a": [1, {"b": None}]}, "1b7q2k0m4z")
    assert arrived.exit_status == EXIT_STATUS[code]
    assert arrived.retryable == (code in RETRYABLE)
    assert arrived.to_wire() == sent.to_wire()
    assert str(arrived) == "text ü"


def test_an_unknown_code_becomes_an_internal_error_and_keeps_its_text() -> None:
    error = from_wire({"kind": "refused", "code": "from_the_future", "message": "text"})
    assert type(error) is Refused
    assert (error.code, error.message) == ("internal_error", "text")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": 5, "code": 5, "message": 5, "hint": 5, "details": 5, "job": 5},
        {"kind": None, "code": None, "message": None, "hint": None, "details": None, "job": None},
        {"code": ["wrong_input"], "details": [1], "job": {}},
        {"code": {}, "details": "text"},
    ],
)
def test_whatever_claims_to_be_an_error_becomes_one(value: dict[str, Any]) -> None:
    error = from_wire(value)
    assert error.code in EXIT_STATUS
    assert isinstance(error.message, str)
    assert isinstance(error.hint, str)
    assert isinstance(error.details, dict), "whoever reads a detail may rely on it"
    assert error.job is None or isinstance(error.job, str)
    wire.encode(wire.failure(error))


def test_a_text_for_people_has_an_end() -> None:
    error = Refused("wrong_input", "x" * 100_000, "y" * 100_000)
    assert len(error.message) == len(error.hint) == errors.MAX_TEXT + 1
    assert error.message.endswith("x…")


def test_two_errors_do_not_share_their_details() -> None:
    one, other = Failed("timeout", "a"), Failed("timeout", "b")
    one.details["x"] = 1
    assert other.details == {}


def raised() -> list[tuple[str, int, str]]:
    """(file, line, code) of every error that the package makes with a literal code."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Refused", "Failed", "MaglicaError"):
                code = node.args[0] if node.args else None
                if isinstance(code, ast.Constant):
                    found.append((str(path.relative_to(PACKAGE)), node.lineno, str(code.value)))
    return found


def test_no_code_is_misspelt_anywhere() -> None:
    """A misspelt code would silently become `internal_error`."""
    found = raised()
    assert len(found) > 50
    assert not [(file, line, code) for file, line, code in found if code not in EXIT_STATUS]


def test_only_the_catch_alls_say_internal_error() -> None:
    files = {file for file, _, code in raised() if code == "internal_error"}
    processes = {file.split("/")[0] for file in files if "/" in file}
    assert {file for file in files if file.startswith(("client_worker", "host_worker"))} <= {
        "client_worker/outbox.py",
        "client_worker/asking/questions.py",  # a host's answer, not an error of ours
        "host_worker/unexpected.py",
        "host_worker/telling.py",  # in the place of an end that a journal holds and nobody can tell
        "host_worker/guest/child.py",
    }
    assert processes <= {"cli", "client_worker", "host_worker"}
