"""Connections to one host: leased, returned, opened and closed."""
