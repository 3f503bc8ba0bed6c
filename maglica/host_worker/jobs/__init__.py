"""What each action does on a host: the files mirror `maglica/actions/`, one function per action, named after it.

A read takes (action, host) and gives `{"items": …}` or `{"item": …}`. A job takes (action, host, work) and gives its
result: it looks, plans (may raise `Refused`; nothing was touched), says `work.will(plan)`, and only then changes things
(may raise `Failed`), each step after its undo was noted. What may destroy something is refused for a protected VM
before that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from maglica.declare import Action, Where
from maglica.host_worker.domain import guarding
from maglica.host_worker.host import Host
from maglica.host_worker.work import Work


def function(action: Action) -> Callable[..., dict[str, Any]]:
    """The function of an action. The name comes from our own table, never from the wire."""
    module = import_module(type(action).__module__.replace("maglica.actions", __name__, 1))
    found: Callable[..., dict[str, Any]] = getattr(module, action.NAME.replace(" ", "_").replace("-", "_"))
    return _guarded(found) if action.DESTRUCTIVE and action.WHERE == Where.OWNER else found


def _guarded(job: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @wraps(job)
    def guarded(action: Any, host: Host, work: Work) -> dict[str, Any]:
        guarding.refuse_protected(action.name, action.NAME, host)
        return job(action, host, work)

    return guarded
