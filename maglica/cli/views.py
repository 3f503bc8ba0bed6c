"""Answers that say more as a page of their own than as `Key: value` lines; one function per action, named after it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from maglica.cli import cells, machine, output, story
from maglica.cli.output import Look
from maglica.declare import Action

View = Callable[[dict[str, Any], Look], str]


def function(action: type[Action]) -> View | None:
    """The function that shows what an action answers, where there is one."""
    found: View | None = globals().get(action.NAME.replace(" ", "_").replace("-", "_"))
    return found


def host_invite(item: Any, look: Look) -> str:
    """What is to be run on the host, and nothing else: `ssh root@host0 "$(maglica host invite host0)"`."""
    return f"{item['command']}\n"


def job_log(item: Any, look: Look) -> str:
    if "members" in item:
        return "\n".join([job_show({**item, "logs": []}, look), *(story.story(one) for one in item["logs"])])
    return story.story(item)


# What most jobs have nothing to say about.
SELDOM = (
    "first_in_line",
    "position",
    "waits_for",
    "blocked_on",
    "by",
    "group",
    "retry_of",
    "verdict",
    "reason",
    "progress",
    "step",
    "undo_of",
    "undo",
    "note",
    "decision",
    "request",
)


def job_show(item: Any, look: Look) -> str:
    """Everything, with the arguments as they would be typed; of a group, a line for each of its jobs."""
    kept = {name: value for name, value in item.items() if value is not None or name not in SELDOM}
    if "members" not in item:
        return output.sheet({**kept, "args": " ".join(story.given(item))}, look)
    for name in ("members", "running", "logs", "key", "rev", "open", "args"):
        kept.pop(name, None)
    if kept.get("request"):
        kept["request"] = story.asked(kept["request"])
    if kept.get("needed") == kept["jobs"]:
        del kept["needed"]
    if not kept.get("policy"):
        kept.pop("policy", None)
    columns = ["name", "state", "host", "changed", "took_seconds", "job", "message"]
    return f"{output.sheet(kept, look)}\n{output.table(item['members'], columns, look)}"


def image_info(item: Any, look: Look) -> str:
    """What holds for all copies, then each host and each disk; checksums in full only where there is room."""
    own = {name: value for name, value in item.items() if name not in ("hosts", "disks")}
    hosts = [{**host, "content": _short(host["content"])} for host in item["hosts"]]
    disks = [{**disk, "problem": disk["why"] or ("corrupt" if disk["corrupt"] else None)} for disk in item["disks"]]
    columns = ["target", "format", "capacity_bytes", "allocation_bytes", "path"]
    columns += [name for name in ("chain", "snapshots", "problem") if any(disk[name] for disk in disks)]
    return "\n".join([
        output.sheet(own, look), output.table(hosts, ["host", "state", "dependents", "content"], look),
        output.table(disks, columns, look),
    ])  # fmt: skip


def vm_display(item: Any, look: Look) -> str:
    """A line for each screen."""
    if not item["displays"]:
        return f"{item['name']} has no display; `maglica vm console {item['name']}` is its serial console\n"
    shown = [{**one, "address": one["socket"] or one["address"]} for one in item["displays"]]
    columns = ["type", "listen", "address", "port", "password"]
    columns += [name for name in ("tls_port", "websocket", "password_until") if any(one[name] for one in shown)]
    own = {name: item[name] for name in ("name", "host", "state")}
    return f"{output.sheet(own, look)}\n{output.table(shown, columns, look)}"


def _short(checksum: str | None) -> str | None:
    return checksum and f"{checksum[:19]}…"


def template_render(item: Any, look: Look) -> str:
    """The command, to be typed or changed."""
    return f"maglica {story.asked({'action': 'vm clone', 'args': item['args']})}\n"


def template_show(item: Any, look: Look) -> str:
    """Its parameters as they would be typed."""
    said = {name: story.typed("vm clone", name, value) for name, value in item["parameters"].items()}
    return output.sheet({**{name: item[name] for name in ("name", "owner", "changed_at")}, **said}, look)


template_add = template_show


vm_info, vm_stats, vm_conf, vm_diff = machine.info, machine.stats, machine.conf, machine.diff


def vm_screenshot(item: Any, look: Look) -> str:
    """The name of the file, for the next command."""
    return "" if item["file"] == "-" else f"{item['file']}\n"


def job_cancel(item: Any, look: Look) -> str:
    hint = f"{item['next']}\n" if item.get("next") else ""
    if "cancelled" in item:
        if not item["changed"]:
            stands = "is being stopped already" if item["open"] else f"is {item['state']}"
            return f"group {item['id']} {stands}: nothing to stop\n{hint}"
        return f"group {item['id']}: {item['cancelled']} of {item['jobs']} jobs are being stopped\n{hint}"
    if not item["changed"]:
        stands = "is being stopped already" if item["cancel"] and item["ended_at"] is None else f"is {item['state']}"
        return f"job {item['id']} {stands}: nothing to stop\n{hint}"
    if item["ended_at"] is not None:
        return f"job {item['id']} was cancelled before it began\n"
    return f"job {item['id']} is being stopped; `maglica job attach {item['id']}` shows its end\n{hint}"


def vm_interfaces(item: Any, look: Look) -> str:
    """A line for each card; what it counted is for programs."""
    return output.table(item["interfaces"], ["interface", "mac", "ips"], look)


def vm_read_file(item: Any, look: Look) -> str:
    """What is in it; what is no text is escaped."""
    return cells.printable(base64.b64decode(item["base64"]).decode(errors="backslashreplace"))


def job_explain(item: Any, look: Look) -> str:
    """What there is to say, in lines that fit."""
    import textwrap

    room = max(map(len, EXPLAINED.values())) + 2
    columns = min(look.columns or 100, 100)
    lines = textwrap.wrap(cells.printable(item["what"]), columns)
    for name, title in EXPLAINED.items():
        if item[name]:
            text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", lambda found: cells.when(found[0], look.now), item[name])
            lines += textwrap.wrap(
                cells.printable(text), columns, initial_indent=f"{title}:".ljust(room),
                subsequent_indent=" " * room, break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


EXPLAINED = {
    "asked": "Asked",
    "placed": "Placed",
    "happened": "Happened",
    "waits_for": "Waits for",
    "failed": "Failed",
    "changed": "Changed",
    "verdict": "Verdict",
    "related": "Related",
    "next": "Next",
}
