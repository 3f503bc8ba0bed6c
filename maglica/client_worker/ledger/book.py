"""The jobs and groups as they stand: found, and shown. What is told of them is looked up at that moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

from maglica import job, policy, wire
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.ledger import waiting
from maglica.client_worker.ledger.waiters import Waiters
from maglica.client_worker.now import Now
from maglica.client_worker.store import MOST_LIKE, Store
from maglica.errors import Refused
from maglica.job import Group, Job
from maglica.wire import Message

Sees = Callable[[Job | Group], bool]  # whether whoever asks may know of it

NAMED = 5  # jobs that an ambiguous id is said to mean
SHOWN = 50  # running jobs of a group that are told one by one while they run


class Book:
    """All jobs, over their store, and what hosts have told of them since."""

    def __init__(self, store: Store, fleet: Fleet) -> None:
        self.store = store
        self._jobs, self._groups = store.jobs, store.groups
        self._fleet = fleet
        self._waiters = Waiters()
        # Progress since a job's last change of state, by id. It is not worth an fsync: after a restart the hosts tell
        # it again with their next sync.
        self._live: dict[str, Job] = {}

    def certain(self) -> None:
        """What was told so far stays told."""
        self._waiters.certain()

    def mark(self) -> int:
        """How much was told since then."""
        return self._waiters.mark()

    def undone(self, mark: int) -> None:
        """What was written and told after `mark` has not happened. Of progress, hosts tell once more what is true."""
        self._waiters.untold(mark)
        self._live.clear()

    def find_any(self, prefix: str, sees: Sees = lambda found: True) -> Job | Group:
        """The job or group whose id begins so; `Refused` when there is none, or more than one that the asker `sees`."""
        exact = self._job(prefix) or self._groups.get(prefix)
        found = _meant(prefix, [exact] if exact else [*self._groups.like(prefix), *self._jobs.like(prefix)], sees)
        return found if "members" in found else self._newest(found)

    def find(self, prefix: str, sees: Sees = lambda found: True) -> Job:
        """The job whose id begins so; `Refused` when there is none, or more than one that the asker `sees`."""
        exact = self._job(prefix)
        found = _meant(prefix, [exact] if exact else self._jobs.like(prefix), sees)
        return self._newest(cast(Job, found))

    def latest(self, last: int, now: Now, **wanted: str | None) -> list[Message]:
        """The newest jobs that fit, the newest last, as a list shows them. `Jobs.latest` says what is `wanted`."""
        found = [self._newest(record) for record in self._jobs.latest(last, **wanted)]
        return [_brief(self.shown(record, now)) for record in found]

    def jobs_of(self, group: Group) -> list[Job]:
        """The jobs of a group, as far as they are not forgotten."""
        return [self._newest(record) for record in self._jobs.of_group(group["id"])]

    def shown(self, record: Job, now: Now) -> Message:
        """A job as people see it, with what it waits for."""
        return {**job.shown(record), **self._waiting(record, now)._asdict()}

    def told(self, found: Job | Group, now: Now) -> Message:
        """The answer that holds a job or a group."""
        if "members" in found:
            return wire.ok(group=self.group_shown(found, now))
        return wire.ok(job=self.shown(found, now))

    def _waiting(self, record: Job, now: Now) -> waiting.Waiting:
        """Looked up at this moment, never stored: it changes with every job that ends."""
        if record["state"] in job.FINAL:
            return waiting.NOTHING
        host = self._fleet.hosts.get(record["host"])
        if host is None or self._fleet.state(host, now.mono) == "down":
            why = "is not known any more" if host is None else f"is down: {self._fleet.why(host, now.mono)}"
            return waiting.for_host(record, self._ahead(record), why)
        if record["state"] != job.QUEUED:
            return waiting.NOTHING
        if host.unwanted:
            why = f"stops job {host.unwanted[0]} first, which was given up as lost"
            return waiting.for_host(record, self._jobs.count_ahead(record), why)
        if host.facts.get("trouble"):  # it takes no jobs while it lasts
            return waiting.for_host(record, self._jobs.count_ahead(record), f"says: {host.facts['trouble']}")
        for lock in record["locks"]:
            holder = self._jobs.lock_before(lock, record["id"])
            if holder:
                return waiting.for_lock(record, self._jobs.count_ahead(record), lock, self._job(holder))
        bound = self._bound_reached(record["group"], now) if record["group"] else None
        if bound:
            return waiting.for_group(record, self._jobs.count_ahead(record), bound)
        working = [id for id in self._jobs.working(record["host"], record["slot"]) if not self._only_waits(id)]
        return waiting.for_slot(record, self._jobs.count_ahead(record), working)

    def _ahead(self, record: Job) -> int | None:
        """How many queued jobs are before it; None when it is not queued any more."""
        return self._jobs.count_ahead(record) if record["state"] == job.QUEUED else None

    def _only_waits(self, id: str) -> bool:
        """Whether a job waits for its guest: then it has given its slot back."""
        record = self._live.get(id)
        return record is not None and str(record["step"]).partition(":")[0] == "wait"

    def _busy(self, group_id: str, now: Now) -> int:
        """How many of a group are at work. Those on a host that is down hold up nobody: they may never end."""
        hosts = self._fleet.hosts
        return sum(
            count
            for name, count in self._groups.busy_hosts(group_id).items()
            if name in hosts and self._fleet.state(hosts[name], now.mono) != "down"
        )

    def _bound_reached(self, group_id: str, now: Now) -> int | None:
        """How many of a group may be at work, when so many are; None otherwise."""
        bound = self._groups.bound(group_id)
        return bound if bound is not None and self._busy(group_id, now) >= bound else None

    def group_shown(self, group: Group, now: Now) -> Message:
        """A group as those see it who wait for it: how many of its jobs are in which state, and those that run."""
        rev = self._waiters.rev(group["id"], now, over=self._is_over(group["id"]))
        states = self._groups.states_of(group["id"])
        refused = sum(member["job"] is None for member in group["members"])
        undo = self._undo(group)
        running = [
            self._newest(record)
            for state in (job.RUNNING, job.CLAIMED)
            for group_id in (group["id"], *self._groups.undo_of(group["id"]))
            for record in self._jobs.some_of_group(group_id, state, SHOWN)
        ]
        waits = self._jobs.some_of_group(group["id"], job.QUEUED, 1)
        return {
            **{key: value for key, value in group.items() if key != "members"},
            "rev": rev,
            "state": self._group_state(group, states, undo),
            "jobs": len(group["members"]),
            "needed": policy.needed(group["policy"], len(group["members"])),
            "states": {**states, **({"refused": refused} if refused else {})},
            "open": sum(counts.get(state, 0) for counts in (states, undo) for state in job.OPEN),
            "undo": undo or None,
            "took_seconds": self._group_took(group),
            "first_in_line": self.shown(waits[0], now)["waits_for"] if waits else None,
            "running": [_brief(self.shown(record, now)) for record in running[:SHOWN]],
        }

    def _undo(self, group: Group) -> dict[str, int]:
        """How many jobs that take back what a group made are in which state."""
        counts: dict[str, int] = {}
        for undo_id in self._groups.undo_of(group["id"]):
            self._waiters.undoes(undo_id, group["id"])
            for state, count in self._groups.states_of(undo_id).items():
                counts[state] = counts.get(state, 0) + count
        return counts

    def _group_state(self, group: Group, states: dict[str, int], undo: dict[str, int]) -> str:
        if any(undo.get(state) for state in job.OPEN):
            return job.RUNNING
        count = len(group["members"])
        undone = (group["decision"] or {}).get("what") == "undo"
        return job.group_state(states, count, policy.needed(group["policy"], count), undone=undone)

    def _group_took(self, group: Group) -> float | None:
        """Seconds from its submission to the end of its last job; None while some are open."""
        if not self._is_over(group["id"]):
            return None
        ids = (group["id"], *self._groups.undo_of(group["id"]))
        ends = [end for one in ids if (end := self._groups.last_end(one))]
        began = datetime.fromisoformat(group["created_at"]).timestamp()
        return round(max(ends) / 1000 - began, 3) if ends else None

    def _is_over(self, group_id: str) -> bool:
        ids = (group_id, *self._groups.undo_of(group_id))
        return not any(self._groups.states_of(one).get(state) for one in ids for state in job.OPEN)

    def members(self, group: Group) -> list[Message]:
        """Each member of a group with how it stands or ended."""
        records = {record["id"]: record for record in self.jobs_of(group)}
        found = [self._member(member, records.get(member["job"] or "")) for member in group["members"]]
        decision = group["decision"] or {}
        if decision.get("what") != "undo":
            return found
        undos = [record for undo_id in self._groups.undo_of(group["id"]) for record in self._jobs.of_group(undo_id)]
        return policy.taken_back(found, undos, decision["why"])

    @staticmethod
    def _member(member: dict[str, Any], record: Job | None) -> Message:
        if record is None:
            error = member["error"]
            return {
                "name": member["name"], "state": "refused" if error else "forgotten", "host": None,
                "changed": False if error else None, "took_seconds": None, "job": member["job"], "step": None,
                "message": error["message"] if error else None, "result": None, "error": error,
            }  # fmt: skip
        # What each waits for is not looked up here: there may be a thousand. `job list --group` tells it.
        shown = job.shown(record)
        first = {name: shown[name] for name in ("state", "host", "changed", "took_seconds")}
        rest = {name: shown[name] for name in ("step", "message", "result", "error")}
        return {"name": record["object"] or member["name"], **first, "job": record["id"], **rest}

    def _job(self, job_id: str) -> Job | None:
        return self._live.get(job_id) or self._jobs.get(job_id)

    def _newest(self, record: Job) -> Job:
        return self._live.get(record["id"], record)


def _meant(prefix: str, candidates: Sequence[Job | Group], sees: Sees) -> Job | Group:
    """The one that is meant by the beginning of an id. What somebody may not see is neither listed nor makes it
    ambiguous; whether he may see the only one that there is, is for whoever asked.
    """
    own = candidates if len(candidates) < 2 else [one for one in candidates if sees(one)]
    if len(own) == 1 and len(candidates) < MOST_LIKE:
        return own[0]
    if candidates:
        listed = ", ".join(one["id"] for one in own[:NAMED]) or "one of many"
        raise Refused("ambiguous_name", f"job {prefix} may be {listed}", "give more characters")
    raise Refused("unknown_entity", f"there is no job {prefix}", "`maglica job list` shows the latest")


def _brief(shown: Message) -> Message:
    """A job as one of many: `job show` and `job log` have the rest."""
    return {name: value for name, value in shown.items() if name not in ("steps", "commands")}
