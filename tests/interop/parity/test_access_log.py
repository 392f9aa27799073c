"""The entries that both proxies write to the same access logs for the same requests."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pytest

from tests.support.admin_client import ask as ask_admin
from tests.support.envoy import envoy_command
from tests.support.processes import Child, child, free_port
from tests.support.raw_http import RawConnection
from tests.support.recording_upstream import recording_upstream

BOOTSTRAP = Template(Path(__file__).with_name("access_log.yaml").read_text())
LISTENERS = ("web", "raw", "plain", "unmatched")
# What a client may send in a header: text, UTF-8 and not, what JSON escapes, what is cut within a character.
VALUES = (
    b"plain",
    b"a'b\\c",
    b'a"b',
    b"tab\there",
    "é€😀".encode(),
    "aé".encode(),
    b"jos\xe9",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc2\x85",
    "a\u2028b".encode(),
    b"<a>&/",
    b"",
)
# Envoy writes these into a line of text as they came.
ESCAPED_IN_TEXT = {
    b'a"b': rb"a\x22b a\x22b |a\x22b",
    b"tab\there": rb"tab\x09here tab |tab\x09here",
    b"jos\xe9": rb"jos\xe9 jos |jos\xe9",
    "é€😀".encode(): "é€😀 é\\xe2 |é€😀".encode(),
    b"\xff\xfe": rb"\xff\xfe \xff\xfe |\xff\xfe",
    b"\xed\xa0\x80": rb"\xed\xa0\x80 \xed\xa0\x80 |\xed\xa0\x80",
    b"\xc2\x85": rb"\xc2\x85 \xc2\x85 |\xc2\x85",
    "a\u2028b".encode(): rb"a\xe2\x80\xa8b a\xe2\x80 |a\xe2\x80\xa8b",
}
PATHS = ("/direct", "/forwarded", "/refused", "/missing", "/no-hosts", "/no-route")


@dataclass(frozen=True, slots=True)
class Proxy:
    process: Child
    ports: dict[str, int]
    folder: Path

    def lines(self, log: str, number: int) -> list[bytes]:
        """The first lines of a log, with the proxy's own ports written as ``PORT``."""
        path = self.folder / log
        self.process.wait_for(
            lambda: path.exists() and path.read_bytes().count(b"\n") >= number, f"{log} has {number} lines"
        )
        data = path.read_bytes()
        for port in self.ports.values():
            data = data.replace(b":%d" % port, b":PORT")
        return data.split(b"\n")[:-1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Proxy]]:
    """Envoy and the sidecar, when both have answered the same requests."""
    folder = tmp_path_factory.mktemp("access-log")
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream("upstream"))
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))  # and never listens
        shared = {**upstream.ports, "refusing": refusing.getsockname()[1]}
        envoy, sidecar = (_proxy(name, folder / name, shared, stack) for name in ("envoy", "sidecar"))
        yield envoy, sidecar


def _proxy(name: str, folder: Path, shared: dict[str, int], stack: ExitStack) -> Proxy:
    folder.mkdir()
    ports = {port: free_port() for port in (*LISTENERS, "admin")}
    file = folder / "bootstrap.yaml"
    file.write_text(BOOTSTRAP.substitute(shared, folder=folder, **ports))
    if name == "envoy":
        command = envoy_command(file, "--file-flush-interval-msec", "50")
    else:
        options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
        command = [sys.executable, "-m", "sidecar", "-c", str(file), *options]
    process = stack.enter_context(child(command, folder / "stderr"))
    process.wait_for_port(ports["admin"])
    process.wait_for(lambda: ask_admin(ports["admin"], "/ready").status == 200, f"{name} is ready")
    with RawConnection(ports["web"]) as connection:
        for value in VALUES:
            connection.send(b"GET /direct HTTP/1.1\r\nhost: values.test\r\nx-v: " + value + b"\r\n\r\n")
            connection.read_answer("GET")
        for path in PATHS:
            connection.send(b"GET %s HTTP/1.1\r\nhost: paths.test\r\n\r\n" % path.encode())
            connection.read_answer("GET")
        connection.send(b"CONNECT paths.test:80 HTTP/1.1\r\nhost: paths.test:80\r\n\r\n")
        connection.read_answer("CONNECT")
    with RawConnection(ports["raw"]) as connection:
        connection.send(b"GET / HTTP/1.1\r\nhost: raw.test\r\n\r\n")
        connection.read_answer("GET")
    for data, answers in ((GET * 2, 2), (CLOSING, 1), (MALFORMED, 1), (b"", 0)):
        with RawConnection(ports["plain"]) as connection:
            connection.send(data)
            for _ in range(answers):
                connection.read_answer("GET")
    for data in (
        client_hello("somebody.test"),
        b"not TLS\r\n",
        b"",
    ):  # the last one says nothing for too long
        with RawConnection(ports["unmatched"]) as connection:
            connection.send(data)
            assert connection.read_rest() == ""
    return Proxy(process, ports, folder)


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
MALFORMED = b"GET / HTTP/1.1\r\nhost: a\r\nx-a: \x00\r\n\r\n"


