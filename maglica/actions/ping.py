"""Is anybody there?"""

from __future__ import annotations

from maglica.declare import Action, Where, action


@action(where=Where.TERMINAL, columns=("name", "role", "round_trip_seconds", "version"), example="maglica ping")
class Ping(Action):
    """Measure the round trip to the client worker and to each host."""
