from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from controlplane.resources.base import (
    Duration,
    DurationOrZero,
    Message,
    Regex,
    StringMatch,
    ValueMatch,
    WildcardHost,
)


class Example(Message):
    wait: Duration | None = None
    limit: DurationOrZero | None = None
    pattern: Regex | None = None
    host: WildcardHost | None = None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1.5s", 1.5), ("100ms", 0.1), ("1h", 3600), ("1h30m", 5400), ("2m0.5s", 120.5)],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert Example.model_validate({"wait": text}).wait == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["10", "s", "1d", "-1s", "1s ", " 1s", "1..5s", "", "١s", "9" * 60 + "h", 10, True, None, ["1s"]]
)
def test_an_invalid_duration_is_rejected(text: object) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate({"wait": {"not": "optional"} if text is None else text})


def test_a_duration_below_a_millisecond_is_refused_unless_zero_means_never() -> None:
    with pytest.raises(ValidationError, match="1ms or more"):
        Example.model_validate({"wait": "0s"})
    assert Example.model_validate({"limit": "0s"}).limit == timedelta()


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", r"(?=x)", r"\1", "[z-a]", "a**", r"\x{20ac}"])
def test_only_regexes_that_re2_compiles_are_taken(pattern: str) -> None:
    with pytest.raises(ValidationError, match="RE2"):
        Example.model_validate({"pattern": pattern})


def test_a_regex_above_the_limit_of_the_meshs_envoys_is_refused() -> None:
    """By the size that Envoy computes: a byte is a character."""
    for pattern in ("/a{1000}" * 32, ".{1000}" * 12):
        assert Example.model_validate({"pattern": pattern}).pattern == pattern
    with pytest.raises(ValidationError, match="is too large: 33037 instructions; the limit is 32768"):
        Example.model_validate({"pattern": "/a{1000}" * 33})


def test_fields_may_be_written_in_camel_case_and_in_snake_case() -> None:
    class Named(Message):
        per_try_timeout: int

    assert Named.model_validate({"perTryTimeout": 1}) == Named.model_validate({"per_try_timeout": 1})


@pytest.mark.parametrize("fields", [{}, {"exact": "a", "prefix": "a"}, {"exact": "a", "regex": "a"}])
def test_a_string_match_has_exactly_one_kind(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        StringMatch.model_validate(fields)


def test_an_empty_match_of_a_header_asks_for_its_presence() -> None:
    assert ValueMatch.model_validate({}).is_presence
    assert not ValueMatch.model_validate({"exact": ""}).is_presence
    with pytest.raises(ValidationError, match="at most one"):
        ValueMatch.model_validate({"exact": "a", "prefix": "a"})


@pytest.mark.parametrize(
    "host", ["*", "*.example.com", "*-v1.example.com", "reviews", "a.b.c", "10.0.0.1", "::1"]
)
def test_hosts_and_wildcards_are_taken(host: str) -> None:
    assert Example.model_validate({"host": host}).host == host


@pytest.mark.parametrize("host", ["", "a..b", "*.", "a.*", "*.*.com", "-a", "a b", "a/b", "x" * 254, "a\n"])
def test_an_invalid_host_is_rejected(host: str) -> None:
    with pytest.raises(ValidationError, match="not a host name"):
        Example.model_validate({"host": host})


def test_hosts_are_folded_to_lower_case() -> None:
    assert Example.model_validate({"host": "Reviews.Example.COM"}).host == "reviews.example.com"
