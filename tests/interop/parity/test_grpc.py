"""gRPC and gRPC-Web: local replies, deadlines, retries, and the translation between the two."""

from __future__ import annotations

import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from string import Template

import pytest

from tests.interop.parity.comparison import REFRAMED, Difference, ProxyPair, Row, ask
from tests.interop.parity.conftest import proxy_pair

DEADLINE_S = 5.0
BOOTSTRAP = Template(Path(__file__).with_name("grpc_bootstrap.yaml").read_text())


@pytest.fixture(scope="module")
def grpc_proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyPair]:
    with proxy_pair(tmp_path_factory.mktemp("grpc"), BOOTSTRAP, ("plain", "edge", "short")) as pair:
        yield pair


CLOSES = ("200 | closed", "after the longest duration, the sidecar closes a connection of HTTP/1")
OWN_MESSAGE = Difference("a local reply says which hop failed and why", frozenset(("grpc-message",)))
MESSAGE = "\0\0\0\0\2hi"


def call(
    path: str,
    *fields: str,
    expect: str = "200",
    content_type: str = "application/grpc",
    body: str = MESSAGE,
    differs: Difference | None = None,
    listener: str = "plain",
    answer: str = "",
    ours: tuple[str, str] | None = None,
) -> Row:
    fields = (f"content-type: {content_type}", *((f"answer: {answer}",) if answer else ()), *fields)
    request = ask(f"POST {path}", *fields, host="grpc.test", body=body)
    return Row(request=request, expect=expect, differs=differs, listener=listener, ours=ours)


LOCAL_REPLIES = {
    "a direct response": call("/direct", body=""),
    "a direct response without a text": call("/direct-empty", body=""),
    "a redirect": call("/redirect", body=""),
    "no route": call("/none", body=""),
    "no cluster": call("/no-cluster", body="", differs=OWN_MESSAGE),
    "no hosts": call("/no-hosts", body=""),
    "a refused connection": call("/refused", differs=OWN_MESSAGE),
    "a reset": call("/", answer="reset", differs=OWN_MESSAGE),
    "a garbled answer": call("/", answer="garbage", differs=OWN_MESSAGE),
    "a timeout": call("/timeout", answer="silence", differs=OWN_MESSAGE),
    "another encoding of the messages": call("/direct", body="", content_type="application/grpc+json"),
    "a parameter of the type: no gRPC": call(
        "/direct", body="", content_type="application/grpc;a=b", expect="403"
    ),
    "a longer name: no gRPC": call("/direct", body="", content_type="application/grpcs", expect="403"),
    "capitals: no gRPC": call("/direct", body="", content_type="Application/gRPC", expect="403"),
}
ANSWERS = {
    **{name: call("/", answer=name) for name in ("grpc", "grpc not found", "grpc head only")},
    "grpc without status": call("/", answer="grpc without status", differs=REFRAMED),
    "html": call("/", answer="html", expect="404"),
}
RETRIES = {
    "unavailable": call("/retry", answer="grpc unavailable,grpc"),
    "used up": call("/retry", answer="grpc unavailable"),
    "another status": call("/retry", answer="grpc head only"),
    "too late": call("/retry", answer="grpc unavailable late,grpc"),
}
DEADLINES = {
    "max_grpc_timeout 0, no deadline": call("/max-grpc", answer="grpc"),
    "max_grpc_timeout 0, a long one": call("/max-grpc", "grpc-timeout: 20S", answer="grpc"),
    "max_grpc_timeout 0, in hours": call("/max-grpc", "grpc-timeout: 99999999H", answer="grpc"),
    "max_grpc_timeout 0, in nanoseconds": call("/max-grpc", "grpc-timeout: 99000001n", answer="grpc"),
    "max_grpc_timeout 0, an invalid one": call("/max-grpc", "grpc-timeout: 20s", answer="grpc"),
    "max_grpc_timeout 0, no unit": call("/max-grpc", "grpc-timeout: 20", answer="grpc"),
    "max_grpc_timeout 0, expires": call(
        "/max-grpc", "grpc-timeout: 200m", answer="silence", differs=OWN_MESSAGE
    ),
    "max_grpc_timeout, no deadline": call("/max-grpc-300", answer="silence", differs=OWN_MESSAGE),
    "max_grpc_timeout, a longer one": call("/max-grpc-300", "grpc-timeout: 9S", answer="grpc"),
    "max_grpc_timeout, a shorter one": call("/max-grpc-300", "grpc-timeout: 290m", answer="grpc"),
    "max_grpc_timeout, shorter than the offset": call("/max-grpc-300", "grpc-timeout: 10m", answer="grpc"),
    "max_grpc_timeout, less for each try": call("/max-grpc-per-try", answer="grpc"),
    "max_grpc_timeout, of no call": call(
        "/max-grpc", "grpc-timeout: 200m", answer="ok", content_type="text/plain"
    ),
    "max_stream_duration": call("/duration", answer="silence", ours=CLOSES),
    "max_stream_duration, told to the server": call("/duration", answer="grpc"),
    "max_stream_duration, replaces the deadline": call("/duration", "grpc-timeout: 1S", answer="grpc"),
    "max_stream_duration, replaces the timeout": call("/duration-and-timeout", answer="silence", ours=CLOSES),
    "the client's deadline": call("/deadline", "grpc-timeout: 200m", answer="silence", ours=CLOSES),
    "the client's deadline, told": call("/deadline", "grpc-timeout: 9S", answer="grpc"),
    "the client's deadline, none": call("/deadline", answer="grpc"),
    "the client's deadline of 0": call("/deadline", "grpc-timeout: 0m", answer="silence", ours=CLOSES),
    "the maximum of the deadline": call("/deadline-max", "grpc-timeout: 9S", answer="grpc"),
    "the maximum, none": call("/deadline-max", answer="grpc"),
    "less than the offset": call("/deadline-max", "grpc-timeout: 40m", answer="silence", ours=CLOSES),
    "of the connection manager": call("/", answer="silence", listener="short", ours=CLOSES),
    "of the connection manager, untold": call("/", "grpc-timeout: 2S", answer="grpc", listener="short"),
    "of the connection manager, the route has its own": call(
        "/deadline", "grpc-timeout: 9S", answer="grpc", listener="short"
    ),
}


