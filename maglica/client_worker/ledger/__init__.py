"""The ledger: every job from the first word to its end.

`submission.py` what is asked for · `ids.py` what it is called · `book.py` what is told of it, `waiting.py` what it
waits for · `waiters.py` who waits for news · `reports.py` what hosts tell · `ledger.py` all that changes it.
"""

from maglica.client_worker.ledger.ids import EPOCH_2026_MS, id_at, own_key
from maglica.client_worker.ledger.ledger import Ledger
from maglica.client_worker.ledger.submission import GroupSubmission, Member, Submission, unusual
from maglica.client_worker.ledger.waiters import LONGEST_WAIT

__all__ = [
    "EPOCH_2026_MS", "LONGEST_WAIT", "GroupSubmission", "Ledger", "Member", "Submission", "id_at", "own_key",
    "unusual",
]  # fmt: skip
