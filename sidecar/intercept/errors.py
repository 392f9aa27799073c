"""The errors that end the program, with its exit codes."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
NOT_INTERCEPTED: Final = 126  # Istio's: its network plug-in's repair controller looks for it


class InterceptError(Exception):
    """The message names the cause and, where there is one, the remedy."""

    exit_code = FAILED


class NotInterceptedError(InterceptError):
    """Validation: the rules are missing, or other ones are in force."""

    exit_code = NOT_INTERCEPTED
