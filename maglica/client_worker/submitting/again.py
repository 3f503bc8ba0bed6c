"""What may be asked for once more. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from maglica import declare, job
from maglica.client_worker.ledger import Member
from maglica.declare import Action
from maglica.errors import MaglicaError, Refused, from_wire
from maglica.job import Group, Job

OTHER_KEY = "one key for one request: choose another key"


def other_request(known: Job | Group) -> Refused:
    """A key that belongs to another request."""
    if "members" in known:
        what = f"group {known['id']}, which is {known['action']} of {len(known['members'])} objects"
    else:
        what = f"job {known['id']}, which is {known['action']} of {known['object']}"
    return Refused("already_exists", f"the idempotency key belongs to {what}", OTHER_KEY, job=known["id"])


class Tried(NamedTuple):
    """What of a group is being tried again already, or has succeeded since."""

    jobs: frozenset[str]  # those of the group
    refused: frozenset[str]  # names of members that had no job


def tried(tries: Iterable[Job]) -> Job | None:
    """The job that tries it again already, or has done it."""
    return next((one for one in tries if one["state"] in (*job.OPEN, job.DONE, job.LOST)), None)


def refuse(record: Job, tries: Iterable[Job], *, lost: bool) -> None:
    """Refuse to try a job again that goes on, has succeeded, or whose fate nobody knows.

    `tries`: the jobs that try it again, and those that try them again. `lost`: a person has looked, and wants it to be
    tried again.
    """
    name, state = f"job {record['id']}", record["state"]
    if lost and state != job.LOST:
        raise Refused(
            "wrong_state", f"{name} is {state}, not lost", f"`maglica job retry {record['id']}` tries it again"
        )
    if state in job.OPEN:
        raise Refused(
            "wrong_state", f"{name} is {state}: it goes on", f"`maglica job attach {record['id']}` follows it"
        )
    if state == job.DONE:
        raise Refused("wrong_state", f"{name} is done: there is nothing to try again")
    if state == job.LOST and not lost:
        raise Refused(
            "wrong_state",
            f"{name} is lost: nobody knows whether it was carried out",
            f"look at {record['object'] or 'its host'}, then"
            f" `maglica job recover {record['id']} --as=success|failure|retry --reason=…`",
        )
    other = tried(tries)
    if other:
        what = "is done" if other["state"] == job.DONE else f"is {other['state']}"
        raise Refused(
            "already_exists", f"job {other['id']} tries {name} again already and {what}",
            f"`maglica job explain {other['id']}` tells more", job=other["id"],
        )  # fmt: skip


def action(name: str, args: Mapping[str, Any]) -> Action:
    """The same request again; a secret of it is not kept, and has to be given anew."""
    found = declare.find(name).action
    args = {key: value for key, value in args.items() if key not in found.FIELDS or not found.FIELDS[key].internal}
    secrets = [field for field in found.FIELDS.values() if field.secret]
    gone = [field.option for field in secrets if declare.is_masked(args.get(field.name))]
    if gone:
        raise Refused(
            "wrong_input", f"{name}: {', '.join(gone)} was a secret and is not kept", "ask for it anew, with the secret"
        )
    return declare.build(name, dict(args))


def members(group: Group, records: Mapping[str, Job], tried: Tried, *, only_failed: bool) -> list[Member]:
    """Those of a group that shall be tried again. `records`: its jobs."""
    done = sum(record["state"] == job.DONE for record in records.values())
    if done and not only_failed:
        raise Refused(
            "wrong_state",
            f"{done} of the {len(group['members'])} jobs of group {group['id']} are done",
            f"`maglica job retry {group['id']} --failed` tries the others again",
        )
    found = []
    for member in group["members"]:
        record = records.get(member["job"] or "")
        if member["name"] in tried.refused if member["error"] else (record and record["id"] in tried.jobs):
            continue
        if member["error"] or (record and record["state"] in (job.FAILED, job.CANCELLED)):
            found.append(_again(group, member, record))
        elif record and record["state"] == job.LOST:
            error = Refused("wrong_state", f"job {record['id']} is lost", "`maglica job recover` takes your verdict")
            found.append(Member(member["name"], {}, None, error))
    if not found:
        raise Refused("wrong_state", f"no job of group {group['id']} has failed that is not tried again already")
    return found


def _again(group: Group, member: dict[str, Any], record: Job | None) -> Member:
    args = record["args"] if record else {**group["args"], **member["args"]}
    try:
        return Member(
            member["name"], dict(args), action(group["action"], args), retry_of=record["id"] if record else None
        )
    except MaglicaError as error:
        return Member(member["name"], dict(args), None, from_wire(error.to_wire()))
