"""What a job on one host may ask of another. No clock: time is an argument.

The client worker knows what was agreed: a host names its job, and gets from the other host what that job is about and
nothing else. It never says itself whom to ask for what.
"""

from __future__ import annotations

from collections.abc import Callable

from maglica import declare, job
from maglica.client_worker import outbox
from maglica.client_worker.asking.gather import Gather
from maglica.client_worker.asking.questions import Questions
from maglica.client_worker.door.doors import Caller
from maglica.client_worker.ledger import Ledger
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.declare import Action
from maglica.errors import Refused
from maglica.job import Job
from maglica.wire import Message, ok


def of_copy(record: Job, args: Message) -> tuple[str, Action]:
    """A host that copies an image may see its definition and read its disks."""
    asked = {
        "name": record["args"]["name"],
        "job": record["id"],
        "disk": args.get("disk"),
        "over": bool(args.get("over")),
    }
    return record["args"]["from_"], declare.build("image serve", asked)


# The job's action -> (the host that is asked, what it is asked).
MAY: dict[str, Callable[[Job, Message], tuple[str, Action]]] = {"image copy": of_copy}


class Needs:
    """Questions of hosts about other hosts."""

    def __init__(self, ledger: Ledger, questions: Questions, out: Outbox, timeout: float) -> None:
        """`timeout`: seconds that the other host has."""
        self._ledger, self._questions, self._outbox = ledger, questions, out
        self.timeout = timeout

    def need(self, message: Message, caller: Caller, now: Now) -> None:
        """Put the question of a job to the other host."""
        told = {"op": "need", "ask": message["ask"]}

        def answered(done: Gather, now: Now) -> None:
            for error in done.errors.values():
                self._outbox.reply(caller.route, {**outbox.failure(error), **told})
                return
            for host, why in done.missing.items():
                gone = Refused(
                    "host_down", f"host {host} does not answer: {why}", "`maglica host list` shows its state"
                )
                self._outbox.reply(caller.route, {**outbox.failure(gone), **told})
                return
            self._outbox.reply(caller.route, ok(value=next(iter(done.answers.values())), **told))

        try:
            host, action = self._agreed(message)
            self._questions.ask([host], action, now, self.timeout, answered)
        except Exception as error:
            self._outbox.reply(caller.route, {**outbox.failure(error), **told})

    def _agreed(self, message: Message) -> tuple[str, Action]:
        record = self._ledger.store.jobs.get(message["job"])
        open_here = record is not None and record["host"] == message["host"] and record["state"] in job.OPEN
        if record is None or not open_here or record["action"] not in MAY:
            raise Refused("wrong_state", f"{message['host']} has no job {message['job']} that needs another host")
        return MAY[record["action"]](record, message["args"])
