"""What QEMU says of an image's disks, for `image info`. Looking only."""

from __future__ import annotations

import json
from typing import Any

from maglica.errors import Refused
from maglica.host_worker import commands
from maglica.host_worker.disk.modes import Source
from maglica.host_worker.domain import domain_xml, look, removing
from maglica.host_worker.host import Host

Value = dict[str, Any]

WITHIN = 4.0  # seconds that qemu-img may take for a disk; whoever asks waits 5 by default


def of_image(host: Host, name: str) -> list[Value]:
    """All that this host knows of an image; nothing when it has none of that name."""
    try:
        definition, state = host.hypervisor.definition(name), host.hypervisor.state(name)
    except Refused:
        return []
    domain = domain_xml.read(definition)
    if not domain_xml.is_image(domain, state in look.ACTIVE):
        return []
    found = look.sources(host.hypervisor, domain, host.storage)
    mark = domain.mark
    return [
        {
            "name": name, "state": state, "uuid": domain.uuid, "os": mark.get("os"), "source": mark.get("source"),
            "origin": mark.get("origin"), "content": mark.get("content"), "date": mark.get("date"),
            "cloud_init": {"yes": True, "no": False}.get(mark.get("cloud_init", "")),
            "vcpus": domain.vcpus, "memory_bytes": domain.memory_bytes, "machine": domain.machine,
            "nvram": domain.nvram, "dependents": len(removing.dependents(name, host)),
            "disks": [{"target": source.disk.target, **_disk(source)} for source in found],
        }
    ]  # fmt: skip


def _disk(source: Source) -> Value:
    """What qemu-img tells of a disk. A disk that it cannot read is told with its last words."""
    told: Value = dict.fromkeys(("capacity_bytes", "allocation_bytes", "compat", "features", "chain", "snapshots"))
    told |= {"path": source.path, "format": source.disk.format, "corrupt": None, "dirty": None, "why": None}
    output: list[str] = []
    argv = ["qemu-img", "info", "--force-share", "--output=json", "-f", source.disk.format, "--"]
    ended = commands.run([*argv, source.path], timeout=WITHIN, on_output=output.append)
    if ended.exit_status != 0:
        return {**told, "why": (ended.stderr or "qemu-img failed").splitlines()[-1]}
    first = json.loads("".join(output))
    data = first.get("format-specific", {}).get("data", {})
    features = [name for name in ("lazy-refcounts", "extended-l2") if data.get(name)]
    if data.get("compression-type") not in (None, "zlib"):
        features.append(str(data["compression-type"]))
    return {
        **told, "capacity_bytes": first["virtual-size"], "allocation_bytes": first.get("actual-size"),
        "compat": data.get("compat"), "features": features, "corrupt": data.get("corrupt"),
        "dirty": first.get("dirty-flag"), "chain": look.chain(source.path, source.disk.format)[1:],
        "snapshots": [snapshot["name"] for snapshot in first.get("snapshots", [])],
    }  # fmt: skip
