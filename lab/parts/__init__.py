"""The parts of the lab: several real hypervisors on one machine, from the standard library alone."""
