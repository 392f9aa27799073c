"""The same bytes to the real Envoy and to the sidecar, and the messages on both sides of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import ndiff
from operator import itemgetter
from typing import TypeVar

from tests.support.raw_http import Answer, RawConnection
from tests.support.recording_upstream import RecordingUpstream, SeenRequest

Fields = list[tuple[str, str]]

_PROBE = b"GET / HTTP/1.1\r\nhost: probe.test\r\n\r\n"
_NO_FIXED_VALUE = {
    "date": re.compile(r"\w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d GMT"),
    # The digit of the version says whether the request is traced.
    "x-request-id": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "x-envoy-upstream-service-time": re.compile(r"\d{1,4}"),
    # What is left of the default timeout, in ms.
    "x-envoy-expected-rq-timeout-ms": re.compile(r"14\d{3}|15000"),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """``parts`` of messages that the sidecar writes otherwise: ``body``, ``framing``, and names of fields."""

    reason: str
    parts: frozenset[str]


OWN_WORDS = Difference(
    "a local reply says which hop failed and why",
    frozenset(("body", "framing", "content-length", "content-type")),
)
REFRAMED = Difference(
    "a body that arrived whole is passed on in one write, with its length",
    frozenset(("framing", "content-length", "transfer-encoding")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``request`` is sent whole, then ``then`` once a first answer is there. Where there is ``elsewhere``,
    another connection, opened later, is sent that and has ended before. ``expect`` is how Envoy's
    `Conversation.summary` begins: it keeps a row from testing something else than its name says.

    Deliberate differences are ``differs``, and ``ours``: how the summary of a sidecar that answers otherwise
    altogether begins, and why.
    """

    request: bytes
    expect: str
    listener: str = "plain"
    then: bytes = b""
    elsewhere: bytes = b""
    tunnel: bool = False
    answers: int = 1
    differs: Difference | None = None
    ours: tuple[str, str] | None = None


@dataclass(slots=True)
class Conversation:
    answers: list[Answer]
    tunnelled: str
    kept_open: bool
    upstream: list[SeenRequest]

    @property
    def summary(self) -> str:
        parts = [f"{answer.status} {answer.body}".strip() for answer in self.answers]
        return " | ".join([*parts, "open" if self.kept_open else "closed"])

    def lines(self) -> list[str]:
        """The parts that a person compares."""
        lines = []
        for answer in self.answers:
            lines += [f"answer {answer.status}", *_message_lines(answer)]
        for request in self.upstream:
            lines += [f"{request.upstream} was asked {request.line}", *_message_lines(request)]
        return [*lines, f"tunnelled {self.tunnelled!r}", f"kept open: {self.kept_open}"]

    def without(self, parts: frozenset[str]) -> Conversation:
        answers = [_without(answer, parts) for answer in self.answers]
        return replace(
            self, answers=answers, upstream=[_without(request, parts) for request in self.upstream]
        )


Message = TypeVar("Message", Answer, SeenRequest)


def _without(message: Message, parts: frozenset[str]) -> Message:
    blank = {part: "" for part in ("body", "framing") if part in parts}
    return replace(message, fields=[pair for pair in message.fields if pair[0] not in parts], **blank)


def _message_lines(message: Answer | SeenRequest) -> list[str]:
    fields = [f"  {name}: {value}" for name, value in message.fields]
    trailers = [f"  trailer {name}: {value}" for name, value in message.trailers]
    return [*fields, f"  body ({message.framing}): {message.body!r}", *trailers]


Converse = Callable[[int, Row], tuple[list[Answer], bool]]


