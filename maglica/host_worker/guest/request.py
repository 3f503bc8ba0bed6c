"""From the words of an action to what its guest shall be. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maglica.host_worker.guest.customization import asked, merged
from maglica.host_worker.guest.model import SWAP_LABEL, GuestRequest, Network


def request_of(values: Mapping[str, Any], macs: Sequence[str]) -> GuestRequest:
    """What `vm clone` asks for: its profile, and over it what was said beside."""
    profile = values.get("profile") or {}
    keys = [one for one in (profile.get("ssh_key"), values["ssh_key"]) if one]
    return GuestRequest(
        hostname=values["hostname"],
        macs=tuple(macs),
        network=_network(values, profile),
        ssh_keys=tuple(line for text in keys for line in text.splitlines()),
        root_password_hash=values["root_password_hash"] or profile.get("root_password_hash"),
        custom=merged(asked(profile), asked(values)),
        swap_label=SWAP_LABEL if values["swap"] else None,
    )


def _network(values: Mapping[str, Any], profile: Mapping[str, Any]) -> Network:
    """A search list goes with a static address; with DHCP it is the server's to say."""
    if values["ip"] is None:
        return Network()
    search = tuple(profile.get("dns_search") or ())
    return Network(values["ip"], values["gateway"], tuple(values["dns"] or ()), search)
