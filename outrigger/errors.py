"""The error type of the operator's command."""

from __future__ import annotations


class CommandError(Exception):
    """A command failed. The message is printed as one line, and the exit code is 1."""
