"""Clones without customisation, on a real hypervisor of the lab, against what a shell would do for the same disks."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from functools import partial

from bench.figures import Figure, Pairs, ratio, timed
from bench.lab import POOL, Lab, lab
from maglica import kinds
from maglica.host_worker.domain.look import OVERHEAD

MEMORY = "32M"  # they are never started, but room for all of them is asked for

# The least that a linked clone can be: its disk, its definition. No addresses or names are checked, nothing is undone.
SHELL = """
virsh dumpxml --inactive tiny.original | sed -e '/<uuid>/d' -e '/<mac /d' -e '/<log /d' > /mnt/bench.xml
for n in $(seq {count}); do
    qemu-img create -q -f qcow2 -b {pool}/tiny.original.qcow2 -F qcow2 {pool}/bare-$n.qcow2
    sed -e "s/<name>.*</<name>bare-$n</" -e "s#{pool}/tiny.original#{pool}/bare-$n#" /mnt/bench.xml > /mnt/bare.xml
    virsh -q define /mnt/bare.xml > /dev/null
done
"""
CLEAR = "for n in $(seq {count}); do virsh -q undefine bare-$n; done >/dev/null; rm -f {pool}/bare-*"


def copies(count: int, turns: int) -> Iterator[Figure]:
    """`count` linked clones as one request, and one after the other; and copies of a large image and of a small one."""
    if os.geteuid() != 0:
        print("copies: left out, a lab needs root")
        return
    with lab(1, "tiny") as found:
        free = int(found.cloud.host.info(name="host1")["memory_free_bytes"])
        count = min(count, free // (kinds.MEMORY.check(MEMORY) + OVERHEAD))  # libvirt may count less than there is
        _clone_all(found, count)
        _in_shell(found, count)
        pairs = [(_clone_all(found, count), _in_shell(found, count)) for _ in range(turns)]
        yield _ratio(f"{count} linked clones in one request", 3.0, pairs)
        one = [(_one_by_one(found, count), _in_shell(found, count)) for _ in range(turns)]
        yield _ratio(f"{count} linked clones, one request each", None, one)
        sizes = {size: _of_size(found, size, max(3, count // 10)) for size in ("1G", "20G")}
        note = f"{1000 * sizes['20G']:.0f} ms, of 1 GiB {1000 * sizes['1G']:.0f} ms"
        yield Figure(
            "a linked clone of a 20 GiB image against one of 1 GiB", sizes["20G"] / sizes["1G"], "x", note=note
        )


def _ratio(name: str, target: float | None, pairs: list[tuple[float, float]]) -> Figure:
    middle = Pairs(
        statistics.median(ours for ours, _ in pairs),
        statistics.median(floor for _, floor in pairs),
        statistics.median(ours / floor for ours, floor in pairs),
    )
    return ratio(name, target or 0.0, middle, "qemu-img create + virsh define")._replace(target=target)


def _in_shell(found: Lab, count: int) -> float:
    took = timed(lambda: found.on("host1", SHELL.format(count=count, pool=POOL)))
    found.on("host1", CLEAR.format(count=count, pool=POOL))
    return took


def _clone_all(found: Lab, count: int) -> float:
    def work() -> None:
        group = found.cloud.vm.clone.submit_many(
            image="tiny.original",
            hostname="ci-{n}",
            count=count,
            mode="linked",
            memory=MEMORY,
            customize="none",
            start=False,
        )
        group.wait()
        if group.record["states"].get("done") != count:
            raise SystemExit(f"not all were cloned: {group.record['states']}")

    took = timed(work)
    _clear(found, count)
    return took


def _one_by_one(found: Lab, count: int) -> float:
    def work() -> None:
        for number in range(1, count + 1):
            _clone(found, "tiny.original", f"ci-{number}")

    took = timed(work)
    _clear(found, count)
    return took


def _clone(found: Lab, image: str, name: str) -> None:
    found.cloud.vm.clone(image=image, hostname=name, mode="linked", memory=MEMORY, customize="none", start=False)


def _clear(found: Lab, count: int) -> None:
    found.cloud.vm.remove.submit_many(name=[f"ci-{number}" for number in range(1, count + 1)]).wait()


def _of_size(found: Lab, size: str, count: int) -> float:
    """Seconds for one clone of an image that is so large and full."""
    disk = f"{POOL}/large.original.qcow2"
    found.on(
        "host1",
        f"qemu-img create -q -f qcow2 -o preallocation=metadata {disk} {size};"
        " virsh dumpxml --inactive tiny.original | sed -e 's/tiny.original/large.original/g' -e '/<uuid>/d'"
        " -e '/<mac /d' > /mnt/large.xml; virsh -q define /mnt/large.xml",
    )
    names = [f"of-{size}-{number}".lower() for number in range(count)]
    took = [timed(partial(_clone, found, "large.original", name)) for name in names]
    for name in names:
        found.cloud.vm.remove(name=name)
    found.on("host1", f"virsh -q undefine large.original; rm -f {disk}")
    return statistics.median(took)
