# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The functions of `head_python` in one pass over the bytes.

Only valid heads are read here: any other is left to `head_python`, which raises the error. Names and values that
were seen before are not made again: they are taken from small tables, which new ones overwrite.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_SIZE
from libc.string cimport memcmp, memcpy

from sidecar.http.h1 import head_python

cdef enum:
    NAMES = 512  # slots of the table of names; a power of two
    NAME_BYTES = 32  # longer names are not kept
    MAX_LENGTH_DIGITS = 18
    # Where a head ends that is not read here.
    INCOMPLETE = -1
    REFUSED = -2
    # The kinds of fields.
    ORDINARY = 0
    HOST = 1
    LENGTH = 2
    CONNECTION = 3
    CODING = 4
    FOR_ONE_HOP = 5  # without a meaning for the framing or the connection
    OF_REQUESTS = 6  # as FOR_ONE_HOP, in requests; ORDINARY in responses
    PROXY_CONNECTION = 7

cdef unsigned char LOWER[256]  # of a token's bytes; 0 for others
cdef unsigned char IN_VALUE[256]
cdef unsigned char IN_TARGET[256]
cdef list _names = [None] * NAMES
cdef unsigned char _kinds[NAMES]

cdef dict _KINDS = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"connection": CONNECTION,
    b"transfer-encoding": CODING,
    b"upgrade": FOR_ONE_HOP,
    b"keep-alive": FOR_ONE_HOP,
    b"proxy-connection": PROXY_CONNECTION,
    b"http2-settings": FOR_ONE_HOP,
    b"expect": OF_REQUESTS,
    b"te": OF_REQUESTS,
}
cdef dict _METHODS = {method: method for method in head_python.METHODS}


cdef void _fill_tables():
    cdef int byte
    for byte in range(256):
        LOWER[byte] = 0
        IN_VALUE[byte] = byte == 9 or (byte >= 32 and byte != 127)
        IN_TARGET[byte] = 33 <= byte <= 126 and byte != 35  # no fragment
    for byte in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz":
        LOWER[byte] = byte
    for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        LOWER[byte] = byte + 32


_fill_tables()

cdef struct Facts:
    Py_ssize_t length  # of the body; -1 without Content-Length
    Py_ssize_t size  # of the target, the names and the values
    bint request
    bint closes
    bint keeps  # says keep-alive
    bint coding  # has Transfer-Encoding


def read_request_head(bytes data not None, Py_ssize_t at, rules):
    cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t start = at
    cdef Py_ssize_t begin
    cdef bint http11
    cdef Facts facts
    # The method.
    while at < size and text[at] != 32:
        at += 1
    method = _METHODS.get(data[start:at]) if at - start <= 16 else None
    if method is None:
        return _delegate_request(data, start, rules)
    while at < size and text[at] == 32:
        at += 1
    # The target.
    begin = at
    while at < size and IN_TARGET[text[at]]:
        at += 1
    if at == begin or at == size or text[at] != 32:
        return _delegate_request(data, start, rules)
    target = PyBytes_FromStringAndSize(<const char*>text + begin, at - begin)
    while at < size and text[at] == 32:
        at += 1
    # The version.
    if size - at < 10 or memcmp(text + at, b"HTTP/1.", 7) != 0 or text[at + 8] != 13 or text[at + 9] != 10:
        return _delegate_request(data, start, rules)
    http11 = text[at + 7] == 49
    if not http11 and text[at + 7] != 48:
        return _delegate_request(data, start, rules)
    facts.request = True
    facts.size = PyBytes_GET_SIZE(target)
    cdef list fields = []
    cdef list special = []
    cdef list host = []
    at = _read_fields(text, at + 10, size, fields, special, host, &facts, rules)
    if at < 0:
        return _delegate_request(data, start, rules) if at == REFUSED else None
    return (
        method, target, http11, _keeps(&facts, http11), host[0] if host else None, fields, special or None,
        facts.length, at,
    )


