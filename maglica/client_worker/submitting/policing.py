"""What one that fails means for the rest of its group. No sockets, no clock.

The decision is written down in the transaction in which the job's end is, and so is all that follows from it: jobs
that are stopped, and jobs that take back what was made. There is no moment at which a restart could forget it.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from maglica import declare, job, policy
from maglica.client_worker.door.audit import Audit
from maglica.client_worker.door.keyring import ANYBODY
from maglica.client_worker.ledger import GroupSubmission, Ledger, Member, Submission, own_key
from maglica.client_worker.now import Now
from maglica.client_worker.store import Store
from maglica.declare import Action
from maglica.errors import Refused
from maglica.job import Job

log = logging.getLogger("maglica.client_worker")

NEXT = 4  # hosts that are rung when a job of a bounded group ends: the first of them may be down, or have no slot free


class Policing:
    """The ledger tells of each job of a group that ends."""

    def __init__(self, store: Store, ledger: Ledger, audit: Audit) -> None:
        self._store = store
        self._ledger = ledger
        self._audit = audit
        ledger.on_end = self.ended

    def ended(self, record: Job, now: Now) -> None:
        """A job of a group has ended, and that is in the store."""
        group_id = record["group"] or ""
        wanted, decision = self._store.groups.policy_of(group_id)
        if wanted is None:
            return
        if wanted.get("max_parallel"):
            self._ledger.ring(self._store.groups.next_hosts(group_id, NEXT))
        if decision is None:
            what = policy.decided(wanted, self._store.groups.states_of(group_id), int(wanted["count"]))
            if what:
                self._decide(group_id, what, record, now)
        elif decision["what"] == "undo" and record["state"] == job.DONE:
            self._take_back(group_id, [record], decision["why"], now)  # it was done before it could be stopped

    def _decide(self, group_id: str, what: str, culprit: Job, now: Now) -> None:
        message = str((culprit["error"] or {}).get("message") or culprit["state"])
        why = message if (culprit["object"] or "") in message else f"{culprit['object']}: {message}"
        self._store.groups.decide(group_id, {"what": what, "why": why, "at": now.text})
        log.info("decided group=%s what=%s because of job=%s", group_id, what, culprit["id"])
        group = self._store.groups.get(group_id)
        records = self._ledger.jobs_of(group) if group else []
        for record in records:
            if record["state"] == job.QUEUED or (what == "undo" and record["state"] in job.OPEN):
                self._ledger.cancel(record, now, because=f"{why} (--on-failure={_NAMES[what]})")
        if what == "undo":
            self._take_back(group_id, [record for record in records if record["state"] == job.DONE], why, now)

    def _take_back(self, group_id: str, made: list[Job], why: str, now: Now) -> None:
        """Submit jobs that undo what these have done, each on the host where that was."""
        group = self._store.groups.get(group_id)
        todo = [(record, action) for record in made if (action := undoing(record))]
        if group is None or not todo:
            return
        undo_id = self._ledger.group_id(now)
        reason = f"group {group_id} takes back what it made: {why}"
        who = ANYBODY._replace(name=group["by"] or ANYBODY.name)
        members, told = [], []
        for record, action in todo:
            one = Submission(own_key(), action, who, group["owner"], reason, group=undo_id)
            new = self._ledger.record(one, record["host"], action, f"made there by job {record['id']}", now)
            self._audit.write(who, action.NAME, new["object"], "accepted", now, job=new["id"], message=reason)
            members.append(Member(str(record["object"]), action.values(), action))
            told.append({"name": str(record["object"]), "args": action.values(), "job": new["id"], "error": None})
            if not self._ledger.knows(record["host"]):  # it was lost with its host, and somebody said what became of it
                self._ledger.cancel(new, now, because=f"{record['host']}, which was removed")
        wanted = GroupSubmission(undo_id, todo[0][1].NAME, {}, members, who, group["owner"], reason, undo_of=group_id)
        self._ledger.record_group(undo_id, wanted, told, now)


_NAMES = {"stop": policy.FAIL_FAST, "undo": policy.ALL_OR_NOTHING}


def undoing(record: Job) -> Action | None:
    """The action that takes back what a job has done: exactly that, and nothing that has its name by now. None where
    there is nothing to be taken back, or nothing says exactly what.
    """
    asked, made = record["args"], record["result"] or {}
    try:
        done = declare.find(record["action"]).action
    except Refused:  # another release recorded it: nobody here knows its opposite, and its host's report is taken
        return None
    verb = done.undone_by(asked)
    if not verb or made.get("changed") is False:
        return None
    fields = declare.find(verb).action.FIELDS
    # A disk that was there before stays; where it was to be plugged in only for now, so does the new one.
    new = asked.get("size") is not None and asked.get("apply") == "both"
    how = {"name": record["object"], "apply": asked.get("apply"), "force": True, "remove": new}
    args = {name: value for name, value in how.items() if name in fields and value is not None}
    for which in ({name: made.get(name) for name in done.UNDONE_EXACTLY}, {"made_by": record["id"]}):
        if None not in which.values() and which.keys() <= fields.keys():
            with suppress(Refused):  # what a host tells may be anything
                return declare.build(verb, {**args, **which})
    log.error("job=%s cannot be taken back: its host did not tell what exactly it made", record["id"])
    return None
