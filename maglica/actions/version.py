"""Which maglica is this?"""

from __future__ import annotations

from maglica.declare import Action, Where, action


@action(where=Where.TERMINAL, example="maglica version")
class Version(Action):
    """Print the version of this command, and of the client worker and its protocol when it can be reached."""
