"""Streams of bytes between people and hosts: `streams.py` the way they take, `viewers.py` who is at their ends."""
