"""What is plugged into a VM: its description in libvirt's XML, what may be plugged in, and waiting for a guest."""
