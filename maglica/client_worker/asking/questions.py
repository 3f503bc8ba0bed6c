"""Questions to hosts: which are out, what has come back, and what whoever asked may see of it.

No clock: time is an argument. No store: an answer leaves no record.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from maglica import declare, wire
from maglica.client_worker.asking import gather
from maglica.client_worker.asking.gather import Gather, Then
from maglica.client_worker.door.doors import Caller
from maglica.client_worker.door.keyring import Keyring, Who
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.placement import fleets, place
from maglica.declare import Action
from maglica.errors import Failed, Refused, from_wire
from maglica.wire import Message

# What is done with what all hosts were seen to have.
Seeing = Callable[[place.Seen, Now], None]

log = logging.getLogger("maglica.client_worker")

MOMENT = 0.05  # seconds that a submission waits for the survey before its own to end


class Questions:
    """What hosts are asked. Only they themselves know what they have, and only now.

    `timeout`: seconds that they have for a survey. `version`: of this client worker. `ends`: how many jobs have
    succeeded so far.
    """

    def __init__(
        self,
        fleet: Fleet,
        outbox: Outbox,
        ring: Keyring,
        version: str,
        timeout: float,
        now: Now,
        ends: Callable[[], int],
    ) -> None:
        self._fleet = fleet
        self._outbox = outbox
        self._keyring = ring
        self._version = version
        self.timeout = timeout
        self._ends = ends
        self._gathers: dict[int, Gather] = {}
        self._unplaced: list[tuple[bool, bool, Seeing]] = []  # they wait for the next survey; what it is about, too
        self._next_survey = now.mono  # when that may be asked

    def subscribed(self, name: str) -> None:
        """A host began to listen: what it was asked before it did is asked again."""
        for question in self._gathers.values():
            if name in question.waiting:
                self._outbox.publish(name, self._question(question, name))

    def tick(self, now: Now) -> None:
        """Give up waiting, and ask for those who wait for a survey."""
        for question in list(self._gathers.values()):
            if now.mono >= question.deadline:
                for name in list(question.waiting):
                    question.give_up(name, "no answer in time")
            self._settle(question, now)
        self._survey_together(now)

    def deadlines(self) -> list[float]:
        """When `tick` has something to do."""
        deadlines = [question.deadline for question in self._gathers.values()]
        if self._unplaced:
            deadlines.append(self._next_survey)
        return deadlines

    # --------------------------------------------------------------------------------------------- asking

    def survey(self, then: Seeing, *, room: bool, lives: bool = False) -> None:
        """Have all hosts asked what they have, together with whoever else wants to know.

        `room`: whether it has to be known as well how much room they have; `lives`: what VMs have for themselves.
        """
        self._unplaced.append((room, lives, then))

    def _survey_together(self, now: Now) -> None:
        """Ask all hosts what they have, once for everybody who came since that was asked last.

        Always after they came: an older answer might not know what the asker knows. Those who come while a survey is
        out wait for its end, but no longer than a moment: a host may hang.
        """
        if not self._unplaced or now.mono < self._next_survey:
            return
        together, self._unplaced = self._unplaced, []
        self._next_survey = now.mono + MOMENT
        ends = self._ends()

        def surveyed(done: Gather, now: Now) -> None:
            self._next_survey = now.mono
            seen = place.Seen(done.answers, done.missing, ends)
            for *_, then in together:
                _carefully(then, seen, now)

        others = len(self._fleet.hosts) > 1  # what VMs of one host have is looked at there
        about = {"room": any(room for room, *_ in together), "lives": others and any(one[1] for one in together)}
        self.ask_all(declare.build("host survey", about), now, self.timeout, surveyed)

    def look_up(self, now: Now, timeout: float, then: Then, *, only: str = "") -> None:
        """Ask all hosts, or `only` one of them, which domains they have."""
        survey = declare.build("host survey", {"room": False})
        if only in self._fleet.hosts:
            self.ask([only], survey, now, timeout, then)
        else:
            self.ask_all(survey, now, timeout, then)

    def ask_all(self, action: Action, now: Now, timeout: float, then: Then, *, who: Who | None = None) -> None:
        """Put a question to every host, or to those that `who` may see; who is down counts as missing at once."""
        asked, silent = self._fleet.answering(now.mono), self._fleet.silent(now.mono)
        if who:
            asked = [host for host in asked if self._keyring.sees(who, host=host)]
            silent = {host: why for host, why in silent.items() if self._keyring.sees(who, host=host)}
        self.ask(asked, action, now, timeout, then, silent=silent)

    def ask(
        self,
        hosts: list[str],
        action: Action,
        now: Now,
        timeout: float,
        then: Then,
        *,
        silent: dict[str, str] | None = None,
        plan: bool = False,
    ) -> None:
        """Put a question to hosts, who have `timeout` seconds; `then` gets what came of it, and the time it is then."""
        deadline = now.mono + timeout
        question = Gather(secrets.randbits(48), action, hosts, silent or {}, now.mono, deadline, then, plan=plan)
        self._gathers[question.number] = question
        for host in hosts:
            if self.able(host, action):
                self._outbox.publish(host, self._question(question, host))
            else:
                question.error(host, self._too_old(host, action))
        self._settle(question, now)

    def _question(self, question: Gather, host: str) -> Message:
        action = question.action
        args = action.values()
        known = self._fleet.hosts.get(host)
        if action.NAME == "host survey" and not (args["lives"] and known and "lives" in known.features):
            del args["lives"]  # the release before this one does not know it
        return {"op": "plan" if question.plan else "read", "ask": question.number, "action": action.NAME, "args": args}

    # -------------------------------------------------------------------------------------------- answers

    def answer(self, message: Message, caller: Caller, now: Now) -> None:
        """What a host answers to a question; one that is no longer out is only acknowledged."""
        question = self._gathers.get(message["ask"])
        if question is not None:
            self._take_answer(question, message, now)
        self._acknowledge(message, caller)

    def part(self, message: Message, caller: Caller, now: Now) -> None:
        """A piece of an answer that is longer than a request may be."""
        question = self._gathers.get(message["ask"])
        if question is not None:
            host = message["host"]
            whole = question.part(host, message["part"], message["parts"], message["data"])
            if whole is not None:
                answer = wire.decode(whole, wire.MAX_PARTS * wire.PART_BYTES)
                wire.check({**answer, "op": "answer", "ask": 0, "host": host})
                self._take_answer(question, {**answer, "host": host}, now)
        self._acknowledge(message, caller)

    def _acknowledge(self, message: Message, caller: Caller) -> None:
        """Tell a host that its answer came, when it wants to know (a plain REQ must): after whoever asked was told."""
        if message.get("ack", True):
            self._outbox.reply(caller.route, wire.ok(op="answer"))
        else:
            self._outbox.unanswered(caller.route)

    def _take_answer(self, question: Gather, message: Message, now: Now) -> None:
        value = message.get("value") or {}
        if message["ok"] and not gather.makes_sense(question.action, value):
            # One host that is broken, or hostile, must not spoil what the others told.
            log.error("the answer of host=%s to %s makes no sense", message["host"], question.action.NAME)
            question.error(message["host"], Failed("internal_error", "its answer makes no sense", "look at its log"))
        elif message["ok"]:
            question.answer(message["host"], value, now.mono)
        else:
            question.error(message["host"], from_wire(message.get("error") or {}))
        self._settle(question, now)

    def _settle(self, question: Gather, now: Now) -> None:
        if question.complete and question.number in self._gathers:
            del self._gathers[question.number]
            question.then(question, now)

    # -------------------------------------------------------------------- what the releases of hosts know

    def refuse_unable(self, host: str, action: Action) -> None:
        """A host says which actions its release knows: better to hear now that it is too old than in the middle."""
        if not self.able(host, action):
            raise self._too_old(host, action)

    def able(self, host: str, action: Action) -> bool:
        """Whether a host knows an action, as far as it has told."""
        known = self._fleet.hosts.get(host)
        return known is None or known.actions is None or action.NAME in known.actions

    def _too_old(self, host: str, action: Action) -> Refused:
        return Refused(
            "version_mismatch",
            f"host {host} runs maglica {self._fleet.hosts[host].version}, which does not know {action.NAME}",
            f"install maglica {self._version} there, and start its host worker again",
        )

    # -------------------------------------------------------------------------- what whoever asks may see

    def known_host(self, name: str, who: Who) -> str:
        """The host of that name, or the only one that `who` may see whose name begins so before a dot."""
        if name not in self._fleet.hosts:
            seen = [known for known in self._fleet.hosts if self._keyring.sees(who, host=known)]
            candidates = [known for known in seen if known.startswith(name + ".")]
            if len(candidates) == 1:
                return candidates[0]
            close = declare.nearest(name, seen)
            hint = f"did you mean {close}?" if close else "`maglica host list` shows them"
            raise Refused("unknown_entity", f"there is no host {name}", hint)
        return name

    def merged(self, action: Action, who: Who) -> Callable[[Gather], dict[str, Any]]:
        """The answers of all hosts, as far as the asker may see them."""

        def merge(done: Gather) -> dict[str, Any]:
            value = gather.merge(done)
            # Images are for everybody. Among all that is shut off, and what rests on an image, are VMs, which are not.
            vms = action.NOUN == "vm" or action.NAME == "image dependents" or bool(action.values().get("all"))
            value["items"] = [
                item
                for item in value["items"]
                if (not vms or self._sees_vm(who, item, action.NOUN)) and self._keyring.sees(who, host=item["host"])
            ]
            return value

        return merge

    def _sees_vm(self, who: Who, item: dict[str, Any], noun: str) -> bool:
        """`original`: its host says that it is an image."""
        return (noun == "image" and item.get("original") is True) or self._keyring.sees(who, vm=str(item.get("name")))

    def own(self, who: Who, surveys: dict[str, place.Survey]) -> dict[str, place.Survey]:
        """What hosts told, as far as the asker may see it."""
        if self._keyring.sees_all(who):
            return surveys
        return {
            host: {**survey, "domains": [vm for vm in survey["domains"] if self._sees_vm(who, vm, "vm")]}
            for host, survey in surveys.items()
            if self._keyring.sees(who, host=host)
        }

    def fleets(self, who: Who) -> Callable[[Gather], dict[str, Any]]:
        """The fleets in a survey, as far as the asker may see their VMs."""

        def listed(done: Gather) -> dict[str, Any]:
            missing = [{"host": host, "why": why} for host, why in sorted(done.missing.items())]
            return {"missing_hosts": missing, "items": fleets.listed(place.Seen(self.own(who, done.answers), {}))}

        return listed

    def only(self, who: Who) -> Callable[[Gather], dict[str, Any]]:
        """What one host told of itself, as far as the asker may see it."""

        def only(done: Gather) -> dict[str, Any]:
            value = gather.only(done)
            if isinstance(value.get("item", {}).get("vms"), list):
                value["item"]["vms"] = [vm for vm in value["item"]["vms"] if self._sees_vm(who, vm, "vm")]
            return value

        return only

    def locate(self, who: Who, name: str, seen: place.Seen, *, full_name: bool, whole_fleet: bool) -> tuple[str, str]:
        """(host, full name) of the VM that a name means to whoever asks: what is not for him neither makes it
        ambiguous nor is suggested. Only its full name, or NAME@HOST, finds something that will be denied.
        """
        if self._keyring.sees_all(who):
            return place.locate(
                name, seen.surveys, seen.missing, full_name=full_name, whole_fleet=whole_fleet, vms=seen.vms
            )
        own = self.own(who, seen.surveys)
        missing = {host: why for host, why in seen.missing.items() if whole_fleet or self._keyring.sees(who, host=host)}
        try:
            return place.locate(name, own, missing, full_name=full_name, whole_fleet=whole_fleet)
        except Refused as error:
            if error.code != "unknown_entity":
                raise
            try:
                return place.locate(name, seen.surveys, {}, full_name=True, whole_fleet=False, vms=seen.vms)
            except Refused:
                raise error from None


def _carefully(then: Seeing, seen: place.Seen, now: Now) -> None:
    """Whoever shares a survey shares no surprise: what one of them does not survive is for the log."""
    try:
        then(seen, now)
    except Exception as error:
        log.error("unexpected error after a survey", exc_info=error)


def renamed(action: Action, name: str) -> Action:
    """The same of the VM that has this full name."""
    return type(action)(**{**action.values(), "name": name})
