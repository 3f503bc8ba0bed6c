"""What the client worker answers from its own records; one function per action that runs here, named after it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from maglica import declare, job, machine, template
from maglica.actions.audit import AuditList
from maglica.actions.host import HostInvite, HostList, HostRemove, HostRevoke
from maglica.actions.image import ImageLabel, ImagePromote, ImageRollback
from maglica.actions.job import JobCancel, JobExplain, JobList, JobLog, JobPrune, JobSettle, JobShow, JobStore
from maglica.actions.key import KeyAdd, KeyList, KeyRevoke
from maglica.actions.lock import LockList
from maglica.actions.template import TemplateAdd, TemplateList, TemplateRemove, TemplateRender, TemplateShow
from maglica.actions.vm.look import VmHistory
from maglica.client_worker import concerned, explain
from maglica.client_worker.door.keyring import ANYBODY, Keyring, Known, Who
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.ledger import Ledger, id_at
from maglica.client_worker.now import Now, text
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.placement import fleets, labels
from maglica.client_worker.placement.place import Seen
from maglica.config import ClientSection
from maglica.declare import Action
from maglica.errors import Refused
from maglica.job import Group, Job
from maglica.keys import Invitation, fingerprint

Value = dict[str, Any]

# What is something else, or nothing, when it is done a second time. None of their answers holds a secret.
ONCE = (
    HostRemove.NAME, HostRevoke.NAME, KeyRevoke.NAME, ImageLabel.NAME, ImagePromote.NAME, ImageRollback.NAME,
    TemplateAdd.NAME, TemplateRemove.NAME,
)  # fmt: skip


class Records(NamedTuple):
    """What answers are made from."""

    fleet: Fleet
    ledger: Ledger
    weights: dict[str, float]
    epoch: int
    cluster: str
    folders: tuple[str, ...]  # folders that hold some
    keyring: Keyring
    outbox: Outbox
    settings: ClientSection
    server: str  # the client worker's own public key
    who: Who = ANYBODY  # whoever asks
    seen: Seen = Seen({}, {})  # what hosts told, where they had to be asked first

    def sees(self, record: Job | Value) -> bool:
        """Whether the asker may know of a job."""
        return self.keyring.sees(self.who, vm=record["object"], host=record["host"])

    def sees_any(self, found: Job | Group) -> bool:
        """Whether the asker may know of a job, or of all that a group is about."""
        if "members" not in found:
            return self.sees(found)
        jobs = self.ledger.store.groups.about(found["id"])
        about: list[tuple[str | None, str | None]] = [*jobs.values()]
        if not self.asked(found):  # of what was refused, or is forgotten, his words are all that is known
            rest = (member for member in found["members"] if member["job"] not in jobs)
            about += [concerned.by_member(found, member) for member in rest]
        return all(self.keyring.sees(self.who, vm=vm, host=host) for vm, host in about)

    def asked(self, group: Group) -> bool:
        """Whether the asker may know what a group was asked for with, and what was answered."""
        return group["by"] == self.who.name or self.keyring.sees_all(self.who)

    def members(self, group: Group) -> list[Value]:
        """How each of a group stands. Why it was refused may name what only he may see who was told."""
        found = self.ledger.members(group)
        return found if self.asked(group) else [_without_reason(one) if one["job"] is None else one for one in found]

    def find_any(self, prefix: str) -> Job | Group:
        """The job or group whose id begins so; who may not see all of a group's jobs may not see the group."""
        found = self.ledger.find_any(prefix, self.sees_any)
        if "members" not in found:
            return self.find(found["id"])
        if not self.sees_any(found):
            raise Refused(
                "denied", f"{self.who} may not see group {found['id']}", "some of it is about other VMs or hosts"
            )
        return found

    def find(self, prefix: str) -> Job:
        """The job whose id begins so; what the asker may not see does not exist."""
        record = self.ledger.find(prefix, self.sees_any)
        if not self.sees(record):
            raise Refused("denied", f"{self.who} may not see job {record['id']}", "it is about another VM or host")
        return record

    def bar(self, now: Now) -> None:
        """Take note of which hosts have a key and which have not."""
        for name, host in self.fleet.hosts.items():
            host.barred = self.keyring.why_not(name, now.ms)
            if host.barred:
                host.heard = None  # what it said with a key that it has no more does not make it up again


