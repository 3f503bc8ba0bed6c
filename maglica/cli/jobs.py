"""From actions that change something to their results: ask, submit, follow, tell."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from maglica.cli import answer as answers
from maglica.cli import output
from maglica.cli.answer import Answer, Value
from maglica.cli.progress import Watch, took
from maglica.cli.session import Session, look, terminal_height, terminal_width
from maglica.declare import Action
from maglica.errors import Failed, MaglicaError, Refused

if TYPE_CHECKING:
    from maglica.cloud import JobHandle

TICK = 0.5  # seconds between two looks at a job when nothing changes
DETACHED = 130
SEVERAL = ("name", "state", "changed", "took_seconds", "job")


class Outcome:
    """One name's job: how it was submitted, how it goes, how it ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.handle: JobHandle | None = None
        self.error: MaglicaError | None = None

    @property
    def open(self) -> bool:
        return self.handle is not None and self.error is None and not self.handle.ended

    def close(self) -> None:
        """The job has ended: take its error, if it has one."""
        if self.handle is not None and self.error is None and self.handle.ended:
            try:
                self.handle.result()
            except MaglicaError as error:
                error.job = self.handle.id
                self.error = error


def run(actions: list[Action], session: Session) -> int:
    """Carry out actions that are jobs; the exit status."""
    if session.options.dry_run:
        return plan(actions, session)
    outcomes = [Outcome(answers.subject_of(action)) for action in actions]
    try:
        submit(actions, outcomes, session)
        if not session.options.wait:
            return accepted(outcomes, answers.kind(type(actions[0])), session)
        follow(outcomes, session)
    except KeyboardInterrupt:
        return detached(outcomes)
    return tell(outcomes, answers.kind(type(actions[0])), session)


