"""Snapshots of VMs: what libvirt records of them, what can be done with them, and the files that belong to them."""
