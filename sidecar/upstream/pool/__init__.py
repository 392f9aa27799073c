"""Connections to one host: lent, taken back, opened and closed."""