def function(action: Action) -> Callable[..., Value]:
    """The function that answers an action. The name comes from our own table, never from the wire."""
    found: Callable[..., Value] = globals()[action.NAME.replace(" ", "_").replace("-", "_")]
    return found


def host_list(want: HostList, records: Records, now: Now) -> Value:
    items = []
    for name, host in sorted(records.fleet.hosts.items()):
        if not records.keyring.sees(records.who, host=name):
            continue
        items.append(
            {
                "name": name,
                "state": records.fleet.state(host, now.mono),
                "why": _why(name, records, now),
                "heard_seconds": None if host.heard is None else round(now.mono - host.heard, 1),
                "clock_skew_seconds": None if host.skew is None else round(host.skew, 1),
                "weight": records.weights.get(name, 10.0),
                "incarnation": host.incarnation or None,
                "version": host.version or host.facts.get("version"),
                **{key: host.facts.get(key) for key in FACTS},
            }
        )
    return {"missing_hosts": [], "items": items}


def _why(name: str, records: Records, now: Now) -> str:
    """The state of a host in words; of one that is down also what becomes of the jobs that it was given."""
    host = records.fleet.hosts[name]
    why = records.fleet.why(host, now.mono)
    given = len(records.ledger.store.jobs.handed(name)) if records.fleet.state(host, now.mono) == "down" else 0
    jobs = "1 job was" if given == 1 else f"{given} jobs were"
    return f"{why}; {jobs} given to it: if it is gone for good, {explain.gone_for_good(name)}" if given else why


def job_store(want: JobStore, records: Records, now: Now) -> Value:
    fleet, store = records.fleet, records.ledger.store
    item = {
        "path": store.path,
        "epoch": records.epoch,
        "cluster": records.cluster,
        "verdict": store.verdict(),
        "room": machine.room(os.path.dirname(store.path)),
        "folders": [machine.folder(folder) for folder in records.folders],
        "clock": now.ms / 1000,
        "listed": sorted(name for name in records.weights if records.keyring.sees(records.who, host=name)),
        "refusals": [
            {"host": name, "why": one.why, "hint": one.hint or None, "age_seconds": round(now.mono - one.at, 1)}
            for name, one in fleet.refusals.items()
            if now.mono - one.at <= RECENT and records.keyring.sees(records.who, host=name)
        ],
    }
    return {"missing_hosts": [], "item": item}


MOST_LISTED = 10_000  # jobs that are looked through for those that somebody may see
RECENT = 60.0  # seconds: a refusal that is older may have been cured

# What `host list` shows of a host's own facts; `host_worker/domain/look.py` tells them.
FACTS = ("vms_running", "vms_defined", "vcpus", "memory_bytes", "memory_free_bytes", "libvirt", "acceleration")


def host_remove(want: HostRemove, records: Records, now: Now) -> Value:
    name = want.name
    host = records.fleet.hosts.get(name)
    if host is None:
        raise Refused("unknown_entity", f"there is no host {name}", "`maglica host list` shows them")
    if records.fleet.state(host, now.mono) != "down":
        raise Refused("wrong_state", f"host {name} {records.fleet.why(host, now.mono)}", "stop its host worker first")
    queued = [record for record in records.ledger.store.jobs.open(name) if record["state"] == job.QUEUED]
    if queued:
        listed = ", ".join(record["id"] for record in queued[:5])
        raise Refused("wrong_state", f"host {name} has queued jobs: {listed}", "cancel them, or bring the host back")
    lost = records.ledger.give_up(name, records.who.name, now)
    records.ledger.store.hosts.remove(name)
    if records.keyring.revoke_host(name, now):
        records.outbox.drop()
    records.fleet.forget(name)
    notes = []
    if name in records.weights:
        notes.append(f"[host {name}] in the client worker's settings brings it back at its next start")
    if lost:
        listed = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        notes.append(f"lost with it: {listed}; `maglica job recover` takes your verdict on each")
    return {
        "missing_hosts": [],
        "item": {"name": name, "changed": True, "lost": lost, "note": "; ".join(notes) or None},
    }


