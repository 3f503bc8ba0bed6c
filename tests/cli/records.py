"""Job records for tests of what is shown of them."""

from __future__ import annotations

from typing import Any

from maglica.job import Job


def record(**more: Any) -> Job:
    """A queued `vm stop web1`, with changes."""
    found: Any = {
        "id": "1b7q2k0m4z", "rev": 1, "key": "k", "action": "vm stop", "args": {"name": "web1", "force": False},
        "object": "web1", "host": "host1", "slot": "quick", "locks": ["vm:web1"], "limit_seconds": 60.0, "attempt": 1,
        "state": "queued", "owner": "me@desk", "reason": None, "cancel": False,
        "created_at": "2026-03-04T12:00:00.000Z",
        "claimed_at": None, "started_at": None, "ended_at": None, "updated_at": "2026-03-04T12:00:00.000Z",
        "step": None,
        "progress": None, "steps": [], "commands": [], "result": None, "error": None,
    }  # fmt: skip
    found.update(more)
    job: Job = found
    return job
