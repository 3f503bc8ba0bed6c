"""Help is made from the table: all of it is there, and it fits."""

from __future__ import annotations

import pytest

from maglica import declare
from maglica.cli import cells, help, terminal, words
from maglica.cli.options import Globals
from maglica.declare import Where
from maglica.errors import Refused

TOPICS = [[], *([noun] for noun in declare.nouns()), *(name.split() for name in words.names())]


@pytest.mark.parametrize("topic", TOPICS, ids=" ".join)
def test_every_help_fits_into_80_columns(topic: list[str]) -> None:
    text = help.text(topic)
    assert text.startswith("usage: maglica")
    assert [line for line in text.splitlines() if len(line) > 79 and not line.startswith("  maglica ")] == []


def test_the_overview_names_every_command_and_every_global_option() -> None:
    text = help.overview()
    for action in declare.visible():
        assert action.VERB in text or action.NOUN in text
    for field in Globals.FIELDS.values():
        assert field.option in text or f"--no-{field.option[2:]}" in text
    assert "survey" not in text


@pytest.mark.parametrize("action", list(declare.visible()), ids=lambda action: action.NAME)
def test_the_help_of_a_command_shows_every_argument_and_an_example(action: type[declare.Action]) -> None:
    text = help.text(action.NAME.split())
    flat = " ".join(text.split())
    assert " ".join(action.HELP.split()) in flat
    for field in action.FIELDS.values():
        if field.internal:
            assert field.option + "=" not in text
            continue
        assert field.subject or field.option + "=" in text
        assert field.help in flat
    assert f"\n  {action.EXAMPLE}\n" in text


def test_defaults_and_expectations() -> None:
    text = help.text(["vm", "clone"])
    assert "--memory=SIZE" in text
    assert "(a size such as 512M" in text
    assert "(default 1)" in text
    assert "(required; the name of an image" in text
    assert "--spread=host|fill" in text
    assert "(default 1m; a duration" in help.text(["vm", "stop"])
    assert "`maglica --timeout=… vm stop …`" in " ".join(help.text(["vm", "stop"]).split())


def test_aliases_say_what_they_are() -> None:
    assert "The same as `maglica job list --last=10`." in help.text(["log", "tail"])
    assert "The same as `maglica vm remove`." in help.text(["vm", "delete"])


@pytest.mark.parametrize("topic", [["vn"], ["vm", "lst"], ["host", "survey"]])
def test_help_about_what_does_not_exist(topic: list[str]) -> None:
    with pytest.raises(Refused):
        help.text(topic)


def test_every_terminal_action_has_its_function_and_no_function_is_left_over() -> None:
    wanted = {action.NAME for action in declare.visible() if action.WHERE == Where.TERMINAL}
    for name in wanted:
        assert callable(terminal.function(declare.ACTIONS[name]))
    named = {name.replace(" ", "_").replace("-", "_") for name in wanted}
    public = {
        name
        for name, value in vars(terminal).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == terminal.__name__ and callable(value)
    }
    assert public - {"function"} == named


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("size", 512 << 20, "512M"), ("size", 3 << 40, "3T"), ("size", 1000, "1000"), ("duration", 90.0, "90s"),
        ("duration", 3600.0, "1h"), ("duration", 0.5, "0.5s"), ("duration", 0.0, "0s"), ("number", 2.5, "2.5"),
        ("number", 8, "8"), ("text", "x", "x"), ("text", None, ""), ("yes-no", True, "yes"),
        ("duration", 86400.0, "1d"),
    ],
)  # fmt: skip
def test_settings_as_they_stand_in_the_file(kind: str, value: object, text: str) -> None:
    assert cells.written(kind, value) == text
