"""The library's methods, made from the table: `cloud.vm.clone(…)`, `cloud.vm.clone.submit(…)`.

`nouns.pyi` beside this file tells editors and type checkers the same; `make derive` writes it from the table.
"""

from __future__ import annotations

from typing import Any

from maglica import config, declare
from maglica.cloud import Connection, GroupHandle, Items
from maglica.declare import Action, Where
from maglica.errors import Refused
from maglica.policy import Policy, one_of, refuse_no_pattern


class Call:
    """One action of one cloud. Called, it gives the result; a job is waited for."""

    def __init__(self, connection: Connection, action: type[Action]) -> None:
        self._connection = connection
        self._action = action
        self.__name__ = action.METHOD
        self.__doc__ = action.__doc__

    def __call__(self, **values: Any) -> Any:
        if self._action.CHANGES:
            return self.submit(**values).wait()
        answer = self._connection.read(self._action(**values))
        return Items(answer) if "items" in answer else answer["item"]

    def submit(self, *, reason: str | None = None, idempotency_key: str | None = None, **values: Any) -> Any:
        """Hand the job in and do not wait. The same `idempotency_key` is the same job. What becomes a group takes what
        `policy.Policy` has as well.
        """
        policy = _policy(values) if self._action.WHERE == Where.MANY else None
        action = self._connection.make(self._action, values)
        return self._connection.hand_in(action, reason=reason, key=idempotency_key, policy=policy)

    def submit_many(
        self,
        *,
        count: int | None = None,
        first: int | str = 1,
        reason: str | None = None,
        idempotency_key: str | None = None,
        **values: Any,
    ) -> GroupHandle:
        """Hand in one job for each name in a list, as a group, and do not wait. All else is the same for all.

        With `count`, the name has a place for a number, such as `ci-{n:03}`, and that many are made, from `first` on
        (a number, or `next`); `ip` may have such a place too, or be a range. What `policy.Policy` has is taken as well.
        """
        distinct, policy = self._action.distinct(), _policy(values)
        names = values.pop(distinct, None)
        if count is not None:
            refuse_no_pattern(str(names), count)
            number = int(first) if str(first).isdigit() else 1
            own, patterns = one_of({**values, distinct: names}, distinct, number)
            return self._connection.submit_numbered(
                self._connection.make(self._action, own),
                patterns,
                count,
                first=str(first),
                reason=reason,
                key=idempotency_key,
                policy=policy,
            )
        if not isinstance(names, (list, tuple)):
            raise Refused("wrong_input", f"{self._action.NAME}: {distinct} is no list", "give a list of names")
        actions = [self._connection.make(self._action, {**values, distinct: name}) for name in names]
        return self._connection.submit_group(actions, reason=reason, key=idempotency_key, policy=policy)

    def plan(self, **values: Any) -> dict[str, Any]:
        """What the job would do, and where. Nothing is touched."""
        policy = _policy(values) if self._action.WHERE == Where.MANY else None
        return self._connection.plan(self._connection.make(self._action, values), policy=policy)

    @property
    def __signature__(self) -> Any:
        import inspect

        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.required else field.default,
                annotation=field.annotation,
            )
            for field in self._action.FIELDS.values()
        ]
        return inspect.Signature(parameters)


def _policy(values: dict[str, Any]) -> Policy:
    """The policy among some arguments, which is taken out of them."""
    return Policy(**{name: values.pop(name) for name in Policy.FIELDS if name in values})


class Noun:
    """All actions of one noun."""

    def __init__(self, connection: Connection, actions: list[type[Action]]) -> None:
        for action in actions:
            setattr(self, action.METHOD, Call(connection, action))


class Cloud(Connection):
    """A connection with a method for every action."""

    def __init__(self, settings: config.Settings) -> None:
        super().__init__(settings)
        offered = [action for action in declare.visible() if action.WHERE != Where.TERMINAL]
        for noun in sorted({action.NOUN for action in offered}):
            setattr(self, noun, Noun(self, [action for action in offered if action.NOUN == noun]))


def connect(client: str | None = None, *, config_file: str | None = None, key: str | None = None) -> Cloud:
    """A cloud.

    `client`: address of the client worker, such as `client.example.jp` or `10.0.0.1:5556`; otherwise MAGLICA_CLIENT,
    otherwise the settings decide. `config_file`: the settings file, found as everywhere when it is not given.
    `key`: the key file; otherwise MAGLICA_KEY, `[client] key`, `~/.config/maglica/key`, or root's own on the client
    worker's machine. Nothing is sent before the first call.
    """
    return Cloud(config.from_environment(client, config_file, key))
