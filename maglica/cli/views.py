"""Answers that say more as a page of their own than as `Key: value` lines; one function per action, named after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maglica.cli import output, story
from maglica.cli.output import Look
from maglica.declare import Action

View = Callable[[dict[str, Any], Look], str]


def function(action: type[Action]) -> View | None:
    """The function that shows what an action answers, where there is one."""
    found: View | None = globals().get(action.NAME.replace(" ", "_").replace("-", "_"))
    return found


def host_invite(item: Any, look: Look) -> str:
    """What is to be run on the host, and nothing else: `ssh root@host0 "$(maglica host invite host0)"`."""
    return f"{item['command']}\n"


def job_log(item: Any, look: Look) -> str:
    return story.story(item)


def job_show(item: Any, look: Look) -> str:
    """Everything, with the arguments as they would be typed."""
    return output.sheet({**item, "args": " ".join(story.given(item))}, look)
