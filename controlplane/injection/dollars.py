"""Kubernetes replaces ``$(NAME)`` in the environment variables and arguments of a container, and ``$$`` by
``$``."""

from __future__ import annotations


def escape(text: str) -> str:
    """Returns ``text`` so that the container receives it unchanged."""
    return text.replace("$", "$$")


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return text.replace("$$", "$")
