"""The command line: words -> command -> action -> client worker -> text. The only place where an error ends."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from maglica.errors import Failed, MaglicaError, Refused

INTERRUPTED = 130
BROKEN_PIPE = 141  # as the shell reports a process that SIGPIPE ended


def start() -> None:
    """What bin/maglica calls: run the command of this process, and end the process."""
    # A command is over before garbage matters, and what it made need not be taken apart piece by piece: the two save
    # a sixth of the time that `maglica vm list` takes.
    gc.set_threshold(100_000)
    status = main()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        _prepare_streams()
        return _flushed(_run(sys.argv[1:] if argv is None else list(argv)))
    except BrokenPipeError:
        return BROKEN_PIPE  # whoever read our output has seen enough
    except KeyboardInterrupt:
        return INTERRUPTED


def _prepare_streams() -> None:
    """Whatever the shell closed is /dev/null; what the locale cannot write is escaped."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _flushed(status: int) -> int:
    """The exit status once all that was printed has left; a full disk was told of where it was met first."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        return status or 1
    return status


def _run(argv: list[str]) -> int:
    kind: list[str] = []
    try:
        return _dispatch(argv, kind)
    except MaglicaError as error:
        return _report(error, argv, kind)
    except KeyboardInterrupt:
        sys.stderr.write("\nmaglica: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # the one catch-all of this process
        if _asked_for(argv, "-vv"):
            import traceback

            traceback.print_exc()
        what = f"unexpected error: {type(error).__name__}: {error}"
        return _report(Failed("internal_error", what, "-vv shows where; please report it"), argv, kind)


def _dispatch(argv: list[str], kind: list[str]) -> int:
    """`kind` is filled as soon as it is known, for the report of an error."""
    from maglica.cli import words

    command = words.parse(argv, os.environ)
    if command.action is None:
        from maglica.cli import help

        sys.stdout.write(help.text(command.topic))
        return 0
    from maglica.cli import run

    kind.append(command.action.NAME.replace(" ", "."))
    return run.run(command)


def _report(error: MaglicaError, argv: list[str], kind: list[str]) -> int:
    """Tell of an error: a short text on stderr, and a tree on stdout for a program that reads it."""
    try:
        _report_text(error)
        _report_tree(error, _format(argv), kind[0] if kind else None)
    except OSError:
        pass  # nobody can be told; the exit status still says it
    return error.exit_status


def _report_text(error: MaglicaError) -> None:
    from maglica.cli.cells import printable

    lines = [f"maglica: {error.message}"]
    lines += [f"  {error.hint}"] if error.hint else []
    if error.job and error.job not in error.hint and not isinstance(error, Refused):
        lines.append(f"  `maglica job log {error.job}` tells the story")
    sys.stderr.write(printable("\n".join(lines)) + "\n")
    sys.stderr.flush()


def _report_tree(error: MaglicaError, format: str, kind: str | None) -> None:
    if format not in ("json", "jsonl", "yaml"):
        return
    from maglica.cli import answer, output

    value: Any = answer.failure(kind, error)
    try:
        sys.stdout.write(output.json_line(value) if format == "jsonl" else output.tree(value, format))
        sys.stdout.flush()
    except MaglicaError:
        pass  # yaml was asked for and is not there: that is the error that was just told


def _format(argv: list[str]) -> str:
    """Which output was asked for, also when the words could not be understood as a whole."""
    found = os.environ.get("MAGLICA_OUTPUT", "table")
    argv = argv[: argv.index("--")] if "--" in argv else argv
    for place, word in enumerate(argv):
        if word == "--output":
            found = argv[place + 1] if place + 1 < len(argv) else found
        elif word.startswith("--output="):
            found = word.partition("=")[2]
        elif joined := re.fullmatch(r"-[a-z]*?o(.*)", word):  # -ojson, and -qo json
            found = joined[1] or (argv[place + 1] if place + 1 < len(argv) else found)
    return found


def _asked_for(argv: list[str], word: str) -> bool:
    return word in argv or argv.count("-v") > 1
