"""Actions that happen in this terminal; one function per action, named after it. Each gives the exit status."""

from __future__ import annotations

import os
from collections.abc import Callable

from maglica import VERSION, config, keys, wire
from maglica.cli import answer as answers
from maglica.cli import cells, jobs
from maglica.cli.answer import Answer, Value
from maglica.cli.outcome import Outcome
from maglica.cli.session import Session
from maglica.declare import Action
from maglica.errors import MaglicaError, Refused

Function = Callable[[list[Action], Session], int]


def function(action: type[Action]) -> Function:
    """The function that carries out an action; it takes one action for each name that was given."""
    found: Function = globals()[action.NAME.replace(" ", "_").replace("-", "_")]
    return found


def ping(actions: list[Action], session: Session) -> int:
    items = session.connection.ping()
    return session.show(
        Answer(
            "ping",
            items=list(items),
            observed_at=items.observed_at,
            missing_hosts=list(items.missing_hosts),
            columns=actions[0].COLUMNS,
        )
    )


def doctor(actions: list[Action], session: Session) -> int:
    from maglica.cli import doctor as checkup

    return checkup.doctor(type(actions[0]), session)


def vm_check(actions: list[Action], session: Session) -> int:
    from maglica.cli import identities

    return identities.check(actions, session)


def vm_console(actions: list[Action], session: Session) -> int:
    from maglica.cli import console

    return console.console(actions, session)


def vm_vnc(actions: list[Action], session: Session) -> int:
    from maglica.cli import vnc

    return vnc.vnc(actions, session)


def vm_get(actions: list[Action], session: Session) -> int:
    from maglica.cli import inside

    return inside.get(actions[0], session)


def version(actions: list[Action], session: Session) -> int:
    item: Value = {"version": VERSION, "protocol": wire.VERSION, "client_worker": None}
    try:
        hello = session.connection.hello()
        address = session.connection.address
        item["client_worker"] = {"address": address, "version": hello["version"], "protocol": hello["protocol"]}
    except MaglicaError as error:
        # Asking for one's own version must not fail because somebody else is away.
        session.note(error.message)
    told = item["client_worker"]
    there = f"client worker {told['version']}, protocol {told['protocol']}, at {told['address']}\n" if told else ""
    return session.show(Answer("version", item=item, text=f"maglica {VERSION}, protocol {wire.VERSION}\n{there}"))


def config_show(actions: list[Action], session: Session) -> int:
    settings = session.settings
    sections = {name: settings.section(name) for name in config.SECTIONS}
    sections |= {f"host {name}": section for name, section in settings.hosts.items()}
    sections |= {f"role {name}": section for name, section in settings.roles.items()}
    sections |= {f"customize {name}": section for name, section in settings.customize.items()}
    items = [
        {
            "section": title,
            "key": key,
            "value": cells.written(field.kind.name, section.public()[key]),
            "origin": settings.origins.get((title, key), "default"),
            "help": field.help,
        }
        for title, section in sections.items()
        for key, field in section.FIELDS.items()
    ]
    return session.show(Answer("config.show", items=items, columns=actions[0].COLUMNS, wide=actions[0].WIDE))


def config_check(actions: list[Action], session: Session) -> int:
    file = config.find(actions[0].values()["file"] or session.options.config)
    config.load(file)
    text = f"{file}: OK\n" if file else "OK: there is no settings file, defaults are in effect\n"
    return session.show(Answer("config.check", item={"file": file, "ok": True}, text=text))


def key_new(actions: list[Action], session: Session) -> int:
    from maglica.bus import new_pair

    want = actions[0]
    values = want.values()
    path = values["file"] or f"{values['name']}.key"
    if os.path.lexists(path):
        raise Refused("already_exists", f"{path} exists", "--file=… writes the key elsewhere")
    pair = new_pair()
    asked = {"name": values["name"], "public_key": pair.public, "role": values["role"], "expires": values["expires"]}
    told = session.connection.call("key add", asked)["item"]
    key = keys.Key(
        told["name"], pair.public, pair.secret, told["server"], told["address"], told["pub_port"], told["rep_port"]
    )
    try:
        keys.save(path, key)
    except MaglicaError:
        session.connection.call("key revoke", {"name": key.name})  # nobody has it
        raise
    item = {**told, "file": path}
    text = f"{path}\n"
    session.note(f"for {key.name} alone: it belongs in ~/.config/maglica/key there (or --key, MAGLICA_KEY), mode 0600")
    return session.show(Answer("key.new", item=item, text=text))


