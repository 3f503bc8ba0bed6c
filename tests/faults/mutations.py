"""Deliberate defects, put into a daemon from outside: what the suite must be able to see.

Each takes away one thing that a promise rests on. `test_controls.py` shows that the audit notices; without that, an
audit that never complains would prove nothing.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from maglica.bus import Listener, Server


def answer_before_commit() -> None:
    """The client worker tells before it has recorded: it commits when it looks for the next messages."""
    from maglica.client_worker.store import Store

    commit, receive = Store.commit, Server.receive
    stores: list[Store] = []

    def later(store: Store) -> None:
        if "started" not in vars(Server):
            commit(store)  # the count of starts is read back at once
        else:
            stores.append(store)

    def record_and_receive(server: Server, *args: Any, **more: Any) -> Any:
        Server.started = True  # type: ignore[attr-defined]
        if stores:
            time.sleep(0.005)  # the socket's own thread sends: let it
        while stores:
            commit(stores.pop())
        return receive(server, *args, **more)

    Store.commit = later  # type: ignore[method-assign]
    Server.receive = record_and_receive  # type: ignore[method-assign]


def no_dedupe_by_key() -> None:
    """A submission that is repeated is another job."""
    from maglica.client_worker.store.jobs import Jobs

    add, by_key = Jobs.add, Jobs.by_key

    def once_more(jobs: Jobs, job: Any) -> None:
        again = by_key(jobs, job["key"]) is not None  # the column itself wants to be unique
        add(jobs, {**job, "key": job["key"] + secrets.token_hex(4)} if again else job)

    Jobs.by_key = lambda jobs, key: None  # type: ignore[method-assign]
    Jobs.add = once_more  # type: ignore[method-assign]


def no_locks() -> None:
    """Jobs on one VM do not wait for each other."""
    from tests.faults.effects import VmMark

    VmMark.LOCKS = ()


def handed_out_once() -> None:
    """A job whose host worker died before it wrote it down is not handed out again."""
    answer = Server.answer
    handed: set[str] = set()

    def once(server: Server, route: Any, message: dict[str, Any], *more: Any) -> None:
        if message.get("op") == "sync" and message["ok"]:
            message["jobs"] = [job for job in message["jobs"] if job["id"] not in handed]
            handed.update(job["id"] for job in message["jobs"])
        answer(server, route, message, *more)

    Server.answer = once  # type: ignore[method-assign]


def told_once() -> None:
    """A host worker tells an outcome once, whether or not it is acknowledged."""
    send = Listener.send
    told: set[str] = set()

    def once(listener: Listener, message: dict[str, Any]) -> None:
        if message.get("op") == "sync":
            message["done"] = [done for done in message["done"] if done["id"] not in told]
            told.update(done["id"] for done in message["done"])
        send(listener, message)

    Listener.send = once  # type: ignore[method-assign]


def late_answers_taken() -> None:
    """Answers to reports do not say to which one they belong: a late one is taken for the one that is waited for."""
    answer = Server.answer

    def unnumbered(server: Server, route: Any, message: dict[str, Any], *more: Any) -> None:
        answer(server, route, {name: value for name, value in message.items() if name != "seq"}, *more)

    Server.answer = unnumbered  # type: ignore[method-assign]


def journal_after_the_fact() -> None:
    """A host worker writes down that a job began only when it has ended."""
    from maglica.host_worker.journal import Journal

    begin, end = Journal.begin, Journal.end
    begun: dict[str, tuple[Any, ...]] = {}

    def later(journal: Journal, job: str, *args: Any) -> bool:
        begun[job] = args
        return True

    def both(journal: Journal, job: str, *args: Any, **more: Any) -> None:
        if job in begun:
            begin(journal, job, *begun.pop(job))
        end(journal, job, *args, **more)

    Journal.begin = later  # type: ignore[method-assign]
    Journal.end = both  # type: ignore[method-assign]


def nothing_taken_back() -> None:
    """What an interrupted or failed job made stays, and nobody is told."""
    from maglica.host_worker import undo

    def pretend(job: str, journal: Any, hypervisor: Any, **more: Any) -> list[str]:
        for entry in journal.undos(job):
            journal.forget_undo(job, entry.number)
        return []

    undo.take_back = pretend


MUTATIONS = {
    function.__name__: function
    for function in (
        answer_before_commit,
        no_dedupe_by_key,
        no_locks,
        handed_out_once,
        told_once,
        late_answers_taken,
        journal_after_the_fact,
        nothing_taken_back,
    )
}