def host_invite(want: HostInvite, records: Records, now: Now) -> Value:
    if records.keyring.is_open:
        hint = "start its host worker with --client=ADDRESS and [client] security = none"
        raise Refused("wrong_state", "the bus is open: nobody needs an invitation", hint)
    secret = secrets.token_hex(16)
    expires_ms = now.ms + int(want.expires * 1000)
    records.keyring.invite(want.name, secret, expires_ms, records.who.name, now)
    records.bar(now)
    settings = records.settings
    address = want.address or settings.address
    token = Invitation(want.name, secret, records.server, address, settings.pub_port, settings.rep_port).token()
    item = {
        "name": want.name,
        "command": f"maglica_host_worker --join {token}",
        "token": token,
        "address": address,
        "expires_at": text(expires_ms),
        "has_key": records.keyring.host_key(want.name, now.ms) is not None,
    }
    item["note"] = _about_invitation(item)
    return {"missing_hosts": [], "item": item}


def _about_invitation(item: Value) -> str:
    note = f"run this on {item['name']} as root; it is good once, until {item['expires_at']}"
    if item["has_key"]:
        note += "; the key that this host has ends when it is used"
    if item["address"].startswith("127.") or item["address"] in ("localhost", "::1"):
        note += f"; {item['address']} is this machine alone: set [client] address, or give --address, for another one"
    return note


def host_revoke(want: HostRevoke, records: Records, now: Now) -> Value:
    known = want.name in records.fleet.hosts or records.keyring.host_key(want.name, now.ms)
    if not known and records.keyring.invitation(want.name, now.ms) is None:
        raise Refused("unknown_entity", f"there is no host {want.name}", "`maglica host list` shows them")
    invited = records.keyring.invitation(want.name, now.ms) is not None
    had = records.keyring.revoke_host(want.name, now)
    records.bar(now)
    records.outbox.drop()
    note = f"its VMs run on; `maglica host invite {want.name}` lets it in again"
    return {"missing_hosts": [], "item": {"name": want.name, "changed": had or invited, "note": note}}


def key_add(want: KeyAdd, records: Records, now: Now) -> Value:
    if records.keyring.is_open:
        raise Refused("wrong_state", "the bus is open: nobody needs a key", "remove [client] security = none")
    records.keyring.may_give(records.who, want.role)
    expires_ms = None if want.expires is None else now.ms + int(want.expires * 1000)
    known = records.keyring.add(want.name, want.role, want.public_key, expires_ms, records.who.name, now)
    settings = records.settings
    where = {"address": settings.address, "pub_port": settings.pub_port, "rep_port": settings.rep_port}
    return {"missing_hosts": [], "item": {**_shown(known, now), "server": records.server, **where}}


def key_list(want: KeyList, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "items": [_shown(known, now) for known in records.keyring.seen_by(records.who)]}


def key_revoke(want: KeyRevoke, records: Records, now: Now) -> Value:
    ended = records.keyring.revoke(want.name, records.who, now)
    return {"missing_hosts": [], "item": {"name": want.name, "changed": ended is not None}}


def _shown(known: Known, now: Now) -> Value:
    state = "revoked" if known.revoked_at else "good" if known.good(now.ms) else "expired"
    return {
        "name": known.name,
        "role": known.role,
        "state": state,
        "fingerprint": fingerprint(known.public),
        "created_at": known.created_at,
        "created_by": known.created_by,
        "expires_at": None if known.expires_ms is None else text(known.expires_ms),
        "revoked_at": known.revoked_at,
    }


