"""What VMs of one kind have in common: the arguments of `vm clone` that are not of one VM, or of one request, alone."""

from __future__ import annotations

from maglica.actions.vm.clone import VmClone
from maglica.declare import Arg

OF_ONE = frozenset({
    "hostname", "on", "mac", "ip", "gateway", "dns", "format", "ignore_missing", "template", "fleet", "copy_image"
})  # fmt: skip


def parameters() -> dict[str, Arg]:
    """They, none of them required."""
    found = {}
    for name, field in VmClone.FIELDS.items():
        if name not in OF_ONE and not field.secret and not field.internal:
            found[name] = Arg(field.kind, field.help, None, False, field.values_of, False, False)
            found[name].name = name
    return found
