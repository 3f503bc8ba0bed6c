"""Starts a daemon of ours with crash points, bad weather or a deliberate defect in it.

    python -P tests/faults/daemon.py PLAN WHO maglica_client_worker|maglica_host_worker OPTION…

The product has no code for this: the daemon's own main is imported, and named functions of it are wrapped before it
begins. PLAN is a JSON file: `folder`, `crash` (point -> hits), `defects`, `weather`.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults import effects, points, weather
from tests.faults.mutations import MUTATIONS


def main() -> int:
    plan_file, who, program, *options = sys.argv[1:]
    plan = json.loads(Path(plan_file).read_text())
    sys.argv = [program, *options]
    folder = Path(plan["folder"])
    effects.file_in_table()
    dying = points.Points(folder / "hits", who, plan["crash"])
    if program == "maglica_client_worker":
        from maglica.client_worker import main as daemon

        into = points.into_client_worker
        if plan["weather"]:
            weather.into_client_worker(weather.Weather(folder / "storm", **plan["weather"]))
    else:
        from maglica.host_worker import rhythm

        rhythm.ANSWER_WITHIN, rhythm.PROGRESS_EVERY = (0.15 if plan["weather"] else 0.5), 0.02
        rhythm.PATIENT = 0
        from maglica.host_worker import main as daemon  # type: ignore[no-redef]

        effects.vm_mark = partial(effects.mark, folder / "effects", dying.hit)
        into = points.into_host_worker
    into(dying)
    for name in plan["defects"]:
        MUTATIONS[name]()
    return daemon.main()


if __name__ == "__main__":
    sys.exit(main())
