"""What the cases of one run share: folders, certificates, servers behind the proxies, and free ports."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography.x509 import UniformResourceIdentifier

from tests.bench.load.generator import ROOT
from tests.bench.proxies.build import Build
from tests.support.certificates import TestAuthority, leaf_pem
from tests.support.grpc_interop import GRPC_INTEROP, serving_by_go
from tests.support.processes import free_port

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Paths of PEM files."""

    certificate: str
    key: str
    trusted_ca: str


class Site:
    """`concurrency` is the number of workers of each proxy, `builds` are those of the sidecar; `others`:
    HAProxy and nginx take part."""

    def __init__(
        self, folder: Path, stack: ExitStack, *, builds: Sequence[Build], concurrency: int, others: bool
    ) -> None:
        self.folder = folder
        self.builds = builds
        self.concurrency = concurrency
        self.others = others
        self._stack = stack
        self._upstreams: dict[bool, int] = {}
        self._http2_upstream = 0
        self._grpc_upstream: int | None = None
        authority = TestAuthority(
            "bench", not_before=time.time() - _DAY_S, not_after=time.time() + 30 * _DAY_S
        )
        self.client = self._identity(authority, "client", CLIENT)
        self.server = self._identity(authority, "server", SERVER)

    free_port = staticmethod(free_port)

    def upstream(self, *, mutual_tls: bool = False) -> int:
        """The port of the HTTP server, which is started for the first case that needs it."""
        if mutual_tls not in self._upstreams:
            own = self.server
            files = [own.certificate, own.key, own.trusted_ca] if mutual_tls else []
            self._upstreams[mutual_tls] = self._start_upstream("tests.bench.upstream", files)
        return self._upstreams[mutual_tls]

    def http2_upstream(self) -> int:
        """As `upstream`, for HTTP/2."""
        if not self._http2_upstream:
            self._http2_upstream = self._start_upstream("tests.bench.http2_upstream")
        return self._http2_upstream

    def grpc_upstream(self) -> int:
        """The port of grpc-go's interoperability server, which is built and started for the first case that
        needs it."""
        if self._grpc_upstream is None:
            program = GRPC_INTEROP.build(lambda line: print(line, file=sys.stderr))
            self._grpc_upstream = self._stack.enter_context(serving_by_go(program))
        return self._grpc_upstream

    def _start_upstream(self, module: str, files: Sequence[str] = ()) -> int:
        command = [sys.executable, "-m", module, *files]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        self._stack.callback(process.communicate)
        self._stack.callback(process.terminate)
        assert process.stdout is not None
        return int(process.stdout.readline())

    def _identity(self, authority: TestAuthority, name: str, uri: str) -> Identity:
        pem = leaf_pem(authority, [UniformResourceIdentifier(uri)])
        key, separator, certificate = pem.partition(b"-----BEGIN CERTIFICATE")
        files = {
            f"{name}-key.pem": key,
            f"{name}.pem": separator + certificate,
            "ca.pem": authority.certificate_pem,
        }
        for file, content in files.items():
            (self.folder / file).write_bytes(content)
        key_file, certificate_file, ca_file = (str(self.folder / file) for file in files)
        return Identity(certificate=certificate_file, key=key_file, trusted_ca=ca_file)
