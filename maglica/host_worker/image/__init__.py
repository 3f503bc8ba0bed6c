"""Images that come, go, and are made of VMs."""
