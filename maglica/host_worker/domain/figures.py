"""What a VM uses: libvirt's counters as figures, and the difference of two of them as rates. Values in, values out."""

from __future__ import annotations

from typing import Any

from maglica.host_worker.domain.domain_xml import Domain

Value = dict[str, Any]

# What libvirt tells in KiB of a guest's memory -> our name; libvirt's virDomainMemoryStatTags says what each means.
MEMORY = {
    "actual": "given_bytes",
    "available": "seen_bytes",
    "usable": "available_bytes",
    "unused": "free_bytes",
    "disk_caches": "caches_bytes",
    "swap_in": "swapped_in_bytes",
    "swap_out": "swapped_out_bytes",
    "rss": "of_the_host_bytes",
}
DISK = ("read_requests", "read_bytes", "write_requests", "written_bytes", "errors")
CARD = (
    *("received_bytes", "received_packets", "receive_errors", "receive_drops"),
    *("sent_bytes", "sent_packets", "send_errors", "send_drops"),
)


def told(domain: Domain, now: Value, before: Value | None, seconds: float | None) -> Value:
    """Figures, with rates (`…_per_second`) where there was a look `before`, that many `seconds` ago."""
    cpu: Value = {"vcpus": now["vcpus"], "used_seconds": round(now["cpu_ns"] / 1e9, 2), "percent": None}
    if before and seconds:
        cpu["percent"] = round((now["cpu_ns"] - before["cpu_ns"]) / 1e9 / seconds * 100, 1)
    names = {nic["device"] or nic["mac"]: nic["mac"] for nic in domain.nics}
    return {
        "interval_seconds": round(seconds, 2) if seconds else None,
        "cpu": cpu,
        "memory": memory({"actual": now["memory_kib"], **now["memory"]}),
        "disks": [
            {"target": disk.target, **_counters(DISK, now, before, "disks", disk.target, seconds)}
            for disk in domain.disks
            if disk.path
        ],
        "nics": [
            {"mac": mac, "device": card, **_counters(CARD, now, before, "cards", str(card), seconds)}
            for card, mac in names.items()
        ],
    }


def memory(stats: dict[str, int]) -> Value:
    """A guest's memory; None where its balloon does not tell."""
    return {name: stats[key] * 1024 if key in stats else None for key, name in MEMORY.items()}


def _counters(
    names: tuple[str, ...], now: Value, before: Value | None, kind: str, key: str, seconds: float | None
) -> Value:
    values = now[kind].get(key) or [None] * len(names)
    # libvirt has -1 for what the driver does not count
    found: Value = {name: value if value is None or value >= 0 else None for name, value in zip(names, values)}  # noqa: B905
    if before is None or not seconds:
        return found
    then = before[kind].get(key)
    for name, value, old in zip(names, values, then or [None] * len(names)):  # noqa: B905
        if "error" not in name and "drop" not in name:
            known = value is not None and old is not None and value >= old >= 0
            found[f"{name}_per_second"] = round((value - old) / seconds, 1) if known else None
    return found
