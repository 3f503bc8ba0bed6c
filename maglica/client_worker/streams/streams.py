"""Streams of bytes between people and something on a host: a VM's console, its VNC port.

Both ends ask, and are answered when there is something for them; a host is rung for the first time. Every request says
which bytes its sender has, and from which number on it brings some, so that lost, doubled and late messages cost time
only. Here is one small window for each direction, in memory; both ends keep what the other has not seen yet, so that
this process may be started anew in the middle. No sockets, no clock, no threads: time is an argument.

`life` is a word that a host makes up whenever it opens something: numbers of bytes belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from maglica import declare, wire
from maglica.client_worker import outbox
from maglica.client_worker.asking.gather import Gather
from maglica.client_worker.asking.questions import Questions, renamed
from maglica.client_worker.door.doors import Caller, Doors
from maglica.client_worker.door.keyring import Keyring
from maglica.client_worker.fleet import Fleet
from maglica.client_worker.now import Now
from maglica.client_worker.outbox import Outbox
from maglica.client_worker.placement import place
from maglica.client_worker.streams.viewers import CARRIED, Held, Pace, Stream, Viewer
from maglica.config import ClientSection
from maglica.declare import OPERATOR
from maglica.errors import Failed, MaglicaError, Refused, from_wire
from maglica.window import PIECE, SIZE, Window
from maglica.wire import Message

HOLD = 2.0  # seconds that a request is held back at most
GONE = 6.0  # seconds without a request after which somebody has gone
RING_EVERY = 0.5  # seconds between two bells of a host that has not come
OPEN_WITHIN = 20.0  # seconds that a host has to open something: libvirt may be slow
QUIET = 5.0  # seconds of a host's silence that are told
LOST_AFTER = 60.0  # seconds of a host's silence after which its streams have ended
MOST = 512  # viewers of all keys together: 64 KiB each, twice
CHECK_EVERY = 1.0  # seconds between two looks whether everybody still may: keys expire
LARGEST = 1 << 62  # number of a byte


class Streams:
    """All streams, and who looks at them."""

    def __init__(
        self, doors: Doors, ring: Keyring, fleet: Fleet, questions: Questions, out: Outbox, settings: ClientSection
    ) -> None:
        self._doors, self._keyring, self._fleet = doors, ring, fleet
        self._questions, self._outbox = questions, out
        self.settings = settings
        self._viewers: dict[str, Viewer] = {}
        self._streams: dict[tuple[str, str], Stream] = {}
        self._paces: dict[str, Pace] = {}  # by peer
        self._host_paces: dict[str, Pace] = {}
        self._closed: dict[tuple[str, str], tuple[str, float]] = {}  # the life of what nobody looks at, and since when
        self._next = float("inf")
        self._changes, self._checked = ring.changes, float("-inf")

    def __len__(self) -> int:
        return len(self._viewers)

    # --------------------------------------------------------------------------------------- people's side

    def stream(self, message: Message, caller: Caller, now: Now) -> None:
        """Somebody asks for more bytes, or brings some. The first request opens what it names; so does one that comes
        after this process was started anew.
        """
        try:
            self._asked(message, caller, now)
        except Exception as error:
            viewer = self._viewers.get(message["key"])
            if viewer and viewer.held and viewer.held.route == caller.route:
                viewer.held = None
            told = {"op": "stream", "key": message["key"], "n": message["n"]}
            self._outbox.reply(caller.route, {**outbox.failure(error), **told})

    def _asked(self, message: Message, caller: Caller, now: Now) -> None:
        key = message["key"]
        viewer = self._viewers.get(key)
        if viewer and viewer.who.public != caller.who.public:
            raise Refused("denied", "that stream is somebody else's")
        if message.get("bye"):
            if viewer:
                self._leave(viewer, now)
            self._outbox.reply(caller.route, wire.ok(op="stream", n=message["n"], over=True))
            return
        numbers = [message.get(name) or 0 for name in ("n", "have", "at", "taken")]
        if not all(0 <= number < LARGEST for number in numbers) or not 8 <= len(key) <= 64:
            raise Refused("wrong_input", "stream: a number or a key that no stream has")
        fresh = viewer is None
        if viewer is None:
            viewer = self._welcome(message, caller, now)
        if message["n"] < viewer.n:
            self._outbox.unanswered(caller.route)  # late: what came after it was heard already
            return
        if viewer.held:
            self._outbox.unanswered(viewer.held.route)
        viewer.n, viewer.seen = message["n"], now.mono
        viewer.life, viewer.have = message.get("life") or "", message.get("have") or 0
        stream = viewer.stream
        known = stream.taken.get(key, 0) if stream else 0
        until = now.mono + min(float(message.get("timeout") or 0.0), HOLD)
        viewer.held = Held(caller.route, viewer.n, until, bool(message.get("more")), known)
        viewer.held = viewer.held._replace(full=bool(message.get("full")))
        self._next = min(self._next, until)
        if fresh:
            self._look_for(viewer, now)
        if stream is None:
            return
        if not self._still_may(viewer, now):
            return
        if viewer.life == stream.life and message.get("data"):
            if self._type(viewer, stream, message, now):
                viewer.held = viewer.held._replace(known=known - 1)
            self._serve_host(stream, now)
        if not stream.carried.shared and viewer.life == stream.life:
            stream.window.forget(viewer.have)
            self._serve_host(stream, now)
        self._serve(viewer, now)

    def _welcome(self, message: Message, caller: Caller, now: Now) -> Viewer:
        if message["action"] not in CARRIED:
            raise Refused("wrong_input", f"{message['action']!r} is nothing that is carried", f"{', '.join(CARRIED)}")
        action = declare.build(message["action"], message["args"])
        self._doors.may(caller.who, type(action), now)
        mine = sum(viewer.peer == caller.peer for viewer in self._viewers.values())
        if mine >= self.settings.stream_limit or len(self._viewers) >= MOST:
            raise Refused(
                "no_capacity",
                f"{mine} consoles and displays of one key are open, {len(self._viewers)} of all",
                f"close some; [client] stream_limit is {self.settings.stream_limit} for each key",
            )
        viewer = Viewer(message["key"], caller, action, bool(message.get("look")), now.mono)
        self._viewers[viewer.key] = viewer
        return viewer

    def _look_for(self, viewer: Viewer, now: Now) -> None:
        """Ask where its VM is."""

        def looked(done: Gather, now: Now) -> None:
            if self._viewers.get(viewer.key) is viewer:
                self._guarded(viewer, now, lambda: self._located(viewer, done, now))

        only = str(getattr(viewer.action, "name")).partition("@")[2]
        self._questions.look_up(now, self.settings.read_timeout, looked, only=only)

    def _guarded(self, viewer: Viewer, now: Now, work: Callable[[], None]) -> None:
        """Do something for a viewer; what is wrong with it is told, and is the viewer's end."""
        try:
            work()
        except Exception as error:
            self._cut(viewer, outbox.failure(error), now)

    def _located(self, viewer: Viewer, done: Gather, now: Now) -> None:
        seen = place.Seen(done.answers, done.missing)
        wanted = str(getattr(viewer.action, "name"))
        host, name = self._questions.locate(viewer.who, wanted, seen, full_name=False, whole_fleet=False)
        self._doors.may(viewer.who, type(viewer.action), now, vm=name, host=host)
        known = self._fleet.hosts[host]
        if known.heard is not None and "streams" not in known.features:
            raise Refused(
                "version_mismatch",
                f"host {host} runs maglica {known.version}, which carries no consoles",
                "install the release of the client worker there, and start its host worker again",
            )
        carried = CARRIED[viewer.action.NAME]
        what = f"{viewer.action.VERB} {name}" + ("" if carried.shared else f" {viewer.key}")
        stream = self._streams.get((host, what))
        if stream is None or stream.over:
            # Whoever still looks at the one that is over keeps it until he has seen all of it.
            stream = self._streams[host, what] = Stream(host, what, renamed(viewer.action, name), now.mono)
            self._ring(stream, now)
        viewer.stream = stream
        stream.viewers[viewer.key] = viewer
        viewer.live = max(stream.live, stream.window.end)
        if viewer.look:
            viewer.silent = "it was opened with --watch"
        else:
            try:
                self._may_type(viewer, stream, now)
            except Refused as error:
                viewer.silent = f"{error.message}: {error.hint}"
        if not carried.shared:
            self._note(viewer, stream, "opened", now)
        self._serve(viewer, now)

    def _may_type(self, viewer: Viewer, stream: Stream, now: Now) -> None:
        who = self._keyring.who(viewer.who.public, viewer.who.address, now.ms)
        self._keyring.may(who, type(stream.action), vm=stream.vm, host=stream.host, least=OPERATOR)

    def _note(self, viewer: Viewer, stream: Stream, what: str, now: Now) -> None:
        if not viewer.noted:
            viewer.noted = True
            name = stream.action.NAME
            self._doors.audit.write(viewer.who, name, stream.vm, "done", now, message=what, stays=True)

    def _still_may(self, viewer: Viewer, now: Now) -> bool:
        """Whether somebody still may look; whoever may not is told so, and out."""
        stream = viewer.stream
        if stream is None:
            return True
        try:
            self._doors.may(viewer.who, type(stream.action), now, vm=stream.vm, host=stream.host)
        except MaglicaError as error:
            self._cut(viewer, wire.failure(error), now)
            return False
        return True

    def _type(self, viewer: Viewer, stream: Stream, message: Message, now: Now) -> bool:
        """Take what was typed; whether its sender shall hear of it at once when it has more."""
        if viewer.look:
            raise Refused("denied", "it was opened with --watch", "open it once more without")
        self._may_type(viewer, stream, now)
        self._note(viewer, stream, "typed", now)
        at = message.get("at") or 0
        if viewer.typed is None:
            viewer.typed = Window(max(message.get("taken") or 0, stream.taken.get(viewer.key, 0)))
        if at > viewer.typed.end and viewer.held:
            # It was told by an earlier start of this process that what is missing was here.
            viewer.held = viewer.held._replace(prompt=True)
            return True
        taken = viewer.typed.take(at, message["data"])
        self._spend(viewer.peer, taken, now)
        return bool(taken)

    def _serve(self, viewer: Viewer, now: Now) -> None:
        """Answer the request of a viewer if there is something for it."""
        held, stream = viewer.held, viewer.stream
        if held is None or stream is None:
            return
        if not stream.life and not stream.over:
            if now.mono >= held.until:
                self._answer(viewer, stream, 0, b"", now)
            return
        anew = viewer.life != stream.life
        have = stream.window.start if anew else viewer.have
        at, data = stream.window.since(have, 0 if held.full else SIZE)
        over = stream.over and at + len(data) == stream.window.end
        taken = stream.taken.get(viewer.key, 0) > held.known
        if not (data or anew or at > have or over or (held.prompt and taken)) and now.mono < held.until:
            return
        if data and (free := self._free(viewer.peer)) > now.mono:
            self._next = min(self._next, free)
            if now.mono < held.until:
                return
            data = b""
            over = False
        self._spend(viewer.peer, len(data), now)
        self._answer(viewer, stream, at, data, now, over=over)

    def _answer(self, viewer: Viewer, stream: Stream, at: int, data: bytes, now: Now, *, over: bool = False) -> None:
        if viewer.held is None:
            return
        taken = stream.taken.get(viewer.key)
        got = viewer.typed.end if viewer.typed else taken
        away = bool(stream.life) and not stream.over and now.mono - stream.heard > QUIET
        told: Message = {
            "op": "stream", "key": viewer.key, "n": viewer.held.n, "host": stream.host, "vm": stream.vm,
            "life": stream.life, "at": at, "data": data, "live": viewer.live, "got": got, "taken": taken,
            "silent": viewer.silent, "away": away, "over": over,
            "error": stream.error.to_wire() if over and stream.error else None,
        }  # fmt: skip
        self._outbox.reply(viewer.held.route, wire.ok(**told))
        viewer.held, viewer.seen = None, now.mono
        self._next = min(self._next, now.mono + GONE)
        if over:
            self._leave(viewer, now)

    def _cut(self, viewer: Viewer, failure: Message, now: Now) -> None:
        if viewer.held:
            self._outbox.reply(viewer.held.route, {**failure, "op": "stream", "key": viewer.key, "n": viewer.held.n})
            viewer.held = None
        self._leave(viewer, now)

    def _leave(self, viewer: Viewer, now: Now) -> None:
        if viewer.held:
            self._outbox.unanswered(viewer.held.route)
            viewer.held = None
        self._viewers.pop(viewer.key, None)
        stream = viewer.stream
        if stream and stream.viewers.pop(viewer.key, None):
            stream.taken.pop(viewer.key, None)
            if not stream.viewers:
                self._close(stream, now)
        if not any(other.peer == viewer.peer for other in self._viewers.values()):
            self._paces.pop(viewer.peer, None)

    def _close(self, stream: Stream, now: Now) -> None:
        """Nobody looks any more: its host shall close it."""
        if self._streams.get((stream.host, stream.what)) is stream:
            del self._streams[stream.host, stream.what]
            self._closed[stream.host, stream.what] = stream.life, now.mono
        if stream.held:
            self._tell_host(stream, stream.held, close=True)
            stream.held = None

    # ---------------------------------------------------------------------------------------- hosts' side

    def flow(self, message: Message, caller: Caller, now: Now) -> None:
        """A host brings bytes, and asks for what was typed."""
        try:
            self._flowed(message, caller, now)
        except Exception as error:
            told = {"op": "flow", "stream": message["stream"], "n": message["n"], "life": message["life"]}
            self._outbox.reply(caller.route, {**outbox.failure(error), **told})

    def _flowed(self, message: Message, caller: Caller, now: Now) -> None:
        stream = self._streams.get((message["host"], message["stream"]))
        if stream is None and self._closed.get((message["host"], message["stream"]), ("", 0.0))[0] == message["life"]:
            told = {"op": "flow", "stream": message["stream"], "n": message["n"], "life": message["life"]}
            self._outbox.reply(caller.route, wire.ok(**told, got=0, seen=0, typed=[], close=True))
            return
        if stream is None:
            raise Refused("unknown_entity", "nobody looks at that")  # or nobody has come back yet
        numbers = [message[name] for name in ("n", "start", "at")] + [message.get("live") or 0]
        life = message["life"]
        if not all(0 <= number < LARGEST for number in numbers) or len(life) > 64:
            raise Refused("wrong_input", "flow: a number or a life that no stream has")
        held = Held(caller.route, message["n"], now.mono + HOLD, bool(message.get("full")), stream.seen, life)
        if life == stream.life and life and message["n"] < stream.n:
            self._outbox.unanswered(caller.route)  # late
            return
        if stream.over:
            self._tell_host(stream, held, close=True)
            return
        if life != stream.life and life:
            self._begins(stream, message, now)
        if stream.held:
            self._outbox.unanswered(stream.held.route)
        stream.n, stream.heard, stream.held = message["n"], now.mono, held
        self._next = min(self._next, held.until)
        stream.window.skip_to(message["start"])
        taken = stream.window.take(message["at"], message["data"], push=stream.carried.shared)
        # It may believe that here is what an earlier start of this process had: it shall hear of that at once.
        stream.brought = bool(message["data"]) or message["at"] > stream.window.end
        stream.busy = bool(message.get("busy"))
        stream.pace.spend(taken, now.mono)
        self._of_host(stream.host, now).spend(taken, now.mono)
        for key, number in message["have"].items():
            viewer = stream.viewers.get(key)
            if viewer and type(number) is int and 0 <= number < LARGEST:
                stream.taken[key] = number
                if viewer.typed:
                    viewer.typed.forget(number)
                    viewer.typed.skip_to(number)  # it came by an earlier start of this process
        if message.get("over") and stream.window.end >= message["at"] + len(message["data"]):
            stream.over = True
            stream.error = from_wire(message["error"]) if message.get("error") else None
        for viewer in list(stream.viewers.values()):
            self._serve(viewer, now)
        self._serve_host(stream, now)

    def _begins(self, stream: Stream, message: Message, now: Now) -> None:
        """What was opened is another one than before, or the first one that is known here."""
        if stream.life and not stream.carried.shared:
            stream.over = True
            hint = "begin anew"
            stream.error = Failed("lost", f"host {stream.host} has lost the connection to {stream.vm}", hint)
        stream.life, stream.live = message["life"], message.get("live") or 0
        start = message["start"]
        mine = [viewer.have for viewer in stream.viewers.values() if viewer.life == stream.life]
        if len(mine) == len(stream.viewers) and mine:
            # They only come back: nobody wants what was before. (What they say they have is checked by what there is.)
            start = min(max(start, min(mine)), max(start, message["at"] + len(message["data"])))
        stream.window = Window(start)
        stream.taken.clear()
        for viewer in stream.viewers.values():
            viewer.live = stream.live
            viewer.typed = None

    def _serve_host(self, stream: Stream, now: Now) -> None:
        """Answer a host's request if there is something for it."""
        held = stream.held
        if held is None:
            return
        seen = 0 if stream.carried.shared else stream.seen
        freed = seen - held.known if held.prompt else 0
        free = max(stream.pace.free(), self._of_host(stream.host, now).free())
        if stream.brought and free > now.mono:
            self._next = min(self._next, free)
            if now.mono < held.until:
                return
        typed = stream.typed()
        if typed or stream.brought or freed > 0 or stream.over or now.mono >= held.until:
            self._tell_host(stream, held, typed=typed, close=stream.over)
            stream.held, stream.spoken = None, now.mono

    def _tell_host(
        self, stream: Stream, held: Held, *, typed: list[list[Any]] | None = None, close: bool = False
    ) -> None:
        told: Message = {
            "op": "flow", "stream": stream.what, "n": held.n, "life": held.life,
            "got": stream.window.end, "seen": stream.seen, "typed": typed or [], "close": close,
        }  # fmt: skip
        self._outbox.reply(held.route, wire.ok(**told))

    def _ring(self, stream: Stream, now: Now) -> None:
        """Tell a host that somebody wants to look at something there."""
        stream.rung = now.mono
        self._next = min(self._next, now.mono + RING_EVERY)
        action = stream.action
        asked = {"op": "stream", "stream": stream.what, "action": action.NAME, "args": {"name": stream.vm}}
        self._outbox.publish(stream.host, {**asked, "host": stream.host})

    # ---------------------------------------------------------------------------------------------- time

    def tick(self, now: Now) -> None:
        """What time alone brings about."""
        changed = self._keyring.changes != self._changes
        if now.mono < self._next and not changed:
            return
        if changed or now.mono - self._checked >= CHECK_EVERY:
            self._changes, self._checked = self._keyring.changes, now.mono
            for viewer in list(self._viewers.values()):
                self._still_may(viewer, now)
        self._closed = {key: had for key, had in self._closed.items() if now.mono - had[1] < LOST_AFTER}
        self._next = float("inf")
        for viewer in list(self._viewers.values()):
            if viewer.held:
                self._serve(viewer, now)
            elif now.mono - viewer.seen >= GONE and viewer.stream:
                self._leave(viewer, now)
        for stream in list(self._streams.values()):
            self._tend(stream, now)
        self._next = min([self._next, *self._deadlines()])

    def _tend(self, stream: Stream, now: Now) -> None:
        if stream.held:
            self._serve_host(stream, now)
        silence = now.mono - (stream.heard if stream.life else stream.since)
        if stream.held is None and not stream.over and now.mono >= self._next_bell(stream):
            self._ring(stream, now)
        if stream.held is None and not stream.over and silence >= (LOST_AFTER if stream.life else OPEN_WITHIN):
            stream.over = True
            hint = f"`maglica host list` shows the state of {stream.host}"
            stream.error = Failed("host_down", f"host {stream.host} says nothing of {stream.vm} any more", hint)
            for viewer in list(stream.viewers.values()):
                self._serve(viewer, now)

    @staticmethod
    def _next_bell(stream: Stream) -> float:
        """When a host that has no request out is rung."""
        return max(stream.rung, stream.spoken) + RING_EVERY

    def _deadlines(self) -> Iterator[float]:
        for viewer in self._viewers.values():
            if viewer.stream:
                yield viewer.held.until if viewer.held else viewer.seen + GONE
        for stream in self._streams.values():
            if stream.held:
                yield stream.held.until
            elif not stream.over:
                yield self._next_bell(stream)
        yield self._checked + CHECK_EVERY

    def deadlines(self) -> list[float]:
        """When `tick` has something to do."""
        return [self._next] if self._viewers or self._streams else []

    def subscribed(self, host: str) -> None:
        """A host began to listen: what it was rung for before it did is rung again, in this turn."""
        for stream in self._streams.values():
            if stream.host == host:
                stream.rung = stream.spoken = self._next = float("-inf")

    def _of_host(self, host: str, now: Now) -> Pace:
        """What all streams of a host may bring: half of the requests that it may make, so that its jobs are heard."""
        pace = self._host_paces.get(host)
        if pace is None:
            rate = self.settings.request_rate / 2 / (1 + PIECE // 16384) * PIECE
            pace = self._host_paces[host] = Pace(rate, now.mono)
        return pace

    def _free(self, peer: str) -> float:
        pace = self._paces.get(peer)
        return pace.free() if pace else 0.0

    def _spend(self, peer: str, size: int, now: Now) -> None:
        if size:
            pace = self._paces.get(peer)
            if pace is None:
                pace = self._paces[peer] = Pace(float(self.settings.stream_rate), now.mono)
            pace.spend(size, now.mono)
