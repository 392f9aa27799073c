"""The tools that people have at hand, through the sidecar: curl, wrk, h2load."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest

from tests.support.processes import child, free_port
from tests.support.recording_upstream import RecordingUpstream, SeenRequest, recording_upstream

MIB = 1024 * 1024
BOOTSTRAP = Template(Path(__file__).with_name("tools.yaml").read_text())


@dataclass(frozen=True, slots=True)
class Sidecar:
    url: str
    upstream: RecordingUpstream

    def seen(self) -> SeenRequest:
        """The one request that the upstream got."""
        (request,) = self.upstream.take_seen()
        return request


@pytest.fixture(scope="module")
def running_sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("tools")
    port, file = free_port(), folder / "bootstrap.yaml"
    with recording_upstream("upstream") as upstream:
        file.write_text(BOOTSTRAP.substitute(port=port, upstream=upstream.ports["upstream"]))
        command = [sys.executable, "-m", "sidecar", "-c", str(file), "--drain-time-s", "0"]
        command += ["--status-port", "off", "--metrics-port", "off"]
        with child(command, folder / "sidecar.log") as process:
            process.wait_for_port(port)
            yield Sidecar(f"http://127.0.0.1:{port}", upstream)


@pytest.fixture
def sidecar(running_sidecar: Sidecar) -> Sidecar:
    """One whose upstream has seen nothing yet."""
    running_sidecar.upstream.take_seen()
    return running_sidecar


def run(*command: str, stdin: bytes = b"") -> str:
    """What the tool prints; fails with its errors. A tool that is not installed is skipped."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def curl(*arguments: str, stdin: bytes = b"") -> str:
    return run("curl", "-sS", "--noproxy", "", "--max-time", "20", *arguments, stdin=stdin)


def test_curl_gets(sidecar: Sidecar) -> None:
    assert curl(f"{sidecar.url}/a?b=c") == "ok"
    assert sidecar.seen().line == "GET /a?b=c HTTP/1.1"


def test_curl_asks_for_the_head(sidecar: Sidecar) -> None:
    head = curl("--head", "-H", "answer: head", sidecar.url)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "content-length: 1234\r\n" in head


def test_curl_asks_twice_on_one_connection(sidecar: Sidecar) -> None:
    printed = curl("-w", "%{num_connects} ", f"{sidecar.url}/1", f"{sidecar.url}/2")
    assert printed == "ok1 ok0 "
    assert [request.line.split()[1] for request in sidecar.upstream.take_seen()] == ["/1", "/2"]


def test_curl_posts_a_form(sidecar: Sidecar) -> None:
    assert curl("-d", "a=1&b=2", sidecar.url) == "ok"
    assert sidecar.seen().body == "a=1&b=2"


def test_curl_uploads_a_file(sidecar: Sidecar, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789abcdef" * (8 * MIB // 16))
    assert curl("-H", "Expect: 100-continue", "-T", str(file), f"{sidecar.url}/file") == "ok"
    request = sidecar.seen()
    assert request.line == "PUT /file HTTP/1.1"
    assert request.framing == "length"
    assert request.body.encode() == file.read_bytes()


def test_curl_uploads_its_input(sidecar: Sidecar) -> None:
    data = b"x" * MIB
    assert curl("-H", "Transfer-Encoding: chunked", "-T", "-", f"{sidecar.url}/file", stdin=data) == "ok"
    request = sidecar.seen()
    assert request.framing == "chunked"
    assert len(request.body) == MIB


def test_curl_downloads_chunks(sidecar: Sidecar) -> None:
    assert curl("-H", "answer: large chunks", sidecar.url) == "x" * (8 * 0x10000)


def test_curl_takes_it_for_a_proxy(sidecar: Sidecar) -> None:
    assert curl("--proxy", sidecar.url, "http://reviews:9080/a") == "ok"
    request = sidecar.seen()
    assert request.line == "GET /a HTTP/1.1"
    assert request.value("host") == "reviews:9080"


def test_curl_opens_a_tunnel(sidecar: Sidecar) -> None:
    assert curl("--proxy", sidecar.url, "--proxytunnel", "http://reviews:9080/a") == "ok"
    request = sidecar.seen()
    assert request.value("host") == "reviews:9080"
    assert request.value("x-request-id") is None, "nobody looks into a tunnel"


def test_curl_speaks_http_1_0(sidecar: Sidecar) -> None:
    assert curl("--http1.0", sidecar.url) == "ok"


def test_curl_offers_http_2_in_vain(sidecar: Sidecar) -> None:
    assert curl("--http2", "-w", " %{http_version}", sidecar.url) == "ok 1.1"


def test_wrk_meets_no_error(sidecar: Sidecar) -> None:
    report = run("wrk", "-t", "1", "-c", "16", "-d", "1s", sidecar.url)
    requests = re.search(r"(\d+) requests in", report)
    assert requests is not None
    assert int(requests[1]) > 100
    assert "Socket errors" not in report
    assert "Non-2xx" not in report


def test_h2load_meets_no_error(sidecar: Sidecar) -> None:
    report = run("h2load", "--h1", "-n", "2000", "-c", "16", sidecar.url)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in report
    assert "2000 2xx, 0 3xx, 0 4xx, 0 5xx" in report
