from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import AccessLog
from sidecar.errors import ConfigError
from sidecar.observability.access_log import AccessLogger
from sidecar.observability.grpc_call import GrpcCall
from sidecar.observability.log_file import LogFile
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo


def info(**facts: Any) -> StreamInfo:
    """`facts` are of its connection."""
    connection = DownstreamConnection(
        id=1,
        remote_address=SocketAddress("10.0.0.9", 5000),
        local_address=SocketAddress("10.0.0.1", 80),
        **facts,
    )
    stream = StreamInfo(connection, start_s=1.0, wall_start_s=1460646400.0)
    stream.end_s, stream.status, stream.bytes_sent = 1.1545, 200, 5
    stream.upstream_address = SocketAddress("10.0.2.1", 80)
    return stream


def request(user_agent: bytes = b"curl/8") -> SimpleNamespace:
    headers = [(b"user-agent", user_agent), (b"x-request-id", b"cc21d9b0")]
    return SimpleNamespace(
        method=b"GET", scheme=b"http", path=b"/api", authority=b"locations", headers=headers
    )


def logged(tmp_path: Path, format_: Any, *arguments: Any, omit_empty_values: bool = False) -> str:
    file = tmp_path / "access.log"
    sink = LogFile(str(file))
    log = AccessLog(path=str(file), format=format_, omit_empty_values=omit_empty_values)
    try:
        AccessLogger(sink, log, path="access_log[0]").log(*arguments)
    finally:
        sink.close()
    return file.read_text()


def test_the_default_line_is_envoys(tmp_path: Path) -> None:
    response = SimpleNamespace(headers=[(b"x-envoy-upstream-service-time", b"9")])
    assert logged(tmp_path, None, info(), request(), response) == (
        '[2016-04-14T15:06:40.000Z] "GET /api HTTP/1.1" 200 - 0 5 154 9 "-" "curl/8" "cc21d9b0" '
        '"locations" "10.0.2.1:80"\n'
    )


def test_a_line_about_an_invalid_request_has_as_many_fields(tmp_path: Path) -> None:
    malformed = SimpleNamespace(method=b"", scheme=b"http", path=b"", authority=b"", headers=[])
    line = logged(tmp_path, None, info(), malformed, None)
    assert line.endswith('"- - HTTP/1.1" 200 - 0 5 154 - "-" "-" "-" "-" "10.0.2.1:80"\n')
    format_ = {"method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"}
    assert logged(tmp_path, format_, info(), malformed, None).endswith('{"method":null,"path":null}\n')


def test_json_has_null_for_missing_values(tmp_path: Path) -> None:
    format_ = {"code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "line": "%REQ(:METHOD)% %PROTOCOL%"}
    entry = json.loads(logged(tmp_path, {**format_, "agent": "%RESP(X)%"}, info(), request(), None))
    assert entry == {"code": 200, "flags": "-", "line": "GET HTTP/1.1", "agent": None}


def test_alternatives_lengths_and_percent_signs(tmp_path: Path) -> None:
    line = logged(tmp_path, "%REQ(X-MISSING?USER-AGENT):4% 100%%\n", info(), request(), None)
    assert line == "curl 100%\n"


def test_a_client_cannot_forge_a_line(tmp_path: Path) -> None:
    forged = logged(tmp_path, None, info(), request(b'x"\n[2016] "GET /admin'), None)
    assert forged.count("\n") == 1
    assert r"x\x22\x0a[2016] \x22GET /admin" in forged


@pytest.mark.parametrize(
    ("value", "text", "in_json"),
    [
        (b"plain", "plain", "plain"),
        ("é€😀".encode(), "é€😀", "é€😀"),
        (b"jos\xe9", r"jos\xe9", "josé"),
        ("é".encode() + b"\xe9", r"é\xe9", "Ã©é"),
        (b'a"b\\c', r"a\x22b\c", 'a"b\\c'),
        (b"a\tb", r"a\x09b", "a\tb"),
        (b"a\xc2\x85b", r"a\xc2\x85b", "a\x85b"),
        ("a\u2028b".encode(), r"a\xe2\x80\xa8b", "a\u2028b"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80", "í\xa0\x80"),
        (b"", "", ""),
    ],
)
def test_bytes_of_a_client_are_unchanged_in_json_and_harmless_in_text(
    tmp_path: Path, value: bytes, text: str, in_json: str
) -> None:
    format_ = "%REQ(USER-AGENT)%"
    assert logged(tmp_path, f"{format_}\n", info(), request(value), None) == f"{text}\n"
    (tmp_path / "access.log").unlink()
    line = logged(tmp_path, {"alone": format_, "among": f"é {format_}"}, info(), request(value), None)
    assert json.loads(line) == {"alone": in_json, "among": f"é {in_json}"}
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "limit", "text", "in_json"),
    [
        (b'ab"cd', 3, r"ab\x22", 'ab"'),
        (b'ab"cd', 4, r"ab\x22c", 'ab"c'),
        ("aé".encode(), 3, "aé", "aé"),
        ("aé".encode(), 2, r"a\xc3", "aÃ"),
        (b"ab", 0, "", ""),
        (b"ab", 9, "ab", "ab"),
    ],
)
def test_a_length_counts_bytes_of_the_original_value(
    tmp_path: Path, value: bytes, limit: int, text: str, in_json: str
) -> None:
    format_ = f"%REQ(USER-AGENT):{limit}%"
    assert logged(tmp_path, f"{format_}\n", info(), request(value), None) == f"{text}\n"
    (tmp_path / "access.log").unlink()
    assert json.loads(logged(tmp_path, {"a": format_}, info(), request(value), None)) == {"a": in_json}


