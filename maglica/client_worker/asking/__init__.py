"""Asking hosts.

`questions.py` which questions are out, and what whoever asked may see · `gather.py` one question to several hosts ·
`needs.py` what a job on one host needs of another.
"""