def read_response_head(bytes data not None, Py_ssize_t at, rules):
    cdef const unsigned char* text = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t start = at
    cdef int status
    cdef bint http11
    cdef Facts facts
    if size - at < 14 or memcmp(text + at, b"HTTP/1.", 7) != 0 or text[at + 8] != 32:
        return _delegate_response(data, start, rules)
    http11 = text[at + 7] == 49
    if not http11 and text[at + 7] != 48:
        return _delegate_response(data, start, rules)
    if not (_is_digit(text[at + 9]) and _is_digit(text[at + 10]) and _is_digit(text[at + 11])):
        return _delegate_response(data, start, rules)
    status = (text[at + 9] - 48) * 100 + (text[at + 10] - 48) * 10 + text[at + 11] - 48
    at += 12
    if text[at] == 32:
        while at < size and text[at] != 13 and text[at] != 10:
            at += 1
    if size - at < 2 or text[at] != 13 or text[at + 1] != 10:
        return _delegate_response(data, start, rules)
    facts.request = False
    facts.size = 0
    cdef list fields = []
    cdef list special = []
    at = _read_fields(text, at + 2, size, fields, special, special, &facts, rules)
    if at < 0:
        return _delegate_response(data, start, rules) if at == REFUSED else None
    return status, http11, _keeps(&facts, http11), fields, special or None, facts.length, at


cdef Py_ssize_t _read_fields(
    const unsigned char* text, Py_ssize_t at, Py_ssize_t size, list fields, list special, list host, Facts* facts,
    rules,
) except -3:
    """Returns the position behind the head."""
    cdef Py_ssize_t begin, name_size, end
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t max_count = rules.max_headers_count
    cdef Py_ssize_t max_size = rules.max_headers_bytes
    cdef unsigned int hashed
    cdef unsigned char byte
    cdef int kind
    facts.length = -1
    facts.closes = facts.keeps = facts.coding = False
    while True:
        # The end of the head.
        if at == size:
            return INCOMPLETE
        if text[at] == 13:
            if at + 1 == size:
                return INCOMPLETE
            if text[at + 1] != 10 or facts.size > max_size or (facts.coding and facts.length >= 0):
                return REFUSED
            return at + 2
        count += 1
        if count > max_count:
            return REFUSED
        # The name.
        begin = at
        hashed = 0
        while at < size:
            byte = LOWER[text[at]]
            if byte == 0:
                break
            hashed = hashed * 31 + byte
            at += 1
        if at == size:
            return INCOMPLETE
        if text[at] != 58 or at == begin:
            return REFUSED
        name_size = at - begin
        name = _name(text + begin, name_size, hashed, &kind)
        # The value, without white space around it.
        at += 1
        while at < size and (text[at] == 32 or text[at] == 9):
            at += 1
        begin = at
        while at < size and IN_VALUE[text[at]]:
            at += 1
        if size - at < 2:
            return INCOMPLETE
        if text[at] != 13 or text[at + 1] != 10:
            return REFUSED
        end = at
        while end > begin and (text[end - 1] == 32 or text[end - 1] == 9):
            end -= 1
        at += 2
        facts.size += name_size + end - begin
        value = PyBytes_FromStringAndSize(<const char*>text + begin, end - begin)
        if kind == ORDINARY:
            fields.append((name, value))
        elif kind == HOST and facts.request:
            if host:
                return REFUSED
            host.append(value)
        elif kind == LENGTH:
            if facts.length >= 0:
                return REFUSED
            facts.length = _number(text + begin, end - begin)
            if facts.length < 0:
                return REFUSED
            fields.append((name, value))
        elif kind == CONNECTION:
            if not _read_options(text + begin, end - begin, facts):
                special.append((name, value))
        elif kind == PROXY_CONNECTION:
            _read_options(text + begin, end - begin, facts)
            special.append((name, value))
        elif kind == CODING:
            if begin == end:
                return REFUSED
            facts.coding = True
            special.append((name, value))
        elif kind == FOR_ONE_HOP or (kind == OF_REQUESTS and facts.request):
            special.append((name, value))
        else:
            fields.append((name, value))


