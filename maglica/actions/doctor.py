"""Is everything as it should be?"""

from __future__ import annotations

from maglica.declare import Action, Where, action


@action(where=Where.TERMINAL, columns=("state", "check", "about", "found"), wide=("cure",), example="maglica doctor")
class Doctor(Action):
    """Examine everything that maglica needs, and print the command that cures each thing that is wrong."""
