"""What the client worker answers from its own records; one function per action that runs here, named after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from maglica import job, machine
from maglica.actions.host import HostList, HostRemove
from maglica.actions.job import JobCancel, JobList, JobLog, JobShow, JobStore
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.ledger import Ledger
from maglica.client_worker.now import Now
from maglica.declare import Action
from maglica.errors import Refused


class Records(NamedTuple):
    """What answers are made from."""

    fleet: Fleet
    ledger: Ledger
    weights: dict[str, float]
    epoch: int
    cluster: str
    secrets: tuple[str, ...]  # folders that hold some


Value = dict[str, Any]


def function(action: Action) -> Callable[..., Value]:
    """The function that answers an action. The name comes from our own table, never from the wire."""
    found: Callable[..., Value] = globals()[action.NAME.replace(" ", "_").replace("-", "_")]
    return found


def host_list(want: HostList, records: Records, now: Now) -> Value:
    items = []
    for name, host in sorted(records.fleet.hosts.items()):
        items.append(
            {
                "name": name,
                "state": records.fleet.state(host, now.mono),
                "why": records.fleet.why(host, now.mono),
                "heard_seconds": None if host.heard is None else round(now.mono - host.heard, 1),
                "clock_skew_seconds": None if host.skew is None else round(host.skew, 1),
                "weight": records.weights.get(name, 10.0),
                "incarnation": host.incarnation or None,
                "version": host.version or host.facts.get("version"),
                **{key: host.facts.get(key) for key in FACTS},
            }
        )
    return {"missing_hosts": [], "items": items}


def job_store(want: JobStore, records: Records, now: Now) -> Value:
    fleet, store = records.fleet, records.ledger.store
    item = {
        "path": store.path,
        "epoch": records.epoch,
        "cluster": records.cluster,
        "verdict": store.verdict(),
        "room": machine.room(os.path.dirname(store.path)),
        "folders": [machine.folder(folder) for folder in records.secrets],
        "clock": now.ms / 1000,
        "listed": sorted(records.weights),
        "refusals": [
            {"host": name, "why": why, "age_seconds": round(now.mono - at, 1)}
            for name, (at, why) in fleet.refusals.items()
            if now.mono - at <= RECENT
        ],
    }
    return {"missing_hosts": [], "item": item}


RECENT = 60.0  # seconds: a refusal that is older may have been cured

# What `host list` shows of a host's own facts; `host_worker/look.py` tells them.
FACTS = ("vms_running", "vms_defined", "vcpus", "memory_bytes", "memory_free_bytes", "libvirt", "acceleration")


def host_remove(want: HostRemove, records: Records, now: Now) -> Value:
    name = want.name
    host = records.fleet.hosts.get(name)
    if host is None:
        raise Refused("unknown_entity", f"there is no host {name}", "`maglica host list` shows them")
    if records.fleet.state(host, now.mono) != "down":
        raise Refused("wrong_state", f"host {name} {records.fleet.why(host, now.mono)}", "stop its host worker first")
    still = records.ledger.store.open_jobs(name)
    if still:
        listed = ", ".join(record["id"] for record in still[:5])
        raise Refused("wrong_state", f"host {name} has open jobs: {listed}", "cancel them, or bring the host back")
    records.ledger.store.remove_host(name)
    del records.fleet.hosts[name]
    kept = name in records.weights
    note = f"[host {name}] in the client worker's settings brings it back at its next start" if kept else None
    return {"missing_hosts": [], "item": {"name": name, "changed": True, "note": note}}


def job_list(want: JobList, records: Records, now: Now) -> Value:
    found = records.ledger.latest(want.last, state=want.state, vm=want.vm, host=want.host)
    return {"missing_hosts": [], "items": [job.shown(record) for record in found]}


def job_show(want: JobShow, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": job.shown(records.ledger.find(want.id))}


def job_log(want: JobLog, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": job.shown(records.ledger.find(want.id))}


def job_cancel(want: JobCancel, records: Records, now: Now) -> Value:
    before = records.ledger.find(want.id)
    changed = not before["cancel"] and before["ended_at"] is None
    return {"missing_hosts": [], "item": {**job.shown(records.ledger.cancel(before, now)), "changed": changed}}
