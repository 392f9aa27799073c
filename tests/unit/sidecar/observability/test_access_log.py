from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import ConfigError
from sidecar.observability.access_log import AccessLogger
from sidecar.observability.log_file import LogFile
from sidecar.observability.stream_info import Connection, StreamInfo


def info() -> StreamInfo:
    connection = Connection(
        id=1, remote_address=SocketAddress("10.0.0.9", 5000), local_address=SocketAddress("10.0.0.1", 80)
    )
    stream = StreamInfo(connection, start_s=1.0, wall_start_s=1460646400.0)
    stream.end_s, stream.status, stream.bytes_sent = 1.1545, 200, 5
    stream.upstream_address = SocketAddress("10.0.2.1", 80)
    return stream


def request(user_agent: bytes = b"curl/8") -> SimpleNamespace:
    headers = [(b"user-agent", user_agent), (b"x-request-id", b"cc21d9b0")]
    return SimpleNamespace(method=b"GET", path=b"/api", authority=b"locations", headers=headers)


def logged(tmp_path: Path, format_: object, *arguments: object) -> str:
    file = tmp_path / "access.log"
    sink = LogFile(str(file))
    try:
        AccessLogger(sink, format_, path="access_log[0]").log(*arguments)
    finally:
        sink.close()
    return file.read_text()


def test_the_default_line_is_envoys(tmp_path: Path) -> None:
    response = SimpleNamespace(headers=[(b"x-envoy-upstream-service-time", b"9")])
    assert logged(tmp_path, None, info(), request(), response) == (
        '[2016-04-14T15:06:40.000Z] "GET /api HTTP/1.1" 200 - 0 5 154 9 "-" "curl/8" "cc21d9b0" '
        '"locations" "10.0.2.1:80"\n'
    )


def test_json_has_null_for_what_is_not_there(tmp_path: Path) -> None:
    format_ = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "line": "%REQ(:METHOD)% %PROTOCOL%"}
    entry = json.loads(logged(tmp_path, format_, info(), request(), None))
    assert entry == {"code": 200, "flags": None, "line": "GET HTTP/1.1"}


def test_alternatives_lengths_and_percent_signs(tmp_path: Path) -> None:
    line = logged(tmp_path, "%REQ(X-MISSING?USER-AGENT):4% 100%%\n", info(), request(), None)
    assert line == "curl 100%\n"


def test_a_client_cannot_forge_a_line(tmp_path: Path) -> None:
    forged = logged(tmp_path, None, info(), request(b'x"\n[2016] "GET /admin'), None)
    assert forged.count("\n") == 1
    assert r"x\x22\x0a[2016] \x22GET /admin" in forged


def test_nor_by_the_server_name_that_it_asks_for(tmp_path: Path) -> None:
    connection = replace(info().connection, server_name='a"\nforged')
    about = StreamInfo(connection, 0.0, 0.0)
    assert logged(tmp_path, "%REQUESTED_SERVER_NAME%\n", about, None, None) == "a\\x22\\x0aforged\n"


@pytest.mark.parametrize("format_", ["%NO_SUCH%", "%RESPONSE_CODE(x)%", "100% sure", "%REQ()%"])
def test_an_unknown_operator_is_refused_by_name(tmp_path: Path, format_: str) -> None:
    with pytest.raises(ConfigError, match=r"access_log\[0\]: .*operator"):
        logged(tmp_path, format_, info(), None, None)
