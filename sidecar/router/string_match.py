"""String matches, compiled to functions: exact, prefix, suffix, contains, RE2 regex, range.

Source: ``envoy.type.matcher.v3.StringMatcher``, and ``range_match`` of ``HeaderMatcher``. Values are bytes,
as they came off the wire.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.config.route import StringMatch, StringMatchKind
from sidecar.regex import compile_full_match

BytesPredicate = Callable[[bytes], bool]


def compile_string_match(match: StringMatch) -> BytesPredicate:
    if match.kind is StringMatchKind.REGEX:
        return compile_full_match(match.value)
    if match.kind is StringMatchKind.RANGE:
        return _in_range(match.range_start, match.range_end)
    if match.kind is StringMatchKind.PRESENT:
        return lambda value: True
    wanted = match.value.encode()
    if not match.ignore_case:
        return _plain(match.kind, wanted)
    lowered = _plain(match.kind, wanted.lower())
    return lambda value: lowered(value.lower())


def _plain(kind: StringMatchKind, wanted: bytes) -> BytesPredicate:
    if kind is StringMatchKind.EXACT:
        return wanted.__eq__
    if kind is StringMatchKind.PREFIX:
        return lambda value: value.startswith(wanted)
    if kind is StringMatchKind.SUFFIX:
        return lambda value: value.endswith(wanted)
    return lambda value: wanted in value


def _in_range(start: int, end: int) -> BytesPredicate:
    def matches(value: bytes) -> bool:
        text = value.strip()
        digits = text[1:] if text[:1] in {b"-", b"+"} else text
        return digits.isdigit() and len(digits) < 20 and start <= int(text) < end

    return matches
