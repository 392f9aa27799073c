"""Calls of HTTP/2, by name. Paths are those of the routes in `test_http2_calls`."""

from __future__ import annotations

from tests.interop.parity.comparison import OWN_WORDS, REFRAMED, Difference, Row, ask
from tests.interop.parity.http2_calls import Call, call
from tests.interop.parity.http2_scripts import CODES, SCRIPTS

LENGTH = Difference("a body that arrived whole is passed on with its length", frozenset(("content-length",)))
CANCELS = Difference(
    "CANCEL says that the response is not wanted (RFC 9113 7); Envoy resets with INTERNAL_ERROR",
    frozenset(("framing",)),
)
LENGTH_AND_CANCEL = Difference(f"{LENGTH.reason}; {CANCELS.reason}", LENGTH.parts | CANCELS.parts)
CRUMBS = Difference(
    "each pair of a cookie is its own field, which HPACK compresses better (RFC 9113 8.2.3)",
    frozenset(("cookie", *LENGTH.parts)),
)
REPEATED = "the upstream has not processed a stream that it refuses: it is sent once more (RFC 9113 8.7)"
REFUSED = "503 upstream connect error or disconnect/reset before headers. reset reason: remote refused stream"
RESETS = {
    **{f"reset {name}": call("/", answer=f"reset {name}", differs=OWN_WORDS) for name in CODES},
    "reset REFUSED_STREAM": call("/", answer="reset REFUSED_STREAM then ok", ours=("200 ok", REPEATED)),
    "reset REFUSED_STREAM twice": call("/", answer="reset REFUSED_STREAM", ours=(REFUSED, REPEATED)),
    **{f"head, reset {name}": call("/", answer=f"head, reset {name}") for name in CODES},
    **{f"half, reset {name}": call("/", answer=f"half, reset {name}") for name in CODES},
    # A POST: the sidecar sends a GET again, because its connection has served other requests.
    "connection that ends": call("/", answer="close", method="POST", differs=OWN_WORDS),
    "connection that ends after the head": call("/", answer="head, close"),
    "connection that ends in the body": call("/", answer="half, close"),
    "retried reset": call("/reset", answer="reset INTERNAL_ERROR then ok", differs=LENGTH),
    "retried refusal": call("/refused-stream", answer="reset REFUSED_STREAM then ok", differs=LENGTH),
    "refusal that only 5xx retries": call("/5xx", answer="reset REFUSED_STREAM then ok", differs=LENGTH),
    "refused again and again": call("/refused-stream", answer="reset REFUSED_STREAM", differs=OWN_WORDS),
    "refusal of a POST": call(
        "/refused-stream", answer="reset REFUSED_STREAM then ok", method="POST", body=b"once", differs=LENGTH
    ),
    **{
        f"client resets with {name} before the response": call(
            "/", answer="silence", reset=code, differs=CANCELS
        )
        for name, code in CODES.items()
    },
    **{
        f"client resets with {name} after the head": call(
            "/",
            answer="early head",
            method="POST",
            ends=False,
            reset=code,
            answer_first=True,
            differs=CANCELS,
        )
        for name, code in CODES.items()
    },
}
GOAWAYS = {
    name: call("/", answer=name, method="POST", differs=LENGTH)
    for name in SCRIPTS
    if name.startswith("goaway")
}
MESSAGES = {
    name: call("/", answer=name, method="POST", differs=LENGTH)
    for name in (
        "trailers",
        "trailers alone",
        "trailers, length",
        "trailers alone, length",
        "trailers with another length",
        "trailers with te",
        "trailers without an end",
        "trailers with a pseudo-header",
        "100",
        "early",
        "no body",
        "empty DATA",
        "204",
        "304",
        "503",
        "cookies",
        "length",
        "length, too short",
        "length, too long",
        "large head",
        "many headers",
    )
}
BROKEN_RESPONSES = {
    name: call("/", answer=name, method="POST", differs=OWN_WORDS)
    for name in (
        "101",
        "connection",
        "transfer-encoding",
        "no status",
        "too large head",
        "length, no body",
    )
}
EMPTY_204 = "a 204 has no content (RFC 9110 15.3.5): the body is dropped"
INTERIM = "interim responses are for the client (RFC 9110 15.2)"
ALTERED_RESPONSES = {
    "204 with a body": call("/", answer="204 with a body", ours=("204 | open", EMPTY_204)),
    **{name: call("/", answer=name, ours=(f"{name} | 200 ok | open", INTERIM)) for name in ("102", "103")},
}
REQUESTS = {
    "trailers": call(
        "/", method="POST", body=b"hi", trailers=[("x-sum", "1"), ("x-sum", "2")], differs=LENGTH
    ),
    "trailers alone": call("/", method="POST", trailers=[("x-sum", "1")], differs=LENGTH),
    "trailers, length": call(
        "/", ("content-length", "2"), method="POST", body=b"hi", trailers=[("x-sum", "1")], differs=LENGTH
    ),
    "trailers alone, length": call(
        "/", ("content-length", "0"), method="POST", trailers=[("x-sum", "1")], differs=LENGTH
    ),
    "length": call("/", ("content-length", "2"), method="POST", body=b"hi", differs=LENGTH),
    "length of nothing": call("/", ("content-length", "0"), differs=LENGTH),
    "host and :authority": call("/", ("host", "calls.test"), differs=LENGTH),
    "another host than :authority": call("/", ("host", "probe.test"), differs=LENGTH),
    "host alone": call("/", ("host", "calls.test"), authority=None, differs=LENGTH),
    "large head": call("/", ("x-a", "1" * 50_000), differs=LENGTH),
    "many headers": call("/", *(("x-a", "1"),) * 85, differs=LENGTH),
    "te: trailers": call("/", ("te", "trailers"), differs=LENGTH),
    "OPTIONS": call("/", method="OPTIONS", differs=LENGTH),
    "HEAD": call("/", method="HEAD", answer="no body", differs=LENGTH),
    "HEAD with a length": call("/", method="HEAD", answer="length, no body", differs=LENGTH),
    "unknown method": call("/", method="BREW", differs=LENGTH),
    "rewritten path": call("/rewrite", differs=LENGTH),
    "rewritten host": call("/host", differs=LENGTH),
}
PATHS = {
    "no route": "/none",
    "no cluster": "/no-cluster",
    "no cluster, 404": "/no-cluster-404",
    "no hosts": "/no-hosts",
    "refused": "/refused",
    "overflow": "/overflow",
    "timeout": "/timeout",
    "per-try timeout": "/per-try",
    "idle": "/idle",
    "fault": "/fault",
    "gRPC fault": "/grpc-fault",
    "direct response": "/direct",
    "direct response without a text": "/direct-empty",
    "redirect": "/redirect",
}
GIVEN_UP = frozenset(("timeout", "per-try timeout", "idle"))
OWN_MESSAGE = Difference("a local reply says which hop failed and why", frozenset(("grpc-message",)))
OWN_MESSAGE_AND_CANCEL = Difference(
    f"{OWN_MESSAGE.reason}; {CANCELS.reason}", OWN_MESSAGE.parts | CANCELS.parts
)
LOCAL_REPLIES = {
    **{name: call(path, answer="silence", differs=OWN_WORDS) for name, path in PATHS.items()},
    **{
        f"{name}, gRPC": call(
            path,
            answer="silence",
            grpc=True,
            differs=OWN_MESSAGE_AND_CANCEL if name in GIVEN_UP else OWN_MESSAGE,
        )
        for name, path in PATHS.items()
    },
    **{
        f"{name}, HEAD": call(path, answer="silence", method="HEAD", differs=OWN_WORDS)
        for name, path in PATHS.items()
    },
}
# Neither proxy forwards them, or logs them: the connection ends.
_TRAILERS = {
    "method": "POST",
    "body": b"hi",
    "expect": "0 | closed",
    "ours": ("0 | closed", "the upstream may have got the head: it depends on how the frames arrive"),
}
INVALID_TRAILERS = {
    **{
        f"{name}: {value}": call("/", trailers=[(name, value)], **_TRAILERS)
        for name, value in (
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("host", "user@calls.test"),
            ("content-length", "1"),
            ("content-length", "3"),
            ("content-length", "+2"),
            (":path", "/"),
            ("X-Upper", "1"),
        )
    },
    "one length in both": call("/", ("content-length", "2"), trailers=[("content-length", "2")], **_TRAILERS),
    "one length twice": call("/", trailers=[("content-length", "2")] * 2, **_TRAILERS),
}
INVALID = {
    **{
        f"{name}: {value}": call("/", (name, value), expect="0 | closed")
        for name, value in (
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("te", "gzip"),
            ("X-Upper", "1"),
            ("x a", "1"),
            ("x:a", "1"),
            ("", "1"),
            (":unknown", "1"),
            (":path", "/twice"),
            (":status", "200"),
            ("content-length", "+2"),
            ("content-length", "-1"),
            ("content-length", "2, 2"),
            ("content-length", ""),
        )
    },
    **{
        name: call("/", ("x-a", value), expect="0 | closed")
        for name, value in (
            ("a value with CR", "1\r2"),
            ("a value with LF", "1\n2"),
            ("a value with NUL", "1\x002"),
            ("a value with DEL", "1\x7f2"),
        )
    },
    **{
        f":authority {value!r}": call("/", authority=value, expect="0 | closed")
        for value in (None, "", "user@calls.test", "calls.test x", "calls.test/x")
    },
    **{
        f":path {value!r}": call(value, expect="0 | closed")
        for value in ("", "none", "/ x", "/ HTTP/1.1\r\nhost: a\r\n\r\n", "http://calls.test/", "*")
    },
    **{f":method {value!r}": call("/", method=value, expect="0 | closed") for value in ("", "GET /")},
    "length without a body": call("/", ("content-length", "9"), method="POST"),
    "two lengths": call("/", ("content-length", "2"), ("content-length", "3"), method="POST", body=b"hi"),
    "one length twice": call(
        "/", ("content-length", "2"), ("content-length", "2"), method="POST", body=b"hi"
    ),
    "two hosts": call("/", ("host", "a.test"), ("host", "b.test"), authority=None),
    "fragment without a path": call("#a", expect="0 | closed"),
    "an asterisk with a fragment": call("*#a", method="OPTIONS", expect="0 | closed"),
    **{
        f"host {value!r} next to :authority": call("/", ("host", value), expect="0 | closed")
        for value in ("", "calls.test x", "calls.test/x", "user@calls.test")
    },
    "two hosts next to :authority": call(
        "/", ("host", "calls.test"), ("host", "calls.test"), expect="0 | closed"
    ),
}
UNUSUAL = {
    **{
        name: call("/", ("x-a", value), differs=LENGTH)
        for name, value in (
            ("a value of UTF-8", "\xc3\xa9"),
            ("a value with a tab", "1\t2"),
            ("a value that begins with a space", " 1"),
            ("a value that ends with a space", "1 "),
            ("an empty value", ""),
        )
    },
    "lowercase method": call("/", method="get", differs=LENGTH),
    "OPTIONS of an asterisk": call("*", method="OPTIONS"),
    "cookie crumbs": call("/", ("cookie", "a=1"), ("cookie", "b=2"), differs=CRUMBS),
    "stream that lasts too long": call("/duration", answer="silence", differs=OWN_WORDS),
    "gRPC stream that lasts too long": call(
        "/duration", answer="silence", grpc=True, differs=OWN_MESSAGE_AND_CANCEL
    ),
}
FRAGMENTS = {
    **{
        path: call(path, differs=OWN_WORDS, expect="400 | open")
        for path in ("/#", "/a#b", "/?a=b#c", "//a##", "/direct#x", "/%00#a")
    },
    "HEAD": call("/#", method="HEAD", differs=OWN_WORDS, expect="400 | open"),
    "gRPC": call("/#", grpc=True, differs=OWN_MESSAGE, expect="200 | open"),
    "with a body that has not ended": call("/#", method="POST", ends=False, differs=OWN_WORDS, expect="400"),
    "with trailers": call("/#", method="POST", body=b"hi", trailers=[("a", "b")], differs=OWN_WORDS),
}
GRPC_CALLS = {
    **{
        name: call("/", answer=name, grpc=True)
        for name in (
            *("grpc", "grpc failed", "grpc alone", "grpc unavailable", "grpc cut"),
            *("trailers", "no body", "204"),
        )
    },
    **{f"reset {name}": call("/", answer=f"reset {name}", grpc=True, differs=OWN_MESSAGE) for name in CODES},
    "reset REFUSED_STREAM": call(
        "/", answer="reset REFUSED_STREAM then grpc", grpc=True, ours=("200", REPEATED)
    ),
    "reset REFUSED_STREAM twice": call(
        "/", answer="reset REFUSED_STREAM", grpc=True, ours=("200 | open", REPEATED)
    ),
    "goaway": call("/", answer="goaway", grpc=True, differs=LENGTH),
    "retried": call("/unavailable", answer="grpc unavailable then grpc", grpc=True),
    "retried in vain": call("/unavailable", answer="grpc unavailable", grpc=True),
    "another status": call("/unavailable", answer="grpc alone", grpc=True),
    "refusal": call("/refused-stream", answer="reset REFUSED_STREAM then grpc", grpc=True),
    "too large head": call("/", answer="too large head", grpc=True, differs=OWN_MESSAGE),
    "malformed": call("/", answer="no status", grpc=True, differs=OWN_MESSAGE),
    "trailers": call("/", answer="grpc", grpc=True, trailers=[("x-sum", "1")]),
    "early end": call("/", answer="early", grpc=True, ends=False, differs=LENGTH_AND_CANCEL),
}