def confirm(actions: list[Action], session: Session) -> None:
    """Ask before something is destroyed; `Refused` when the answer is not yes, or nobody is there to ask."""
    action = actions[0]
    if not action.DESTRUCTIVE or session.options.yes or session.options.dry_run:
        return
    named = [answers.subject_of(one) for one in actions]
    listed = ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            "wrong_input", f"{action.NAME} {listed}: there is no terminal to ask for a yes", "add --yes if it is meant"
        )
    import textwrap  # nobody minds 2 ms before a question

    columns = min(terminal_width(2), 100) - 1
    about = textwrap.fill(action.HELP, columns, initial_indent="  ", subsequent_indent="  ")
    sys.stderr.write(f"{textwrap.fill(f'{action.NAME} {listed}', columns)}\n{about}\nGo on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("cancelled", "nothing was done")


def plan(actions: list[Action], session: Session) -> int:
    """Print what would be done."""
    plans = [{"name": answers.subject_of(action), **session.connection.plan(action)} for action in actions]
    kind = answers.kind(type(actions[0])) + ".plan"
    text = "\n".join(_plan(plan, session) for plan in plans)
    if len(plans) == 1:
        return session.show(Answer(kind, item=plans[0], text=text))
    return session.show(Answer(kind, items=plans, text=text))


def _plan(plan: Value, session: Session) -> str:
    would = plan["would"] or "change nothing: it is so already"
    return output.sheet({**plan, "would": would}, look(session.options))


def submit(actions: list[Action], outcomes: list[Outcome], session: Session) -> None:
    """Hand all of them in. One that is refused does not hold up the others."""
    key = session.options.idempotency_key
    away: MaglicaError | None = None
    for action, outcome in zip(actions, outcomes, strict=True):
        if away is not None:
            outcome.error = away
            continue
        # One key is one job, so that several names make several keys of it.
        own = f"{key}/{outcome.name}" if key and len(actions) > 1 else key
        try:
            outcome.handle = session.connection.submit(action, reason=session.options.reason, key=own)
        except MaglicaError as error:
            outcome.error = error
            away = error if error.code == "unreachable" else None
        if session.options.verbose and outcome.handle:
            session.note(f"job {outcome.handle.id}: {action.NAME} {outcome.name} on {outcome.handle.record['host']}")
    if away is not None and not any(outcome.handle for outcome in outcomes):
        raise away


def accepted(outcomes: list[Outcome], kind: str, session: Session) -> int:
    """Print the ids of jobs that nobody waits for."""
    records = [(outcome.name, outcome.handle.record) for outcome in outcomes if outcome.handle]
    items = [{"name": name, "job": job["id"], "state": job["state"], "host": job["host"]} for name, job in records]
    if len(outcomes) == 1 and outcomes[0].error:
        raise outcomes[0].error
    text = "".join(f"{item['job']}\n" for item in items)
    if session.options.output == "name":
        session.write(text)
    elif len(outcomes) == 1:
        session.show(Answer(kind, item=items[0], text=text))
    else:
        session.show(Answer(kind, items=items, text=text))
    return _status(outcomes, session)


def follow(outcomes: list[Outcome], session: Session, *, silent: bool = False) -> None:
    """Watch jobs until all have ended or the time is up."""
    watch = Watch(
        tty=sys.stderr.isatty(),
        quiet=silent or session.options.quiet,
        columns=terminal_width(2),
        lines=terminal_height(2),
    )
    timeout = session.options.timeout
    until = None if timeout is None else time.monotonic() + timeout
    try:
        _draw(watch, outcomes)
        while any(outcome.open for outcome in outcomes):
            if until is not None and time.monotonic() >= until:
                _give_up(outcomes, timeout or 0.0)
                break
            _look(outcomes, TICK if until is None else max(0.0, min(TICK, until - time.monotonic())))
            _draw(watch, outcomes)
    finally:
        watch.clear()
    for outcome in outcomes:
        outcome.close()


def _look(outcomes: list[Outcome], patience: float) -> None:
    """Ask for all that are open; only the first answer may be held back."""
    for outcome in outcomes:
        if outcome.open and outcome.handle:
            try:
                outcome.handle.look(patience)
            except MaglicaError as error:
                outcome.error = error
            patience = 0.0


def _give_up(outcomes: list[Outcome], timeout: float) -> None:
    for outcome in outcomes:
        if outcome.open and outcome.handle:
            outcome.error = outcome.handle.overdue(timeout)


def _draw(watch: Watch, outcomes: list[Outcome]) -> None:
    records = [outcome.handle.record for outcome in outcomes if outcome.handle]
    watch.show(records, time.monotonic(), [_age(record["created_at"]) for record in records])


def _age(created_at: str) -> float:
    """Seconds since then, by this machine's clock; 0 when that is behind."""
    return max(0.0, time.time() - datetime.fromisoformat(created_at).timestamp())


def detached(outcomes: list[Outcome]) -> int:
    """Ctrl-C: the jobs go on, and it is said how to come back to them."""
    ids = [outcome.handle.id for outcome in outcomes if outcome.handle and not outcome.handle.ended]
    if not ids:
        sys.stderr.write("\nmaglica: interrupted; `maglica job list` shows what was submitted\n")
        return DETACHED
    what, them = (f"job {ids[0]} goes on", "it") if len(ids) == 1 else (f"{len(ids)} jobs go on", "them")
    every = " ".join(ids)
    hints = f"  maglica job attach {every}   follows {them}\n  maglica job cancel {every}   stops {them}\n"
    sys.stderr.write(f"\nmaglica: detached; {what}\n{hints}")
    sys.stderr.flush()
    return DETACHED


def tell(outcomes: list[Outcome], kind: str, session: Session) -> int:
    """Print how jobs ended."""
    if len(outcomes) == 1:
        return _tell_one(outcomes[0], kind, session)
    session.show(Answer(kind, items=[_row(outcome) for outcome in outcomes], columns=SEVERAL, wide=("message",)))
    return _status(outcomes, session)


def _tell_one(outcome: Outcome, kind: str, session: Session) -> int:
    if outcome.handle and outcome.error and session.options.verbose:
        from maglica.cli import story

        sys.stderr.write(story.story(outcome.handle.record))
    if outcome.error or outcome.handle is None:
        raise outcome.error or Failed("internal_error", "the job has no outcome")
    item = {**outcome.handle.result(), "job": outcome.handle.id}
    return session.show(Answer(kind, item=item, observed_at=outcome.handle.record["ended_at"]))


def _row(outcome: Outcome) -> Value:
    record: Any = outcome.handle.record if outcome.handle else {}
    result = record.get("result")
    return {
        "name": record.get("object") or outcome.name,
        "state": record.get("state", "refused"),
        "job": record.get("id"),
        "changed": bool(result.get("changed", True)) if result is not None else None if record else False,
        "took_seconds": took(record),
        "message": outcome.error.message if outcome.error else "",
        "result": result,
        "error": answers.problem(outcome.error) if outcome.error else None,
    }


def _status(outcomes: list[Outcome], session: Session) -> int:
    """Say what went wrong; the exit status of all together."""
    failures = [(outcome.name, outcome.error) for outcome in outcomes if outcome.error]
    session.complain([answers.told_of(name, error) for name, error in failures])
    return answers.status([error for _, error in failures], len(outcomes))
