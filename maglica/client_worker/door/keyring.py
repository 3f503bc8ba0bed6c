"""Who is who and who may what: the keys that are known, the invitations that are out, the one function that decides.

No sockets, no clock: time is an argument, in milliseconds since 1970 where something expires. What changes here is
written to the store, and whoever drives it commits before anything is answered.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from maglica.client_worker.now import Now, text
from maglica.client_worker.store import Store
from maglica.config import RoleSection
from maglica.declare import ADMIN, ROLES, Action, nearest
from maglica.errors import Refused
from maglica.keys import digest, fingerprint

HOST = "host"  # the role of a host's key; its name is the host's
STRANGER = "stranger"  # a key that nobody knows; let in while an invitation is out, to use that
CLIENT_WORKER = "client worker"  # who made the first administrator's key


class Who(NamedTuple):
    """Whose request it is: what its key stands for, and where it came from."""

    name: str
    role: str
    public: str = ""
    address: str = ""

    def __str__(self) -> str:
        return f"{self.name} (role {self.role})"


# What is asked of hosts for a command that people know by another name.
ASKED_AS = {"host ping": "ping", "vm console-log": "vm console"}

# In the place of a name, of what concerns all VMs or all hosts: it fits `*` and no other pattern.
EVERYTHING = ""

ANYBODY = Who("anybody", ADMIN)  # on an open bus


class Role(NamedTuple):
    """What one role may do: everything that its base may, as far as all three patterns fit."""

    name: str
    base: str
    actions: tuple[str, ...] = ("*",)
    vms: tuple[str, ...] = ("*",)
    hosts: tuple[str, ...] = ("*",)

    @property
    def rank(self) -> int:
        return ROLES.index(self.base)

    @property
    def narrowed(self) -> bool:
        return any(patterns != ("*",) for patterns in (self.actions, self.vms, self.hosts))


class Known(NamedTuple):
    """A key that was let in; the row of the store."""

    public: str
    name: str
    role: str
    created_at: str
    created_by: str
    expires_ms: int | None
    revoked_at: str | None

    def good(self, ms: int) -> bool:
        return self.revoked_at is None and (self.expires_ms is None or ms < self.expires_ms)


class Invited(NamedTuple):
    """An invitation; the row of the store. The secret itself is not kept."""

    digest: str
    host: str
    created_at: str
    created_by: str
    expires_ms: int
    used_at: str | None
    used_by: str | None  # the public key that came with it
    address: str | None

    def good(self, ms: int) -> bool:
        return self.used_at is None and ms < self.expires_ms


class Keyring:
    """All keys, over their store. `is_open`: the bus has none, and everybody may everything."""

    def __init__(self, store: Store, sections: dict[str, RoleSection], *, is_open: bool) -> None:
        self._store = store
        self.is_open = is_open
        self._roles: dict[str, Role] = {}
        self.changes = 0  # of keys and roles, counted: whoever looks on is asked again whether he may
        self.take_roles(sections)
        self._known: dict[str, Known] = {}
        self._invited: dict[str, Invited] = {}
        self.reload()

    def take_roles(self, sections: dict[str, RoleSection]) -> None:
        """These are the roles from now on, beside those that are built in."""
        self.changes += 1
        self._roles = {name: Role(name, name) for name in ROLES}
        for name, section in sections.items():
            patterns = tuple(section.actions), tuple(section.vms), tuple(section.hosts)
            self._roles[name] = Role(name, section.base, *patterns)

    def reload(self) -> None:
        """Take everything from the store once more: what could not be committed has not happened."""
        self.changes += 1
        self._known = {row[0]: Known(*row) for row in self._store.keys.all()}
        self._invited = {row[0]: Invited(*row) for row in self._store.keys.invitations()}

    # ------------------------------------------------------------------------------------------ at the door

    def who(self, public: str, address: str, ms: int) -> Who:
        """Whose key this is now."""
        if self.is_open:
            return ANYBODY._replace(address=address)
        known = self._known.get(public)
        if known is None:
            return Who(fingerprint(public), STRANGER, public, address)
        return Who(known.name, known.role if known.good(ms) else STRANGER, public, address)

    def admits(self, public: str, ms: int, *, listens: bool) -> bool:
        """Whether a key may connect: it is known, or somebody is expected. Nobody but hosts `listens`."""
        known = self._known.get(public)
        if listens:
            return known is not None and known.good(ms) and known.role == HOST
        return (known is not None and known.good(ms)) or any(one.good(ms) for one in self._invited.values())

    def may_hear(self, public: str, host: str, ms: int) -> bool:
        """Whether a key may listen to what is told to a host."""
        who = self.who(public, "", ms)
        return self.is_open or (who.role == HOST and who.name == host)

    def may(
        self,
        who: Who,
        action: type[Action],
        *,
        vm: str | None = None,
        host: str | None = None,
        least: str | None = None,
    ) -> None:
        """The one function that decides: raise `Refused` unless `who` may do this, with that VM, on that host.

        `least`: the role that it takes, where one wish takes more than others of its kind.
        """
        role = self._roles.get(who.role)
        if role is None:
            hint = "only people's keys may ask for it" if who.role == HOST else "its role is not in the settings"
            raise Refused("denied", f"{who} may not {action.NAME}", hint)
        if role.rank < ROLES.index(least or action.ROLE):
            hint = f"it takes the role {least or action.ROLE}: an administrator gives a key for it by `maglica key new`"
            raise Refused("denied", f"{who} may not {action.NAME}", hint)
        name = ASKED_AS.get(action.NAME, action.NAME)
        for what, value, patterns in (
            ("", name, role.actions),
            (" VMs called", vm, role.vms),
            (" hosts called", host, role.hosts),
        ):
            if value is not None and not _fits(value, patterns):
                about = f" {value}" if what and value != EVERYTHING else ""
                hint = f"this role is for{what or ''} {', '.join(patterns)}: [role {role.name}] of the client worker"
                raise Refused("denied", f"{who} may not {name}{about}", hint)

    def may_give(self, who: Who, role: str) -> None:
        """Raise `Refused` unless `who` may give keys of that role: nobody gives more than he has."""
        own = self._roles.get(who.role)
        if own is None or (own.narrowed and own.name != role):
            hint = f"the role {who.role} is narrowed in the settings: its own keys are all that it can give"
            raise Refused("denied", f"{who} may not give a key of the role {role}", hint)

    def sees_all(self, who: Who) -> bool:
        """Whether lists show everything to somebody."""
        return self.sees(who, vm=EVERYTHING, host=EVERYTHING)

    def sees(self, who: Who, *, vm: str | None = None, host: str | None = None) -> bool:
        """Whether lists show something of that VM, or of that host, to somebody."""
        role = self._roles.get(who.role)
        return role is not None and (vm is None or _fits(vm, role.vms)) and (host is None or _fits(host, role.hosts))

    # --------------------------------------------------------------------------------------------- people

    def people(self) -> list[Known]:
        """All keys of people and programs, also those that are no longer good."""
        return [known for known in self._known.values() if known.role != HOST]

    def seen_by(self, who: Who) -> list[Known]:
        """Those that `who` is shown, and may revoke: all; those of his role, where that is for some VMs or hosts."""
        everybody = self.sees_all(who)
        return [known for known in self.people() if everybody or known.role == who.role]

    def add(self, name: str, role: str, public: str, expires_ms: int | None, by: str, now: Now) -> Known:
        """Let a person's or a program's key in."""
        if role not in self._roles:
            close = nearest(role, self._roles)
            hint = f"did you mean {close}?" if close else f"known are {', '.join(self._roles)}"
            raise Refused("wrong_input", f"there is no role {role}", hint)
        had = self._good_person(name, now.ms)
        if had and (had.public, had.role, had.created_by) == (public, role, by):
            return had  # asked again: the answer was lost
        if had:
            raise Refused("already_exists", f"{name} has a key", f"`maglica key revoke {name}` first, or another name")
        if public in self._known:
            raise Refused("already_exists", f"that key is known as {self._known[public].name}", "make a new pair")
        return self._put(Known(public, name, role, now.text, by, expires_ms, None))

    def revoke(self, name: str, who: Who, now: Now) -> Known | None:
        """A person's key is good no more, by the word of `who`; None when it was not any more."""
        seen = self.seen_by(who)
        known = next((one for one in seen if one.name == name and one.good(now.ms)), None)
        if known is None:
            names = [one.name for one in seen]
            if name not in names:
                close = nearest(name, names)
                hint = f"did you mean {close}?" if close else "`maglica key list` shows them"
                raise Refused("unknown_entity", f"nobody called {name} has a key", hint)
            return None
        if known.role == ADMIN and sum(one.role == ADMIN and one.good(now.ms) for one in self.people()) == 1:
            raise Refused("protected", f"{name} is the last administrator", "make another key with --role=admin before")
        return self._put(known._replace(revoked_at=now.text))

    def first_administrator(self, name: str, public: str, now: Now) -> bool:
        """The key that the client worker made for root on its machine; what had that name before is good no more.

        False when it was revoked: it stays so.
        """
        known = self._known.get(public)
        if known:
            return known.good(now.ms)
        for one in self.people():
            if one.name == name and one.good(now.ms):
                self._put(one._replace(revoked_at=now.text))
        self._put(Known(public, name, ADMIN, now.text, CLIENT_WORKER, None, None))
        return True

    def _good_person(self, name: str, ms: int) -> Known | None:
        return next((one for one in self.people() if one.name == name and one.good(ms)), None)

    # ---------------------------------------------------------------------------------------------- hosts

    @property
    def empty(self) -> bool:
        return not self._known

    def host_key(self, host: str, ms: int) -> Known | None:
        """The key that speaks for a host."""
        return next((one for one in self._host_keys(host) if one.good(ms)), None)

    def why_not(self, host: str, ms: int) -> str:
        """Why a host cannot speak at all; '' when it has its key."""
        if self.is_open or self.host_key(host, ms):
            return ""
        revoked = [one for one in self._host_keys(host) if one.revoked_at]
        if self.invitation(host, ms):
            return "is invited and has not joined yet"
        before = f"its key was revoked at {revoked[-1].revoked_at}" if revoked else "has not joined"
        return f"{before}; `maglica host invite {host}` lets it in"

    def _host_keys(self, host: str) -> list[Known]:
        return [known for known in self._known.values() if known.role == HOST and known.name == host]

    def invitation(self, host: str, ms: int) -> Invited | None:
        """The invitation by which a host may still join."""
        return next((one for one in self._invited.values() if one.host == host and one.good(ms)), None)

    def invite(self, host: str, secret: str, expires_ms: int, by: str, now: Now) -> None:
        """Expect a host. An earlier invitation of it that was not used is good no more."""
        for one in list(self._invited.values()):
            if one.host == host and one.used_at is None:
                self._store.keys.remove_invitation(one.digest)
                del self._invited[one.digest]
        self._expect(Invited(digest(secret), host, now.text, by, expires_ms, None, None, None))

    def prune(self, before_ms: int) -> None:
        """Forget invitations, used or not, that were over before then: nobody comes with their words any more."""
        for one in [one for one in self._invited.values() if one.expires_ms < before_ms]:
            self._store.keys.remove_invitation(one.digest)
            del self._invited[one.digest]

    def join(self, host: str, secret: str, who: Who, now: Now) -> bool:
        """Let a host's key in, by the secret of its invitation. Tells whether another key of that host ended by it.

        The same key may come again with the same secret: its answer was lost.
        """
        invited = self._invited.get(digest(secret))
        if invited is None or invited.host != host:
            raise Refused(
                "denied",
                f"host {host} has no such invitation",
                f"it was withdrawn by a newer one, or is for another host: `maglica host invite {host}`",
            )
        if invited.used_at is not None:
            if invited.used_by == who.public and (who.role, who.name) == (HOST, host):
                return False
            raise Refused(
                "denied",
                f"the invitation of host {host} was used at {invited.used_at} from {invited.address}",
                f"if that was somebody else, `maglica host revoke {host}` at once; then `maglica host invite {host}`",
            )
        if not invited.good(now.ms):
            hint = f"`maglica host invite {host}` makes a new one"
            raise Refused("denied", f"the invitation of host {host} expired at {text(invited.expires_ms)}", hint)
        if who.public in self._known:
            # Somebody's own, another host's, or one that was shut out: whoever has it has it for something else.
            raise Refused("denied", f"the key of {who} cannot become a host's", "a host makes a new key of its own")
        ended = self.revoke_host(host, now)
        self._expect(invited._replace(used_at=now.text, used_by=who.public, address=who.address))
        self._put(Known(who.public, host, HOST, now.text, invited.created_by, None, None))
        return ended

    def revoke_host(self, host: str, now: Now) -> bool:
        """A host's key is good no more, and neither is an invitation; tells whether there was a key."""
        found = [one for one in self._host_keys(host) if one.good(now.ms)]
        for one in found:
            self._put(one._replace(revoked_at=now.text))
        invited = self.invitation(host, now.ms)
        if invited:
            self._store.keys.remove_invitation(invited.digest)
            del self._invited[invited.digest]
        return bool(found)

    def _put(self, known: Known) -> Known:
        self.changes += 1
        self._store.keys.put(*known)
        self._known[known.public] = known
        return known

    def _expect(self, invited: Invited) -> None:
        self._store.keys.put_invitation(*invited)
        self._invited[invited.digest] = invited


def _fits(value: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
