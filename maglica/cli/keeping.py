"""Answers with something in them that becomes a file of this machine; one function per action, named after it."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from typing import Any

from maglica.declare import Action
from maglica.errors import Failed, Refused

Keep = Callable[[Action, dict[str, Any]], dict[str, Any]]


def function(action: type[Action]) -> Keep | None:
    """The function that keeps what an action brings, where there is one."""
    found: Keep | None = globals().get(action.NAME.replace(" ", "_").replace("-", "_"))
    return found


def vm_screenshot(action: Action, item: dict[str, Any]) -> dict[str, Any]:
    """Write the picture; its place stands in the answer instead of it. `-`: standard output, and nothing else there."""
    data = base64.b64decode(item["png_base64"])
    path = action.values()["file"] or f"{item['name']}.png"
    told = {key: value for key, value in item.items() if key != "png_base64"}
    if path == "-":
        if sys.stdout.isatty():
            raise Refused(
                "wrong_input", "vm screenshot: a terminal shows no PNG", "redirect it, or give --file=NAME.png"
            )
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        _write_new(path, data)
    return {**told, "file": path, "size_bytes": len(data)}


def _write_new(path: str, data: bytes) -> None:
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError:
        raise Refused("already_exists", f"{path} exists", "--file=… writes it elsewhere") from None
    except OSError as error:
        if os.path.exists(path):
            os.unlink(path)  # what is there is not whole
        raise Failed("environment_error", f"cannot write {path}: {error.strerror}") from None