def client_hello(name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


REQUESTS = len(VALUES) + len(PATHS) + 1  # CONNECT


def test_text_is_unchanged_unless_it_could_forge_a_line(pair: tuple[Proxy, Proxy]) -> None:
    theirs, ours = (proxy.lines("text", REQUESTS) for proxy in pair)
    assert len(theirs) == len(ours) == REQUESTS
    for value, envoys, line in zip(VALUES, theirs, ours, strict=False):
        if value in ESCAPED_IN_TEXT:
            assert line == ESCAPED_IN_TEXT[value] + b" - values.test 100%"
            assert line != envoys
        else:
            assert line == envoys
    assert ours[len(VALUES) :] == theirs[len(VALUES) :]


def test_operators_are_the_same_text(pair: tuple[Proxy, Proxy]) -> None:
    theirs, ours = (text_lines(proxy) for proxy in pair)
    assert ours == theirs


def text_lines(proxy: Proxy) -> list[list[bytes]]:
    """One line has no end of its own in this format: each entry ends in ``#``."""
    path = proxy.folder / "operators"
    proxy.process.wait_for(
        lambda: path.exists() and path.read_bytes().count(b"#") >= REQUESTS, "operators are logged"
    )
    entries = path.read_bytes().split(b"#")[:-1]
    return [without_own_words(entry.split()) for entry in entries]


def without_own_words(fields: list[bytes]) -> list[bytes]:
    """A local reply says which hop failed and why, so that its length differs, and the details of a failed
    connection are Envoy's first words alone."""
    code, details, sent = 5, 6, 9
    if fields[code] == b"503":
        fields[details] = fields[details].partition(b"{")[0]
        fields[sent] = b"<sent>"
        fields[-1] = b"<content-type>"
    return fields


@pytest.mark.parametrize("log", ["json", "without_empty", "text_without_empty", "old_json", "old_typed_json"])
def test_the_other_formats_say_the_same(pair: tuple[Proxy, Proxy], log: str) -> None:
    envoys, ours = (proxy.lines(log, REQUESTS) for proxy in pair)
    if log == "text_without_empty":
        assert ours == envoys
        return
    assert [names(line) for line in ours] == [names(line) for line in envoys]
    assert [entry(line) for line in ours] == [entry(line) for line in envoys]


def entry(line: bytes) -> Any:
    values = json.loads(line)
    if values.get("code") == 503 and "details" in values:
        values["details"] = values["details"].partition("{")[0]
        values["sent"] = "<sent>"
    return values


def names(line: bytes) -> list[str]:
    return list(json.loads(line))


def test_an_invalid_request_is_logged_alike(pair: tuple[Proxy, Proxy]) -> None:
    envoys, ours = (proxy.lines("plain_requests", 4) for proxy in pair)
    assert envoys[3].startswith(b"- - HTTP/1.1 400 ")
    assert ours == envoys


def test_the_format_that_istiod_sends(pair: tuple[Proxy, Proxy]) -> None:
    theirs, ours = ([comparable(line) for line in proxy.lines("istiod", REQUESTS)] for proxy in pair)
    assert any(fields[16] == "127.0.0.1" for fields in theirs), "a host was connected to"
    assert ours == theirs


def comparable(line: bytes) -> list[str]:
    """The fields without times, ports and identifiers, which differ, and without each proxy's own words for
    an error."""
    fields = shlex.split(line.decode().partition("] ")[2])
    code, details, failure, sent, duration, service_time, request_id = 1, 3, 5, 7, 8, 9, 12
    upstream_local, downstream_remote = 16, 18
    for index in (failure, service_time, request_id):
        fields[index] = "-" if fields[index] == "-" else "<set>"
    fields[duration] = "<set>"
    if fields[code] == "503":
        fields[details], fields[sent] = fields[details].partition("{")[0], "<sent>"
        fields[failure] = "<words>"
    for index in (upstream_local, downstream_remote):
        fields[index] = fields[index].partition(":")[0]
    return fields


def test_an_entry_with_one_of_the_flags_is_logged(pair: tuple[Proxy, Proxy]) -> None:
    for log, lines in (("some_flags", 3), ("all_flags", 5), ("unmatched_alone", 1)):
        theirs, ours = (proxy.lines(log, lines) for proxy in pair)
        assert ours == theirs


def test_tcp_connections_are_logged_alike(pair: tuple[Proxy, Proxy]) -> None:
    envoys, ours = (json.loads(proxy.lines("tcp", 1)[0]) for proxy in pair)
    assert ours == envoys


@pytest.mark.parametrize(
    ("log", "connections"), [("raw_listener", 1), ("plain_listener", 4), ("unmatched_listener", 3)]
)
def test_a_listener_logs_each_of_its_connections(
    pair: tuple[Proxy, Proxy], log: str, connections: int
) -> None:
    envoys, ours = ([of_connection(line) for line in proxy.lines(log, connections)] for proxy in pair)
    assert len(envoys) == connections
    assert ours == envoys


def of_connection(line: bytes) -> Any:
    """The text and the dates of a reply differ between the proxies."""
    values = json.loads(line)
    if values["flags"] == "DPE":
        values["sent"] = "<sent>"
        values["protocol"] = None
    return values


@pytest.mark.parametrize("how", ["SIGUSR1", "/reopen_logs"])
def test_renamed_logs_are_left_when_that_is_asked_for(pair: tuple[Proxy, Proxy], how: str) -> None:
    for proxy in pair:
        log = proxy.folder / "old_json"
        proxy.lines("old_json", 0)
        log.rename(proxy.folder / f"old_json.{how.strip('/')}")
        proxy.process.process.send_signal(signal.SIGHUP)
        if how == "SIGUSR1":
            proxy.process.process.send_signal(signal.SIGUSR1)
        else:
            page = ask_admin(proxy.ports["admin"], how, "POST")
            assert (page.status, page.body) == (200, "OK\n")
        with RawConnection(proxy.ports["web"]) as connection:
            connection.send(b"GET /direct HTTP/1.1\r\nhost: a\r\nx-v: " + how.encode() + b"\r\n\r\n")
            connection.read_answer("GET")
        assert json.loads(proxy.lines("old_json", 1)[-1])["v"] == how
        assert ask_admin(proxy.ports["admin"], "/reopen_logs").status == 405
