"""Heads read by `head`, by its specification `head_python`, and by llhttp: llhttp accepts what ours accepts,
and reads the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import httptools
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import DownstreamProtocolError, HeadersTooLargeError, RequestError
from sidecar.http.h1 import head, head_python
from sidecar.http.h1.rules import ReaderRules, check_transfer_encoding, resolve_target
from sidecar.http.headers import HOP_BY_HOP, Headers
from tests.fuzz.scale import SCALE, examples

EXAMPLES = 1500
RULES = ReaderRules(
    max_headers_bytes=400,
    max_headers_count=8,
    malformed=DownstreamProtocolError,
    too_large=HeadersTooLargeError,
)
FOR_ONE_HOP = HOP_BY_HOP | {b"host", b"expect", b"te"}

names = st.sampled_from(
    [b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"CONNECTION",
     b"Upgrade", b"TE", b"Expect", b"Keep-Alive", b"X-A", b"x", b"Proxy-Connection", b"HTTP2-Settings",
     b"x" * 33]
)  # fmt: skip
values = st.sampled_from(
    [b"a", b"3", b"00", b"3, 3", b"+3", b"chunked", b"Chunked", b"gzip, chunked", b"chunked, gzip", b"close",
     b"Keep-Alive", b"keep-alive, Upgrade", b"close ,x", b"websocket", b"100-continue", b"trailers", b"",
     b"  a \t", b"\xe9\xff", b"18446744073709551617", b"a b\tc", b"keep-alive\t", b",", b"close,keep-alive"]
)  # fmt: skip
methods = st.sampled_from(
    [b"GET", b"GET", b"PUT", b"POST", b"CONNECT", b"OPTIONS", b"M-SEARCH", b"PRI", b"FOO", b"get"]
)
targets = st.sampled_from(
    [b"/", b"/", b"/", b"/a?b=c", b"*", b"http://a/b", b"http://a:1?x", b"a:443", b"//x", b"/a#b", b"foo",
     b"/\x7f", b"/\xe9"]
)  # fmt: skip
versions = st.sampled_from(
    [b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"RTSP/1.0", b"HTTP/11"]
)
statuses = st.sampled_from(
    [b"200 OK", b"200", b"204 No Content", b"20", b"2000 x", b"404 \0\x01\xff", b"200 "]
)
separators = st.sampled_from([b": "] * 8 + [b":", b":\t", b" : "])
ends = st.sampled_from([b"\n", b"\r", b"\r\n ", b"\r\r\n"])
end_of_line = st.integers(0, 49).flatmap(lambda number: st.just(b"\r\n") if number else ends)
inserted = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b":", b" ", b"\t", b"\0", b"\x0b", b"\xe9", b"\x7f", b",", b"#"]
)


@st.composite
def heads(draw: st.DrawFn, first_line: st.SearchStrategy[bytes]) -> bytes:
    """Most are valid; some are damaged in one place, or incomplete."""
    fields = [
        draw(names) + draw(separators) + draw(values) + draw(end_of_line)
        for _ in range(draw(st.integers(0, 3)))
    ]
    if draw(st.integers(0, 9)):
        fields.insert(draw(st.integers(0, len(fields))), b"Host: a\r\n")
    data = draw(first_line) + b"\r\n" + b"".join(fields) + b"\r\n"
    if not draw(st.integers(0, 2)):
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(inserted) + data[at + draw(st.integers(0, 1)) :]
    return data if draw(st.integers(0, 9)) else data[: draw(st.integers(1, len(data)))]


spaces = st.sampled_from([b" "] * 9 + [b"  "])
requests = heads(
    st.builds(
        lambda method, space, target, version: space.join((method, target, version)),
        methods,
        spaces,
        targets,
        versions,
    )
)
responses = heads(st.builds(lambda version, status: version + b" " + status, versions, statuses))


@dataclass
class Llhttp:
    """A head as llhttp sees it."""

    target: bytes = b""
    complete: bool = False
    keeps: bool = False
    fields: Headers = field(default_factory=list)
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser | None = None

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        self.complete = True
        assert self.parser is not None
        self.keeps = self.parser.should_keep_alive()  # which is forgotten at the end of the message

    def passed_on(self, for_one_hop: frozenset[bytes]) -> Headers:
        return [(name, value) for name, value in self.fields if name not in for_one_hop]


def read_by_llhttp(
    seen: Llhttp, parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes
) -> bool:
    """Returns whether llhttp accepts the head."""
    seen.parser = parser
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return False
    return seen.complete


def outcome(read: object, data: bytes) -> object:
    """The head, or the type and the words of the error."""
    assert callable(read)
    try:
        return read(data, 0, RULES)
    except RequestError as error:
        return type(error), str(error)


def test_request_heads() -> None:
    ends: Counter[str] = Counter()

    @examples(EXAMPLES)
    @given(data=requests)
    def check(data: bytes) -> None:
        read = outcome(head.read_request_head, data)
        assert read == outcome(head_python.read_request_head, data)
        try:
            accepted = head.read_request_head(data, 0, RULES)
            if accepted is None:
                return
            method, target, http11, keeps, host, fields, special, _, end = accepted
            resolve_target(method, target, host, allow_absolute=True)
            codings = [value for name, value in special or [] if name == b"transfer-encoding"]
            if codings:
                check_transfer_encoding(codings, http11=http11)
        except RequestError:
            ends["refused"] += 1
            return
        seen = Llhttp()
        parser = httptools.HttpRequestParser(seen)
        assert read_by_llhttp(seen, parser, data[:end])
        assert (method, target) == (parser.get_method(), seen.target)
        assert http11 is (parser.get_http_version() == "1.1")
        assert fields == seen.passed_on(FOR_ONE_HOP)
        assert not keeps or seen.keeps or b"\t" in data  # RFC 9110 5.6.3: it is white space
        ends["read"] += 1

    check()
    assert ends["read"] > SCALE * EXAMPLES / 30
    assert ends["refused"] > SCALE * EXAMPLES / 30


def test_response_heads() -> None:
    ends: Counter[str] = Counter()

    @examples(EXAMPLES)
    @given(data=responses)
    def check(data: bytes) -> None:
        read = outcome(head.read_response_head, data)
        assert read == outcome(head_python.read_response_head, data)
        try:
            accepted = head.read_response_head(data, 0, RULES)
        except RequestError:
            ends["refused"] += 1
            return
        if accepted is None:
            return
        status, http11, _, fields, _, _, end = accepted
        seen = Llhttp()
        parser = httptools.HttpResponseParser(seen)
        assert read_by_llhttp(seen, parser, data[:end])
        assert status == parser.get_status_code()
        assert http11 is (parser.get_http_version() == "1.1")
        assert fields == seen.passed_on(HOP_BY_HOP)
        ends["read"] += 1

    check()
    assert ends["read"] > SCALE * EXAMPLES / 30
    assert ends["refused"] > SCALE * EXAMPLES / 30


@examples(EXAMPLES // 3)
@given(data=requests, cut=st.integers(1, 400))
def test_the_beginning_of_a_valid_head_is_not_refused(data: bytes, cut: int) -> None:
    try:
        complete = head.read_request_head(data, 0, RULES)
    except RequestError:
        return
    if complete is not None:
        head.check_beginning(data[: min(cut, complete[-1] - 1)], response=False, rules=RULES)


fields_to_write = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"content-length",
                b"te",
                b"host",
                b"connection",
                b"http2-settings",
                b"x",
                b"transfer-encoding",
                b"",
            ]
        ),
        st.sampled_from([b"2", b"trailers", b"", b"x y"]),
    ),
    max_size=5,
)


@examples(EXAMPLES // 3)
@given(fields=fields_to_write, body=st.sampled_from([b"", b"ok"]), flag=st.booleans())
def test_both_implementations_write_the_same(fields: Headers, body: bytes, flag: bool) -> None:
    arguments = (b"GET", b"/", b"a", fields, body, flag)
    assert head.join_request(*arguments) == head_python.join_request(*arguments)
    option = b"connection: close" if flag else b""
    line = b"HTTP/1.1 200 OK"
    assert head.join_response(line, fields, body, option) == head_python.join_response(
        line, fields, body, option
    )
