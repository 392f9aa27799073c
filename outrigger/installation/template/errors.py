"""The error of the templates."""

from __future__ import annotations


class TemplateError(Exception):
    """A template is invalid, or fails with these values. The message names the template and its line."""
