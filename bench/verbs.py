"""Verbs that need nothing but libvirt, against the same virsh command on the host: whole processes, in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from bench.figures import Figure, timed
from bench.lab import Lab, config, lab
from bench.world import HOME

OURS, THEIRS = "ours", "theirs"
TARGET = 1.3


class Verb(NamedTuple):
    """What is measured: the words of both commands, for two VMs that are alike."""

    name: str
    ours: str
    theirs: str


# In this order they find the VMs as they need them, and leave them as they were.
TURN = (
    Verb("set-vcpus", "vm set-vcpus ours --vcpus=1", "setvcpus theirs 1 --config"),
    Verb("set-vcpus", "vm set-vcpus ours --vcpus=2", "setvcpus theirs 2 --config"),
    Verb("set-memory", "vm set-memory ours --size=128M", "setmem theirs 128M --config"),
    Verb("set-memory", "vm set-memory ours --size=192M", "setmem theirs 192M --config"),
    Verb("start", "vm start ours", "start theirs"),
    Verb("suspend", "vm suspend ours", "suspend theirs"),
    Verb("resume", "vm resume ours", "resume theirs"),
    Verb("destroy", "vm destroy ours --yes", "destroy theirs"),
)


def verbs(turns: int) -> Iterator[Figure]:
    """Every verb `turns` times, ours and theirs in turn."""
    if os.geteuid() != 0:
        print("verbs: left out, a lab needs root")
        return
    with lab(1, "tiny", "client.read_timeout=60s") as found:  # a busy machine is to be slow, not to fail
        _prepare(found)
        _once(found)  # warms up
        rounds = [_once(found) for _ in range(turns)]
        nothing = statistics.median(_command(found, "version") for _ in range(max(3, turns)))
    for name in dict.fromkeys(verb.name for verb in TURN):
        pairs = [pair for one in rounds for verb, pair in zip(TURN, one, strict=True) if verb.name == name]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        yield Figure(f"vm {name}", ratio, "x", TARGET, note=f"{ours * 1000:.0f} ms, virsh {theirs * 1000:.0f} ms")
    yield Figure("a command that asks nobody (`maglica version`)", nothing * 1000, "ms")


def _prepare(found: Lab) -> None:
    """Two VMs of two vCPUs, made alike."""
    for name in (OURS, THEIRS):
        found.cloud.vm.clone(image="tiny.original", hostname=name, customize="none", vcpus=2, start=False)


def _once(found: Lab) -> list[tuple[float, float]]:
    return [(_command(found, verb.ours), _virsh(found, verb.theirs)) for verb in TURN]


def _command(found: Lab, words: str) -> float:
    """Seconds of one command of ours, from its start to its end."""
    argv = [str(HOME / "bin" / "maglica"), *words.split()]
    environment = {**os.environ, "MAGLICA_CONFIG": str(config(found.name))}

    def run() -> None:
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}: {done.stdout}{done.stderr}")

    return timed(run)


def _virsh(found: Lab, words: str) -> float:
    """Seconds of one virsh command, taken inside the host: to get in there costs something too."""
    script = f"a=$EPOCHREALTIME; virsh -q {words} >/dev/null; b=$EPOCHREALTIME; echo $a $b"
    began, ended = found.on("host1", f"bash -ec '{script}'").split()[-2:]
    return float(ended) - float(began)
