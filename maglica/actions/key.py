"""Keys of people and programs: who may ask, and for what."""

from __future__ import annotations

from maglica import kinds
from maglica.declare import ADMIN, Action, Where, action, arg


@action(where=Where.TERMINAL, role=ADMIN, example="maglica key new alice --role=operator --file=alice.key")
class KeyNew(Action):
    """Make a key for a person or a program, and write it to a file that is for nobody else."""

    name: str = arg(kinds.NAME, "whose key it is", subject=True, single="one command for each: nobody shares a key")
    role: str = arg(kinds.NAME, "reader, operator, admin, or one of the settings' [role NAME]", default="operator")
    expires: float | None = arg(kinds.DURATION, "for how long it is good; for ever by default", default=None)
    file: str | None = arg(kinds.TEXT, "where it is written; NAME.key by default", default=None)


@action(
    where=Where.CLIENT_WORKER,
    role=ADMIN,
    example="maglica key add ci --public-key='rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7' --role=reader",
)
class KeyAdd(Action):
    """Let a public key in whose secret was made elsewhere and stays there."""

    name: str = arg(kinds.NAME, "whose key it is", subject=True)
    public_key: str = arg(kinds.PUBLIC_KEY, "the public key")
    role: str = arg(kinds.NAME, "reader, operator, admin, or one of the settings' [role NAME]", default="operator")
    expires: float | None = arg(kinds.DURATION, "for how long it is good; for ever by default", default=None)


@action(
    where=Where.CLIENT_WORKER,
    role=ADMIN,
    columns=("name", "role", "state", "fingerprint", "created_at", "expires_at"),
    wide=("created_by", "revoked_at"),
    example="maglica key list",
)
class KeyList(Action):
    """List the keys of people and programs, also those that are no longer good."""


@action(where=Where.CLIENT_WORKER, role=ADMIN, destructive=True, example="maglica key revoke alice --yes")
class KeyRevoke(Action):
    """Shut somebody out, at once: the key is good no more."""

    name: str = arg(kinds.NAME, "whose key it is", subject=True, values_of="key")
