"""Which cloud a host belongs to, and whether the client worker that speaks to it is still the one that it knew.

Each store has a name of its own (its cluster) and counts the starts of its client worker (epochs); ids of jobs only
grow. A host remembers all three. Another name is another cloud; a smaller number is a store from a backup, which would
hand out again what was carried out long ago.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from maglica.errors import Refused


class Cluster(NamedTuple):
    """A store as it shows itself, or as a host remembers it; all empty where nothing is known."""

    name: str = ""
    epoch: int = 0
    last_job: str = ""  # the newest job: of the store, or of those that the host was handed

    def told(self) -> dict[str, Any]:
        """As fields of a message."""
        return {"cluster": self.name, "epoch": self.epoch, "last_job": self.last_job}


def heard(message: dict[str, Any]) -> Cluster:
    """What a message tells; an older release tells nothing."""
    return Cluster(message.get("cluster") or "", message.get("epoch") or 0, message.get("last_job") or "")


def refusal(host: str, known: Cluster, now: Cluster) -> Refused | None:
    """Why `host` must not work for a store that is `now` when it remembers `known`; None when it may."""
    if not known.name or not now.name:
        return None
    accept = f"on {host}, `maglica_host_worker --accept` makes it forget what it knew"
    if known.name != now.name:
        return Refused(
            "wrong_cluster",
            f"{host} belongs to cluster {known.name}, and this client worker keeps cluster {now.name}",
            f"correct [client] address there; or, if it shall change clouds: {accept}",
        )
    if now.epoch < known.epoch:
        found = f"it counts start {now.epoch}, and {host} has seen start {known.epoch}"
    elif now.last_job < known.last_job:
        found = f"its newest job is {now.last_job or 'none'}, and {host} was handed {known.last_job}"
    else:
        return None
    return Refused(
        "store_went_back",
        f"the store of the client worker went back in time: {found}",
        "put the newest store back; or, if this one is the newest there is, look at `maglica job list`, because what "
        f"is open there will be carried out, perhaps for the second time, and then, {accept}",
    )
