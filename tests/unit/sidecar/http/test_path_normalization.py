"""The table is what Envoy 1.40 sent upstream, with ``normalize_path`` and ``merge_slashes``."""

from __future__ import annotations

import pytest

from sidecar.errors import PathNormalizationError
from sidecar.http.path_normalization import normalize_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", b"/"),
        (b"/a/../b", b"/b"),
        (b"/a//b", b"/a/b"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/%41bc", b"/Abc"),
        (b"/a\\b", b"/a/b"),
        (b"/a/./b?x=/../y", b"/a/b?x=/../y"),
        (b"/../x", b"/x"),
        (b"/a%5cb", b"/a%5cb"),
        (b"/%7euser", b"/~user"),
        (b"/a%e4", b"/a%e4"),
        (b"/a/..", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a|b", b"/a%7Cb"),
        (b"/a%", b"/a%"),
        (b"/a/%2E/c", b"/a/c"),
        (b"/a//../b", b"/a/b"),
        (b"/.../x", b"/.../x"),
        (b"/%zz", b"/%zz"),
        (b"/a<b>^`{}", b"/a%3Cb%3E%5E%60%7B%7D"),
        (b"//x//y/", b"/x/y/"),
        (b"/a;b/../c", b"/c"),
        (b"/%3a%40%21%24", b"/%3a%40%21%24"),
        (b"*", b"*"),
    ],
)
def test_as_envoy_does(path: bytes, expected: bytes) -> None:
    assert normalize_path(path, normalize=True, merge_slashes=True) == expected


def test_each_part_by_itself() -> None:
    assert normalize_path(b"//a/../b", normalize=False, merge_slashes=True) == b"/a/../b"
    assert normalize_path(b"/x//../b", normalize=True, merge_slashes=False) == b"/x/b"


def test_escaped_nul_is_refused() -> None:
    with pytest.raises(PathNormalizationError):
        normalize_path(b"/a%00.png", normalize=True, merge_slashes=False)


def test_normal_form_stays() -> None:
    for path in (b"/a/../%2e%2e/b", b"/%2e/%41//..", b"/a%2f..%5c"):
        once = normalize_path(path, normalize=True, merge_slashes=True)
        assert normalize_path(once, normalize=True, merge_slashes=True) == once
