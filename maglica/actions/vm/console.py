"""A VM's console and display, carried over the bus."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import OPERATOR, Action, Where, action, arg


@action(where=Where.TERMINAL, example="maglica vm console web1.example.jp")
class VmConsole(Action):
    """Open a VM's serial console in this terminal; Ctrl-] leaves it. To type takes the role operator."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm", single="open a terminal for each")
    watch: bool = arg(kinds.BOOL, "only look on, also without a terminal", default=False)
    log: bool = arg(kinds.BOOL, "print what was captured before, and end; also of a VM that is off", default=False)
    lines: int = arg(
        kinds.integer(0, 10_000),
        "lines of what came before that are shown first; of --log at most so many",
        default=200,
    )


@action(where=Where.OWNER, hidden=True)
class VmConsoleLog(Action):
    """Tell what a VM wrote to its serial console, as far as its host keeps it in a file."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")
    lines: int = arg(kinds.integer(0, 10_000), "at most so many of the last lines", default=200)


@action(where=Where.OWNER, example="maglica vm display web1.example.jp")
class VmDisplay(Action):
    """Show how a VM's screen is reached: VNC or SPICE, address, port, and whether it has a password."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm")


@action(where=Where.TERMINAL, role=OPERATOR, example="maglica vm vnc web1.example.jp --port=5901")
class VmVnc(Action):
    """Open a port on 127.0.0.1 that leads to a VM's VNC display on its host, over the bus; Ctrl-C closes it."""

    name: str = arg(kinds.VM, "the VM", subject=True, values_of="vm", single="one command for each")
    port: int | None = arg(kinds.PORT, "the local port; the first free one from 5900 on by default", default=None)
