"""A command -> its actions, one for each name -> what they give, printed."""

from __future__ import annotations

from maglica import declare, kinds
from maglica.cli import answer as answers
from maglica.cli import bulk, names, output
from maglica.cli.answer import Answer, Value
from maglica.cli.cells import SPELLED
from maglica.cli.session import Session, ctrl_c_waits, look
from maglica.cli.words import Command
from maglica.declare import Action, Arg, Where
from maglica.errors import MaglicaError, Refused


def run(command: Command) -> int:
    """Carry out a command; the exit status."""
    session = Session(command.options)
    try:
        wish = bulk.wish(command.action, command.bulk, command.values) if command.action else bulk.ONE
        actions = make(command, session)
        return perform(actions, session, wish)
    finally:
        session.close()


def make(command: Command, session: Session) -> list[Action]:
    """The actions that a command stands for."""
    action = command.action
    assert action is not None
    subject = action.subject()
    if subject is None:
        if "template" in command.values:
            return [session.connection.make(action, command.values)]
        return [action(**command.values)]
    if not command.names and not subject.required:
        return [action(**command.values)]
    if not command.names:
        name = subject.name.upper()
        raise Refused("wrong_input", f"{action.NAME}: {name} is missing", f"expected {subject.kind.expected}")
    if subject.kind in (kinds.SOURCE, kinds.SOUGHT):  # a URL, a path: with what would make a pattern of a name
        if len(command.names) > 1:
            raise Refused("wrong_input", f"{action.NAME} takes one {subject.name}, not {len(command.names)}")
        return [action(**{**command.values, subject.name: command.names[0]})]
    found = names.expand(command.names)
    if any(names.is_glob(name) for name in found):
        found = resolved(found, subject, session)
    if subject.single and len(found) > 1:
        what = SPELLED.get(subject.values_of, subject.values_of) or subject.name
        raise Refused("wrong_input", f"{action.NAME} takes one {what}, not {len(found)}", subject.single)
    return [action(**{**command.values, subject.name: name}) for name in found]


def resolved(words: list[str], subject: Arg, session: Session) -> list[str]:
    """The names with every pattern replaced by what there is, asked live."""
    if not subject.values_of:
        raise Refused("wrong_input", f"patterns such as {words[0]} do not work here", "give the names")
    listing = declare.find(f"{subject.values_of} list").action
    message = session.connection.read(listing())
    missing = [gone["host"] for gone in message.get("missing_hosts") or []]
    session.complain([f"{host} did not answer; what it has is not among the names" for host in missing])
    known = [str(item.get("name") or item.get("id")) for item in message.get("items") or []]
    found: dict[str, None] = {}
    for word in words:
        matches = names.matching(word, known) if names.is_glob(word) else [word]
        if not matches:
            hint = f"`maglica {listing.NAME}` shows what there is"
            raise Refused(
                "unknown_entity", f"no {SPELLED.get(subject.values_of, subject.values_of)} is called like {word}", hint
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def perform(actions: list[Action], session: Session, wish: bulk.Wish = bulk.ONE) -> int:
    """Do it, wherever it runs."""
    action = type(actions[0])
    if session.options.dry_run and not action.CHANGES:
        raise Refused("wrong_input", f"{action.NAME} has no plan that --dry-run could show", "leave --dry-run out")
    if action.WHERE == Where.TERMINAL:
        with ctrl_c_waits():
            from maglica.cli import terminal
        return terminal.function(action)(actions, session)
    if actions[0].destroys():
        from maglica.cli import jobs

        jobs.confirm(actions, session)
    if action.CHANGES:
        from maglica.cli import jobs

        return jobs.run(actions, session, wish)
    return read(actions, session)


def read(actions: list[Action], session: Session) -> int:
    """Ask, and print the answers."""
    if len(actions) == 1:
        return session.show(_ask(actions[0], session))
    found: list[Answer] = []
    failed: list[tuple[str, MaglicaError]] = []
    for action in actions:
        try:
            found.append(_ask(action, session))
        except MaglicaError as error:
            if error.code == "unreachable":
                raise
            failed.append((answers.subject_of(action), error))
    return _several(actions, found, failed, session)


def _ask(action: Action, session: Session) -> Answer:
    message = session.connection.read(action, session.options.timeout)
    if message.get("item"):
        from maglica.cli import keeping

        keep = keeping.function(type(action))
        if keep is not None:
            message["item"] = keep(action, message["item"])
    return _viewed(action, answers.of_read(type(action), message), session)


def _viewed(action: Action, answer: Answer, session: Session) -> Answer:
    """The answer with its text, where it has a view of its own."""
    if answer.item is None:
        return answer
    from maglica.cli import views

    view = views.function(type(action))
    if view is not None:
        answer.text = view(answer.item, look(session.options))
        if answer.item.get("note"):
            session.note(answer.item["note"])
    return answer


def _several(
    actions: list[Action], found: list[Answer], failed: list[tuple[str, MaglicaError]], session: Session
) -> int:
    """The answers about several names: one after the other for people, one tree for programs."""
    form = session.options.output
    if found or form in ("json", "yaml"):
        session.write(_joined(type(actions[0]), found, failed, session))
    if form == "jsonl":
        kind = answers.kind(type(actions[0]))
        session.write("".join(output.json_line(answers.failure(kind, error)) for _, error in failed))
    session.complain([answers.told_of(name, error) for name, error in failed])
    partial = session.miss(_missing(found))
    return answers.status([error for _, error in failed], len(actions)) or partial


def _missing(found: list[Answer]) -> list[Value]:
    """The hosts that did not answer, each once."""
    return list({gone["host"]: gone for answer in found for gone in answer.missing_hosts}.values())


def _joined(action: type[Action], found: list[Answer], failed: list[tuple[str, MaglicaError]], session: Session) -> str:
    options = session.options
    if options.output in ("table", "wide"):
        return "\n".join(output.render(answer, options, look(options)) for answer in found)
    items = [row for answer in found for row in ([answer.item or {}] if answer.items is None else answer.items)]
    whole = Answer(
        answers.kind(action), items=items, missing_hosts=_missing(found), columns=action.COLUMNS,
        wide=action.WIDE,
    )  # fmt: skip
    if options.output not in ("json", "yaml"):
        return output.render(whole, options, look(options))
    errors = [{"name": name, "error": answers.problem(error)} for name, error in failed]
    return output.tree({**whole.envelope(), "errors": errors}, options.output)
