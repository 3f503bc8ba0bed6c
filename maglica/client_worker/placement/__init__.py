"""Where things are and where they go: values in, values out.

`place.py` where a VM goes, and where one is · `spread.py` many of one kind · `images.py` images · `labels.py` what
their labels mean · `fleets.py` what a command about a fleet stands for.
"""
