"""The condition of a route on the path of a request, compiled. Paths are matched without their query string
and fragment.

Source: ``path_specifier`` and ``case_sensitive`` of ``envoy.config.route.v3.RouteMatch``.
"""

from __future__ import annotations

from sidecar.config.route import PathMatchKind, RouteMatch
from sidecar.regex import compile_full_match
from sidecar.router.rewrite import path_only

_ENDS = b"?#"


class PathMatch:
    """Matches every path. `matches` takes a path as it was received: most conditions are decided without a
    copy of the part before the query string."""

    __slots__ = ()

    def matches(self, path: bytes) -> bool:
        return True


class _Prefix(PathMatch):
    __slots__ = ("_prefix",)

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix

    def matches(self, path: bytes) -> bool:
        return path.startswith(self._prefix)


class _Exact(PathMatch):
    __slots__ = ("_path",)

    def __init__(self, path: bytes) -> None:
        self._path = path

    def matches(self, path: bytes) -> bool:
        return path.startswith(self._path) and _ends_at(path, len(self._path))


class _SeparatedPrefix(PathMatch):
    """The whole path, or the directories at its beginning."""

    __slots__ = ("_directory", "_path")

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._directory = path + b"/"

    def matches(self, path: bytes) -> bool:
        if not path.startswith(self._path):
            return False
        return path.startswith(self._directory) or _ends_at(path, len(self._path))


class _Regex(PathMatch):
    __slots__ = ("_accepts",)

    def __init__(self, pattern: str) -> None:
        self._accepts = compile_full_match(pattern)

    def matches(self, path: bytes) -> bool:
        return self._accepts(path_only(path))


class _Nothing(PathMatch):
    __slots__ = ()

    def matches(self, path: bytes) -> bool:
        return False


class _AnyCase(PathMatch):
    __slots__ = ("_lowered",)

    def __init__(self, lowered: PathMatch) -> None:
        self._lowered = lowered

    def matches(self, path: bytes) -> bool:
        return self._lowered.matches(path.lower())


def _ends_at(path: bytes, index: int) -> bool:
    """Whether the query string, the fragment or nothing follows the first `index` bytes."""
    return len(path) == index or path[index] in _ENDS


def compile_path_match(match: RouteMatch) -> PathMatch:
    """Regular expressions ignore `case_sensitive`. CONNECT has no path: its routes match without one."""
    if match.path_kind is PathMatchKind.CONNECT:
        return PathMatch()
    if match.path_kind is PathMatchKind.REGEX:
        return _Regex(match.path)
    if match.case_sensitive:
        return _plain(match.path_kind, match.path.encode())
    return _AnyCase(_plain(match.path_kind, match.path.lower().encode()))


def _plain(kind: PathMatchKind, wanted: bytes) -> PathMatch:
    if path_only(wanted) != wanted:
        return _Nothing()
    if kind is PathMatchKind.EXACT:
        return _Exact(wanted)
    if kind is PathMatchKind.PATH_SEPARATED_PREFIX:
        return _SeparatedPrefix(wanted)
    return _Prefix(wanted)
