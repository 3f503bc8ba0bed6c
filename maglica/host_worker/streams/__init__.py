"""Consoles and displays of VMs, carried to people over the bus.

`source.py` what is open, and what of it was told · `carrying.py` all of them: one thread reads, the loop speaks ·
`console.py`, `vnc.py` how each kind is opened.
"""
