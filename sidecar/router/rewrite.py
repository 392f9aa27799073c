"""The path and the authority that a request has when it is sent to a host.

Source: ``prefix_rewrite``, ``regex_rewrite``, ``host_rewrite_literal`` and ``append_x_forwarded_host`` of
``envoy.config.route.v3.RouteAction``; redirects rewrite paths in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sidecar.config.route import PathMatchKind, RegexRewrite, RouteMatch
from sidecar.http.message import Request
from sidecar.regex import compile_re2

if TYPE_CHECKING:
    import re2

PathRewrite = Callable[[bytes], bytes]

_REFERENCE = re.compile(rb"\\(.?)", re.DOTALL)


def path_only(path: bytes) -> bytes:
    """The path without its query string and fragment."""
    return path.partition(b"?")[0].partition(b"#")[0]


def compile_path_rewrite(
    match: RouteMatch, prefix_rewrite: str, regex: RegexRewrite | None
) -> PathRewrite | None:
    """A function from the path of a request, with its query string, to the new one; None if it does not
    change."""
    if regex is not None:
        return _compile_regex_rewrite(regex)
    if not prefix_rewrite:
        return None
    replacement = prefix_rewrite.encode()
    if match.path_kind in {PathMatchKind.PREFIX, PathMatchKind.PATH_SEPARATED_PREFIX}:
        matched_length = len(match.path.encode())
        return lambda path: replacement + path[matched_length:]
    # An exact path or a regular expression has matched the whole path, and the whole path is replaced.
    return lambda path: replacement + path[len(path_only(path)) :]


def _compile_regex_rewrite(rewrite: RegexRewrite) -> PathRewrite:
    """Replaces every match of the pattern in the path, but not in the query string."""
    pattern = compile_re2(rewrite.pattern)
    parts = _substitution_parts(rewrite.substitution)

    def expand(found: re2._Match) -> bytes:
        return b"".join(part if isinstance(part, bytes) else found.group(part) or b"" for part in parts)

    def apply(path: bytes) -> bytes:
        rewritten = path_only(path)
        replaced: bytes = pattern.sub(expand, rewritten)
        return replaced + path[len(rewritten) :]

    return apply


def _substitution_parts(substitution: str) -> tuple[bytes | int, ...]:
    """Literals, and numbers of groups to insert. RE2's syntax: ``\\0`` to ``\\9``, and ``\\\\``."""
    parts: list[bytes | int] = []
    text, position = substitution.encode(), 0
    for reference in _REFERENCE.finditer(text):
        parts.append(text[position : reference.start()])
        position = reference.end()
        escaped = reference[1]
        parts.append(int(escaped) if escaped.isdigit() else escaped)
    parts.append(text[position:])
    return tuple(part for part in parts if part != b"")


def rewrite_path(request: Request, rewrite: PathRewrite) -> None:
    """Sends the original path in ``x-envoy-original-path``."""
    set_header(request, b"x-envoy-original-path", request.path)
    request.path = rewrite(request.path)


def rewrite_authority(request: Request, authority: bytes, *, append_x_forwarded_host: bool) -> None:
    """Sends the original authority in ``x-envoy-original-host``, and if `append_x_forwarded_host` also at the
    end of ``x-forwarded-host``."""
    original = request.authority
    if append_x_forwarded_host:
        forwarded = [value for header, value in request.headers if header == b"x-forwarded-host"]
        if not forwarded or forwarded[-1].rpartition(b",")[2].strip() != original:
            set_header(request, b"x-forwarded-host", b",".join([*forwarded, original]))
    set_header(request, b"x-envoy-original-host", original)
    request.authority = authority


def set_header(request: Request, name: bytes, value: bytes) -> None:
    """Replaces all values of the header."""
    headers = request.headers
    for field in headers:
        if field[0] == name:
            headers[:] = [each for each in headers if each[0] != name]
            break
    headers.append((name, value))
