"""Names of keys, and the numbers that Linux has for them: linux/input-event-codes.h, of a keyboard as in the USA."""

from __future__ import annotations

_ROWS = (
    (1, "esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p leftbrace rightbrace enter ctrl"),
    (30, "a s d f g h j k l semicolon apostrophe grave shift backslash z x c v b n m comma dot slash rightshift"),
    (55, "kpasterisk alt space capslock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 numlock scrolllock"),
    (87, "f11 f12"),
    (97, "rightctrl kpslash sysrq altgr linefeed home up pageup left right end down pagedown insert delete"),
    (116, "power"),
    (119, "pause"),
    (125, "meta rightmeta menu"),
)
CODES = {name: first + place for first, names in _ROWS for place, name in enumerate(names.split())}
_OTHER = {
    "escape": "esc",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
    "control": "ctrl",
    "leftctrl": "ctrl",
    "leftalt": "alt",
    "leftshift": "shift",
    "rightalt": "altgr",
    "win": "meta",
    "super": "meta",
    "leftmeta": "meta",
    "print": "sysrq",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "period": "dot",
}


def checked(stroke: str) -> str:
    """Keys that are pressed together, such as `ctrl-alt-delete`, by their usual names; `ValueError` for others."""
    return "-".join(_named(word) for word in stroke.strip().lower().replace("+", "-").split("-"))


def codes(stroke: str) -> list[int]:
    """Their numbers."""
    return [CODES[name] for name in stroke.split("-")]


def _named(word: str) -> str:
    name = word.removeprefix("key_")
    name = _OTHER.get(name, name)
    if name not in CODES:
        import difflib  # 8 ms, needed only when something is wrong

        close = next(iter(difflib.get_close_matches(name, [*CODES, *_OTHER], 1)), "")
        raise ValueError(f"there is no key {word!r}" + (f"; did you mean {close}?" if close else ""))
    return name
