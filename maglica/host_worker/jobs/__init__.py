"""What each action does on a host: the files mirror `maglica/actions/`, one function per action, named after it.

A read takes (action, host) and gives `{"items": …}` or `{"item": …}`. A job takes (action, host, work) and gives its
result: it looks, plans (may raise `Refused`; nothing was touched), says `work.will(plan)`, and only then changes things
(may raise `Failed`), each step after its undo was noted.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from maglica.declare import Action


def function(action: Action) -> Callable[..., dict[str, Any]]:
    """The function of an action. The name comes from our own table, never from the wire."""
    module = import_module(type(action).__module__.replace("maglica.actions", __name__, 1))
    found: Callable[..., dict[str, Any]] = getattr(module, action.NAME.replace(" ", "_").replace("-", "_"))
    return found
