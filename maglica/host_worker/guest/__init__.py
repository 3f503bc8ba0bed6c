"""A guest's disks: what a clone must be given to be a machine of its own, and the appliance that writes it.

`model.py` has the values, `customize.py` and `network.py` (with `net/`) decide, `disk.py` starts `child.py`,
the process that holds libguestfs.
"""
