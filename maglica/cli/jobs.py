"""From actions that change something to their results: ask, submit, follow, tell."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from maglica.cli import answer as answers
from maglica.cli import output
from maglica.cli.answer import Answer, Value
from maglica.cli.bulk import ONE, Wish
from maglica.cli.outcome import Outcome
from maglica.cli.progress import Watch, label
from maglica.cli.session import Session, look, terminal_height, terminal_width
from maglica.declare import Action, Where
from maglica.errors import Failed, MaglicaError, Refused
from maglica.job import DONE

if TYPE_CHECKING:
    from maglica.cloud import GroupHandle, JobHandle

TICK = 0.5  # seconds between two looks at a job when nothing changes
DETACHED = 130
MOST_COMPLAINTS = 10  # failures that are told one by one
EXEC = "vm.exec"  # its result is shown as what a guest printed
SEVERAL = ("name", "state", "host", "changed", "took_seconds", "job")


def run(actions: list[Action], session: Session, wish: Wish = ONE) -> int:
    """Carry out actions that are jobs; the exit status."""
    if session.options.dry_run:
        return plan(actions, session, wish)
    outcomes: list[Outcome] = []
    try:
        if type(actions[0]).WHERE == Where.MANY and len(actions) > 1:
            for action in actions:  # each fleet is a group of its own
                outcomes.append(_apart(action, session, wish, known=bool(outcomes)))
        else:
            outcomes.append(submit(actions, session, wish))
        return finish(outcomes, answers.kind(type(actions[0])), session)
    except KeyboardInterrupt:
        return detached(outcomes)


def _apart(action: Action, session: Session, wish: Wish, *, known: bool) -> Outcome:
    """`known`: something was accepted before, of which whoever asked has to hear."""
    try:
        return submit([action], session, wish)
    except MaglicaError as error:
        if error.code == "unreachable" and not known:
            raise
        refused = Outcome(answers.subject_of(action))
        refused.error = error
        return refused


def finish(outcomes: list[Outcome], kind: str, session: Session) -> int:
    """Wait for what was submitted, unless nobody wants to, and tell how it ended."""
    if not session.options.wait:
        return accepted(outcomes, kind, session)
    follow(outcomes, session)
    return tell(outcomes, kind, session)


def confirm(actions: list[Action], session: Session) -> None:
    """Ask before something is destroyed; `Refused` when the answer is not yes, or nobody is there to ask."""
    action = actions[0]
    if not action.destroys() or session.options.yes or session.options.dry_run:
        return
    named = [answers.subject_of(one) for one in actions]
    if action.WHERE == Where.MANY and sys.stdin.isatty() and sys.stderr.isatty():
        plans = [session.connection.plan(one) for one in actions]
        named = [f"{one['name']} on {one['host']}" for plan in plans for one in plan["members"]]
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


def plan(actions: list[Action], session: Session, wish: Wish = ONE) -> int:
    """Print what would be done."""
    kind, connection = answers.kind(type(actions[0])) + ".plan", session.connection
    if wish.total is not None:
        many = connection.plan_numbered(actions[0], wish.patterns, wish.total, first=wish.first, policy=wish.policy)
        return _plan_many(kind, [many], session)
    found = [connection.plan(action, policy=wish.policy) for action in actions]
    if all("members" in plan for plan in found):
        return _plan_many(kind, found, session)
    plans = [{"name": answers.subject_of(action), **plan} for action, plan in zip(actions, found, strict=True)]
    text = "\n".join(_plan(plan, session) for plan in plans)
    if len(plans) == 1:
        return session.show(Answer(kind, item=plans[0], text=text))
    return session.show(Answer(kind, items=plans, text=text))


def _plan_many(kind: str, plans: list[Value], session: Session) -> int:
    """Where each would go, and why."""
    rows = [{**member, "action": plan["action"]} for plan in plans for member in plan["members"]]
    session.complain([plan["note"] for plan in plans if plan["note"]])
    return session.show(Answer(kind, items=rows, columns=("name", "action", "host", "why")))


def _plan(plan: Value, session: Session) -> str:
    would = plan["would"] or "change nothing: it is so already"
    return output.sheet({**plan, "would": would}, look(session.options))


def submit(actions: list[Action], session: Session, wish: Wish = ONE) -> Outcome:
    """Hand it in: several as one group. One of them that is refused does not hold up the others."""
    options, connection = session.options, session.connection
    first, reason, key = actions[0], options.reason, options.idempotency_key
    if key and type(first).WHERE == Where.MANY:
        key = f"{key}:{answers.subject_of(first)}"  # several fleets are several requests
    handle: JobHandle | GroupHandle
    if wish.total is not None:
        handle = connection.submit_numbered(
            first, wish.patterns, wish.total, first=wish.first, reason=reason, key=key, policy=wish.policy
        )
    elif len(actions) == 1:
        handle = connection.hand_in(first, reason=reason, key=key, policy=wish.policy)
    else:
        handle = connection.submit_group(actions, reason=reason, key=key, policy=wish.policy)
    found = Outcome(answers.subject_of(first), handle)
    if found.group:
        found.name = found.group.id if found.group.recorded else first.NAME
        _about(found.group, session)
    elif found.job and options.verbose:
        session.note(f"job {found.job.id}: {label(found.job.record)} on {found.job.record['host']}")
    return found


def _about(group: GroupHandle, session: Session) -> None:
    """What is to be said of a group when it has been submitted."""
    if group.record.get("note"):
        session.complain([str(group.record["note"])])
    if session.options.verbose and group.recorded:
        session.note(f"group {group.id}: {group.record['jobs']} × {group.record['action']}")


def accepted(outcomes: list[Outcome], kind: str, session: Session) -> int:
    """Print the ids of what nobody waits for: one for a job, one for a group."""
    if len(outcomes) == 1 and outcomes[0].error:
        raise outcomes[0].error
    ids = [outcome.handle.id for outcome in outcomes if _recorded(outcome) and outcome.handle]
    text = "".join(f"{name}\n" for name in ids)
    names = ("name", "job", "state", "host")
    groups = any(outcome.group for outcome in outcomes)
    items = [
        {name: row[name] for name in (*names, *(("group",) if groups else ()))}
        for outcome in outcomes
        for row in outcome.rows()
        if row["job"]
    ]
    if session.options.output == "name":
        session.write(text)
    elif len(items) == 1 and not groups:
        session.show(Answer(kind, item=items[0], text=text))
    else:
        session.show(Answer(kind, items=items, text=text))
    return _status(outcomes, session)


def _recorded(outcome: Outcome) -> bool:
    return outcome.handle is not None and (outcome.group is None or outcome.group.recorded)


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
    records = [outcome.job.record for outcome in outcomes if outcome.job]
    groups = [outcome.group.record for outcome in outcomes if outcome.group and outcome.group.recorded]
    found: list[Any] = [*records, *(record for group in groups for record in group["running"])]
    watch.show(found, time.monotonic(), [_age(record["created_at"]) for record in found], groups)


def _age(created_at: str) -> float:
    """Seconds since then, by this machine's clock; 0 when that is behind."""
    return max(0.0, time.time() - datetime.fromisoformat(created_at).timestamp())


