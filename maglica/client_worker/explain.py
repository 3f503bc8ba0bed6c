"""A job in plain words: who asked for what and why, where it went, what happened, what next. Values in, values out.

Every sentence has a key, so that programs can have the one that they want; those that do not apply are None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from maglica import job
from maglica.job import Job

Told = dict[str, Any]
FEW = 3  # names that are told; more are counted


def one(shown: Told, retries: Sequence[Job]) -> Told:
    """`shown`: the job as people see it. `retries`: the jobs that try it again."""
    name = f"{shown['action']} {shown['object'] or ''}".strip()
    return {
        "id": shown["id"],
        "state": shown["state"],
        "what": f"job {shown['id']}, {name}: {_stands(shown)}",
        "asked": _asked(shown),
        "placed": _placed(shown),
        "happened": _happened(shown),
        "waits_for": shown["waits_for"],
        "failed": _failed(shown),
        "changed": _changed(shown),
        "verdict": _verdict(shown["verdict"]),
        "related": _related(shown, retries),
        "next": _next(shown, retries),
    }


def group(shown: Told, members: Sequence[Told]) -> Told:
    """`shown`: the group as people see it. `members`: how each of its jobs stands."""
    counts = Counter(member["state"] for member in members)
    stands = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    open_ = [member for member in members if member["state"] in job.OPEN]
    bad = [member for member in members if member["state"] not in (*job.OPEN, job.DONE)]
    lost = [member for member in bad if member["state"] == job.LOST]
    why = Counter(str(member["message"] or member["state"]) for member in bad)
    return {
        "id": shown["id"],
        "state": shown["state"],
        "what": f"group {shown['id']}, {_named(shown)}: {stands}",
        "asked": _asked(shown),
        "placed": _spread(members),
        "happened": _course(shown),
        "waits_for": shown["first_in_line"],
        "failed": "; ".join(f"{text} ({count})" if count > 1 else text for text, count in why.most_common(FEW)) or None,
        "changed": _count_changed(members),
        "verdict": None,
        "related": f"it tries {shown['retry_of']} again" if shown["retry_of"] else None,
        "next": _next_of_group(shown, open_, bad, lost),
    }


def _named(shown: Told) -> str:
    request = shown.get("request")
    name = f" {request['args'].get('name') or ''}".rstrip() if request else ""
    return f"{request['action'] if request else shown['action']}{name} of {shown['jobs']}"


def _course(shown: Told) -> str | None:
    """What was decided about a group, what became of that, and how long it took."""
    found = []
    decision = shown["decision"]
    if decision:
        what = {"stop": "no more were begun", "undo": "what had been made was to be removed again"}[decision["what"]]
        found.append(f"{what}, because of {decision['why']}")
    if shown["undo"]:
        found.append("removed again: " + ", ".join(f"{count} {state}" for state, count in shown["undo"].items()))
    if shown["needed"] < shown["jobs"]:
        found.append(f"{shown['needed']} of {shown['jobs']} were to be done")
    if shown["note"]:
        found.append(str(shown["note"]))
    if shown["took_seconds"] is not None:
        found.append(f"it took {_seconds(shown['took_seconds'])}")
    return "; ".join(found) or None


def _stands(shown: Told) -> str:
    if shown["state"] in job.FINAL:
        return str(shown["state"])
    if shown["cancel"]:
        return f"{shown['state']}, being cancelled"
    return f"{shown['state']}, {shown['step']}" if shown["step"] else str(shown["state"])


def _asked(shown: Told) -> str:
    key = f" with the key {shown['by']}" if shown["by"] else ""
    why = f", because: {shown['reason']}" if shown["reason"] else ", without a reason"
    return f"by {shown['owner']}{key} at {shown['created_at']}{why}"


def _placed(shown: Told) -> str:
    place = next((step for step in shown["steps"] if step.get("name") == "place"), None)
    note = str((place or {}).get("note") or shown["host"])
    host, _, why = note.partition(": ")
    return f"on {host}, because: {why}" if why else f"on {host}"


def _happened(shown: Told) -> str | None:
    if shown["claimed_at"] is None:
        return None if shown["state"] == job.QUEUED else f"it never began; it was {shown['state']} while it was queued"
    waited = _between(shown["created_at"], shown["claimed_at"])
    worked = _between(shown["claimed_at"], shown["ended_at"])
    steps = [
        f"{step.get('name')}"
        + (f" {_seconds(step['seconds'])}" if isinstance(step.get("seconds"), (int, float)) else "")
        for step in shown["steps"]
        if step.get("name") != "place"
    ]
    told = (
        f"waited {_seconds(waited)}, then worked {_seconds(worked)}"
        if worked is not None
        else (f"waited {_seconds(waited)}, then {shown['host']} took it")
    )
    bad = [command for command in shown["commands"] if command.get("exit_status") and command.get("argv")]
    last = f"; the command {bad[-1]['argv'][0]} ended with status {bad[-1]['exit_status']}" if bad else ""
    return told + (f": {', '.join(steps)}" if steps else "") + last


def _failed(shown: Told) -> str | None:
    error = shown["error"]
    if not error:
        return None
    return str(error.get("message") or error.get("code"))


def _changed(shown: Told) -> str | None:
    if shown["state"] not in job.FINAL:
        return None
    details = (shown["error"] or {}).get("details") or {}
    if left := details.get("left_behind"):
        return f"it could not take back: {'; '.join(map(str, left))}"
    if details.get("stays"):
        return f"{details['stays']}; the rest was undone"
    if shown["changed"] is not None:
        return "it did what was asked" if shown["changed"] else "nothing"
    if shown["state"] == job.LOST or shown["verdict"]:
        return "unknown: its host does not tell"
    return f"what it had made was undone; `maglica job log {shown['id']}` tells what ran"


def _verdict(verdict: Told | None) -> str | None:
    if not verdict:
        return None
    was = (verdict.get("was") or {}).get("message") or "lost"
    return f"{verdict['owner']} said {verdict['as']} at {verdict['at']}, because: {verdict['reason']}; before: {was}"


def _related(shown: Told, retries: Sequence[Job]) -> str | None:
    told = [f"it belongs to group {shown['group']}"] if shown["group"] else []
    told += [f"it tries {shown['retry_of']} again"] if shown["retry_of"] else []
    told += [f"{one['id']} tries it again and is {one['state']}" for one in retries]
    return "; ".join(told) or None


def _next(shown: Told, retries: Sequence[Job]) -> str | None:
    """What a person can do now."""
    name, state = shown["id"], shown["state"]
    if state in job.OPEN:
        if (shown["blocked_on"] or {}).get("kind") == "host":
            return _without_host(shown)
        return f"`maglica job attach {name}` follows it, `maglica job cancel {name}` stops it"
    if state == job.DONE:
        return None
    if state == job.LOST:
        return f"look at it, then `maglica job recover {name} --as=success|failure|retry --reason=…`"
    if retries:
        return f"`maglica job explain {retries[-1]['id']}` tells of the next try"
    hint = (shown["error"] or {}).get("hint")
    again = f"`maglica job retry {name}` tries it again"
    return f"{hint}; {again}" if hint else again


def _without_host(shown: Told) -> str:
    """What a person can do when its host is the reason."""
    name, host = shown["id"], shown["host"]
    if shown["state"] == job.QUEUED:
        return f"bring {host} back (`maglica host list`), or `maglica job cancel {name}`"
    return f"bring {host} back; if it is gone for good, {gone_for_good(host)}"


def without_hosts(group: Told) -> str | None:
    """The same of a group some of whose jobs were given to hosts that are down."""
    hosts = sorted({one["host"] for one in group["running"] if (one["blocked_on"] or {}).get("kind") == "host"})
    if not hosts:
        return None
    return f"bring {', '.join(hosts)} back; if that is gone for good, {gone_for_good(hosts[0])}"


def gone_for_good(host: str) -> str:
    """How jobs are settled that a host was given which will never tell of them."""
    return f"`maglica host remove {host}` makes its jobs lost, and `maglica job recover` takes your verdict on them"


def _next_of_group(shown: Told, open_: list[Told], bad: list[Told], lost: list[Told]) -> str | None:
    name = shown["id"]
    if open_:
        return without_hosts(shown) or f"`maglica job attach {name}` follows it, `maglica job cancel {name}` stops it"
    if lost:
        named = ", ".join(str(member["job"]) for member in lost[:FEW])
        return f"`maglica job recover` takes your verdict on what was lost: {named}"
    return f"`maglica job retry {name} --failed` tries those again that did not succeed" if bad else None


def _spread(members: Sequence[Told]) -> str | None:
    hosts = Counter(member["host"] for member in members if member["host"])
    named = ", ".join(f"{count} on {host}" for host, count in hosts.most_common(FEW))
    return named + (f" and the rest on {len(hosts) - FEW} more hosts" if len(hosts) > FEW else "") or None


def _count_changed(members: Sequence[Told]) -> str:
    return f"{sum(member['changed'] is True for member in members)} of {len(members)}"


def _between(began: str | None, ended: str | None) -> float | None:
    if began is None or ended is None:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
