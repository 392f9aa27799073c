"""Strings and regular expressions: ``envoy.type.matcher.v3`` and the header matchers built on it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from sidecar.config.route import (
    HeaderMatch,
    QueryParameterMatch,
    RegexRewrite,
    StringMatch,
    StringMatchKind,
)
from sidecar.regex import RegexError, compile_full_match, compile_re2
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_STRING_KINDS = {
    "exact": StringMatchKind.EXACT,
    "prefix": StringMatchKind.PREFIX,
    "suffix": StringMatchKind.SUFFIX,
    "contains": StringMatchKind.CONTAINS,
}
# The deprecated matchers in HeaderMatcher itself.
_HEADER_KINDS = {f"{name}_match": kind for name, kind in _STRING_KINDS.items()}
_PRESENT = StringMatch(kind=StringMatchKind.PRESENT)


TABLE: Final[SupportTable] = {
    "envoy.type.matcher.v3.StringMatcher": support("exact prefix suffix safe_regex contains ignore_case"),
    "envoy.type.matcher.v3.RegexMatcher": support("regex", google_re2="RE2 is the only engine"),
    "envoy.type.matcher.v3.RegexMatchAndSubstitute": support("pattern substitution"),
    "envoy.config.route.v3.HeaderMatcher": support(
        "name exact_match safe_regex_match range_match present_match prefix_match suffix_match "
        "contains_match string_match invert_match treat_missing_header_as_empty"
    ),
    "envoy.type.v3.Int64Range": support("start end"),
    "envoy.config.route.v3.QueryParameterMatcher": support("name string_match present_match"),
}


def decode_string_match(view: View) -> StringMatch:
    pattern = view.which("match_pattern")
    if pattern == "safe_regex":
        if view.message.ignore_case:
            raise view.error("is not supported for a regex; use (?i) in the regex", "ignore_case")
        return StringMatch(kind=StringMatchKind.REGEX, value=decode_regex(view.get("safe_regex")))
    return StringMatch(
        kind=_STRING_KINDS[pattern],
        value=getattr(view.message, pattern),
        ignore_case=view.message.ignore_case,
    )


def decode_regex(view: View) -> str:
    """The pattern of a ``RegexMatcher``. Raises `ConfigError` if RE2 cannot compile it."""
    pattern = str(view.message.regex)
    if reason := _why_not_re2(pattern):
        raise view.error(f"{pattern!r} is not a valid RE2 regular expression: {reason}", "regex")
    return pattern


def decode_regex_rewrite(view: View) -> RegexRewrite:
    pattern = decode_regex(view.get("pattern"))
    substitution = str(view.message.substitution)
    groups = compile_re2(pattern).groups
    if reason := _why_not_substitution(substitution, groups):
        raise view.error(reason, "substitution")
    return RegexRewrite(pattern=pattern, substitution=substitution)


@lru_cache(maxsize=4096)
def _why_not_re2(pattern: str) -> str:
    try:
        compile_full_match(pattern)  # its size limit is lower than the one of `compile_re2`
    except RegexError as error:
        return str(error)
    return ""


def _why_not_substitution(substitution: str, groups: int) -> str:
    """RE2's rule for rewrites: a backslash is followed by the digit of a group, or by a backslash."""
    index = 0
    while (index := substitution.find("\\", index)) >= 0:
        follower = substitution[index + 1 : index + 2]
        if follower.isascii() and follower.isdigit():
            if int(follower) > groups:
                return f"refers to group \\{follower}, but the pattern has {groups} groups"
        elif follower != "\\":
            return "has a backslash that is not followed by a digit or a backslash"
        index += 2
    return ""


def decode_header_match(view: View) -> HeaderMatch:
    """A ``HeaderMatcher``; without a specifier, it matches if the header is present."""
    message = view.message
    specifier = view.which("header_match_specifier")
    invert = message.invert_match
    if specifier == "present_match":
        match = _PRESENT
        invert = invert != (not message.present_match)
    elif not specifier:
        match = _PRESENT
    elif specifier == "string_match":
        match = decode_string_match(view.get("string_match"))
    elif specifier == "safe_regex_match":
        match = StringMatch(kind=StringMatchKind.REGEX, value=decode_regex(view.get("safe_regex_match")))
    elif specifier == "range_match":
        span = message.range_match
        match = StringMatch(kind=StringMatchKind.RANGE, range_start=span.start, range_end=span.end)
    else:
        match = StringMatch(kind=_HEADER_KINDS[specifier], value=getattr(message, specifier))
    return HeaderMatch(
        name=message.name.lower(),
        match=match,
        invert=invert,
        treat_missing_as_empty=message.treat_missing_header_as_empty,
    )


def decode_query_parameter_match(view: View) -> QueryParameterMatch:
    match = decode_string_match(view.get("string_match")) if view.has("string_match") else _PRESENT
    if view.which("query_parameter_match_specifier") == "present_match" and not view.message.present_match:
        raise view.error("false is not supported", "present_match")
    return QueryParameterMatch(name=view.message.name, match=match)