def job_wait(actions: list[Action], session: Session) -> int:
    outcomes = _attached(actions, session)
    try:
        jobs.follow(outcomes, session, silent=True)
    except KeyboardInterrupt:
        return jobs.DETACHED
    for outcome in outcomes:
        # How the job ended is in the exit status; that the waiting itself failed has to be said.
        if outcome.error and not (outcome.handle and outcome.handle.ended):
            session.complain([answers.told_of(outcome.name, outcome.error)])
    return jobs.status(outcomes)


def job_attach(actions: list[Action], session: Session) -> int:
    outcomes = _attached(actions, session)
    try:
        jobs.follow(outcomes, session)
    except KeyboardInterrupt:
        return jobs.detached(outcomes)
    return jobs.tell(outcomes, _kind(actions, outcomes), session)


def job_retry(actions: list[Action], session: Session) -> int:
    options = session.options
    if options.idempotency_key and len(actions) > 1:
        raise Refused("wrong_input", "job retry: --idempotency-key with several ids", "one key for one request")

    def retry(action: Action) -> Outcome:
        values = action.values()
        handle = session.connection.retry(
            values["id"], failed=values["failed"], reason=options.reason, key=options.idempotency_key
        )
        return Outcome(values["id"], handle)

    return _begun(actions, retry, session)


def job_recover(actions: list[Action], session: Session) -> int:
    def recover(action: Action) -> Outcome:
        values = action.values()
        return Outcome(values["id"], session.connection.recover(values["id"], values["as_"], values["reason"]))

    if actions[0].values()["as_"] == "retry":
        return _begun(actions, recover, session)
    outcomes = _each(actions, recover)
    records = [outcome.handle.record for outcome in outcomes if outcome.handle]
    if len(outcomes) == 1:
        record: Value = dict(records[0])
        text = f"job {record['id']} counts as {record['state']} now\n"
        return session.show(Answer("job.recover", item=record, text=text))
    session.show(Answer("job.recover", items=[dict(record) for record in records], columns=("id", "state", "object")))
    session.complain([answers.told_of(outcome.name, outcome.error) for outcome in outcomes if outcome.error])
    return answers.status([outcome.error for outcome in outcomes if outcome.error], len(outcomes))


def _begun(actions: list[Action], begin: Callable[[Action], Outcome], session: Session) -> int:
    """Submit, and go on as with any job."""
    outcomes: list[Outcome] = []
    try:
        outcomes += _each(actions, begin)
        return jobs.finish(outcomes, _kind(actions, outcomes), session)
    except KeyboardInterrupt:
        return jobs.detached(outcomes)


def _each(actions: list[Action], work: Callable[[Action], Outcome]) -> list[Outcome]:
    """Do it for each name; what is wrong with one of several does not hold up the others."""
    outcomes = []
    for action in actions:
        try:
            outcomes.append(work(action))
        except MaglicaError as error:
            if len(actions) == 1:
                raise
            outcomes.append(Outcome(answers.subject_of(action)))
            outcomes[-1].error = error
    return outcomes


def _attached(actions: list[Action], session: Session) -> list[Outcome]:
    def attach(action: Action) -> Outcome:
        name = answers.subject_of(action)
        return Outcome(name, session.connection.attach(name))

    return _each(actions, attach)


def _kind(actions: list[Action], outcomes: list[Outcome]) -> str:
    """What the answer is called: as that of the jobs when they are all alike."""
    kinds = {str(outcome.handle.record["action"]).replace(" ", ".") for outcome in outcomes if outcome.handle}
    return kinds.pop() if len(kinds) == 1 else answers.kind(type(actions[0]))
