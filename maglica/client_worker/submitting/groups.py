"""Many jobs that are asked for at once. Values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maglica import declare, policy
from maglica.client_worker.ledger import GroupSubmission, Member, unusual
from maglica.client_worker.submitting.again import other_request
from maglica.declare import Action
from maglica.errors import MaglicaError, Refused, plain
from maglica.job import Group, Job
from maglica.policy import Policy


def member(action: str, common: dict[str, Any], own: Any) -> Member:
    """One of a group: checked like a single request, but what is wrong with it does not hold up the others."""
    if not isinstance(own, dict):
        raise Refused("wrong_input", "submit_group: each is a list of maps of arguments")
    found = declare.find(action).action
    distinct = found.distinct()
    name = str(own.get(distinct, common.get(distinct, action))).partition("@")[0] if distinct else action
    try:
        return Member(name, own, declare.build(action, {**common, **own}))
    except MaglicaError as error:
        return Member(name, own, None, error)


def refuse_unwritable(action: str, common: dict[str, Any], each: list[Any]) -> None:
    """Refuse what cannot be kept in a record, also where it is an argument that nobody knows: what is wrong with one
    of a group does not hold up the others, and is written down with them.
    """
    for own in (common, *each):
        if not plain(own):
            named = ", ".join(map(str, own)) if isinstance(own, dict) else "one of them"
            expected = "expected text, numbers, yes or no, and lists and maps of these"
            raise Refused("wrong_input", f"{action}: a value of {named} cannot be kept", expected)


def refuse_other(known: Job | Group, wanted: GroupSubmission) -> None:
    """The same key is the same request: the same action on the same objects."""
    if "members" not in known:
        raise other_request(known)
    if known["request"] or wanted.request:
        if known["request"] != wanted.request:
            raise other_request(known)
        return
    fields = declare.find(wanted.action).action.FIELDS
    had = [{**known["args"], **one["args"]} for one in known["members"]]
    asked = [declare.mask(fields, {**wanted.args, **one.args}) for one in wanted.members]
    if wanted.retry_of is None and (known["action"] != wanted.action or had != asked):
        raise other_request(known)


def policy_of(message: Mapping[str, Any], forks: int | None = None) -> Policy:
    """The policy that a request names. `forks`: how many side by side where it does not say."""
    said = dict(message.get("policy") or {})
    if forks is not None and said.get("max_parallel") is None:
        said["max_parallel"] = forks
    return Policy(**said)


def again(had: Mapping[str, Any]) -> Policy:
    """The policy of those of a group that are tried again: all of them are wanted now."""
    return Policy(**{name: value for name, value in had.items() if name != "min"})


def request_of(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was asked for, where the members follow from it and not the other way round."""
    if message.get("count") is None:
        return None
    fields = declare.find(message["action"]).action.FIELDS
    asked = {"count": message["count"], "first": message.get("first") or "1"}
    return {"action": message["action"], "args": {**declare.mask(fields, message["args"]), **asked}}


def whole(wanted: GroupSubmission) -> GroupSubmission:
    """With all-or-nothing no member leaves what it made when it fails: also a clone whose guest was only slow goes."""
    if wanted.policy.on_failure != policy.ALL_OR_NOTHING:
        return wanted
    return wanted._replace(members=[_removing(one) for one in wanted.members])


def _removing(one: Member) -> Member:
    if one.action is not None and not one.action.undone_by(one.action.values()):
        told = f"{one.action.NAME} --format writes a file, which nothing takes back: all-or-nothing is not for it"
        return one._replace(action=None, error=Refused("wrong_input", told, "leave out one or the other"))
    if one.action is None or "on_timeout" not in one.action.FIELDS:
        return one
    values = {**one.action.values(), "on_timeout": "remove"}
    return one._replace(action=type(one.action)(**values))


def refuse_policy(action: type[Action], wanted: Policy, count: int) -> None:
    """Refuse a policy that cannot be followed."""
    if wanted.on_failure == policy.ALL_OR_NOTHING and not action.UNDONE_BY:
        raise Refused(
            "wrong_input", f"{action.NAME} cannot be taken back: all-or-nothing is not for it",
            "use --fail-fast, which begins no more once one has failed",
        )  # fmt: skip
    if wanted.min is not None and wanted.min > count > 0:
        raise Refused("wrong_input", f"--min={wanted.min} of {count} cannot be", "ask for more, or for less of them")


def refuse_pattern(action: type[Action], args: Mapping[str, Any], count: int) -> None:
    """Refuse a request for many that would all have one name, or one address."""
    if not action.makes():
        raise Refused("wrong_input", f"{action.NAME} makes nothing: --count is not for it", "name what is meant")
    policy.refuse_no_pattern(str(args.get(action.distinct()) or ""), count)
    if args.get("mac") is not None and count > 1:
        raise Refused("wrong_input", f"--count={count} with one --mac", "leave out --mac")
    if args.get("format") is not None:
        raise Refused("wrong_input", "--count makes VMs; --format writes a file", "leave out one or the other")


def numbered(action: type[Action], common: Mapping[str, Any], numbers: Sequence[int]) -> list[dict[str, Any]]:
    """What each of these numbers has of its own: its name, and its address where addresses were asked for."""
    distinct, ip = action.distinct(), common.get("ip")
    found = [{distinct: policy.numbered(str(common[distinct]), number)} for number in numbers]
    if ip is None:
        return found
    given = policy.addresses(str(ip), numbers)
    for own, address in zip(found, given, strict=True):
        if common.get("gateway") == address.partition("/")[0]:
            what = f"{address} would be the address of {own[distinct]}, and is the gateway"
            raise Refused("wrong_input", what, "leave it out of --ip")
        own["ip"] = address
    return found


def refuse_too_few(wanted: GroupSubmission, errors: Sequence[Exception | None]) -> None:
    """Refuse a group that cannot succeed any more before it has begun, where that was not wanted."""
    failed = [error for error in errors if error is not None]
    strict = wanted.policy.on_failure != policy.KEEP_GOING or wanted.policy.min is not None
    needed = policy.needed(unusual(wanted.policy), len(errors))
    if strict and len(errors) - len(failed) < needed:
        first = failed[0]
        code = first.code if isinstance(first, MaglicaError) else "internal_error"
        hint = first.hint if isinstance(first, MaglicaError) else ""
        raise Refused(
            code, f"{needed} of {len(errors)} are needed, and {len(errors) - len(failed)} can be begun: {first}", hint
        )
