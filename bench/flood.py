"""What one key that floods takes from another one: round trips at rest, and while somebody asks as much as he can."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import world
from bench.figures import Figure
from bench.world import HOME, House
from maglica import keys
from maglica.bus import new_pair
from maglica.keys import Key
from maglica.nouns import Cloud

CONNECTIONS = (1, 10, 40)
REST, WARM = 0.002, 0.5  # seconds between two questions; until a flood has begun


def flood(turns: int, seconds: float) -> Iterator[Figure]:
    """The median of an honest key's round trips under a flood of pings of another key, against that at rest, turn by
    turn. The flood has the least priority: what is measured is the client worker, not who gets the processor.
    """
    with world.house() as house:
        house.start()
        stranger = _key(house)
        with house.connect() as cloud:
            for connections in CONNECTIONS:
                pairs = [
                    (_median(cloud, seconds), _flooded(house, cloud, stranger, connections, seconds))
                    for _ in range(turns)
                ]
                found = statistics.median(flooded / rest for rest, flooded in pairs)
                note = f"{1000 * pairs[0][1]:.2f} ms, at rest {1000 * pairs[0][0]:.2f} ms in the first turn"
                name = f"an honest round trip under a flood of another key on {connections} connections"
                yield Figure(name, found, "x", 2.0, note=note)


def _key(house: House) -> Path:
    """The key of a program that may read."""
    pair, admin, file = new_pair(), house.admin(), house.folder / "flood.key"
    with house.connect() as cloud:
        cloud.key.add(name="flood", role="reader", public_key=pair.public)
    keys.save(str(file), Key("flood", *pair, admin.server, "127.0.0.1", house.pub_port, house.rep_port))
    return file


def _flooded(house: House, cloud: Cloud, key: Path, connections: int, seconds: float) -> float:
    """Seconds of a round trip meanwhile."""
    attacker = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-m", "tests.faults.attacker", "pings", f"--port={house.rep_port}",
         f"--seconds={seconds + 2 * WARM}", f"--peers={connections}", f"--key={key}"],
        cwd=HOME, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(WARM)
        return _median(cloud, seconds)
    finally:
        attacker.wait(30)


def _median(cloud: Cloud, seconds: float) -> float:
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        cloud.hello()
        took.append(time.perf_counter() - began)
        time.sleep(REST)
    return statistics.median(took)
