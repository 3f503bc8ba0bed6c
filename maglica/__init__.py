"""Maglica: a private cloud for people who own a handful to a few hundred KVM hosts.

`maglica.connect()` gives a cloud; `maglica/cloud.py` tells how to use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from maglica.errors import Failed, MaglicaError, Refused

if TYPE_CHECKING:
    from maglica.nouns import Cloud

VERSION = "0.1.0"

__all__ = ["VERSION", "Failed", "MaglicaError", "Refused", "connect"]


def connect(client: str | None = None, *, config_file: str | None = None, key: str | None = None) -> Cloud:
    """A cloud; see `maglica.nouns.connect`."""
    from maglica import nouns  # the daemons and the command line import this package too, and need no library

    return nouns.connect(client, config_file=config_file, key=key)
