"""Building a VM: its disk filled from an archive, copied from an image, or empty; and a VM that exists built anew."""
