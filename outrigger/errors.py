"""The one error of the operator's tool."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do what it was asked. The message is the line that the user reads; exit code 1."""