def over_http1(row: Call) -> Row:
    """The same request by a client of HTTP/1.1."""
    pseudo = {name: value for name, value in row.head if name.startswith(":")}
    fields = [f"{name}: {value}" for name, value in row.head if not name.startswith(":")]
    request = ask(
        f"{pseudo[':method']} {pseudo[':path']}", *fields, host="calls.test", body=row.body.decode()
    )
    return Row(
        request=request, expect="", ours=row.ours, differs=OWN_WORDS if row.differs is OWN_WORDS else REFRAMED
    )


FROM_HTTP1 = {
    f"{table} {name}": over_http1(row)
    for table, rows in (
        ("resets", RESETS),
        ("goaways", GOAWAYS),
        ("messages", MESSAGES),
        ("broken", BROKEN_RESPONSES),
    )
    for name, row in rows.items()
    if row.ends and row.reset is None and row.trailers is None
    if not name.startswith(("reset", "head, reset", "half, reset"))
    or name.endswith((" INTERNAL_ERROR", " REFUSED_STREAM", " NO_ERROR"))
}
TABLES = {
    "resets": RESETS,
    "goaways": GOAWAYS,
    "messages": MESSAGES,
    "requests": REQUESTS,
    "broken": BROKEN_RESPONSES,
    "altered": ALTERED_RESPONSES,
    "unusual": UNUSUAL,
    "invalid": INVALID,
    "fragments": FRAGMENTS,
    "replies": LOCAL_REPLIES,
    "grpc": GRPC_CALLS,
    "http1": FROM_HTTP1,
    "invalid trailers": INVALID_TRAILERS,  # last: the upstream may get a request after its row has ended
}
ROWS: dict[str, Row] = {
    f"{table}: {name}": row for table, rows in TABLES.items() for name, row in rows.items()
}
# The lines in the access log of rows whose flags differ: Envoy's, and the sidecar's.
OTHER_FLAGS = {
    "altered: 204 with a body": ("HTTP/2 204 UPE", "HTTP/2 204 -"),
    "unusual: stream that lasts too long": ("HTTP/2 504 -", "HTTP/2 504 DT"),
    "unusual: gRPC stream that lasts too long": ("HTTP/2 200 -", "HTTP/2 200 DT"),
    "unusual: OPTIONS of an asterisk": ("HTTP/2 404 -", "HTTP/2 404 NR"),
    # The client has reset the stream, with any code.
    "resets: client resets with NO_ERROR before the response": ("HTTP/2 0 -", "HTTP/2 0 DR"),
    "resets: reset REFUSED_STREAM": ("HTTP/2 503 UR", "HTTP/2 200 -"),
    "http1: resets reset REFUSED_STREAM": ("HTTP/1.1 503 UR", "HTTP/1.1 200 -"),
    "grpc: reset REFUSED_STREAM": ("HTTP/2 200 UR", "HTTP/2 200 -"),
}
