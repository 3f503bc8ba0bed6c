"""Clones, against what people use today: `virt-clone` and `virt-customize`, one after the other, on the same host."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial

from bench.figures import Figure, timed
from bench.lab import POOL, Lab, lab

PASSWORD = "correct horse"
PASSWORD_HASH = "$6$maglica0$IUW4oSUuGDWZOgYSPFD98vV.EYS/ZKLt6xIGTwiDJ4hyu7nJFmcO6mS/vE8a5VfMAtIVgLzypFYi1yMQDGk341"
IMAGE = "debian"
TURNS = 3
CLONES = 20
LOOPS = 2  # clones of the loop that are measured; each of twenty takes as long

# How the processes of a host's warm appliances are known: the child, its storage daemon, its QEMU.
APPLIANCE = "guest.child|qemu-storage-daemon|[g]uestfsd.sock"


def one() -> Iterator[Figure]:
    """One clone with customisation, warm and cold, turn by turn."""
    with lab(2, IMAGE, "host_worker.warm_idle=1h") as found:
        yield from _one(found, found.image(IMAGE))


def many() -> Iterator[Figure]:
    """Twenty clones with customisation by one command, with no appliance at first and with warm ones."""
    with lab(1, IMAGE, "host_worker.warm_idle=1h") as found:
        yield from _many(found, found.image(IMAGE))


def _one(found: Lab, image: str) -> Iterator[Figure]:
    found.set_on("host2", "warm_appliances", "0")
    seconds: dict[str, list[float]] = {"hand": [], "cold": [], "warm": [], "full": []}
    modes: dict[str, object] = {}
    first = timed(partial(_clone, found, image, "first", "host1"))
    for turn in range(TURNS):
        seconds["hand"].append(timed(partial(_by_hand, found, image, f"hand{turn}")))
        seconds["cold"].append(timed(partial(_clone, found, image, f"cold{turn}", "host2")))
        for way, mode in (("warm", "auto"), ("full", "full")):
            began = time.perf_counter()
            made = _clone(found, image, f"{way}{turn}", "host1", mode)
            seconds[way].append(time.perf_counter() - began)
            guest = made["guest"]
            assert isinstance(guest, dict)
            assert guest["appliance"] == "warm", guest
            modes[way] = made["mode"]
    memory = _memory(found, "host1")
    middle = {way: statistics.median(took) for way, took in seconds.items()}
    for way, target in (("warm", 15.0), ("full", None), ("cold", 1.5)):
        ratio = statistics.median(hand / ours for hand, ours in zip(seconds["hand"], seconds[way], strict=True))
        told = f"warm, mode={modes[way]}" if way in modes else "cold"
        note = f"{middle[way]:.2f} s, virt-clone and virt-customize {middle['hand']:.2f} s"
        yield Figure(f"one clone of {image}, {told}", ratio, "x faster", target, at_least=True, note=note)
    yield Figure("the clone that launches the warm appliance", first, "s")
    parts = ", ".join(f"{program} {size:.0f}" for program, size in sorted(memory.items()))
    yield Figure("a warm appliance's memory (PSS)", sum(memory.values()), "MiB", note=parts)


def _many(found: Lab, image: str) -> Iterator[Figure]:
    loop = [timed(partial(_by_hand, found, image, f"hand{number}")) for number in range(LOOPS)]
    each = statistics.mean(loop)
    for told in ("no appliance yet", "warm"):
        took = timed(partial(_clone_many, found, image, told.split()[0]))
        note = f"{took:.1f} s; a clone of the loop {each:.1f} s ({', '.join(f'{one:.1f}' for one in loop)})"
        name = f"{CLONES} clones of {image} by one command, {told}"
        yield Figure(name, CLONES * each / took, "x faster", 15.0, at_least=True, note=note)


def _clone(found: Lab, image: str, name: str, host: str, mode: str = "auto") -> dict[str, object]:
    """One clone with customisation, not started; its result."""
    made: dict[str, object] = found.cloud.vm.clone(
        image=image, hostname=name, on=host, mode=mode, start=False, root_password_hash=PASSWORD_HASH
    )
    return made


def _clone_many(found: Lab, image: str, base: str) -> None:
    names = [f"{base}{number}" for number in range(CLONES)]
    found.cloud.vm.clone.submit_many(image=image, hostname=names, start=False, root_password_hash=PASSWORD_HASH).wait()


def _by_hand(found: Lab, image: str, name: str) -> None:
    """The same wishes; ours sees to machine-id and host keys as well, and reads the disk again."""
    disk = f"{POOL}/{name}.qcow2"
    found.on(
        "host1",
        f"""export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg
        virt-clone --connect qemu:///system -q -o {image} -n {name} -f {disk}
        virt-customize -q --format qcow2 -a {disk} --hostname {name} --root-password 'password:{PASSWORD}'""",
    )


def _memory(found: Lab, host: str) -> dict[str, float]:
    """MiB (PSS) of the processes of a host's warm appliances, by program."""
    script = f"""for p in $(pgrep -f '{APPLIANCE}'); do
        printf '%s %s\\n' $(cat /proc/$p/comm) $(awk '/^Pss:/{{print $2}}' /proc/$p/smaps_rollup); done"""
    found_of: dict[str, float] = {}
    for line in found.on(host, script).splitlines():
        program, kilobytes = line.rsplit(" ", 1)
        found_of[program] = found_of.get(program, 0.0) + int(kilobytes) / 1024
    return found_of
