"""RE2 as Envoy uses it: values are bytes, and each byte is a character (RE2's Latin-1).

In UTF-8, RE2's default, `.` does not match a byte that is invalid UTF-8: with one such byte, a header value
would not match ``.*``, and could evade a route. A character outside ASCII in a pattern matches the bytes of
its UTF-8 form; code points above ``\\xff`` are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2


class RegexError(ValueError):
    """RE2 refuses the pattern; the message is the reason."""


# Each function imports RE2 itself: it takes 4 MB, and many configurations have no regular expression.


def compile_re2(pattern: str) -> re2._Regexp:
    """Compiles a pattern to search, match or replace in bytes. Raises `RegexError`."""
    import re2  # noqa: PLC0415

    try:
        return re2.compile(pattern.encode(), _options())
    except re2.error as error:
        reason = error.args[0] if error.args else str(error)
        raise RegexError(reason.decode(errors="replace") if isinstance(reason, bytes) else reason) from error


def compile_full_match(pattern: str) -> Callable[[bytes], bool]:
    """Whether a whole value matches. Raises `RegexError`."""
    import re2  # noqa: PLC0415

    compile_re2(pattern)  # for its error: a `Set` has no reason
    # A `Set` of one pattern is three times faster than a pattern, which also creates a match object.
    patterns = re2.Set.FullMatchSet(_options())
    try:
        patterns.Add(pattern.encode())
        patterns.Compile()
    except re2.error as error:  # a set has less memory than a pattern
        raise RegexError("pattern too large - compile failed") from error
    match: Callable[[bytes], list[int] | None] = patterns.Match
    return lambda value: bool(match(value))


def _options() -> re2.Options:
    import re2  # noqa: PLC0415

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False  # errors are exceptions; do not print them on stderr too
    return options
