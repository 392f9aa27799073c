from __future__ import annotations

import pytest

from sidecar.regex import RegexError, compile_full_match, compile_re2

# What the real Envoy takes; tests/interop/parity asks it the same.
MATCHED = [
    (".*", b"jos\xe9"),
    ("jos.", b"jos\xe9"),
    ("jos[^x]", b"jos\xe9"),
    (r"jos\xe9", b"jos\xe9"),
    (r"\pL+", b"jos\xe9"),
    ("josé", "josé".encode()),
    ("jos..", "josé".encode()),
    (r"a\Cb", b"a\xffb"),
    ("(?i)JOS.", b"jos\xe9"),
    (".*", b""),
]
OTHERS = [
    ("josé", b"jos\xe9"),
    ("jos.", "josé".encode()),
    ("jos[é]", "josé".encode()),
    ("(?i)josé", "JOSÉ".encode()),
    (r"jos\xe9", "josé".encode()),
    ("jos", b"jos\xe9"),
]


@pytest.mark.parametrize(("pattern", "value"), MATCHED)
def test_a_character_is_a_byte(pattern: str, value: bytes) -> None:
    assert compile_full_match(pattern)(value)


@pytest.mark.parametrize(("pattern", "value"), OTHERS)
def test_a_character_outside_ascii_is_the_bytes_of_its_utf8_form(pattern: str, value: bytes) -> None:
    assert not compile_full_match(pattern)(value)


def test_replacing_leaves_the_bytes_around_a_match_as_they_are() -> None:
    assert compile_re2("a(.)b").sub(rb"<\1>", b"\xe9a\xffb\xc3") == b"\xe9<\xff>\xc3"


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(", r"missing \): \("), (r"\x{20ac}", "invalid escape sequence")]
)
def test_what_re2_refuses_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    for compile_ in (compile_re2, compile_full_match):
        with pytest.raises(RegexError, match=reason):
            compile_(pattern)


def test_what_is_too_large_for_whole_values_alone_is_refused_too() -> None:
    pattern = "|".join(f"[a-z]{{0,300}}{number}" for number in range(230))
    compile_re2(pattern)
    with pytest.raises(RegexError, match="too large"):
        compile_full_match(pattern)
