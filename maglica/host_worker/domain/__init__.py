"""Domains: what they are, reading and writing their definitions, starting and removing them, watching them come up."""
