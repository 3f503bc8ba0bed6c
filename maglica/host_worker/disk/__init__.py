"""Disks of domains: how they are copied, what rests on what, how much room there is."""
