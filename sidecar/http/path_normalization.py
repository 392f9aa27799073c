"""One spelling for each path, so that what a policy compares is what the application sees.

Source: ``HttpConnectionManager.normalize_path`` and ``merge_slashes``; RFC 3986 6.2.2. Escaped slashes stay
as they are, as in Envoy's default ``path_with_escaped_slashes_action``.
"""

from __future__ import annotations

from string import ascii_letters, digits

from sidecar.errors import PathNormalizationError

_UNRESERVED = (ascii_letters + digits + "-._~").encode()
_ESCAPED = b'"<>^`{|}'
_PLAIN = bytes(code for code in range(0x21, 0x7F) if code not in _ESCAPED + b"%\\")

# The unreserved characters, escaped without need; looked up in lower case.
_UNESCAPE = {b"%%%02x" % code: bytes((code,)) for code in _UNRESERVED}
_ESCAPE = {bytes((code,)): b"%%%02X" % code for code in _ESCAPED}


def normalize_path(target: bytes, *, normalize: bool, merge_slashes: bool) -> bytes:
    """The path of `target` normalized, its query string untouched. Raises `PathNormalizationError` for an
    escaped NUL, at which applications cut a path short."""
    path, mark, query = target.partition(b"?")
    if normalize and (b"/." in path or path.translate(None, _PLAIN)):
        path = _remove_dot_segments(_respell(path))
    if merge_slashes:
        while b"//" in path:
            path = path.replace(b"//", b"/")
    return path + mark + query


def _respell(path: bytes) -> bytes:
    head, *escapes = path.replace(b"\\", b"/").split(b"%")
    pieces = [head]
    for escape in escapes:
        code, rest = b"%" + escape[:2], escape[2:]
        if code == b"%00":
            raise PathNormalizationError("an escaped NUL in the path")
        pieces.append(_UNESCAPE.get(code.lower(), code) + rest)
    path = b"".join(pieces)
    for character, escaped in _ESCAPE.items():
        path = path.replace(character, escaped)
    return path


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 5.2.4. A ``..`` removes one segment, an empty one too."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1:] in ([b"."], [b".."]):
        kept.append(b"")
    return b"/" + b"/".join(kept)
