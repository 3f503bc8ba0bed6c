"""Making a VM larger or smaller: virtual CPUs, memory, disks; and its tuning."""
