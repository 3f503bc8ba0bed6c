"""The global options: what every command understands. Each has an environment variable, MAGLICA_ and its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maglica import kinds
from maglica.declare import Arg, Record, arg
from maglica.errors import Refused

FORMATS = ("table", "wide", "json", "jsonl", "yaml", "csv", "name")


class Globals(Record):
    """Options of every command."""

    output: str = arg(kinds.choice(*FORMATS), "how the result is printed", default="table")
    columns: list[str] | None = arg(
        kinds.list_of(kinds.TEXT), "which columns, such as name,host; +KEY adds one", default=None
    )
    sort: list[str] | None = arg(
        kinds.list_of(kinds.TEXT), "sort by a key; --sort=-KEY: the greatest first", default=None
    )
    filter: str | None = arg(kinds.TEXT, "only what matches, such as 'state=running,memory>2G,name~^web'", default=None)
    headers: bool = arg(kinds.BOOL, "print the header line", default=True)
    color: str = arg(kinds.choice("auto", "always", "never"), "colours; auto: on a terminal", default="auto")
    quiet: bool = arg(kinds.BOOL, "no progress and no notes", default=False)
    verbose: int = arg(kinds.integer(0, 9), "tell more; twice: tracebacks of unexpected errors", default=0)
    config: str | None = arg(kinds.TEXT, "settings file", default=None)
    client: str | None = arg(kinds.TEXT, "where the client worker is: ADDRESS or ADDRESS:PORT", default=None)
    key: str | None = arg(kinds.TEXT, "key file: who you are for the client worker", default=None)
    timeout: float | None = arg(
        kinds.DURATION, "how long to wait for hosts, or for a job (which goes on)", default=None
    )
    wait: bool = arg(kinds.BOOL, "wait for a job's end; --no-wait prints its id", default=True)
    dry_run: bool = arg(kinds.BOOL, "print what would be done, and do nothing", default=False)
    yes: bool = arg(kinds.BOOL, "do not ask before something is destroyed", default=False)
    reason: str | None = arg(kinds.TEXT, "why; kept with the job", default=None)
    idempotency_key: str | None = arg(kinds.TEXT, "the same key is the same job, also later", default=None)


# The library reads these from the environment by itself, and knows then where they came from.
OF_THE_LIBRARY = ("config", "client", "key")


def variable(field: Arg) -> str:
    """The environment variable of a global option."""
    return "MAGLICA_" + field.name.upper()


def read(given: Mapping[str, Any], environ: Mapping[str, str]) -> Globals:
    """The global options: what was given, otherwise what the environment says, otherwise defaults."""
    found: dict[str, Any] = {}
    for name, field in Globals.FIELDS.items():
        if name in given:
            found[name] = _checked(field, field.option, given[name])
        elif name not in OF_THE_LIBRARY and environ.get(variable(field)):
            found[name] = _checked(field, variable(field), environ[variable(field)])
    return Globals(**found)


def _checked(field: Arg, origin: str, value: Any) -> Any:
    try:
        return field.kind.check(value)
    except ValueError as error:
        raise Refused("wrong_input", f"{origin}: {error}", f"expected {field.kind.expected}") from None