def web(
    path: str,
    *fields: str,
    subtype: str = "+proto",
    answer: str = "",
    body: str = MESSAGE,
    expect: str = "200",
    differs: Difference | None = REFRAMED,
) -> Row:
    content_type = f"application/grpc-web{subtype}"
    return call(
        path, *fields, content_type=content_type, answer=answer, body=body, expect=expect, differs=differs
    )


def text(
    path: str, body: str, *, answer: str = "grpc", expect: str = "200", differs: Difference | None = REFRAMED
) -> Row:
    accept = "accept: application/grpc-web-text"
    return web(path, accept, subtype="-text", answer=answer, body=body, expect=expect, differs=differs)


ENCODED = b64encode(MESSAGE.encode()).decode()
WEB = {
    "binary": web("/", answer="grpc"),
    "binary, without a message format": web("/", subtype="", answer="grpc"),
    "another message format: no gRPC-Web": web("/", subtype="+json", answer="grpc"),
    "other accepted encodings": web("/", "grpc-accept-encoding: gzip", "te: gzip", answer="grpc"),
    "no content": web("/", answer="grpc not found"),
    "two messages": web("/", answer="grpc twice"),
    "no status": web("/", answer="grpc without status"),
    "a head with the status": web("/", answer="grpc head only"),
    "a text": text("/", ENCODED),
    "a text of two messages": text("/", b64encode(MESSAGE.encode() * 2).decode()),
    "a text of parts with a padding of their own": replace(
        text("/", ENCODED + ENCODED, expect="400"),
        ours=("200", "Envoy takes such a text only if the parts arrive one by one"),
    ),
    "a text, no content": text("/", ENCODED, answer="grpc not found"),
    "a text, a head with the status": text("/", ENCODED, answer="grpc head only"),
    "a text, answered in binary": web("/", subtype="-text", answer="grpc", body=ENCODED),
    "binary, answered as a text": web("/", "accept: application/grpc-web-text+proto", answer="grpc"),
    "no base64": text("/", "AAA*", expect="400", differs=OWN_MESSAGE),
    "base64 that ends too early": text("/", ENCODED + "AA", expect="400", differs=OWN_MESSAGE),
    "an answer that is no gRPC": web("/", answer="html", expect="404"),
    "an answer that is no gRPC, as a text": text("/", ENCODED, answer="html", expect="404"),
    "a direct response": web("/direct", body="", expect="403"),
    "a direct response without a text": web("/direct-empty", body="", expect="429"),
    "no route": web("/none", body="", expect="404"),
    "a refused connection": web("/refused", expect="503", differs=OWN_MESSAGE),
}


