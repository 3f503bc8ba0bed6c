"""The client worker without its guard and with libzmq's own limits: what the guarded one is compared with."""

from __future__ import annotations

import sys

from maglica.bus import server
from maglica.client_worker import main
from maglica.client_worker.door.guard import Guard


class Blind(Guard):
    """Looks at nothing."""

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass


if __name__ == "__main__":
    main.Guard = Blind  # type: ignore[misc]
    server.UNREAD = server.UNSENT = 1000
    sys.exit(main.main())
