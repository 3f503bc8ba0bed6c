"""Coverage-guided fuzzing: python -m tests.fuzz [SECONDS] runs each target for so long; `make fuzz` is the same.

The bytes that led to a finding are kept in a file whose name is printed: `python -m tests.fuzz TARGET FILE` feeds it
again.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("decoder", "answer", "doors")


def main() -> int:
    try:
        import atheris
    except ImportError:
        print(
            "make fuzz: atheris is not installed\n"
            "  .venv/bin/python -m pip install '.[fuzz]' installs it where there is a wheel for this Python"
            " (3.11 to 3.13 on x86-64);\n  otherwise it needs clang: see its page on PyPI",
            file=sys.stderr,
        )
        return 2
    if len(sys.argv) == 3 and sys.argv[1] in NAMES:
        _fuzz(atheris, sys.argv[1], [sys.argv[2]])
        return 0
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    kept = Path(tempfile.mkdtemp(prefix="maglica-fuzz-"))
    bad = [name for name in NAMES if not _run(name, seconds, kept)]
    for name in bad:
        print(f"make fuzz: {name}: a finding is in {kept}", file=sys.stderr)
    return 1 if bad else 0


def _run(name: str, seconds: int, kept: Path) -> bool:
    """One target in a process of its own: the library ends it."""
    from tests.fuzz.targets import good

    corpus = kept / name
    corpus.mkdir()
    for number, message in enumerate(good()):
        (corpus / str(number)).write_bytes(message)
    limits = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    argv = [sys.executable, "-m", "tests.fuzz", "--", name, *limits, f"-artifact_prefix={kept}/{name}-", str(corpus)]
    return subprocess.run(argv, check=False).returncode == 0


def _fuzz(atheris: object, name: str, options: list[str]) -> None:
    with atheris.instrument_imports(include=["maglica"]):  # type: ignore[attr-defined]
        from tests.fuzz.targets import TARGETS
    logging.getLogger("maglica").setLevel(logging.CRITICAL)
    atheris.Setup([sys.argv[0], *options], TARGETS[name]())  # type: ignore[attr-defined]
    atheris.Fuzz()  # type: ignore[attr-defined]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--"]:
        import atheris

        _fuzz(atheris, sys.argv[2], sys.argv[3:])
    sys.exit(main())
