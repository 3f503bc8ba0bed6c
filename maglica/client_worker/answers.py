"""What the client worker answers from its own records; one function per action that runs here, named after it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from maglica import declare
from maglica.client_worker.now import Now
from maglica.declare import Action
from maglica.errors import Refused
from maglica.job import Job

if TYPE_CHECKING:
    from maglica.client_worker.broker import Broker

Value = dict[str, Any]


def function(action: Action) -> Callable[[Action, Broker, Now], Value]:
    """The function that answers an action. The name comes from our own table, never from the wire."""
    found: Callable[[Action, Broker, Now], Value] = globals()[action.NAME.replace(" ", "_").replace("-", "_")]
    return found


def shown(record: Job) -> Value:
    """A job as people see it: secrets masked, and what follows from its fields."""
    fields = declare.find(record["action"]).action.FIELDS
    error = record["error"] or {}
    return {
        **record,
        "args": declare.mask(fields, record["args"]),
        "took_seconds": _took(record),
        "message": error.get("message"),
    }


def _took(record: Job) -> float | None:
    """Seconds from its submission to its end."""
    if record["ended_at"] is None:
        return None
    began, ended = (datetime.fromisoformat(text) for text in (record["created_at"], record["ended_at"]))
    return round((ended - began).total_seconds(), 3)


def host_list(action: Action, broker: Broker, now: Now) -> Value:
    items = []
    for name, host in sorted(broker.fleet.hosts.items()):
        items.append(
            {
                "name": name,
                "state": broker.fleet.state(host, now.mono),
                "why": broker.fleet.why(host, now.mono),
                "heard_seconds": None if host.heard is None else round(now.mono - host.heard, 1),
                "weight": broker.weights.get(name, 10.0),
                "incarnation": host.incarnation or None,
                "version": host.version,
                **{key: host.facts.get(key) for key in FACTS},
            }
        )
    return {"missing_hosts": [], "items": items}


# What `host list` shows of a host's own facts; `host_worker/look.py` tells them.
FACTS = ("vms_running", "vms_defined", "vcpus", "memory_bytes", "memory_free_bytes", "libvirt", "acceleration")


def host_remove(action: Action, broker: Broker, now: Now) -> Value:
    name = str(getattr(action, "name"))
    host = broker.fleet.hosts.get(name)
    if host is None:
        raise Refused("unknown_entity", f"there is no host {name}", "`maglica host list` shows them")
    if broker.fleet.state(host, now.mono) != "down":
        raise Refused("wrong_state", f"host {name} {broker.fleet.why(host, now.mono)}", "stop its host worker first")
    still = broker.store.open_jobs(name)
    if still:
        listed = ", ".join(record["id"] for record in still[:5])
        raise Refused("wrong_state", f"host {name} has open jobs: {listed}", "cancel them, or bring the host back")
    broker.store.remove_host(name)
    del broker.fleet.hosts[name]
    kept = name in broker.weights
    note = f"[host {name}] in the client worker's settings brings it back at its next start" if kept else None
    return {"missing_hosts": [], "item": {"name": name, "changed": True, "note": note}}


def job_list(action: Action, broker: Broker, now: Now) -> Value:
    values = action.values()
    found = broker.store.list_jobs(values["last"], state=values["state"], vm=values["vm"], host=values["host"])
    return {"missing_hosts": [], "items": [shown(record) for record in found]}


def job_show(action: Action, broker: Broker, now: Now) -> Value:
    return {"missing_hosts": [], "item": shown(broker.find_job(str(getattr(action, "id"))))}


def job_log(action: Action, broker: Broker, now: Now) -> Value:
    return job_show(action, broker, now)


def job_cancel(action: Action, broker: Broker, now: Now) -> Value:
    before = broker.find_job(str(getattr(action, "id")))
    changed = not before["cancel"] and before["ended_at"] is None
    return {"missing_hosts": [], "item": {**shown(broker.cancel(before, now)), "changed": changed}}
