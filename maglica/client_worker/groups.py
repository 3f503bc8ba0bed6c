"""Many jobs that are asked for at once. Values in, values out."""

from __future__ import annotations

from typing import Any

from maglica import declare
from maglica.client_worker import again
from maglica.client_worker.ledger import GroupSubmission, Member
from maglica.errors import MaglicaError, Refused
from maglica.job import Group, Job


def member(action: str, common: dict[str, Any], own: Any) -> Member:
    """One of a group: checked like a single request, but what is wrong with it does not hold up the others."""
    if not isinstance(own, dict):
        raise Refused("wrong_input", "submit_group: each is a list of maps of arguments")
    found = declare.find(action).action
    distinct = found.distinct()
    name = str(own.get(distinct, common.get(distinct, action))) if distinct else action
    try:
        return Member(name, own, declare.build(action, {**common, **own}))
    except MaglicaError as error:
        return Member(name, own, None, error)


def refuse_other(known: Job | Group, wanted: GroupSubmission) -> None:
    """The same key is the same request: the same action on the same objects."""
    if "members" not in known:
        raise again.other_request(known)
    fields = declare.find(wanted.action).action.FIELDS
    had = [{**known["args"], **one["args"]} for one in known["members"]]
    asked = [declare.mask(fields, {**wanted.args, **one.args}) for one in wanted.members]
    if known["action"] != wanted.action or had != asked:
        raise again.other_request(known)
