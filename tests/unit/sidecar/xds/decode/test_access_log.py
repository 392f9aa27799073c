from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.listener import AccessLog
from sidecar.errors import ConfigError
from tests.support.decoded import manager_with
from tests.support.envoy_config import TYPE


@pytest.mark.parametrize(
    ("type_name", "config", "expected"),
    [
        ("file.v3.FileAccessLog", {"path": "/x"}, AccessLog(path="/x")),
        ("file.v3.FileAccessLog", {"path": "/x", "format": "%A%"}, AccessLog(path="/x", format="%A%")),
        ("stream.v3.StdoutAccessLog", {}, AccessLog(path="/dev/stdout")),
        (
            "stream.v3.StderrAccessLog",
            {"log_format": {"json_format": {"a": "%B%"}}},
            AccessLog(path="/dev/stderr", format={"a": "%B%"}),
        ),
        (
            "file.v3.FileAccessLog",
            {"path": "/x", "log_format": {"text_format_source": {"inline_string": "t"}}},
            AccessLog(path="/x", format="t"),
        ),
        (
            "file.v3.FileAccessLog",
            {"path": "/x", "typed_json_format": {"b": {"c": [1, 2.5, True, None]}, "a": "%B%"}},
            AccessLog(path="/x", format={"a": "%B%", "b": {"c": (1, 2.5, True, None)}}),
        ),
        (
            "stream.v3.StdoutAccessLog",
            {"log_format": {"text_format": "t", "omit_empty_values": True}},
            AccessLog(path="/dev/stdout", format="t", omit_empty_values=True),
        ),
    ],
)
def test_access_logs(type_name: str, config: dict[str, Any], expected: AccessLog) -> None:
    log = {
        "name": "log",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.access_loggers.{type_name}", **config},
    }
    assert manager_with("access_log", [log]).access_logs == (expected,)


def test_the_response_flags_of_an_access_log() -> None:
    file = {"@type": f"{TYPE}/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/x"}
    log = {"name": "log", "filter": {"response_flag_filter": {"flags": ["NR"]}}, "typed_config": file}
    expected = AccessLog(path="/x", response_flags=frozenset({"NR"}))
    assert manager_with("access_log", [log]).access_logs == (expected,)
    for filter_ in ({}, {"response_flag_filter": {"flags": ["NOPE"]}}, {"not_health_check_filter": {}}):
        with pytest.raises(ConfigError, match=r"access_log\[0\].filter"):
            manager_with("access_log", [{**log, "filter": filter_}])
