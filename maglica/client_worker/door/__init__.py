"""The door: who may come in and do what, and how much one peer may take.

`keyring.py` whose key it is and what it may · `doors.py` what is decided of it at which moment · `audit.py` what is
written down · `turns.py` whose request is next · `limits.py` what one peer may take, `guard.py` who ends it otherwise.
"""
