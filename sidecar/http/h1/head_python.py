"""Reads and writes the heads of messages (RFC 9112 2-5), in Python.

`head` chooses between this module and `_head`, the same functions in Cython. This one is the specification:
the other delegates to it each head that it does not accept, so that every error has its words here.

Heads are checked as strictly as by llhttp: known methods only, no white space before a colon, no folded
lines, no control characters, and every line ends with CRLF. Spaces may be repeated within a request line.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from sidecar.errors import PathNormalizationError
from sidecar.http.h1.rules import ReaderRules, printable
from sidecar.http.headers import HOP_BY_HOP, Headers

# method, target, whether the version is 1.1, whether it keeps the connection, the value of Host, the fields,
# those for this hop only (or None), the value of Content-Length (-1 if it is missing), and the position
# behind the head
RequestHead = tuple[bytes, bytes, bool, bool, bytes | None, Headers, Headers | None, int, int]
# status, whether the version is 1.1, whether it keeps the connection, and the last four as above
ResponseHead = tuple[int, bool, bool, Headers, Headers | None, int, int]

METHODS: Final = frozenset((
    b"ACL", b"BIND", b"CHECKOUT", b"CONNECT", b"COPY", b"DELETE", b"GET", b"HEAD", b"LINK", b"LOCK",
    b"M-SEARCH", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"MKCOL", b"MOVE", b"NOTIFY", b"OPTIONS", b"PATCH",
    b"POST", b"PROPFIND", b"PROPPATCH", b"PURGE", b"PUT", b"QUERY", b"REBIND", b"REPORT", b"SEARCH",
    b"SOURCE", b"SUBSCRIBE", b"TRACE", b"UNBIND", b"UNLINK", b"UNLOCK", b"UNSUBSCRIBE",
))  # fmt: skip
# Only a codec writes these fields; the second is the exception.
OF_CODEC: Final = HOP_BY_HOP | {b"content-length", b"host", b"te"}
TE_TRAILERS: Final = (b"te", b"trailers")
JOIN_FIELD: Final = b"%b: %b".__mod__  # as quick as a join, and checks that it is a pair
REQUEST_LINE: Final = b"%b %b HTTP/1.1\r\nhost: %b"

_PREFACE_METHOD: Final = b"PRI"
_OF_REQUESTS: Final = HOP_BY_HOP | {b"expect", b"te"}
_OF_CONNECTION: Final = (b"connection", b"proxy-connection")

_EMPTY_LINE: Final = b"\r\n\r\n"  # including the end of the previous line
_WHITE_SPACE: Final = b" \t"
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
_FIELDS: Final = re.compile(rb"(?:" + _TOKEN + rb"++:" + _VALUE + rb"*+\r\n)*+")
_REQUEST_LINE: Final = re.compile(rb"([A-Z\-]++) ++([\x21-\x7e]++)(?: ++HTTP/([0-9]\.[0-9]))?\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/(0\.9|1\.0|1\.1|2\.0) ([0-9]{3})(?: [^\r\n]*+)?\r\n")
# The beginnings of the lines above.
_FIELD_BEGINNING: Final = re.compile(rb"\r?|" + _TOKEN + rb"++(?::" + _VALUE + rb"*+\r?)?")
_REQUEST_LINE_BEGINNING: Final = re.compile(
    rb"([A-Z\-]*+)(?: ++(?:[\x21-\x7e]++(?: ++(?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.[0-9]?)?)?)?)?)?)?)?)?\r?)?)?"
)
_STATUS_LINE_BEGINNING: Final = re.compile(
    rb"H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9](?: (?:[0-9]{1,3}(?: [^\r\n]*+)?\r?)?)?)?)?)?)?)?)?)?"
)
# More digits would not be the size of anything.
_MAX_LENGTH_DIGITS: Final = 18
# The bytes of a head that its limit does not count: in the first line, and the separators of a field.
_FIRST_LINE_BYTES: Final = 32
_FIELD_BYTES: Final = 4


def read_request_head(data: bytes, at: int, rules: ReaderRules) -> RequestHead | None:
    """Reads a head that begins at `at`. Returns None if its end is missing. Raises the errors that `rules`
    name."""
    end = data.find(_EMPTY_LINE, at) + len(_EMPTY_LINE)
    if end < len(_EMPTY_LINE):
        return None
    line = _REQUEST_LINE.match(data, at, end)
    if line is None:
        _malformed(data[at:end], "the request line", rules)
    method, target, version = line.groups()
    _check_method(method, rules)
    if version != b"1.1" and version != b"1.0":  # noqa: PLR1714 - quicker than a set, for each request
        # RFC 9112 2.3: HTTP/0.9 has no headers to route by, and a request line never has the version HTTP/2.
        raise rules.malformed(f"HTTP/{'0.9' if version is None else version.decode()} is not supported")
    if b"#" in target:  # RFC 9112 3.2: a fragment is never sent
        in_path = b"/" in target.partition(b"#")[0]
        refused = PathNormalizationError if in_path else rules.malformed
        raise refused("a fragment in the request target")
    fields: Headers = []
    special: Headers = []
    length = -1
    host = None
    for name, value in _read_fields(data[line.end() : end - 2], len(target), rules):
        if name == b"host":
            if host is not None:
                raise rules.malformed("more than one Host")
            host = value
        elif name in _OF_REQUESTS:
            special.append((name, value))
        else:
            if name == b"content-length":
                length = _read_length(value, length, rules)
            fields.append((name, value))
    keeps = _keeps_connection(special, version == b"1.1")
    _check_framing(special, length, rules)
    return method, target, version == b"1.1", keeps, host, fields, _worth_reading(special), length, end


def read_response_head(data: bytes, at: int, rules: ReaderRules) -> ResponseHead | None:
    """As `read_request_head`."""
    end = data.find(_EMPTY_LINE, at) + len(_EMPTY_LINE)
    if end < len(_EMPTY_LINE):
        return None
    line = _STATUS_LINE.match(data, at, end)
    if line is None:
        _malformed(data[at:end], "the status line", rules)
    version, status = line.groups()
    fields: Headers = []
    special: Headers = []
    length = -1
    for name, value in _read_fields(data[line.end() : end - 2], 0, rules):
        if name in HOP_BY_HOP:
            special.append((name, value))
        else:
            if name == b"content-length":
                length = _read_length(value, length, rules)
            fields.append((name, value))
    keeps = _keeps_connection(special, version == b"1.1")
    _check_framing(special, length, rules)
    return int(status), version == b"1.1", keeps, fields, _worth_reading(special), length, end


def check_beginning(beginning: bytes, *, response: bool, rules: ReaderRules) -> None:
    """Refuses a head as soon as it is invalid or too large, although its end is missing."""
    count = max(beginning.count(b"\n") - 1, 0)
    _check_count(count, rules)  # first: the checks below copy the fields
    first, separator, block = beginning.partition(b"\r\n")
    if not separator:
        match = (_STATUS_LINE_BEGINNING if response else _REQUEST_LINE_BEGINNING).fullmatch(first)
        if match is None or not (response or _begins_method(match[1], complete=b" " in first)):
            _malformed(first, "the first line", rules)
    else:
        match = (_STATUS_LINE if response else _REQUEST_LINE).fullmatch(first + separator)
        if match is None:
            _malformed(first, "the first line", rules)
        if not response:
            _check_method(match[1], rules)
    lines = block.rpartition(b"\r\n")
    complete = lines[0] + lines[1]
    if _FIELDS.fullmatch(complete) is None or _FIELD_BEGINNING.fullmatch(lines[2]) is None:
        _malformed_field(block, rules)
    limit = rules.max_headers_bytes
    if len(beginning) - _FIRST_LINE_BYTES - _FIELD_BYTES * (count + 1) > limit:
        raise rules.too_large(f"the head is longer than {limit} bytes")


def join_request(
    method: bytes, target: bytes, authority: bytes, fields: Headers, body: bytes, empty_length: bool
) -> bytes:
    """Returns a request with its whole body. `fields` may contain fields that only the codec writes: they are
    left out. Content-Length is that of `body`; without a body, it is written if `fields` has one, or if
    `empty_length`."""
    kept = [field for field in fields if field[0] not in OF_CODEC or field == TE_TRAILERS]
    if body or empty_length or any(field[0] == b"content-length" for field in fields):
        kept.append((b"content-length", b"%d" % len(body)))
    line = REQUEST_LINE % (method, target, authority)
    return b"\r\n".join([line, *map(JOIN_FIELD, kept), b"", body])


def join_response(line: bytes, fields: Headers, body: bytes, option: bytes) -> bytes:
    """Returns a response with its whole body. Content-Length is that of `body`, whatever `fields` contains.
    `option` is a further line of the head, if it is not empty."""
    length = (b"content-length", b"%d" % len(body))
    if length not in fields or [name for name, _ in fields].count(b"content-length") > 1:
        fields = [*[field for field in fields if field[0] != b"content-length"], length]
    options = [option] if option else []
    return b"\r\n".join([line, *map(JOIN_FIELD, fields), *options, b"", body])


def _begins_method(name: bytes, *, complete: bool) -> bool:
    """The preface of HTTP/2 may begin a connection whose version is not decided yet."""
    if complete:
        return name in METHODS or name == _PREFACE_METHOD
    return any(method.startswith(name) for method in (*METHODS, _PREFACE_METHOD))


def _read_fields(block: bytes, target_size: int, rules: ReaderRules) -> Headers:
    """Fields are counted before they are stored: a small one costs much more memory than its bytes."""
    _check_count(block.count(b"\n"), rules)
    if _FIELDS.fullmatch(block) is None:
        _malformed_field(block, rules)
    fields: Headers = []
    size = target_size
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.strip(_WHITE_SPACE)
        size += len(name) + len(value)
        fields.append((name.lower(), value))
    if size > rules.max_headers_bytes:
        raise rules.too_large(f"{size} bytes of headers, more than {rules.max_headers_bytes}")
    return fields


def _check_method(method: bytes, rules: ReaderRules) -> None:
    if method not in METHODS:
        raise rules.malformed(f"malformed HTTP/1.1: unknown method {printable(method)}")


def _check_count(count: int, rules: ReaderRules) -> None:
    if count > rules.max_headers_count:
        raise rules.too_large(f"more than {rules.max_headers_count} headers")


def _read_length(value: bytes, before: int, rules: ReaderRules) -> int:
    if before >= 0:
        raise rules.malformed("malformed HTTP/1.1: more than one Content-Length")
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise rules.malformed(f"malformed HTTP/1.1: Content-Length {printable(value)}")
    return int(value)


def _keeps_connection(special: Headers, http11: bool) -> bool:
    """RFC 9112 9.3. As in Envoy, Proxy-Connection has the same meaning, although no standard defines it."""
    options = {
        option.strip(_WHITE_SPACE).lower()
        for name, value in special
        if name in _OF_CONNECTION
        for option in value.split(b",")
    }
    return b"close" not in options and (http11 or b"keep-alive" in options)


def _check_framing(special: Headers, length: int, rules: ReaderRules) -> None:
    """RFC 9112 6.3: a message with both was perhaps made to be read in two ways."""
    for name, value in special:
        if name == b"transfer-encoding":
            if length >= 0:
                raise rules.malformed("malformed HTTP/1.1: Content-Length and Transfer-Encoding")
            if not value:
                raise rules.malformed("malformed HTTP/1.1: an empty Transfer-Encoding")


def _worth_reading(special: Headers) -> Headers | None:
    """`special` without ``connection: keep-alive``, which many clients and servers always send."""
    rest = [field for field in special if field[0] != b"connection" or field[1].lower() != b"keep-alive"]
    return rest or None


def _malformed_field(block: bytes, rules: ReaderRules) -> NoReturn:
    """The error names the field, without its value, which can be a secret."""
    valid = _FIELDS.match(block)
    assert valid is not None  # it matches no fields too
    name = re.split(rb"[:\r\n]", block[valid.end() :], maxsplit=1)[0]
    _malformed(name, "a header", rules)


def _malformed(text: bytes, part: str, rules: ReaderRules) -> NoReturn:
    raise rules.malformed(f"malformed HTTP/1.1: {printable(text)} in {part}")