KNOWN = "/pkg.Service/Known"
COUNTED = {
    "a call": call(KNOWN, answer="grpc"),
    "messages": call(KNOWN, answer="grpc twice", body=MESSAGE * 3),
    "another method": call("/pkg.Service/Other", answer="grpc"),
    "another service": call("/pkg.Other/Known", answer="grpc twice"),
    "no method": call("/pkg.Service", answer="grpc"),
    "a query": call(f"{KNOWN}?a=b", answer="grpc"),
    "a failure": call(KNOWN, answer="grpc not found"),
    "a failure in the head": call(KNOWN, answer="grpc head only"),
    "a reset": call(KNOWN, answer="reset", differs=OWN_MESSAGE),
    "no status": call(KNOWN, answer="grpc without status", differs=REFRAMED),
    "no gRPC": call(KNOWN, answer="ok", content_type="text/plain"),
    "an answer that is no gRPC": call(KNOWN, answer="html", expect="404"),
    "gRPC-Web": web(KNOWN, answer="grpc"),
    "gRPC-Web, another method": web("/pkg.Service/Other", answer="grpc twice"),
    "gRPC-Web, no method": web("/", answer="grpc"),
    "gRPC-Web, a failure": web(KNOWN, answer="grpc not found"),
    "gRPC-Web, a failure in the head": web(KNOWN, answer="grpc head only"),
    "gRPC-Web, no status": web(KNOWN, answer="grpc without status"),
    "gRPC-Web, an answer that is no gRPC": web(KNOWN, answer="html", expect="404"),
    "gRPC-Web, a text": text(KNOWN, ENCODED),
    "gRPC-Web, no base64": text(KNOWN, "AAA*", expect="400", differs=OWN_MESSAGE),
}


@pytest.mark.parametrize("row", COUNTED.values(), ids=list(COUNTED))
def test_counters(grpc_proxies: ProxyPair, row: Row) -> None:
    before = {proxy: _counters(port) for proxy, port in grpc_proxies.ports("admin").items()}
    grpc_proxies.check(row)
    end_s = time.monotonic() + DEADLINE_S
    while True:
        grown = {
            proxy: {name: count - before[proxy].get(name, 0) for name, count in _counters(port).items()}
            for proxy, port in grpc_proxies.ports("admin").items()
        }
        moved = {proxy: {name: by for name, by in counts.items() if by} for proxy, counts in grown.items()}
        if moved["sidecar"] == moved["envoy"] or time.monotonic() > end_s:
            break
        time.sleep(0.02)
    assert moved["sidecar"] == moved["envoy"]


def _counters(port: int) -> dict[str, int]:
    filtered = f"http://127.0.0.1:{port}/stats?filter=%5C.grpc(-web)?%5C."
    with urllib.request.urlopen(filtered, timeout=DEADLINE_S) as answer:
        lines = answer.read().decode().splitlines()
    counters = (line.rpartition(": ") for line in lines)
    return {name: int(count) for name, _, count in counters if count.isdecimal()}


@pytest.mark.parametrize("row", LOCAL_REPLIES.values(), ids=list(LOCAL_REPLIES))
def test_local_replies(grpc_proxies: ProxyPair, row: Row) -> None:
    grpc_proxies.check(row)


@pytest.mark.parametrize("row", ANSWERS.values(), ids=list(ANSWERS))
def test_answers(grpc_proxies: ProxyPair, row: Row) -> None:
    grpc_proxies.check(row)


@pytest.mark.parametrize("row", RETRIES.values(), ids=list(RETRIES))
def test_retries(grpc_proxies: ProxyPair, row: Row) -> None:
    grpc_proxies.check(row)


@pytest.mark.parametrize("row", DEADLINES.values(), ids=list(DEADLINES))
def test_deadlines(grpc_proxies: ProxyPair, row: Row) -> None:
    grpc_proxies.check(row)


@pytest.mark.parametrize("row", WEB.values(), ids=list(WEB))
def test_grpc_web(grpc_proxies: ProxyPair, row: Row) -> None:
    grpc_proxies.check(row)
