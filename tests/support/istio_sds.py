"""The part of Istio's agent that serves SDS, for an Envoy that istiod configures: a folder of certificates.

Its arguments are a port of loopback and the folder, which the agent of `sidecar.agent` writes. A certificate
that is renewed is not sent again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from envoy.service.secret.v3 import sds_pb2_grpc

from protos.identity_files import CERTIFICATE_CHAIN_FILE, PRIVATE_KEY_FILE, TRUST_BUNDLE_FILE
from protos.node import TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET

# Envoy opens a stream for each secret of each listener and cluster, and keeps it.
MOST_STREAMS = 500


class Secrets(sds_pb2_grpc.SecretDiscoveryServiceServicer):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def StreamSecrets(
        self, request_iterator: Iterator[DiscoveryRequest], context: grpc.ServicerContext
    ) -> Iterator[DiscoveryResponse]:
        for request in request_iterator:
            if request.response_nonce:
                continue
            answer = DiscoveryResponse(version_info="1", nonce="1", type_url=request.type_url)
            for name in request.resource_names:
                answer.resources.add().Pack(self._secret(name))
            yield answer

    def _secret(self, name: str) -> Secret:
        secret = Secret(name=name)
        if name == WORKLOAD_CERTIFICATE_SECRET:
            own = secret.tls_certificate
            own.certificate_chain.inline_bytes = self._read(CERTIFICATE_CHAIN_FILE)
            own.private_key.inline_bytes = self._read(PRIVATE_KEY_FILE)
        else:
            assert name == TRUST_BUNDLE_SECRET, name
            secret.validation_context.trusted_ca.inline_bytes = self._read(TRUST_BUNDLE_FILE)
        return secret

    def _read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()


def main(port: str, folder: str) -> None:
    server = grpc.server(ThreadPoolExecutor(MOST_STREAMS))
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(Secrets(Path(folder)), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
