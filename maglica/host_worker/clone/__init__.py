"""Making a VM of an image: what it will be, its copy, its identity."""
