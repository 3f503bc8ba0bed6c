"""Pages about one VM: its facts with bars, its figures, its definition. Values in, text out; 80 columns are enough."""

from __future__ import annotations

import textwrap
from typing import Any

from maglica.cli import cells, output
from maglica.cli.cells import printable, size
from maglica.cli.output import Look

BAR = 16  # columns of a bar

# What stands in a section of its own, or is said together with something else.
_APART = frozenset(
    ("disks", "nics", "guest", "memory_bytes", "max_memory_bytes", "vcpus", "cpu_seconds", "uptime_seconds", "trouble")
)
# What is worth a line only when it is there.
_SELDOM = frozenset(
    ("image", "mode", "fleet", "template", "tags", "owner", "description", "job", "nvram", "console_log", "snapshots",
     "managed_save", "protected")
)  # fmt: skip


def bar(used: float, total: float, columns: int = BAR) -> str:
    """`[#####...........]  30%`."""
    share = min(1.0, max(0.0, used / total)) if total else 0.0
    filled = round(columns * share)
    return f"[{'#' * filled}{'.' * (columns - filled)}] {100 * share:3.0f}%"


def info(item: dict[str, Any], look: Look) -> str:
    """All facts; bars where this is a terminal."""
    plain = {key: value for key, value in item.items() if key not in _APART and (value or key not in _SELDOM)}
    if item["state"] != "shut-off" and item["uptime_seconds"] is not None:
        plain["up"] = cells.duration(item["uptime_seconds"])
    parts = [output.sheet(_ordered(plain), look)]
    parts += [_wrapped(f"Trouble: {trouble}", look) for trouble in item["trouble"]]
    parts.append(_section("Resources", _resources(item, look)))
    if item["disks"]:
        parts.append(_section("Disks", [line for disk in item["disks"] for line in _disk(disk, look)]))
    if item["nics"]:
        parts.append(_section("NICs", [_nic(nic) for nic in item["nics"]]))
    if item["guest"] is not None:
        parts.append(_section("Guest", _guest(item["guest"], look)))
    return "".join(parts)


def _ordered(plain: dict[str, Any]) -> dict[str, Any]:
    """What is looked for first stands first."""
    first = ("name", "host", "state", "up", "ips", "uuid")
    return {key: plain[key] for key in (*[name for name in first if name in plain], *plain)}


def _section(title: str, lines: list[str]) -> str:
    return f"{title}:\n" + "".join(f"  {line}".rstrip() + "\n" for line in lines)


def _wrapped(text: str, look: Look) -> str:
    columns = min(look.columns or 100, 100)
    return textwrap.fill(printable(text), columns, subsequent_indent="  ", break_on_hyphens=False) + "\n"


def _resources(item: dict[str, Any], look: Look) -> list[str]:
    memory = size(item["memory_bytes"])
    if item["max_memory_bytes"] != item["memory_bytes"]:
        memory += f" of at most {size(item['max_memory_bytes'])}"
    lines = [f"Memory   {memory}"]
    told = (item["guest"] or {}).get("memory") or {}
    total, free = told.get("seen_bytes"), told.get("available_bytes")
    if total and free is not None:
        used = f"{size(total - free)} of {size(total)} used in the guest"
        lines.append(f"         {bar(total - free, total)}  {used}" if look.columns else f"         {used}")
    cpu = "" if item["cpu_seconds"] is None else f", {cells.duration(item['cpu_seconds'])} of processor time used"
    load = (item["guest"] or {}).get("load")
    lines.append(f"vCPUs    {item['vcpus']}{cpu}{', load ' + ' '.join(f'{one:g}' for one in load) if load else ''}")
    return lines


def _disk(disk: dict[str, Any], look: Look) -> list[str]:
    words = [disk["target"], disk["bus"] or "?", disk["device"] if disk["device"] != "disk" else disk["format"]]
    line = "".join(f"{printable(str(word)):<7} " for word in words)
    capacity, allocation = disk["capacity_bytes"], disk["allocation_bytes"] or 0
    if capacity:
        taken = f"{size(allocation)} of {size(capacity)}"
        line += f"{bar(allocation, capacity)}  {taken}" if look.columns else f"{taken} taken on the host"
    lines = [line]
    lines += [f"        {printable(disk['path'])}"] if disk["path"] else ["        (empty)"]
    lines += [f"        rests on {printable(path)}" for path in disk["rests_on"] or []]
    return lines