class ProxyPair:
    """Two proxies with one configuration: ``envoy`` and ``sidecar`` map a listener's name to its port."""

    def __init__(
        self, envoy: Mapping[str, int], sidecar: Mapping[str, int], upstream: RecordingUpstream
    ) -> None:
        self._envoy = envoy
        self._sidecar = sidecar
        self._upstream = upstream
        self._loopback = self._name_of_loopback()

    def check(self, row: Row, converse: Converse | None = None) -> None:
        """Fails with the differences. `converse` sends the request of a row to a port in another version, and
        returns the answers, and whether the connection is kept open."""
        envoys = self._converse(self._envoy[row.listener], row, converse)
        if not envoys.summary.startswith(row.expect):
            raise AssertionError(f"Envoy's answer is not the one that this is about: {envoys.summary}")
        ours = self._converse(self._sidecar[row.listener], row, converse)
        if row.ours is not None:
            summary, reason = row.ours
            if not ours.summary.startswith(summary):
                raise AssertionError(f"the sidecar says {ours.summary!r}, not {summary!r}: {reason}")
            return
        if row.differs is not None:
            envoys, ours = envoys.without(row.differs.parts), ours.without(row.differs.parts)
        if ours != envoys:
            difference = ndiff(envoys.lines(), ours.lines())
            raise AssertionError("\n".join(["Envoy's (-) and the sidecar's (+):", *difference]))

    def ports(self, listener: str) -> dict[str, int]:
        """By proxy. The listener ``admin`` is the admin port."""
        return {"envoy": self._envoy[listener], "sidecar": self._sidecar[listener]}

    def _name_of_loopback(self) -> str:
        """An Envoy at the edge calls a client on its own host by the host's address."""
        self._loopback = "127.0.0.1"
        edge = Row(request=ask("GET /", host="forwarding.test"), expect="200", listener="edge")
        (request,) = self._converse(self._envoy["edge"], edge).upstream
        return request.value("x-forwarded-for") or ""

    def _converse(self, port: int, row: Row, converse: Converse | None = None) -> Conversation:
        self._upstream.take_seen()
        if converse is not None:
            return self._conversation(*converse(port, row), "")
        methods = [line.split(b" ")[0].decode("latin-1") for line in _request_lines(row)]
        answers: list[Answer] = []
        tunnelled = ""
        with RawConnection(port) as connection:
            if row.elsewhere:
                with RawConnection(port) as other:
                    other.send(row.elsewhere)
                    other.read_rest()
            connection.send(row.request)
            try:
                if row.then:
                    answers.append(connection.read_answer(methods[0]))
                    connection.send(row.then)
                while len(answers) < row.answers:
                    answers.append(connection.read_answer(methods[min(len(answers), len(methods) - 1)]))
            except (EOFError, ConnectionError):
                kept_open = False
            else:
                if row.tunnel:
                    tunnelled = connection.read_rest()
                kept_open = not row.tunnel and _is_open(connection)
        return self._conversation(answers, kept_open, tunnelled)

    def _conversation(self, answers: list[Answer], kept_open: bool, tunnelled: str) -> Conversation:
        seen = self._upstream.take_seen()
        for message in (*answers, *seen):
            message.fields = self._comparable(message.fields)
            message.trailers = self._comparable(message.trailers)
        return Conversation(answers, tunnelled, kept_open, seen)

    def _comparable(self, fields: Fields) -> Fields:
        """Names keep their case and values of one name their order; the order of the names says nothing."""
        return sorted(
            ((name, self._comparable_value(name, value)) for name, value in fields), key=itemgetter(0)
        )

    def _comparable_value(self, name: str, value: str) -> str:
        if name == "x-forwarded-for":
            return value.replace(self._loopback, "127.0.0.1")
        pattern = _NO_FIXED_VALUE.get(name)
        found = pattern.fullmatch(value) if pattern is not None else None
        return value if found is None else " ".join((f"<{name}>", *found.groups()))


def _request_lines(row: Row) -> list[bytes]:
    """The lines of pipelined requests, none of which has a body."""
    return [head.partition(b"\r\n")[0] for head in row.request.split(b"\r\n\r\n")[: row.answers]]


def _is_open(connection: RawConnection) -> bool:
    connection.send(_PROBE)
    try:
        return connection.read_answer("GET").status == 200
    except (EOFError, ConnectionError):
        return False


def ask(line: str, *fields: str, host: str, body: str = "") -> bytes:
    """A request in good order: ``ask("GET /path", "x-a: 1", host="a.test")``."""
    head = [f"{line} HTTP/1.1", f"host: {host}", *fields]
    if body:
        head.append(f"content-length: {len(body)}")
    return ("\r\n".join([*head, "", ""]) + body).encode("latin-1")
