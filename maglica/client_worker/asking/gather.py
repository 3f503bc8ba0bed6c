"""One question to several hosts: who was asked, who has answered, and what it comes to. Values in, values out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import NoneType
from typing import Any, TypeAlias

from maglica import wire
from maglica.client_worker.now import Now
from maglica.declare import Action, Where
from maglica.errors import MaglicaError, Refused

Value = dict[str, Any]
Then: TypeAlias = "Callable[[Gather, Now], None]"


class Gather:
    """A question that is out. `then` is called once with it and the time, when all have answered or the time is up."""

    def __init__(
        self,
        number: int,
        action: Action,
        asked: list[str],
        missing: dict[str, str],
        asked_at: float,
        deadline: float,
        then: Then,
        *,
        plan: bool = False,
    ) -> None:
        self.number = number
        self.action = action
        self.waiting = set(asked)
        self.missing = dict(missing)
        self.asked_at = asked_at
        self.deadline = deadline
        self.then = then
        self.plan = plan  # the hosts shall say what they would do
        self.answers: dict[str, Value] = {}
        self._parts: dict[str, dict[int, bytes]] = {}  # pieces of long answers, by host
        self.seconds: dict[str, float] = {}  # how long each host took
        self.errors: dict[str, MaglicaError] = {}

    @property
    def complete(self) -> bool:
        return not self.waiting

    def answer(self, host: str, value: Value, at: float) -> None:
        if host in self.waiting:
            self.waiting.discard(host)
            self.answers[host] = value
            self.seconds[host] = at - self.asked_at

    def part(self, host: str, number: int, of: int, data: bytes) -> bytes | None:
        """Keep a piece of a host's answer; the whole answer's bytes when it was the last one missing."""
        if host not in self.waiting:
            return None
        if not 0 <= number < of <= wire.MAX_PARTS or len(data) > wire.PART_BYTES:
            raise Refused("wrong_input", f"part {number} of {of} with {len(data)} bytes is none of an answer")
        had = self._parts.setdefault(host, {})
        had[number] = data
        if len(had) < of:
            return None
        return b"".join(piece for _, piece in sorted(self._parts.pop(host).items()))

    def error(self, host: str, error: MaglicaError) -> None:
        """A host answered that it cannot tell: it is named like one that did not answer."""
        if host in self.waiting:
            self.waiting.discard(host)
            self.errors[host] = error
            self.missing[host] = error.message

    def give_up(self, host: str, why: str) -> None:
        if host in self.waiting:
            self.waiting.discard(host)
            self.missing[host] = why


# What a survey holds, and each domain, pool and disk in it; `place.py` counts on it.
ROLL: dict[str, type] = {"name": str, "state": str}
DOMAIN: dict[str, type] = {**ROLL, "vcpus": int, "memory_bytes": int, "macs": list, "disks": list}
LIVES: dict[str, type] = {"macs": list, "alone": list, "along": list}
MODE: dict[str, type] = {"mode": str, "auto": bool, "needed_bytes": int, "why_not": str}
WORDS = ("content", "fleet", "template", "image_name")
ROOM: dict[str, type] = {"active": int, "vcpus": int, "memory_free_bytes": int, "pools": list}


def makes_sense(action: Action, value: Value) -> bool:
    """Whether a host's answer has the shape that answers to this action have."""
    if action.NAME == "host survey":
        return _is_survey(value, room=bool(action.values()["room"]))
    items = value.get("items", [])
    # What all hosts are asked for is put together by its name.
    named: dict[str, type] = {"name": str} if action.WHERE == Where.EVERY else {}
    return _maps(items, named) and all(map(_words, items)) and isinstance(value.get("item", {}), dict)


def _is_survey(value: Value, *, room: bool) -> bool:
    domains = value.get("domains")
    if not _maps(domains, DOMAIN if room else ROLL) or not all(map(_lives, domains or [])):
        return False
    return not room or (
        _has(value, ROOM)
        and _maps(value["pools"], {"name": str, "free_bytes": int})
        and all(_maps(domain["disks"], {"allocation_bytes": int}) for domain in domains or [])
        and all(isinstance(mac, str) for domain in domains or [] for mac in domain["macs"])
        and all(_words(domain) and _modes(domain) for domain in domains or [])
    )


def _words(item: Value) -> bool:
    """These are words, or nothing, where they are told."""
    return all(map(isinstance, map(item.get, WORDS), itertools.repeat((str, NoneType))))


def _modes(domain: Value) -> bool:
    """Where it is told how a domain can be cloned, that is told whole."""
    modes = domain.get("modes", [])
    return _maps(modes, MODE) and all(way.get("pools") is None or isinstance(way["pools"], list) for way in modes)


def _lives(domain: Value) -> bool:
    """Where it is told what a VM has for itself, these are lists of words."""
    if "lives" not in domain:
        return True
    lives = domain["lives"]
    return _has(lives, LIVES) and all(isinstance(word, str) for name in LIVES for word in lives[name])


def _maps(values: Any, fields: dict[str, type]) -> bool:
    return isinstance(values, list) and all(_has(value, fields) for value in values)


def _has(value: Any, fields: dict[str, type]) -> bool:
    # Without a loop of Python's: with thousands of VMs on a host this is most of the work of a survey.
    return isinstance(value, dict) and all(map(isinstance, map(value.get, fields), fields.values()))


def merge(gather: Gather) -> Value:
    """The items of all hosts in one list, each with its host; hosts that told nothing are in `missing_hosts`."""
    items = [{**item, "host": host} for host, value in gather.answers.items() for item in value.get("items", [])]
    items.sort(key=lambda item: (str(item.get("name")), str(item["host"])))
    return {"missing_hosts": missing(gather), "answer_seconds": gather.seconds, "items": items}


def only(gather: Gather) -> Value:
    """The answer of the one host that was asked; its error, or that it did not answer, is raised."""
    for error in gather.errors.values():
        raise error
    for host, why in gather.missing.items():
        raise MaglicaError("host_down", f"host {host} does not answer: {why}", "`maglica host list` shows its state")
    host, value = next(iter(gather.answers.items()))
    if "items" in value:  # what one VM has several of
        return {"missing_hosts": [], "items": [{**item, "host": host} for item in value["items"]]}
    return {"missing_hosts": [], "item": {**value.get("item", {}), "host": host}}


def missing(gather: Gather) -> list[Value]:
    return [{"host": host, "why": why} for host, why in sorted(gather.missing.items())]
