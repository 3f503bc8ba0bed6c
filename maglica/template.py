"""Templates: an image and what its clones shall be like, under a name. Values in, values out.

The definition of a VM is its image's; a template has parameters that change it: whatever `vm clone` takes and that is
not of one VM alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maglica.actions._parameters import parameters
from maglica.actions.vm.clone import VmClone
from maglica.declare import Arg, nearest
from maglica.errors import MaglicaError, Refused

SAMPLE = "template-check"  # a host name, to see whether parameters fit together


def render(template: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `vm clone`: what the template says, and what is given beside it, which counts more."""
    said = {name: value for name, value in template["parameters"].items() if name in VmClone.FIELDS}
    return {**said, **{name: value for name, value in given.items() if value is not None}, "template": template["name"]}


def checked(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a template in the form in which they are kept; `Refused` when they are none, or do not fit
    together.
    """
    known, found = parameters(), {}
    for key, value in values.items():
        field = known.get(key.replace("-", "_"))
        if field is None:
            raise _unknown(name, key, known)
        try:
            found[field.name] = field.kind.check(value)
        except ValueError as error:
            expected = f"expected {field.kind.expected}"
            raise Refused("wrong_input", f"template {name}: {field.option}: {error}", expected) from None
    _refuse_misfits(name, found)
    return found


def _refuse_misfits(name: str, found: dict[str, Any]) -> None:
    try:
        VmClone(**{"image": "any.original", **found, "hostname": SAMPLE})
    except MaglicaError as error:
        what = error.message.removeprefix("vm clone: ")
        raise Refused("wrong_input", f"template {name}: {what}", error.hint) from None


def _unknown(name: str, key: str, known: Mapping[str, Arg]) -> Refused:
    if key.replace("-", "_") in VmClone.FIELDS:
        hint = "it belongs to one VM: give it to `maglica vm clone`"
    else:
        close = nearest(key.replace("-", "_"), known)
        hint = f"did you mean {close.replace('_', '-')}?" if close else f"known are {', '.join(known)}"
    return Refused("wrong_input", f"template {name}: unknown parameter {key}", hint)


def parse(name: str, text: str) -> dict[str, str]:
    """The parameters in a file: `key = value` lines; what follows a # at the beginning of a line is a remark."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not line.strip() or key.startswith("#"):
            continue
        if not equals or not key:
            raise Refused("wrong_input", f"template {name}: line {number} is {line.strip()!r}", "expected key = value")
        if key in found:
            raise Refused("wrong_input", f"template {name}: line {number}: {key} is said twice", "say it once")
        found[key] = value
    return found