def _nic(nic: dict[str, Any]) -> str:
    source = f"{nic['type']} {nic['source']}" if nic["source"] else str(nic["type"])
    more = ", ".join(str(nic[key]) for key in ("model", "device") if nic[key])
    return printable(f"{nic['mac'] or '?':<19}{source}{f' ({more})' if more else ''}")


def _guest(guest: dict[str, Any], look: Look) -> list[str]:
    if guest["agent"] is None:
        return ["its definition has no channel for QEMU's guest agent, which would tell more"]
    if not guest["agent"]:
        return ["its agent does not answer: it is not installed, or the guest still boots"]
    titles = {"hostname": "Hostname", "os": "OS", "kernel": "Kernel"}
    lines = [f"{title:<9}{printable(str(guest[key]))}" for key, title in titles.items() if guest[key]]
    known = [one for one in guest["filesystems"] if one["total_bytes"]]
    widest = max([len(printable(str(one["mountpoint"]))) for one in known], default=0)
    for one in known:
        used, total = one["used_bytes"] or 0, one["total_bytes"]
        words = f"{size(used)} of {size(total)} used ({one['type']})"
        shown = f"{bar(used, total)}  {words}" if look.columns else words
        lines.append(f"{printable(str(one['mountpoint'])):<{min(max(widest, 8), 24)}} {shown}")
    return lines


# How it is said, the key of its bytes, the key of how often.
_DISK = (("read", "read_bytes", "read_requests"), ("written", "written_bytes", "write_requests"))
_NIC = (("received", "received_bytes", "received_packets"), ("sent", "sent_bytes", "sent_packets"))


def stats(item: dict[str, Any], look: Look) -> str:
    """The counters, with what they are in a second where that was asked for."""
    cpu, memory, rated = item["cpu"], item["memory"], item["interval_seconds"] is not None
    head = {"name": item["name"], "host": item["host"], "state": item["state"]}
    if rated:
        head["within"] = cells.duration(item["interval_seconds"])
    head["processors"] = f"{cells.duration(cpu['used_seconds'])} used by {cpu['vcpus']} vCPUs" + (
        f", {cpu['percent']:g}% of one just now" if cpu["percent"] is not None else ""
    )
    told = {key.removesuffix("_bytes").replace("_", " "): value for key, value in memory.items() if value is not None}
    page = output.sheet(head, look)
    if told:
        page += _section("Memory", [f"{word:<13}{size(value)}" for word, value in told.items()])
    for title, rows, name, counters in (
        ("Disks", item["disks"], "target", _DISK),
        ("NICs", item["nics"], "device", _NIC),
    ):
        if rows:
            page += _section(title, [_counted(row, name, counters, rated=rated) for row in rows])
    return page


def _counted(row: dict[str, Any], name: str, counters: Any, *, rated: bool) -> str:
    words = [f"{printable(str(row[name] or row.get('mac') or '?')):<9}"]
    for word, amount, number in counters:
        if row[amount] is None:
            words.append(f"{word} ?")
        elif rated:
            rate, times = row[f"{amount}_per_second"], row[f"{number}_per_second"]
            words.append(f"{word} ?" if rate is None else f"{word} {size(int(rate))}/s ({times or 0:g}/s)")
        else:
            words.append(f"{word} {size(row[amount])} ({row[number]})")
    return words[0] + ",  ".join(words[1:])


def conf(item: dict[str, Any], look: Look) -> str:
    """The definition as it is: XML, or the tree as JSON or as Python writes it."""
    if item["format"] == "xml":
        text = str(item["conf"])
        return "".join(f"{printable(line)}\n" for line in text.strip("\n").split("\n"))
    if item["format"] == "json":
        import json

        return json.dumps(item["conf"], indent=2, ensure_ascii=False) + "\n"
    import pprint

    return pprint.pformat(item["conf"], width=min(look.columns or 100, 100), sort_dicts=False) + "\n"


def diff(item: dict[str, Any], look: Look) -> str:
    """A line for each difference, `-` what runs, `+` what will."""
    if not item["differences"]:
        why = "it is off" if item["state"] == "shut-off" else "what runs is what is stored"
        return f"{item['name']}: nothing waits for the next start, {why}\n"
    lines = []
    for row in item["differences"]:
        lines.append(printable(str(row["what"])))
        for sign, side, colour in (("-", "now", "31"), ("+", "next", "32")):
            text = f"  {sign} {printable(row[side] if row[side] is not None else '(not there)')}"
            lines.append(f"\x1b[{colour}m{text}\x1b[0m" if look.color else text)
    return "".join(f"{line}\n" for line in lines)