def test_a_constant_keeps_its_type_and_place_in_json(tmp_path: Path) -> None:
    format_ = {
        "nested": {"codes": ("%RESPONSE_CODE%", "code %RESPONSE_CODE%", 3), "host": "%RESP(X)%"},
        "yes": True,
        "half": 0.5,
        "nothing": None,
        "text": 'é "100%%"',
        "empty": "",
    }
    assert json.loads(logged(tmp_path, format_, info(), request(), None)) == {
        "nested": {"codes": [200, "code 200", 3], "host": None},
        "yes": True,
        "half": 0.5,
        "nothing": None,
        "text": 'é "100%"',
        "empty": "",
    }


def test_empty_values_can_be_left_out(tmp_path: Path) -> None:
    format_ = {
        "agent": "%RESP(X)%",
        "among": "a%RESP(X)%b",
        "flags": "%RESPONSE_FLAGS%",
        "nested": {"agent": "%RESP(X)%"},
        "list": ("%RESP(X)%", 1),
        "nothing": None,
        "empty": "",
    }
    line = logged(tmp_path, format_, info(), request(), None, omit_empty_values=True)
    assert json.loads(line) == {"among": "ab", "flags": "-", "list": [1], "empty": ""}
    (tmp_path / "access.log").unlink()
    format_ = {"agent": "%RESP(X)%"}
    assert logged(tmp_path, format_, info(), request(), None, omit_empty_values=True) == "{}\n"
    (tmp_path / "access.log").unlink()
    text = "[%RESP(X)%] [%RESPONSE_FLAGS%]\n"
    assert logged(tmp_path, text, info(), request(), None, omit_empty_values=True) == "[] [-]\n"


def test_json_without_fields_is_an_empty_object(tmp_path: Path) -> None:
    assert logged(tmp_path, {}, info(), request(), None) == "{}\n"


def test_a_header_that_is_there_but_empty_is_not_passed_over(tmp_path: Path) -> None:
    format_ = (
        "[%REQ(USER-AGENT?X-REQUEST-ID)%] [%REQ(X-MISSING?X-REQUEST-ID)%] [%REQ(HOST)%] [%REQ(:SCHEME)%]\n"
    )
    assert logged(tmp_path, format_, info(), request(b""), None) == "[] [cc21d9b0] [locations] [http]\n"


def test_a_request_without_a_path_has_none(tmp_path: Path) -> None:
    """CONNECT (RFC 9112 3.2.3)."""
    tunnel = request()
    tunnel.method, tunnel.path = b"CONNECT", b""
    assert logged(tmp_path, '"%REQ(:METHOD)% %REQ(X?:PATH)%"\n', info(), tunnel, None) == '"CONNECT -"\n'


