"""The upstream's answers to calls of HTTP/2, by the name that the header ``answer`` of a call has."""

from __future__ import annotations

from tests.support.scripted_http2_upstream import Script, body, close, goaway, head, reset, trailers

CODES = {
    "NO_ERROR": 0,
    "INTERNAL_ERROR": 2,
    "FLOW_CONTROL_ERROR": 3,
    "SETTINGS_TIMEOUT": 4,
    "STREAM_CLOSED": 5,
    "FRAME_SIZE_ERROR": 6,
    "REFUSED_STREAM": 7,
    "CANCEL": 8,
    "COMPRESSION_ERROR": 9,
    "CONNECT_ERROR": 10,
    "ENHANCE_YOUR_CALM": 11,
    "INADEQUATE_SECURITY": 12,
    "HTTP_1_1_REQUIRED": 13,
}
OK = (head(), body(b"ok", end=True))
GRPC = ("content-type", "application/grpc")
MESSAGE = b"\0\0\0\0\2hi"
SCRIPTS = {
    "ok": Script(late=OK),
    "silence": Script(),
    **{f"reset {name}": Script(late=(reset(code),)) for name, code in CODES.items()},
    **{f"head, reset {name}": Script(late=(head(), reset(code))) for name, code in CODES.items()},
    **{
        f"half, reset {name}": Script(late=(head(), body(b"half"), reset(code)))
        for name, code in CODES.items()
    },
    "close": Script(late=(close,)),
    "head, close": Script(late=(head(), close)),
    "half, close": Script(late=(head(), body(b"half"), close)),
    "goaway": Script(late=(goaway(), *OK, close)),
    "goaway with an error": Script(late=(goaway(2), *OK, close)),
    "goaway after the response": Script(late=(*OK, goaway(), close)),
    "goaway in the body": Script(late=(head(), body(b"o"), goaway(), body(b"k", end=True), close)),
    "trailers": Script(late=(head(), body(b"ok"), trailers(("x-sum", "1"), ("x-sum", "2")))),
    "trailers alone": Script(late=(head(), trailers(("x-sum", "1")))),
    "trailers, length": Script(
        late=(head("200", ("content-length", "2")), body(b"o"), body(b"k"), trailers(("x-sum", "1")))
    ),
    "trailers alone, length": Script(late=(head("200", ("content-length", "0")), trailers(("x-sum", "1")))),
    "trailers with another length": Script(late=(head(), body(b"ok"), trailers(("content-length", "3")))),
    "trailers with te": Script(late=(head(), body(b"ok"), trailers(("te", "gzip")))),
    "trailers without an end": Script(late=(head(), body(b"ok"), trailers(("x-sum", "1"), end=False))),
    "trailers with a pseudo-header": Script(late=(head(), body(b"ok"), trailers((":status", "200")))),
    "100": Script(late=(head("100"), *OK)),
    "103": Script(late=(head("103", ("link", "</a.css>")), *OK)),
    "101": Script(late=(head("101"), *OK)),
    "102": Script(late=(head("102"), *OK)),
    "early": Script(early=(head("413"), body(b"too large", end=True))),
    "early head": Script(early=(head(),), late=(body(b"ok", end=True),)),
    "no body": Script(late=(head("200", end=True),)),
    "empty DATA": Script(late=(head(), body(b"", end=True))),
    "204": Script(late=(head("204", end=True),)),
    "204 with a body": Script(late=(head("204"), body(b"no", end=True))),
    "304": Script(late=(head("304", ("etag", '"1"'), end=True),)),
    "503": Script(late=(head("503"), body(b"no", end=True))),
    "length": Script(late=(head("200", ("content-length", "2")), body(b"ok", end=True))),
    "length, too short": Script(late=(head("200", ("content-length", "9")), body(b"ok", end=True))),
    "length, too long": Script(late=(head("200", ("content-length", "1")), body(b"ok", end=True))),
    "length, no body": Script(late=(head("200", ("content-length", "9"), end=True),)),
    "connection": Script(late=(head("200", ("connection", "close")), body(b"ok", end=True))),
    "transfer-encoding": Script(late=(head("200", ("transfer-encoding", "chunked")), body(b"ok", end=True))),
    "no status": Script(late=(trailers(("x-a", "1"), end=False), body(b"ok", end=True))),
    "large head": Script(late=(head("200", ("x-a", "1" * 55_000)), body(b"ok", end=True))),
    "too large head": Script(late=(head("200", ("x-a", "1" * 62_000)), body(b"ok", end=True))),
    "many headers": Script(late=(head("200", *(("x-a", "1"),) * 90), body(b"ok", end=True))),
    "cookies": Script(late=(head("200", ("set-cookie", "a=1"), ("set-cookie", "b=2")), body(b"", end=True))),
    "grpc": Script(late=(head("200", GRPC), body(MESSAGE), trailers(("grpc-status", "0")))),
    "grpc failed": Script(
        late=(head("200", GRPC), trailers(("grpc-status", "5"), ("grpc-message", "no%20such")))
    ),
    "grpc alone": Script(late=(head("200", GRPC, ("grpc-status", "3"), end=True),)),
    "grpc unavailable": Script(late=(head("200", GRPC, ("grpc-status", "14"), end=True),)),
    "grpc cut": Script(late=(head("200", GRPC), body(MESSAGE), reset(2))),
}
