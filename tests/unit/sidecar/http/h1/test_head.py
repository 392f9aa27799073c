"""The functions of `head`, in each of their implementations."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import pytest

from sidecar.errors import DownstreamProtocolError, HeadersTooLargeError
from sidecar.http.h1.head import check_beginning
from sidecar.http.h1.rules import ReaderRules

_MODULES = ("sidecar.http.h1.head_python", "sidecar.http.h1._head")
IMPLEMENTATIONS = [importlib.import_module(name) for name in _MODULES if importlib.util.find_spec(name)]
RULES = ReaderRules(
    max_headers_bytes=200,
    max_headers_count=6,
    malformed=DownstreamProtocolError,
    too_large=HeadersTooLargeError,
)


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda module: module.__name__.rpartition(".")[2])
def head(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


# Requests.


def test_a_request_head_in_its_parts(head: ModuleType) -> None:
    fields = b"HOST: a:1\r\nX-Long: \t b c \t\r\nx-empty:\r\nContent-Length: 007 \r\n"
    data = b"..GET /a?b=c HTTP/1.1\r\n" + fields + b"\r\nGET"
    assert head.read_request_head(data, 2, RULES) == (
        b"GET",
        b"/a?b=c",
        True,
        True,
        b"a:1",
        [(b"x-long", b"b c"), (b"x-empty", b""), (b"content-length", b"007")],
        None,
        7,
        len(data) - 3,
    )


def test_the_smallest_request_head(head: ModuleType) -> None:
    data = b"OPTIONS * HTTP/1.0\r\n\r\n"
    expected = (b"OPTIONS", b"*", False, False, None, [], None, -1, len(data))
    assert head.read_request_head(data, 0, RULES) == expected


def test_fields_for_one_hop_are_apart(head: ModuleType) -> None:
    fields = (
        b"TE: trailers\r\nUpgrade: h2c\r\nExpect: x\r\nHTTP2-Settings: A\r\nTransfer-Encoding: Chunked\r\n"
    )
    request = head.read_request_head(b"GET / HTTP/1.1\r\n" + fields + b"\r\n", 0, RULES)
    response = head.read_response_head(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", 0, RULES)
    te, upgrade, expect, settings, coding = (
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"expect", b"x"),
        (b"http2-settings", b"A"),
        (b"transfer-encoding", b"Chunked"),
    )
    assert request[5:7] == ([], [te, upgrade, expect, settings, coding])
    assert response[3:5] == ([te, expect], [upgrade, settings, coding])


@pytest.mark.parametrize(
    ("fields", "http11", "http10"),
    [
        (b"", True, False),
        (b"Connection: close\r\n", False, False),
        (b"Connection: x, CLOSE \t,y\r\n", False, False),
        (b"Connection: closed\r\n", True, False),
        (b"Connection: Keep-Alive\r\n", True, True),
        (b"Connection: x\r\nConnection: y,\tkeep-alive\r\n", True, True),
        (b"Connection: keep-alive\r\nConnection: close\r\n", False, False),
        (b"Proxy-Connection: close\r\n", False, False),
        (b"Proxy-Connection: keep-alive\r\n", True, True),
        (b"X: close\r\n", True, False),
    ],
)
def test_whether_a_head_keeps_the_connection(
    head: ModuleType, fields: bytes, http11: bool, http10: bool
) -> None:
    for version, keeps in ((b"1.1", http11), (b"1.0", http10)):
        request = b"GET / HTTP/" + version + b"\r\n" + fields + b"\r\n"
        response = b"HTTP/" + version + b" 200 OK\r\n" + fields + b"\r\n"
        assert head.read_request_head(request, 0, RULES)[3] is keeps
        assert head.read_response_head(response, 0, RULES)[2] is keeps


def test_keep_alive_alone_is_not_worth_reading(head: ModuleType) -> None:
    data = b"GET / HTTP/1.1\r\nConnection: %b\r\n\r\n"
    assert head.read_request_head(data % b"Keep-Alive", 0, RULES)[6] is None
    for value in (b"keep-alive,", b"close", b"x", b""):
        assert head.read_request_head(data % value, 0, RULES)[6] == [(b"connection", value)]


def test_long_and_frequent_names_are_lower_case(head: ModuleType) -> None:
    names = [b"X-A", b"x-a", b"X-" + b"A" * 29, b"X-" + b"A" * 30, b"X-" + b"A" * 31]
    for _ in range(2):
        data = b"GET / HTTP/1.1\r\n" + b"".join(name + b":\r\n" for name in names) + b"\r\n"
        assert head.read_request_head(data, 0, RULES)[5] == [(name.lower(), b"") for name in names]


@pytest.mark.parametrize("end", range(len(b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n")))
def test_a_head_without_its_end_is_not_read(head: ModuleType, end: int) -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n"[:end]
    assert head.read_request_head(data, 0, RULES) is None
    check_beginning(data, response=False, rules=RULES)


MALFORMED = {
    "a line that ends with LF": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "a field that ends with LF": b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n",
    "an empty line that ends with LF": b"GET / HTTP/1.1\r\nHost: a\r\n\n\r\n\r\n",
    "CR without LF": b"GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n",
    "a folded field": b"GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nx : a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nx\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "obs-text in a name": b"GET / HTTP/1.1\r\nx\xe9: a\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nx\0: a\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nx: a\0\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nx: a\x7f\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\na",
    "an empty length": b"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "an invalid length": b"GET / HTTP/1.1\r\nContent-Length: 1a\r\n\r\n",
    "a length with a sign": b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
    "a length of 19 digits": b"GET / HTTP/1.1\r\nContent-Length: 1000000000000000000\r\n\r\n",
    "length and coding": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n",
    "coding and length": b"GET / HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n",
    "an empty coding": b"GET / HTTP/1.1\r\nTransfer-Encoding: \r\n\r\n",
    "an unknown method": b"GETS / HTTP/1.1\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\n\r\n",
    "no method": b" / HTTP/1.1\r\n\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.1\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "a control character in the target": b"GET /\x0b HTTP/1.1\r\n\r\n",
    "obs-text in the target": b"GET /\xe9 HTTP/1.1\r\n\r\n",
    "a fragment": b"GET /#a HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "RTSP": b"OPTIONS / RTSP/1.0\r\n\r\n",
    "a space behind the version": b"GET / HTTP/1.1 \r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_head_is_refused(head: ModuleType, data: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        head.read_request_head(data, 0, RULES)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01",
        b"SSH-2.0-x",
        b"FETCH /",
        b"GET /\x01",
        b"GET / HTTQ",
        b"GET / HTTP/1.1\r\n x",
        b"GET / HTTP/1.1\r\nx y",
        b"GET / HTTP/1.1\r\nx: \0",
        b"GET / HTTP/1.1\r\nx: a\r\ny: \n",
    ],
)
def test_an_invalid_beginning_is_refused_before_the_head_is_complete(data: bytes) -> None:
    with pytest.raises(DownstreamProtocolError, match="malformed"):
        check_beginning(data, response=False, rules=RULES)


def test_errors_do_not_contain_values(head: ModuleType) -> None:
    with pytest.raises(DownstreamProtocolError, match="'cookie' in a header") as raised:
        head.read_request_head(b"GET / HTTP/1.1\r\nx: y\r\ncookie: secret\0\r\n\r\n", 0, RULES)
    assert "secret" not in str(raised.value)


def test_limits(head: ModuleType) -> None:
    within = [b"x: y\r\n" * 6, b"x: " + b"y" * 198 + b"\r\n"]
    beyond = [b"x: y\r\n" * 7, b"x: " + b"y" * 199 + b"\r\n"]
    for fields in within:
        data = b"GET / HTTP/1.1\r\n" + fields + b"\r\n"
        assert head.read_request_head(data, 0, RULES)[-1] == len(data)
    for fields in beyond:
        with pytest.raises(HeadersTooLargeError):
            head.read_request_head(b"GET / HTTP/1.1\r\n" + fields + b"\r\n", 0, RULES)


# Responses.


def test_a_response_head_in_its_parts(head: ModuleType) -> None:
    data = b"HTTP/1.1 200 \xe9 OK\r\nServer: a\r\nHost: b\r\ncontent-length: 2\r\n\r\nok"
    fields = [(b"server", b"a"), (b"host", b"b"), (b"content-length", b"2")]
    assert head.read_response_head(data, 0, RULES) == (200, True, True, fields, None, 2, len(data) - 2)


@pytest.mark.parametrize("line", [b"HTTP/1.1 404", b"HTTP/1.1 404 ", b"HTTP/1.1 404 a\0b"])
def test_reasons_are_free(head: ModuleType, line: bytes) -> None:
    assert head.read_response_head(line + b"\r\n\r\n", 0, RULES)[0] == 404


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200",
        b"HTTP/1.1 200\nOK",
        b"HTTP/1.2 200",
        b"ICY 200 OK",
    ],
)
def test_a_malformed_status_line_is_refused(head: ModuleType, line: bytes) -> None:
    with pytest.raises(DownstreamProtocolError):
        head.read_response_head(line + b"\r\n\r\n", 0, RULES)


def test_other_versions_of_responses_end_the_connection(head: ModuleType) -> None:
    for version in (b"0.9", b"2.0"):
        status, http11, keeps, *_ = head.read_response_head(b"HTTP/" + version + b" 200 OK\r\n\r\n", 0, RULES)
        assert (status, http11, keeps) == (200, False, False)


# Writing.


@pytest.mark.parametrize(
    ("fields", "body", "empty_length", "written"),
    [
        ([], b"", False, b""),
        ([], b"", True, b"content-length: 0\r\n"),
        ([(b"content-length", b"7")], b"", False, b"content-length: 0\r\n"),
        ([(b"content-length", b"7"), (b"x", b"y")], b"abc", False, b"x: y\r\ncontent-length: 3\r\n"),
        ([(b"te", b"trailers"), (b"te", b"x")], b"", False, b"te: trailers\r\n"),
        ([(b"http2-settings", b"a"), (b"tx", b""), (b"hosts", b"b")], b"", False, b"tx: \r\nhosts: b\r\n"),
    ],
)
def test_a_request_is_written_with_the_framing_of_its_body(
    head: ModuleType, fields: list[tuple[bytes, bytes]], body: bytes, empty_length: bool, written: bytes
) -> None:
    joined = head.join_request(b"PUT", b"/a", b"b", fields, body, empty_length)
    assert joined == b"PUT /a HTTP/1.1\r\nhost: b\r\n" + written + b"\r\n" + body


def test_fields_of_the_codec_are_never_written_for_a_filter(head: ModuleType) -> None:
    names = (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
        b"host",
        b"te",
    )
    fields = [(name, b"x") for name in names]
    assert head.join_request(b"GET", b"/", b"a", fields, b"", False) == b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ([], b"content-length: 2\r\n"),
        ([(b"content-length", b"2"), (b"x", b"y")], b"content-length: 2\r\nx: y\r\n"),
        ([(b"content-length", b"3"), (b"x", b"y")], b"x: y\r\ncontent-length: 2\r\n"),
        ([(b"content-length", b"2"), (b"content-length", b"2")], b"content-length: 2\r\n"),
        ([(b"content-length", b"3"), (b"content-length", b"2")], b"content-length: 2\r\n"),
    ],
)
def test_a_response_is_written_with_the_length_of_its_body(
    head: ModuleType, fields: list[tuple[bytes, bytes]], written: bytes
) -> None:
    joined = head.join_response(b"HTTP/1.1 200 OK", fields, b"ok", b"")
    assert joined == b"HTTP/1.1 200 OK\r\n" + written + b"\r\nok"
    joined = head.join_response(b"HTTP/1.1 200 OK", fields, b"ok", b"connection: close")
    assert joined == b"HTTP/1.1 200 OK\r\n" + written + b"connection: close\r\n\r\nok"


@pytest.mark.parametrize("field", [(b"a",), (b"a", "b"), (b"a", None), [b"a", b"b"], (b"a", b"b", b"c")])
def test_a_field_that_is_no_pair_of_bytes_is_not_written(head: ModuleType, field: object) -> None:
    with pytest.raises(TypeError):
        head.join_response(b"HTTP/1.1 200 OK", [field], b"", b"")
    with pytest.raises(TypeError):
        head.join_request(b"GET", b"/", b"a", [field], b"", False)
