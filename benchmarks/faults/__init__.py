"""Faults tried from outside: processes killed, disks filled, bits flipped, files planted; what became of the results."""
