"""Certificates in files that are replaced while they are used."""

from __future__ import annotations

import gc
import ssl
import weakref
from pathlib import Path

import pytest
import trustme

from sidecar.config.tls import (
    DataSource,
    DownstreamTls,
    Secret,
    TlsCertificate,
    TlsParameters,
    UpstreamTls,
    Validation,
)
from sidecar.identity.contexts import TlsContexts
from tests.support.identities import (
    MESH_SERVER,
    REVIEWS,
    TestTrustDomain,
)
from tests.support.tls_handshakes import handshake


class Mounted:
    """A certificate, its key and roots in files, as Kubernetes mounts them, each of an authority."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key, self.roots = (folder / name for name in ("chain.pem", "key.pem", "roots.pem"))
        self.hold(trustme.CA())
        self.server = DownstreamTls(
            parameters=TlsParameters(
                certificate=TlsCertificate(
                    certificate_chain=DataSource(filename=str(self.chain)),
                    private_key=DataSource(filename=str(self.key)),
                )
            )
        )
        self.client = UpstreamTls(
            parameters=TlsParameters(
                validation=Validation(trusted_ca=DataSource(filename=str(self.roots))),
            )
        )

    def hold(self, authority: trustme.CA) -> None:
        self.hold_certificate(authority)
        self.roots.write_bytes(authority.cert_pem.bytes())

    def hold_certificate(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("reviews")
        self.chain.write_bytes(issued.cert_chain_pems[0].bytes())
        self.key.write_bytes(issued.private_key_pem.bytes())


def test_files_that_were_replaced_are_followed_by_new_connections(tmp_path: Path) -> None:
    mounted, contexts = Mounted(tmp_path), TlsContexts()
    before = contexts.server(mounted.server), contexts.client(mounted.client)
    assert not contexts.follow_files()
    assert (contexts.server(mounted.server), contexts.client(mounted.client)) == before

    mounted.hold(trustme.CA())
    assert contexts.follow_files()
    server, client = contexts.server(mounted.server), contexts.client(mounted.client)
    handshake(server, client, "reviews")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, before[1], "reviews")
    assert not contexts.follow_files()


def test_files_of_static_secrets_are_followed(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    certificate, validation = mounted.server.parameters.certificate, mounted.client.parameters.validation
    contexts = TlsContexts(
        {
            "own": Secret(name="own", certificate=certificate),
            "roots": Secret(name="roots", validation=validation),
        }
    )
    server = DownstreamTls(parameters=TlsParameters(certificate_secret="own"))
    client = UpstreamTls(parameters=TlsParameters(validation_secret="roots"))
    handshake(contexts.server(server), contexts.client(client), "reviews")
    mounted.hold(trustme.CA())
    assert contexts.follow_files()
    handshake(contexts.server(server), contexts.client(client), "reviews")


@pytest.mark.parametrize("harm", ["a certificate without its key", "no file", "no certificate"])
def test_files_that_cannot_be_used_leave_the_old_ones_in_use(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    mounted, contexts = Mounted(tmp_path), TlsContexts()
    before = contexts.server(mounted.server)
    if harm == "no file":
        mounted.chain.unlink()
    elif harm == "no certificate":
        mounted.chain.write_bytes(b"")
    else:
        key = mounted.key.read_bytes()
        mounted.hold_certificate(trustme.CA())
        mounted.key.write_bytes(key)
    for _ in range(3):
        assert not contexts.follow_files()
    assert contexts.server(mounted.server) is before
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(mounted.chain) in line

    mounted.hold_certificate(trustme.CA())
    assert contexts.follow_files()
    assert contexts.server(mounted.server) is not before


def test_a_new_certificate_of_the_workload_leaves_contexts_of_files_alone(tmp_path: Path) -> None:
    mounted, contexts, domain = Mounted(tmp_path), TlsContexts(), TestTrustDomain()
    contexts.use_svid(domain.svid(REVIEWS).pem())
    of_files, of_workload = contexts.server(mounted.server), contexts.server(MESH_SERVER)
    mounted.chain.unlink()
    contexts.use_svid(domain.svid(REVIEWS).pem())
    assert contexts.server(mounted.server) is of_files
    assert contexts.server(MESH_SERVER) is not of_workload


def test_contexts_of_replaced_files_are_not_kept(tmp_path: Path) -> None:
    mounted, contexts = Mounted(tmp_path), TlsContexts()
    old = weakref.ref(contexts.server(mounted.server))
    mounted.hold(trustme.CA())
    contexts.follow_files()
    gc.collect()
    assert old() is None
