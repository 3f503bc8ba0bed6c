"""Where jobs go: what the hosts told, what is given away already, and who asks, brought together. No clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from maglica import declare
from maglica.client_worker import concerned
from maglica.client_worker.asking.questions import Questions, renamed
from maglica.client_worker.door.doors import Doors
from maglica.client_worker.door.keyring import Keyring, Who
from maglica.client_worker.ledger import GroupSubmission, Member
from maglica.client_worker.now import Now
from maglica.client_worker.placement import images, labels, place, spread
from maglica.client_worker.placement.place import Choice, Seen, Wanted
from maglica.client_worker.placement.spread import Rooms, Spread, Whose
from maglica.client_worker.store import Store
from maglica.client_worker.submitting.profiles import Profiles
from maglica.declare import Action, Where
from maglica.errors import MaglicaError, Refused

CLONE, BUILD, RENAME, IMPORT, COPY = "vm clone", "vm build", "vm rename", "image import", "image copy"
MAKES = (CLONE, BUILD)  # what takes room of a host, under a new name
GIVES = (RENAME, "image seal", "image upgrade")  # to one thing a name that nothing has yet
FILLED = {COPY: "from_", "image seal": "as_", "image upgrade": "as_"}  # by placement, where it was not said
DEFINED = ("vm define", "vm import")  # made of what is on one host already


class Placed(NamedTuple):
    """One of many, and where it goes; without an action it goes nowhere, and `error` says why."""

    member: Member
    host: str = ""
    action: Action | None = None
    why: str = ""
    error: Exception | None = None
    first: Action | None = None  # what has to be done there before: its image is copied


class Placing:
    """Places for jobs; each is taken from what the next ones in the same turn find."""

    def __init__(
        self,
        doors: Doors,
        questions: Questions,
        profiles: Profiles,
        store: Store,
        keyring: Keyring,
        weights: dict[str, float],
    ) -> None:
        self._doors = doors
        self._questions = questions
        self._profiles = profiles
        self._store = store
        self._keyring = keyring
        self._weights = weights
        self.copy_image = "never"  # [client] copy_image

    def find(
        self, action: Action, seen: Seen, who: Who, now: Now, rooms: Rooms | None = None
    ) -> tuple[str, Action, str]:
        """The host for it, its full name, and why there; refused when it must not be done there by `who`."""
        with self._doors.wording(who):
            return self._find(action, seen, who, now, rooms)

    def _find(self, action: Action, seen: Seen, who: Who, now: Now, rooms: Rooms | None) -> tuple[str, Action, str]:
        if action.WHERE == Where.PLACED:
            self._may_ask(action, who, now)
        if action.NAME == BUILD:
            action = self._profiles.fill(action)
            host, why = self._choose_for_build(action, seen, who, now, rooms)
        elif action.NAME in DEFINED:
            host, why = self._choose_for_definition(action, seen, who)
        elif action.WHERE == Where.PLACED and action.NAME != CLONE:
            choice, action = self._choose_for_image(action, seen, who)
            host, why = choice.host, choice.why
        elif action.WHERE == Where.PLACED:
            action = self._profiles.fill(action)
            self._may_copy(action, seen, who, now)
            choice = self._choose(action, seen, who)
            host, why = choice.host, choice.why
        else:
            name, whole = str(getattr(action, "name")), action.asks_whole_fleet()
            host, name = self._questions.locate(who, name, seen, full_name=action.DESTRUCTIVE, whole_fleet=whole)
            if action.WHOLE_FLEET:
                place.refuse_double_life(name, host, seen.vms)
                place.refuse_contended(name, host, seen.lives)
            action, why = images.named(renamed(action, name), now.text[:10]), "the VM is there"
            if action.given_name():
                self._check_new_name(action, host, seen, who, now)
            if action.NAME == "image remove" and len(seen.vms[name]) == 1:  # the last copy
                labels.refuse_labelled(name, self._store.labels.all())
        self._check(action, host, seen, who, now)
        return host, action, why

    def copied_first(
        self, clone: Action, error: Refused, seen: Seen, who: Who, now: Now, rooms: Rooms | None = None
    ) -> tuple[Action, Action, str]:
        """What is to be copied first, the clone that follows there, and why; `error`, why it has no place otherwise,
        is raised when nothing can or shall be copied.
        """
        with self._doors.wording(who):
            return self._copied_first(clone, error, seen, who, now, rooms)

    def _copied_first(
        self, clone: Action, error: Refused, seen: Seen, who: Who, now: Now, rooms: Rooms | None
    ) -> tuple[Action, Action, str]:
        on = getattr(clone, "on", None)
        lacks = error.code == "unknown_entity" and on in seen.surveys
        if clone.NAME != CLONE or (error.code != "no_capacity" and not lacks):
            raise error
        clone = self._profiles.fill(labels.meant(clone, self._store.labels.all()))
        if (getattr(clone, "copy_image") or self.copy_image) != "auto":
            if error.code == "no_capacity":
                error.hint = f"{error.hint}; --copy-image=auto takes the image to a host that has room"
            raise error
        many, rooms = rooms is not None, self.rooms(seen) if rooms is None else rooms
        want, closed = spread.wanted(clone), self._closed(seen, who)
        surveys = place.without(closed, seen.surveys)
        try:
            choice, source, survey = images.copied_first(
                want, surveys, seen.missing, self._able(clone, seen), rooms.reserved,
                bool(getattr(clone, "ignore_missing", False)),
            )  # fmt: skip
        except Refused:
            raise error from None  # that nobody could take it with the image either explains less
        first = declare.build("image copy", {"name": want.image, "dest": choice.host, "from_": source})
        if self.under_way(first) is None:
            self._refuse_locked(first)
        self._check(first, choice.host, seen, who, now)
        self._check(clone, choice.host, seen, who, now)
        if many:
            rooms.take(choice.host, want, survey, "")
        return first, clone, choice.why

    def under_way(self, copy: Action) -> str | None:
        """The job that makes this very copy and has begun: who needs the same may wait for that one."""
        holders = self._store.jobs.holders(copy.locks()[0])
        found = self._store.jobs.get(holders[0]) if len(holders) == 1 else None
        if found is None or found["action"] != copy.NAME or found["args"].get("as_"):
            return None
        return found["id"] if found["claimed_at"] and not found["cancel"] else None

    def find_all(self, wanted: GroupSubmission, seen: Seen, now: Now) -> tuple[list[Placed], Rooms]:
        """A place for each of a group, and what is given away when all of them take theirs."""
        rooms = self.rooms(seen).copy()
        spreads: dict[Wanted, Spread] = {}
        known = self._store.labels.all()
        members = [
            one._replace(action=labels.meant(one.action, known)) if one.action else one for one in wanted.members
        ]
        return [self._find_one(member, wanted, seen, rooms, spreads, now) for member in members], rooms

    def _find_one(
        self,
        member: Member,
        wanted: GroupSubmission,
        seen: Seen,
        rooms: Rooms,
        spreads: dict[Wanted, Spread],
        now: Now,
    ) -> Placed:
        try:
            if member.action is None:
                raise member.error or Refused("wrong_input", f"{wanted.action}: there is nothing to do")
            if member.action.NAME == BUILD:
                host, action, why = self.find(member.action, seen, wanted.who, now, rooms)
                self._take(rooms, seen, action, host, "")
                return Placed(member, host, action, why)
            if member.action.NAME != CLONE:
                host, action, why = self.find(member.action, seen, wanted.who, now)
                self._refuse_twice(action, rooms)
                return Placed(member, host, action, why)
            action = self._profiles.fill(member.action)
            self._may_ask(action, wanted.who, now)
            try:
                with self._doors.wording(wanted.who):
                    choice = self._choose_one_of(action, wanted, seen, rooms, spreads, now)
            except Refused as error:
                with self._doors.wording(wanted.who):
                    rooms.refuse_name(spread.wanted(action).hostname)
                first, action, why = self.copied_first(member.action, error, seen, wanted.who, now, rooms)
                return Placed(member, str(getattr(first, "dest")), action, why, first=first)
            self._check(action, choice.host, seen, wanted.who, now)
            return Placed(member, choice.host, action, choice.why)
        except Exception as error:
            return Placed(member, error=error)

    def _refuse_twice(self, action: Action, rooms: Rooms) -> None:
        """Refuse a name that another one of the same request gets; copies of one image may have one name."""
        name = _new_name(action)
        if name is None:
            return
        whose, had = Whose(vm=str(getattr(action, "name")) if action.NAME == COPY else None), rooms.names.get(name)
        if had is not None and not had.job and (had != whose or action.NAME != COPY):
            rooms.refuse_name(name)
        rooms.names[name] = whose

    def _choose_one_of(
        self,
        action: Action,
        wanted: GroupSubmission,
        seen: Seen,
        rooms: Rooms,
        spreads: dict[Wanted, Spread],
        now: Now,
    ) -> Choice:
        want = spread.wanted(action)
        self._refuse_locked(action)
        kind = want._replace(hostname="", macs=())
        if want.macs:  # they have to be compared with those of all VMs
            choice = self._choose(action, seen, wanted.who, rooms)
            rooms.take(choice.host, want, seen.surveys[choice.host], "")
            spreads.clear()
            return choice
        if kind not in spreads:
            self._may_copy(action, seen, wanted.who, now)
            spreads.clear()  # they take from the same hosts: only one of them knows the order
            spreads[kind] = Spread(
                want, seen, rooms, self._able(action, seen), self._closed(seen, wanted.who),
                fill=wanted.policy.spread == "fill", ignore_missing=bool(getattr(action, "ignore_missing", False)),
            )  # fmt: skip
        return spreads[kind].choose(want)

    def taken(self, seen: Seen, action: Action, host: str, job: str) -> None:
        """A job was recorded: the next ones of this turn shall know."""
        if action.NAME in MAKES:
            self._take(self.rooms(seen), seen, action, host, job)

    def _take(self, rooms: Rooms, seen: Seen, action: Action, host: str, job: str) -> None:
        if action.makes_new():
            rooms.take(host, spread.wanted(action), seen.surveys[host], job)

    def rooms(self, seen: Seen) -> Rooms:
        """What open clones will take on each host and have not taken yet; looked up once for all who share a survey."""
        if not isinstance(seen.rooms, Rooms):
            records = [record for name in MAKES for record in self._store.jobs.open_of_action(name)]
            records += [record for name in MAKES for record in self._store.jobs.ended_since(name, seen.ends)]
            seen.rooms = spread.given_away(seen, records)
            seen.rooms.names.update(self._named_since(seen))
        return seen.rooms

    def refuse_partial(self, seen: Seen, names: Sequence[str], who: Who) -> None:
        """Refuse to decide on the names of many while a host does not tell its own."""
        with self._doors.wording(who):
            place.refuse_partial_view(names[0] if names else "one of them", seen.missing, False)

    def may_number(self, action: type[Action], pattern: str, names: Sequence[str], who: Who, now: Now) -> None:
        """Whoever may have none that is called so is not told which numbers are taken."""
        if not any(self._keyring.sees(who, vm=name) for name in names):
            self._doors.may(who, action, now, vm=pattern)

    # ------------------------------------------------------------------------------------------------ checks

    def _may_ask(self, action: Action, who: Who, now: Now) -> None:
        """Whoever may have nothing that is called so, or not there, is told nothing of what there is."""
        for name in concerned.by_job(action):
            self._doors.may(who, type(action), now, vm=name)
        for host in concerned.hosts(action):
            self._doors.may(who, type(action), now, host=host)

    def _check(self, action: Action, host: str, seen: Seen, who: Who, now: Now) -> None:
        for name in concerned.by_job(action, seen.vms):
            self._doors.may(who, type(action), now, vm=name, host=host)
        self._questions.refuse_unable(host, action)

    def _check_new_name(self, action: Action, host: str, seen: Seen, who: Who, now: Now) -> None:
        """What a VM or an image is to be called is as free, on all hosts, as the name of a new VM; and whoever gives it
        may have VMs called so.
        """
        name, hint = str(action.given_name()), f"choose another {action.FIELDS[action.GIVES].option}"
        self._doors.may(who, type(action), now, vm=name, host=host)
        labels.refuse_label(name, self._store.labels.all())
        place.refuse_name(name, seen.vms, hint)
        place.refuse_partial_view(name, seen.missing, bool(getattr(action, "ignore_missing")))
        self._refuse_new_name(name)
        made = [str(one["object"]) for made in MAKES for one in self._store.jobs.ended_since(made, seen.ends)]
        if name in [*made, *self._named_since(seen)]:
            raise Refused("already_exists", f"{name} exists by now", hint)

    def _named_since(self, seen: Seen) -> dict[str, Whose]:
        """Names that were given while the hosts were asked, with the job that gave each: not all may have told."""
        return {
            str(name): Whose.by(one)
            for action in (*GIVES, *DEFINED, IMPORT, COPY)
            for one in self._store.jobs.ended_since(action, seen.ends)
            if (name := one["args"].get(declare.find(action).action.GIVES or "name")) is not None
        }

    def _may_copy(self, action: Action, seen: Seen, who: Who, now: Now) -> None:
        """A clone is made of what its asker may see. Images are for everybody; any other VM shows what is on its disks
        to whoever clones it.
        """
        image = str(getattr(action, "image"))
        found = [vm for survey in seen.surveys.values() for vm in survey["domains"] if vm["name"] == image]
        if not found or not all(vm.get("image") for vm in found):
            self._doors.may(who, type(action), now, vm=image)

    def _choose(self, action: Action, seen: Seen, who: Who, rooms: Rooms | None = None) -> Choice:
        self._refuse_locked(action)
        rooms = self.rooms(seen) if rooms is None else rooms
        want = spread.wanted(action)
        rooms.refuse_name(want.hostname)
        ignore = bool(getattr(action, "ignore_missing", False))
        return place.choose(
            want, seen.surveys, seen.missing, self._able(action, seen), rooms.reserved, ignore,
            closed=self._closed(seen, who),
        )  # fmt: skip

    def _choose_for_build(self, action: Action, seen: Seen, who: Who, now: Now, rooms: Rooms | None) -> tuple[str, str]:
        """(host, why): that of the VM that is built anew; otherwise as for a clone, of nothing where it is of none."""
        name, rooms = str(getattr(action, "name")), self.rooms(seen) if rooms is None else rooms
        if not action.makes_new():
            whole = action.asks_whole_fleet()
            host, name = self._questions.locate(who, name, seen, full_name=True, whole_fleet=whole)
            place.refuse_double_life(name, host, seen.vms)
            if getattr(action, "starts"):
                place.refuse_contended(name, host, seen.lives)
            if getattr(action, "image"):
                self._may_copy(action, seen, who, now)
            return host, "the VM is there"
        self._refuse_locked(action)
        rooms.refuse_name(name)
        if getattr(action, "image"):
            self._may_copy(action, seen, who, now)
        choice = place.choose(
            spread.wanted(action), images.with_nothing(seen.surveys), seen.missing, self._able(action, seen),
            rooms.reserved, bool(getattr(action, "ignore_missing")), closed=self._closed(seen, who),
            hint="`maglica vm build --rebuild` gives a VM that exists a new disk",
        )  # fmt: skip
        return choice.host, choice.why

    def _choose_for_image(self, action: Action, seen: Seen, who: Who) -> tuple[Choice, Action]:
        # Names and checksums are compared with what everybody has; an image goes only where its asker may be.
        self._refuse_locked(action)
        able, closed = self._able(action, seen), self._closed(seen, who)
        reserved, known = self.rooms(seen).reserved, self._store.labels.all()
        if (name := _new_name(action)) is not None:
            self.rooms(seen).refuse_name(name)
        if action.NAME == COPY:
            return images.for_copy(action, seen.surveys, seen.missing, reserved, known, closed)
        if action.NAME == "image export":
            return images.for_export(action, seen.surveys, seen.missing, closed), action
        return images.for_import(action, seen.surveys, seen.missing, able, reserved, known, closed), action

    def _choose_for_definition(self, action: Action, seen: Seen, who: Who) -> tuple[str, str]:
        """(host, why): the one that was said, or the only one."""
        name, on = str(getattr(action, "name")), getattr(action, "on")
        self._refuse_locked(action)
        if action.asks_whole_fleet():
            place.refuse_partial_view(name, seen.missing, False)
        place.refuse_unknown_host(on, seen.surveys, seen.missing)
        place.refuse_name(name, seen.vms, "`maglica vm redefine` gives a VM another definition")
        self.rooms(seen).refuse_name(name)
        hosts = sorted(set(seen.surveys) - self._closed(seen, who))
        if on is None and len(hosts) != 1:
            raise Refused("wrong_input", f"{name} may be on {', '.join(hosts) or 'no host'}", "say with --on where")
        return (on, f"--on={on}") if on else (hosts[0], "the only host")

    def _refuse_locked(self, action: Action) -> None:
        for lock in action.locks():
            self._refuse_locked_name(lock.partition(":")[2], lock)
        name = _new_name(action)
        if name is not None:
            self._refuse_new_name(name, copied=str(getattr(action, "name")) if action.NAME == COPY else None)

    def _refuse_new_name(self, name: str, copied: str | None = None) -> None:
        """Refuse a name while an open job is about, or makes, a VM or an image that is called so; but for the copies of
        one image, `copied`, that get this name on several hosts.
        """
        for lock in (f"vm:{name}", f"image:{name}"):
            self._refuse_locked_name(name, lock)
        for record in self._store.jobs.open_of_action(COPY):  # their locks say what is copied
            if record["args"].get("as_") == name and record["args"]["name"] != copied:
                raise place.worked_on(name, *Whose.by(record))

    def _refuse_locked_name(self, name: str, lock: str = "") -> None:
        for holder in self._store.jobs.holders(lock or f"vm:{name}"):
            record = self._store.jobs.get(holder)
            raise place.worked_on(name, *(Whose.by(record) if record else Whose(holder)))

    def _able(self, action: Action, seen: Seen) -> dict[str, float]:
        """The weights, 0 for hosts whose release does not know the action."""
        return {**self._weights, **{name: 0.0 for name in seen.surveys if not self._questions.able(name, action)}}

    def _closed(self, seen: Seen, who: Who) -> frozenset[str]:
        return frozenset(host for host in seen.surveys if not self._keyring.sees(who, host=host))


def _new_name(action: Action) -> str | None:
    """The name that this very action gives to a VM or an image, and that nothing may have; None when it gives none."""
    if action.given_name():
        return action.given_name()
    if action.NAME in (IMPORT, *DEFINED):
        return str(getattr(action, "name"))
    return str(action.values()[action.distinct()]) if action.NAME in MAKES and action.makes_new() else None


def told(placed: Placed) -> dict[str, object]:
    """Where one of many would go, for a dry run."""
    error = placed.error
    return {
        "name": placed.member.name,
        "host": placed.host or None,
        "why": (error.message if isinstance(error, MaglicaError) else str(error)) if error else placed.why,
        "possible": error is None,
    }