def detached(outcomes: list[Outcome]) -> int:
    """Ctrl-C: the jobs go on, and it is said how to come back to them."""
    left = [outcome for outcome in outcomes if outcome.handle and not outcome.handle.ended]
    handles = [outcome.handle for outcome in left if outcome.handle]
    if not handles:
        sys.stderr.write("\nmaglica: interrupted; `maglica job list` shows what was submitted\n")
        return DETACHED
    every = " ".join(handle.id for handle in handles)
    what, them = f"{len(handles)} jobs go on", "them"
    if len(handles) == 1:
        first, group = handles[0], left[0].group
        several = f" with its {group.record['jobs']} jobs" if group else ""
        what, them = f"{first.WHAT} {first.id} goes on{several}", "it"
    hints = f"  maglica job attach {every}   follows {them}\n  maglica job cancel {every}   stops {them}\n"
    sys.stderr.write(f"\nmaglica: detached; {what}\n{hints}")
    sys.stderr.flush()
    return DETACHED


def tell(outcomes: list[Outcome], kind: str, session: Session) -> int:
    """Print how jobs ended."""
    if len(outcomes) == 1 and outcomes[0].group is None:
        return _tell_one(outcomes[0], kind, session)
    if len(outcomes) == 1 and outcomes[0].open:
        raise outcomes[0].error or Failed("internal_error", "the group has no outcome")
    rows = [row for outcome in outcomes for row in outcome.rows()]
    if kind == EXEC and session.options.output in ("table", "wide"):
        from maglica.cli import inside

        inside.show_several(rows, session)
    if session.options.output == "name":  # what there is now, for the next command
        rows = [row for row in rows if row["state"] == DONE and not row["error"]]
    session.show(Answer(kind, items=rows, columns=SEVERAL, wide=("message",)))
    return _status(outcomes, session)


def _tell_one(outcome: Outcome, kind: str, session: Session) -> int:
    if outcome.job and outcome.error and session.options.verbose:
        from maglica.cli import story

        sys.stderr.write(story.story(outcome.job.record))
    if kind == EXEC and outcome.job and outcome.job.ended:
        from maglica.cli import inside

        if inside.came_to_an_end(outcome):
            return inside.tell(outcome, session)
        inside.show_what_there_is(outcome, session)
    if outcome.error or outcome.job is None:
        raise outcome.error or Failed("internal_error", "the job has no outcome")
    item = {**outcome.job.result(), "job": outcome.job.id}
    return session.show(Answer(kind, item=item, observed_at=outcome.job.record["ended_at"]))


def _status(outcomes: list[Outcome], session: Session) -> int:
    """Say what went wrong; the exit status of all together."""
    failures = [failure for outcome in outcomes for failure in outcome.failures()]
    failures.sort(key=lambda failure: failure[1].code == "cancelled")
    session.complain([answers.told_of(name, error) for name, error in failures[:MOST_COMPLAINTS]])
    if len(failures) > MOST_COMPLAINTS:
        session.complain([f"and {len(failures) - MOST_COMPLAINTS} more; --output=wide shows each"])
    groups = [outcome.group for outcome in outcomes if outcome.group and outcome.failures()]
    session.complain([_once_more(group) for group in groups if group.recorded and group.ended])
    return status(outcomes)


def _once_more(group: GroupHandle) -> str:
    """What may be done about a group of which something did not succeed. Nobody has seen its id before."""
    done = group.record["states"].get(DONE, 0)
    hint = f"`maglica job retry {group.id} --failed` tries the rest again"
    return f"group {group.id}: {done} of {group.record['jobs']} done\n  {hint}"


def status(outcomes: list[Outcome]) -> int:
    """The exit status of all together; nothing is said. A group that has reached its --min has succeeded."""
    left = [outcome for outcome in outcomes if not (outcome.group and outcome.group.state == DONE)]
    failures = [error for outcome in left for _, error in outcome.failures()]
    failures.sort(key=lambda error: error.code == "cancelled")  # the cause first, not what it led to
    return answers.status(failures, sum(len(outcome.rows()) for outcome in outcomes))
