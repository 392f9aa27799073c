"""An Envoy and a sidecar with the same bootstrap file, and requests for both.

The tests compare the pages of their admin interfaces: names, shapes and types, and the values that the
requests determine.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import trustme
from google.protobuf import json_format
from google.protobuf.message import Message

from tests.support.admin_client import Page, ask
from tests.support.envoy import envoy_command
from tests.support.processes import Child, child, free_port
from tests.support.recording_upstream import recording_upstream

BOOTSTRAP = Template(Path(__file__).with_name("bootstrap.yaml").read_text())
LISTENERS = ("web", "raw", "secure")


@dataclass(frozen=True, slots=True)
class Proxy:
    process: Child
    ports: dict[str, int]

    def ask(self, path: str, method: str = "GET") -> Page:
        """The page with each of the proxy's own ports replaced by 11111, since these differ."""
        page = ask(self.ports["admin"], path, method)
        own = "|".join(str(port) for port in self.ports.values())
        return Page(page.status, page.content_type, re.sub(rf"(?<!\d)({own})(?!\d)", "11111", page.body))


@dataclass(frozen=True, slots=True)
class Pair:
    envoy: Proxy
    sidecar: Proxy

    def ask(self, path: str, method: str = "GET") -> tuple[Page, Page]:
        return self.envoy.ask(path, method), self.sidecar.ask(path, method)


@contextmanager
def running_pair(folder: Path) -> Iterator[Pair]:
    """Two proxies that are ready, and an upstream."""
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream("upstream"))
        shared = {**upstream.ports, "refusing": _refusing_port(stack), **_certificates()}
        yield Pair(*(_start(name, folder, shared, stack) for name in ("envoy", "sidecar")))


def _start(name: str, folder: Path, shared: dict[str, Any], stack: ExitStack) -> Proxy:
    ports = {port: free_port() for port in (*LISTENERS, "admin")}
    file = folder / f"{name}.yaml"
    file.write_text(BOOTSTRAP.substitute(shared, **ports))
    process = stack.enter_context(child(_command(name, file), folder / f"{name}.log"))
    process.wait_for_port(ports["admin"])
    process.wait_for(lambda: ask(ports["admin"], "/ready").status == 200, f"{name} is ready")
    return Proxy(process, ports)


def send_requests(proxy: Proxy, stack: ExitStack) -> None:
    """Sends the requests of the comparison and waits until they are counted. One TCP connection stays open
    until the end of the stack."""
    # HTTP/2: Envoy has statistics of it from the first connection on.
    url = f"http://127.0.0.1:{proxy.ports['web']}/direct"
    subprocess.run(["curl", "--silent", "--http2-prior-knowledge", url], check=True, capture_output=True)
    for path, answer in (
        *(("/", "ok"),) * 3,
        ("/", "404"),
        ("/", "503"),
        ("/direct", ""),
        ("/moved", ""),
        ("/refused", ""),
        ("/missing", ""),
        ("/late", "silence"),
        ("/", "reset"),
        ("/nothing", "ok"),
    ):
        ask(proxy.ports["web"], path, "POST" if answer == "reset" else "GET", {"answer": answer})
    raw = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.ports["raw"])))
    raw.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert raw.recv(1000).startswith(b"HTTP/1.1 200")
    # Both proxies merge the counts of workers, or of open connections, every five seconds.
    bytes_of_raw = r"/stats?filter=^tcp\.raw\.downstream_cx_tx_bytes_total$"
    proxy.process.wait_for(
        lambda: not ask(proxy.ports["admin"], bytes_of_raw).body.endswith(": 0\n"), "it has counted"
    )


def _command(name: str, bootstrap: Path) -> list[str]:
    if name == "envoy":
        return envoy_command(bootstrap)
    options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    return [sys.executable, "-m", "sidecar", "-c", str(bootstrap), *options]


def _refusing_port(stack: ExitStack) -> int:
    refusing = stack.enter_context(socket.socket())
    refusing.bind(("127.0.0.1", 0))  # without `listen`
    return int(refusing.getsockname()[1])


def _certificates() -> dict[str, str]:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", "localhost")
    pem = {
        "chain": b"".join(blob.bytes() for blob in own.cert_chain_pems),
        "key": own.private_key_pem.bytes(),
        "roots": authority.cert_pem.bytes(),
    }
    return {name: _json_string(value.decode()) for name, value in pem.items()}


def _json_string(text: str) -> str:
    return '"' + text.replace("\n", "\\n") + '"'


def parsed(page: Page, message: Message) -> Any:
    """The page as the message of the admin API. Fails for a field of another name or type."""
    assert page.status == 200
    assert page.content_type == "application/json"
    return json_format.Parse(page.body, message)


def lines(page: Page) -> list[str]:
    assert page.status == 200
    return page.body.splitlines()
