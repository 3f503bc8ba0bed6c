"""Every message, and messages <-> bytes. No sockets.

One msgpack map per message, string keys only. A request is `{"v": 2, "op": …}`, an answer `{"v": 2, "ok": true, …}` or
`{"v": 2, "ok": false, "error": {…}}`; that last form is frozen for ever and is understood whatever its version. Unknown
keys are ignored, so that the next version may add some. Who asks is answered in the version that he asked in; a host
says hello in the oldest version, and learns then which one to speak.

The limits and their reasons are in docs/design.md.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
from msgpack import fallback

from maglica.errors import Failed, MaglicaError, Refused, from_wire
from maglica.policy import MOST

VERSION = 2  # hosts know their cluster, say hello to every start of the client worker and hear numbered beats
OLDEST = 1  # the release before this one speaks it
VERSIONS = tuple(range(OLDEST, VERSION + 1))
FEATURES = (
    "reads", "jobs", "cancel", "beats", "cluster", "actions", "parts", "groups", "retry", "policies", "streams",
    "lives",
)  # fmt: skip

MAX_BYTES = 256 * 1024  # of one request; 16 MiB of Python objects in the worst case
PART_BYTES = 128 * 1024  # of a piece of a host's answer that is longer than a request may be
MAX_PARTS = 32  # 4 MiB: some 10,000 domains
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # of what a client accepts from the client worker that it chose
MAX_DEPTH = 16
# Bytes that a long message has at least for each map and list. One is enough for an empty one, which then takes 64 in
# memory, and time: 0.1 s for 256 KiB of them.
CONTAINER_BYTES = 8
UNCOUNTED_BYTES = 16 * 1024
MOST_JOBS = MOST  # of one group

Message = dict[str, Any]

# op -> what it must hold, and what it may hold. Who sends it: people's side first, then hosts.
REQUESTS: dict[str, tuple[dict[str, type], dict[str, type]]] = {
    "ping": ({}, {}),
    # `key`: of this request, for what the client worker does by itself: repeated, it is not done again.
    "read": ({"action": str, "args": dict}, {"timeout": float, "key": str}),
    "submit": (
        {"key": str, "action": str, "args": dict, "owner": str},
        {"reason": str, "dry_run": bool, "policy": dict},
    ),
    # `each`: what every one has of its own, added to `args`, which all of them have. With `count` there are so many,
    # whose names follow from the pattern in `args` and the numbers from `first` on: a number, or `next`.
    "submit_group": (
        {"key": str, "action": str, "args": dict, "each": list, "owner": str},
        {"reason": str, "dry_run": bool, "policy": dict, "count": int, "first": str},
    ),
    "retry": ({"key": str, "id": str, "owner": str}, {"reason": str, "failed": bool, "lost": bool}),
    "wait": ({"id": str, "rev": int, "timeout": float}, {"ended": bool}),
    # More bytes of something that is open on a host, from `have` on, and those that were typed, from `at` on.
    # `taken`: how many of these the host is known to have. `more`: there are more than fit. `look`: nothing is typed.
    # `full`: nothing is to be brought for now.
    "stream": (
        {"key": str, "action": str, "args": dict, "n": int},
        {
            "life": str, "have": int, "at": int, "data": bytes, "taken": int, "timeout": float, "more": bool,
            "look": bool, "full": bool, "bye": bool,
        },
    ),
    "join": ({"host": str, "secret": str}, {"version": str}),
    "hello": (
        {"host": str, "journal": str, "versions": list, "features": list, "version": str},
        {
            "pid": int,
            "facts": dict,
            "starts": int,
            "start": str,
            "clock": float,
            "actions": list,
            "cluster": str,
            "epoch": int,
            "last_job": str,
        },
    ),
    "sync": (
        {"host": str, "incarnation": int, "have": list, "done": list, "progress": list, "free": dict},
        {"facts": dict, "seq": int, "life": str, "heard": int, "clock": float},
    ),
    # `ack`: false of those who do not wait to be told that it came
    "answer": ({"host": str, "ask": int, "ok": bool}, {"value": dict, "error": dict, "ack": bool}),
    "part": ({"host": str, "ask": int, "part": int, "parts": int, "data": bytes}, {"ack": bool}),
    # A job of this host needs something of another one; what, and of which, the client worker knows.
    "need": ({"host": str, "ask": int, "job": str, "args": dict}, {}),
    # Bytes of something that is open, from `at` on; `start` is the first that there still is, `live` the first that
    # came after it was opened. `have`: how much of what each viewer typed was taken. `full`: nothing is read before
    # somebody has seen some; `busy`: nothing more is taken for now.
    "flow": (
        {
            "host": str, "stream": str, "life": str, "n": int, "start": int, "at": int, "data": bytes, "have": dict,
        },
        {"live": int, "full": bool, "busy": bool, "over": bool, "error": dict},
    ),
}  # fmt: skip

# Whose key may send them. Only a host's own may speak for it; what is in neither is for whoever was invited.
OF_HOSTS = frozenset({"hello", "sync", "answer", "part", "need", "flow"})
OF_PEOPLE = frozenset({"ping", "read", "submit", "submit_group", "retry", "wait", "stream"})


def topic(host: str) -> bytes:
    """The first frame of a publication. It ends with a zero byte: SUB filters are prefixes, `host1` is not `host10`."""
    return host.encode() + b"\0"


def host_of(topic: bytes) -> str:
    """The host that a topic belongs to; '' for what is no topic of a host."""
    return topic[:-1].decode(errors="replace") if topic.endswith(b"\0") else ""


def encode(message: Message) -> bytes:
    """A message as bytes."""
    packed: bytes = msgpack.packb({"v": VERSION, **message}, use_bin_type=True)
    return packed


def split(answer: Message, *, parts: bool) -> list[Message]:
    """A host's answer as it may travel: itself, or in pieces when it is longer than a request may be.

    `parts`: whether the other side puts them together. When it does not, or there are too many, it is told so instead.
    """
    data = encode(answer)
    if len(data) <= MAX_BYTES:
        return [answer]
    pieces = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    envelope = {name: value for name, value in answer.items() if name not in ("ok", "value", "error")}
    if not parts or len(pieces) > MAX_PARTS:
        most = MAX_PARTS * PART_BYTES if parts else MAX_BYTES
        hint = "ask for less" if parts else "install the same release on both sides"
        long = Failed("environment_error", f"the answer has {len(data)} bytes, more than {most}", hint)
        return [{**envelope, **failure(long)}]
    total = len(pieces)
    return [{**envelope, "op": "part", "part": n, "parts": total, "data": piece} for n, piece in enumerate(pieces)]


def fitting(reports: list[Message], limit: int = MAX_BYTES // 4) -> list[Message]:
    """As many of these reports, from the first on, as take `limit` bytes together; at least one."""
    size = 0
    for count, report in enumerate(reports):
        size += len(encode(report))
        if size > limit:
            return reports[: max(1, count)]
    return reports


def decode(data: bytes, limit: int = MAX_BYTES) -> Message:
    """The message in some bytes; `Refused` for anything that is not one."""
    if len(data) > limit:
        raise Refused("wrong_input", f"the message has {len(data)} bytes, more than {limit}")
    if len(data) > UNCOUNTED_BYTES and _too_many(data):
        raise Refused("wrong_input", f"the message has too many maps and lists, or is nested deeper than {MAX_DEPTH}")
    try:
        message = _unpacked(data)
    except msgpack.StackError:  # its own limit, which no nesting can pass: it decodes without recursion
        raise _nested() from None
    except Exception:  # whatever msgpack raises, the bytes were no message; what it had made goes with its error
        message = _NOT_ALLOWED
    if message is _NOT_ALLOWED:
        raise _unreadable()
    if not isinstance(message, dict):
        raise Refused("wrong_input", "the message is not a map")
    if _too_deep(message):
        raise _nested()
    try:
        msgpack.packb(message)
    except Exception:  # what was put in the place of something that is not allowed
        raise _unreadable() from None
    version = message.get("v")
    if type(version) is int and OLDEST <= version <= VERSION:
        return message
    if message.get("ok") is False and isinstance(message.get("error"), dict):
        return message
    raise Refused(
        "version_mismatch",
        f"the message has protocol version {version!r}",
        f"this side speaks {spoken(VERSIONS)}; install the same release on both, or one and the next",
        details={"supported": list(VERSIONS), "asked": version if type(version) is int else None},
    )


def agree(versions: Any) -> int | None:
    """The highest version that both sides speak; None when there is none."""
    offered = {version for version in versions if type(version) is int} if isinstance(versions, list) else set()
    return max(offered.intersection(VERSIONS), default=None)


def spoken(versions: Any) -> str:
    """Versions in words."""
    return "protocol " + (" and ".join(map(str, versions)) or "none") if isinstance(versions, (list, tuple)) else "?"


def check(message: Message) -> str:
    """The op of a request whose fields are what they must be; `Refused` names the field otherwise."""
    op = message.get("op")
    if not isinstance(op, str) or op not in REQUESTS:
        raise Refused("wrong_input", f"unknown request {op!r}", f"known are {', '.join(REQUESTS)}")
    required, optional = REQUESTS[op]
    for name, kind in required.items():
        if name not in message:
            raise Refused("wrong_input", f"{op}: field {name} is missing")
        _check_type(op, name, message[name], kind)
    for name, kind in optional.items():
        if message.get(name) is not None:
            _check_type(op, name, message[name], kind)
    return op


def _check_type(op: str, name: str, value: Any, kind: type) -> None:
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        raise Refused("wrong_input", f"{op}: field {name} is a {type(value).__name__}, expected {kind.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused("wrong_input", f"{op}: field {name} is {value}, expected a number")


def _unpacked(data: bytes) -> Any:
    """What the bytes hold, with `_NOT_ALLOWED` and lone surrogates for what no message may hold.

    The strict way would be shorter, but whenever msgpack's decoder (1.0.3 to 1.1.0 at least) gives up in the middle it
    never frees what it had made so far: 18 MiB for a message of 256 KiB, and everybody with a key could send more of
    them. So that it does not give up, its reader looks first whether the bytes are whole, and everything is allowed.
    """
    reader = msgpack.Unpacker(max_buffer_size=len(data) or 1)
    reader.feed(data)
    reader.skip()
    if reader.tell() != len(data):
        raise ValueError("something follows the message")
    if b"\xff" in data and _TIMESTAMP.search(data):  # perhaps: the extension that it decodes by itself, or gives up at
        return fallback.unpackb(data, raw=False, max_ext_len=0, ext_hook=_extension)
    return msgpack.unpackb(
        data, raw=False, unicode_errors="surrogateescape", strict_map_key=False, object_pairs_hook=_map,
        ext_hook=_extension,
    )  # fmt: skip


def _too_many(data: bytes) -> bool:
    """Whether there are so many maps and lists that making them all would take long; not of bytes that are broken.

    Letters of other scripts hold such bytes too, so that they are only a reason to read from head to head, which ends
    as soon as it is known.
    """
    most = len(data) // CONTAINER_BYTES
    if len(data) - len(data.translate(None, _HEADS)) <= most:
        return False
    reader = msgpack.Unpacker(max_buffer_size=len(data))
    reader.feed(data)
    heads = 0
    try:
        while (at := reader.tell()) < len(data):
            code = data[at]
            heads += code in _HEADS
            if heads > most:
                return True
            if code not in _HEADS:
                reader.skip()
            elif 0x80 <= code <= 0x8F or code >= 0xDE:
                reader.read_map_header()
            else:
                reader.read_array_header()
    except Exception:  # whatever msgpack raises, that is said by whoever decodes them
        return False
    return False


_HEADS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_NOT_ALLOWED = object()
_TEXT = frozenset({str})
_TIMESTAMP = re.compile(rb"(?:[\xd4-\xd8]|\xc7.|\xc8..|\xc9....)\xff", re.DOTALL)


def _map(pairs: list[tuple[Any, Any]]) -> Any:
    try:
        found = dict(pairs)
    except TypeError:  # a key that is a list or a map
        return _NOT_ALLOWED
    return found if _TEXT.issuperset(map(type, found)) else _NOT_ALLOWED


def _extension(code: int, data: bytes) -> Any:
    return _NOT_ALLOWED


def _unreadable() -> Refused:
    return Refused("wrong_input", "the message is not msgpack")


def _nested() -> Refused:
    return Refused("wrong_input", f"the message is nested deeper than {MAX_DEPTH}")


def _too_deep(message: Any) -> bool:
    """Whether maps and lists are nested too deep. One level after the other, so that nothing here is nested itself."""
    level = [message]
    for _ in range(MAX_DEPTH):
        inside = [one.values() if type(one) is dict else one for one in level]
        level = [value for values in inside for value in values if type(value) in _CONTAINERS]
        if not level:
            return False
    return True


_CONTAINERS = frozenset({dict, list})


def ok(**fields: Any) -> Message:
    return {"ok": True, **fields}


def failure(error: MaglicaError) -> Message:
    return {"ok": False, "error": error.to_wire()}


def result(answer: Message) -> Message:
    """The answer, when it is a good one; otherwise its error is raised here as the class it left as."""
    if answer.get("ok"):
        return answer
    error = answer.get("error")
    if isinstance(error, dict):
        raise from_wire(error)
    raise Failed("internal_error", "the answer is neither good nor an error")
