"""Selects the host of a request. Pure: no I/O and no clock."""