ISTIOD_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def test_the_format_that_istiod_sends(tmp_path: Path) -> None:
    about = info()
    about.details, about.cluster, about.route_name = "via_upstream", "outbound|80||a", "default"
    about.upstream_local_address = SocketAddress("10.0.0.1", 4000)
    assert logged(tmp_path, ISTIOD_FORMAT, about, request(), None) == (
        '[2016-04-14T15:06:40.000Z] "GET /api HTTP/1.1" 200 - via_upstream - "-" 0 5 154 - "-" "curl/8" '
        '"cc21d9b0" "locations" "10.0.2.1:80" outbound|80||a 10.0.0.1:4000 10.0.0.1:80 10.0.0.9:5000 '
        "- default\n"
    )


def test_the_local_address_of_a_redirected_connection_is_the_one_that_the_client_called(
    tmp_path: Path,
) -> None:
    about = info(original_destination=SocketAddress("10.96.0.7", 9080))
    assert logged(tmp_path, "%DOWNSTREAM_LOCAL_ADDRESS%\n", about, request(), None) == "10.96.0.7:9080\n"


@pytest.mark.parametrize(
    ("wanted", "flags", "is_logged"),
    [
        (None, "", True),
        (set(), "", False),
        (set(), "UH", True),
        ({"NR"}, "", False),
        ({"NR"}, "NR", True),
        ({"NR"}, "UH,NR", True),
        ({"UR"}, "URX", False),
    ],
)
def test_a_log_may_want_some_flags_alone(
    tmp_path: Path, wanted: set[str] | None, flags: str, is_logged: bool
) -> None:
    about = info()
    for flag in flags.split(",") if flags else ():
        about.add_flag(flag)
    sink = LogFile(str(tmp_path / "log"))
    log = AccessLog(path="", format="line\n", response_flags=None if wanted is None else frozenset(wanted))
    AccessLogger(sink, log, path="").log(about, None, None)
    sink.close()
    assert (tmp_path / "log").read_text() == ("line\n" if is_logged else "")


def test_nor_by_the_server_name_that_it_asks_for(tmp_path: Path) -> None:
    about = info(server_name='a"\nforged')
    assert logged(tmp_path, "%REQUESTED_SERVER_NAME%\n", about, None, None) == "a\\x22\\x0aforged\n"


@pytest.mark.parametrize(
    "format_", ["%NO_SUCH%", "%RESPONSE_CODE(x)%", "100% sure", "%REQ()%", "%RESPONSE_CODE:2%"]
)
def test_an_unknown_operator_is_refused_by_name(tmp_path: Path, format_: str) -> None:
    with pytest.raises(ConfigError, match=r"access_log\[0\]: .*operator"):
        logged(tmp_path, format_, info(), None, None)


@pytest.mark.parametrize(
    ("operator", "status", "value"),
    [
        ("%GRPC_STATUS%", 0, '"OK"'),
        ("%GRPC_STATUS%", 1, '"Canceled"'),
        ("%GRPC_STATUS%", 4, '"DeadlineExceeded"'),
        ("%GRPC_STATUS(CAMEL_STRING)%", 15, '"DataLoss"'),
        ("%GRPC_STATUS(SNAKE_STRING)%", 4, '"DEADLINE_EXCEEDED"'),
        ("%GRPC_STATUS(NUMBER)%", 4, "4"),
        ("%GRPC_STATUS_NUMBER%", 14, "14"),
        ("%GRPC_STATUS%", 99, '"-1"'),
        ("%GRPC_STATUS_NUMBER%", None, "null"),
        ("%GRPC_STATUS%", None, "null"),
    ],
)
def test_the_status_of_a_grpc_call(tmp_path: Path, operator: str, status: int | None, value: str) -> None:
    stream = info()
    if status is not None:
        stream.grpc = GrpcCall()
        stream.grpc.end(200, [], [(b"grpc-status", b"%d" % status)])
    assert logged(tmp_path, {"status": operator}, stream, request(), None) == f'{{"status":{value}}}\n'