AUDITED = ("at", "who", "role", "address", "action", "object", "job", "outcome", "message")


def audit_list(want: AuditList, records: Records, now: Now) -> Value:
    # Lines tell of VMs, hosts and keys in all kinds of words: whoever sees only some, sees what such as he asked for.
    role = None if records.keyring.sees_all(records.who) else records.who.role
    latest = records.ledger.store.audit.latest
    rows = latest(want.last, who=want.who, role=role, outcome=want.outcome, about=want.object)
    return {"missing_hosts": [], "items": [dict(zip(AUDITED, row, strict=True)) for row in reversed(rows)]}


def image_label(want: ImageLabel, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": labels.put(want, records.seen, records.ledger.store, records.who.name, now)}


def image_promote(want: ImagePromote, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": labels.put(want, records.seen, records.ledger.store, records.who.name, now)}


def image_rollback(want: ImageRollback, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": labels.roll_back(want, records.ledger.store)}


def job_list(want: JobList, records: Records, now: Now) -> Value:
    wanted = {name: getattr(want, name) for name in ("state", "vm", "host", "owner")}
    wanted["action"] = declare.find(want.action.replace("-", " ", 1)).action.NAME if want.action else None
    wanted["group"] = _group(want.group, records)["id"] if want.group else None
    for name, seconds in (("since", want.since), ("until", want.until)):
        wanted[name] = None if seconds is None else id_at(now.ms - int(seconds * 1000))
    # What somebody may not see does not use up what he asked for.
    last = want.last if records.keyring.sees_all(records.who) else MOST_LISTED
    found = [item for item in records.ledger.latest(last, now, **wanted) if records.sees(item)]
    return {"missing_hosts": [], "items": found[-want.last :]}


def vm_history(want: VmHistory, records: Records, now: Now) -> Value:
    """What `job list --vm` tells, to those who may see that VM."""
    return job_list(JobList(vm=want.name, last=want.last), records, now)


def _group(prefix: str, records: Records) -> Group:
    found = records.find_any(prefix)
    if "members" not in found:
        raise Refused("wrong_input", f"{found['id']} is a job, not a group", "the id of a group begins with g")
    return found


def _told(found: Job | Group, records: Records, now: Now) -> Value:
    """A job with all that is known of it, or a group with how each of its jobs stands."""
    if "members" not in found:
        return records.ledger.shown(found, now)
    return {**records.ledger.group_shown(found, now), "members": records.members(found)}


def _without_reason(member: Value) -> Value:
    error = Refused(member["error"]["code"], "it was refused; whoever asked for it was told why").to_wire()
    return {**member, "message": error["message"], "error": error}


def job_show(want: JobShow, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": _told(records.find_any(want.id), records, now)}


def job_log(want: JobLog, records: Records, now: Now) -> Value:
    found = records.find_any(want.id)
    if "members" not in found:
        return {"missing_hosts": [], "item": records.ledger.shown(found, now)}
    jobs = [records.ledger.shown(record, now) for record in records.ledger.jobs_of(found)]
    return {"missing_hosts": [], "item": {**_told(found, records, now), "logs": jobs}}


def job_explain(want: JobExplain, records: Records, now: Now) -> Value:
    found = records.find_any(want.id)
    if "members" in found:
        told = records.ledger.group_shown(found, now)
        return {"missing_hosts": [], "item": explain.group(told, records.members(found))}
    retries = records.ledger.store.jobs.retries(found["id"])
    return {"missing_hosts": [], "item": explain.one(records.ledger.shown(found, now), retries)}


def job_cancel(want: JobCancel, records: Records, now: Now) -> Value:
    found = records.find_any(want.id)
    if "members" in found:
        count = records.ledger.cancel_group(found, now)
        told = records.ledger.group_shown(found, now)
        item = {**told, "changed": count > 0, "cancelled": count, "next": explain.without_hosts(told)}
        return {"missing_hosts": [], "item": item}
    changed = not found["cancel"] and found["ended_at"] is None
    shown = records.ledger.shown(records.ledger.cancel(found, now), now)
    hint = f"it waits for {shown['waits_for']}; if that is gone for good, {explain.gone_for_good(shown['host'])}"
    return {"missing_hosts": [], "item": {**shown, "changed": changed, "next": hint if shown["waits_for"] else None}}


def job_settle(want: JobSettle, records: Records, now: Now) -> Value:
    verdict = {"as": want.as_, "reason": want.reason, "by": records.who.name, "owner": want.owner}
    record = records.ledger.settle(records.find(want.id), verdict, now)
    return {"missing_hosts": [], "item": records.ledger.shown(record, now)}


def job_prune(want: JobPrune, records: Records, now: Now) -> Value:
    count = records.ledger.store.prune(now.ms - int(want.older_than * 1000))
    return {"missing_hosts": [], "item": {"forgotten": count, "changed": count > 0}}


def template_list(want: TemplateList, records: Records, now: Now) -> Value:
    items = []
    for found in records.ledger.store.templates.all():
        said = found["parameters"]
        shown = {"image": said.get("image"), "vcpus": said.get("vcpus"), "memory_bytes": said.get("memory")}
        items.append({**found, **shown, "parameters": dict(sorted(said.items()))})
    return {"missing_hosts": [], "items": items}


def template_show(want: TemplateShow, records: Records, now: Now) -> Value:
    return {"missing_hosts": [], "item": _template(want.name, records)}


def template_add(want: TemplateAdd, records: Records, now: Now) -> Value:
    store = records.ledger.store
    known = store.templates.get(want.name)
    if known and not want.replace:
        raise Refused("already_exists", f"there is a template {want.name}", "--replace puts this one in its place")
    own = ("name", "file", "replace")
    given = {name: value for name, value in want.values().items() if name not in own and value is not None}
    said = template.checked(want.name, {**template.parse(want.name, want.file or ""), **given})
    store.templates.put(
        want.name, {"name": want.name, "parameters": said, "owner": records.who.name, "changed_at": now.text}
    )
    return {"missing_hosts": [], "item": {**_template(want.name, records), "changed": True}}


def template_remove(want: TemplateRemove, records: Records, now: Now) -> Value:
    _template(want.name, records)
    records.ledger.store.templates.remove(want.name)
    return {"missing_hosts": [], "item": {"name": want.name, "changed": True}}


def template_render(want: TemplateRender, records: Records, now: Now) -> Value:
    given = {name: value for name, value in want.values().items() if name != "name"}
    return {
        "missing_hosts": [],
        "item": {"name": want.name, "args": template.render(_template(want.name, records), given)},
    }


def _template(name: str, records: Records) -> Value:
    return fleets.find_template(name, {one["name"]: one for one in records.ledger.store.templates.all()})


def lock_list(want: LockList, records: Records, now: Now) -> Value:
    lines: dict[str, list[str]] = {}
    for lock, name in records.ledger.store.jobs.locks():
        lines.setdefault(lock, []).append(name)
    items = []
    for lock, line in lines.items():
        if want.vm and not f"{lock}.".startswith(f"vm:{want.vm}."):
            continue
        record = records.ledger.find(line[0])
        if not records.sees(record) or (want.host and not f"{record['host']}.".startswith(f"{want.host}.")):
            continue
        since = record["claimed_at"] or record["created_at"]
        items.append(
            {
                "lock": lock,
                "job": record["id"],
                **{key: record[key] for key in ("action", "state", "host", "owner", "by", "step")},
                "since_at": since,
                "waiting": [job for job in line[1:] if records.sees(records.ledger.find(job))],
            }
        )
    return {"missing_hosts": [], "items": items}