cdef object _name(const unsigned char* text, Py_ssize_t size, unsigned int hashed, int* kind):
    """The name in lower case, from the table of names if it is there."""
    cdef unsigned char lower[NAME_BYTES]
    cdef Py_ssize_t at
    cdef unsigned int slot
    if size > NAME_BYTES:
        kind[0] = ORDINARY
        return PyBytes_FromStringAndSize(<const char*>text, size).lower()
    for at in range(size):
        lower[at] = LOWER[text[at]]
    slot = (hashed ^ (hashed >> 9)) & (NAMES - 1)
    known = _names[slot]
    if known is None or PyBytes_GET_SIZE(known) != size or memcmp(PyBytes_AS_STRING(known), lower, size) != 0:
        known = PyBytes_FromStringAndSize(<const char*>lower, size)
        _names[slot] = known
        _kinds[slot] = <int>_KINDS.get(known, ORDINARY)
    kind[0] = _kinds[slot]
    return known


cdef bint _read_options(const unsigned char* text, Py_ssize_t size, Facts* facts):
    """Reads the value of a Connection field. Returns whether it is ``keep-alive`` alone."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t begin, end
    while at <= size:
        begin = at
        while at < size and text[at] != 44:
            at += 1
        end = at
        at += 1
        while begin < end and (text[begin] == 32 or text[begin] == 9):
            begin += 1
        while end > begin and (text[end - 1] == 32 or text[end - 1] == 9):
            end -= 1
        if end - begin == 5 and _is_lower(text + begin, b"close", 5):
            facts.closes = True
        elif end - begin == 10 and _is_lower(text + begin, b"keep-alive", 10):
            facts.keeps = True
            if size == 10:
                return True
    return False


cdef bint _is_lower(const unsigned char* text, const char* lower, Py_ssize_t size) noexcept:
    cdef Py_ssize_t at
    for at in range(size):
        if LOWER[text[at]] != <unsigned char>lower[at]:
            return False
    return True


cdef inline bint _is_digit(unsigned char byte) noexcept:
    return 48 <= byte <= 57


cdef Py_ssize_t _number(const unsigned char* text, Py_ssize_t size) noexcept:
    """Returns -1 if it is no number, or too large."""
    cdef Py_ssize_t at
    cdef Py_ssize_t number = 0
    if size == 0 or size > MAX_LENGTH_DIGITS:
        return -1
    for at in range(size):
        if not _is_digit(text[at]):
            return -1
        number = number * 10 + text[at] - 48
    return number


cdef inline bint _keeps(Facts* facts, bint http11) noexcept:
    return not facts.closes and (http11 or facts.keeps)


cdef object _delegate_request(bytes data, Py_ssize_t at, rules):
    if head_python.read_request_head(data, at, rules) is not None:
        raise rules.malformed("malformed HTTP/1.1: the head is ambiguous")
    return None


cdef object _delegate_response(bytes data, Py_ssize_t at, rules):
    head = head_python.read_response_head(data, at, rules)
    if head is not None and data.startswith(b"HTTP/1.", at):
        raise rules.malformed("malformed HTTP/1.1: the head is ambiguous")
    return head


# Writing.


# Two passes: the first computes the size. Nothing between them can run other code, which could change the list.


def join_request(
    bytes method not None, bytes target not None, bytes authority not None, list fields not None,
    bytes body not None, bint empty_length,
):
    cdef Py_ssize_t size = (
        PyBytes_GET_SIZE(method) + PyBytes_GET_SIZE(target) + PyBytes_GET_SIZE(authority) + PyBytes_GET_SIZE(body)
        + 18 + 4  # " ", " HTTP/1.1", "host: ", and CRLF twice
    )
    cdef bytes length = None
    cdef bint has_length = False
    for field in fields:
        _check_field(field)
        name, value = <bytes>(<tuple>field)[0], <bytes>(<tuple>field)[1]
        if _is_of_codec(name):
            if _is_length(name):
                has_length = True
            if not _is_te_trailers(name, value):
                continue
        size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
    if PyBytes_GET_SIZE(body) or empty_length or has_length:
        length = b"content-length: %d\r\n" % PyBytes_GET_SIZE(body)
        size += PyBytes_GET_SIZE(length)
    joined = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(joined)
    to = _put(to, method)
    to = _put(to, b" ")
    to = _put(to, target)
    to = _put(to, b" HTTP/1.1\r\nhost: ")
    to = _put(to, authority)
    to = _put(to, b"\r\n")
    for field in fields:
        name, value = <bytes>(<tuple>field)[0], <bytes>(<tuple>field)[1]
        if not _is_of_codec(name) or _is_te_trailers(name, value):
            to = _put_field(to, name, value)
    if length is not None:
        to = _put(to, length)
    to = _put(to, b"\r\n")
    _put(to, body)
    return joined


def join_response(bytes line not None, list fields not None, bytes body not None, bytes option not None):
    cdef bytes length = b"%d" % PyBytes_GET_SIZE(body)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(line) + PyBytes_GET_SIZE(body) + 4
    cdef Py_ssize_t lengths = 0
    cdef bint right = False  # whether the field is there already, in its place
    for field in fields:
        _check_field(field)
        name, value = <bytes>(<tuple>field)[0], <bytes>(<tuple>field)[1]
        if _is_length(name):
            lengths += 1
            right = lengths == 1 and value == length
            continue
        size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value) + 4
    size += PyBytes_GET_SIZE(length) + 18
    if option:
        size += PyBytes_GET_SIZE(option) + 2
    joined = PyBytes_FromStringAndSize(NULL, size)
    cdef char* to = PyBytes_AS_STRING(joined)
    to = _put(to, line)
    to = _put(to, b"\r\n")
    for field in fields:
        name, value = <bytes>(<tuple>field)[0], <bytes>(<tuple>field)[1]
        if right or not _is_length(name):
            to = _put_field(to, name, value)
    if not right:
        to = _put_field(to, b"content-length", length)
    if option:
        to = _put(to, option)
        to = _put(to, b"\r\n")
    to = _put(to, b"\r\n")
    _put(to, body)
    return joined


cdef inline int _check_field(field) except -1:
    if (
        not PyTuple_CheckExact(field)
        or PyTuple_GET_SIZE(field) != 2
        or not PyBytes_CheckExact((<tuple>field)[0])
        or not PyBytes_CheckExact((<tuple>field)[1])
    ):
        raise TypeError(f"a header is a pair of bytes, not {field!r}")
    return 0


cdef inline char* _put(char* to, bytes text) noexcept:
    memcpy(to, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return to + PyBytes_GET_SIZE(text)


cdef inline char* _put_field(char* to, bytes name, bytes value) noexcept:
    to = _put(to, name)
    to[0] = 58
    to[1] = 32
    to = _put(to + 2, value)
    to[0] = 13
    to[1] = 10
    return to + 2


cdef inline bint _is(bytes name, const char* other, Py_ssize_t size) noexcept:
    return memcmp(PyBytes_AS_STRING(name), other, size) == 0


cdef inline bint _is_length(bytes name) noexcept:
    return PyBytes_GET_SIZE(name) == 14 and _is(name, b"content-length", 14)


cdef bint _is_of_codec(bytes name) noexcept:
    """Whether only a codec writes the field; the names are those of `head_python.OF_CODEC`."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    if size == 2:
        return _is(name, b"te", 2)
    if size == 4:
        return _is(name, b"host", 4)
    if size == 7:
        return _is(name, b"upgrade", 7)
    if size == 10:
        return _is(name, b"connection", 10) or _is(name, b"keep-alive", 10)
    if size == 14:
        return _is(name, b"content-length", 14) or _is(name, b"http2-settings", 14)
    if size == 16:
        return _is(name, b"proxy-connection", 16)
    return size == 17 and _is(name, b"transfer-encoding", 17)


cdef inline bint _is_te_trailers(bytes name, bytes value) noexcept:
    return PyBytes_GET_SIZE(name) == 2 and PyBytes_GET_SIZE(value) == 8 and _is(value, b"trailers", 8)
