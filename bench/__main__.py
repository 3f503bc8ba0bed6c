"""Measure. `make bench` runs everything, `make bench ONLY="jobs restart"` only these; docs/measurements.md keeps it."""

from __future__ import annotations

import argparse
import os
import sys
import time

from bench import cloning
from bench.measurements import FULL, MEASUREMENTS, TINY

# What takes minutes however small its numbers are: measured when it is asked for, or with everything.
LONG = {"clone": cloning.one, "many": cloning.many}


def main() -> None:
    parser = argparse.ArgumentParser("make bench", description="Measure, and say which targets are met.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join([*MEASUREMENTS, *LONG])}"
    )
    parser.add_argument("--tiny", action="store_true", help="with numbers so small that the result means nothing")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS) - set(LONG)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    # What takes milliseconds means nothing while others use the processors; a ratio may.
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors at the beginning", flush=True)
    missed = 0
    for name in options.names or [*MEASUREMENTS, *LONG]:
        began = time.monotonic()
        for figure in LONG[name]() if name in LONG else MEASUREMENTS[name](TINY if options.tiny else FULL):
            missed += not figure.met
            print(figure.line, flush=True)
        print(f"  ({name} took {time.monotonic() - began:.0f} s)", file=sys.stderr)
    print(f"{missed} targets missed")


if __name__ == "__main__":
    main()
