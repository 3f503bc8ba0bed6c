"""What a host worker makes of an error that nobody foresaw: a log entry with the traceback, and an answer."""

from __future__ import annotations

import logging

from maglica.errors import Failed

log = logging.getLogger("maglica.host_worker")


def unexpected(error: Exception, what: str, host: str) -> Failed:
    """To be called where `error` is caught. `what` it was in, as the log shall find it, such as `job=…`."""
    log.exception("%s unexpected error", what)
    text = f"unexpected error on {host}: {type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
    return Failed("internal_error", text, f"the log of its host worker has the traceback under {what}")
