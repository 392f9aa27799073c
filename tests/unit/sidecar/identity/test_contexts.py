from __future__ import annotations

import dataclasses
import gc
import json
import ssl
import time
import weakref
from pathlib import Path

import pytest
import trustme

from sidecar.config.tls import (
    DataSource,
    DownstreamTls,
    SanMatch,
    SanMatchKind,
    Secret,
    TlsCertificate,
    TlsParameters,
    TlsVersion,
    UpstreamTls,
    Validation,
)
from sidecar.errors import IdentityError
from sidecar.identity.certs import certificates, certificates_in_use
from sidecar.identity.contexts import TlsContexts
from tests.support.identities import (
    MESH_CLIENT,
    MESH_SERVER,
    RATINGS,
    REVIEWS,
    TestTrustDomain,
    mesh_parameters,
)

AUTHORITY = trustme.CA()


def certificate_for(*names: str) -> TlsCertificate:
    issued = AUTHORITY.issue_cert(*names)
    return TlsCertificate(
        certificate_chain=DataSource(inline=b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
        private_key=DataSource(inline=issued.private_key_pem.bytes()),
    )


def handshake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A TLS handshake in memory: the server's side, and the client's. The client offers the session."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name, session=session),
    )
    for _ in range(4):
        for side in reversed(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return sides


def test_both_sides_of_mesh_tls_know_each_other() -> None:
    domain = TestTrustDomain()
    reviews, ratings = domain.contexts(REVIEWS), domain.contexts(RATINGS)
    server, client = handshake(reviews.server(MESH_SERVER), ratings.client(MESH_CLIENT), "reviews")
    assert reviews.verify_client(MESH_SERVER, server) == str(RATINGS)
    assert ratings.verify_server(MESH_CLIENT, client) == str(REVIEWS)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == "istio"


def session_of(server: ssl.SSLObject, client: ssl.SSLObject) -> ssl.SSLSession:
    """The session of a client that has read the server's first data."""
    server.write(b"x")
    client.read(1)
    session = client.session
    assert session is not None
    return session


def test_resumed_session_has_the_identities_of_its_first_connection() -> None:
    domain = TestTrustDomain()
    reviews, ratings = domain.contexts(REVIEWS), domain.contexts(RATINGS)
    sides = reviews.server(MESH_SERVER), ratings.client(MESH_CLIENT)
    session = session_of(*handshake(*sides, "reviews"))
    server, client = handshake(*sides, "reviews", session)
    assert (server.session_reused, client.session_reused) == (True, True)
    assert reviews.verify_client(MESH_SERVER, server) == str(RATINGS)
    assert ratings.verify_server(MESH_CLIENT, client) == str(REVIEWS)
    strict = dataclasses.replace(
        MESH_SERVER,
        parameters=mesh_parameters(SanMatch(kind=SanMatchKind.EXACT, value=str(REVIEWS), san_type="URI")),
    )
    assert reviews.server(strict) is sides[0], "only the expected names differ"
    with pytest.raises(IdentityError, match="no name of the peer matches"):
        reviews.verify_client(strict, server)


@pytest.mark.parametrize("trusted", [True, False])
def test_session_is_not_resumed_after_the_server_has_a_new_certificate_or_new_roots(trusted: bool) -> None:
    domain = TestTrustDomain()
    reviews = domain.contexts(REVIEWS)
    client = domain.contexts(RATINGS).client(MESH_CLIENT)
    session = session_of(*handshake(reviews.server(MESH_SERVER), client, "reviews"))
    reviews.use_svid((domain if trusted else TestTrustDomain()).svid(REVIEWS).pem())
    client.verify_mode = ssl.CERT_NONE
    if trusted:
        server, _ = handshake(reviews.server(MESH_SERVER), client, "reviews", session)
        assert not server.session_reused
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(reviews.server(MESH_SERVER), client, "reviews", session)


def test_resumed_session_whose_certificate_has_expired_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = TestTrustDomain()
    reviews, ratings = domain.contexts(REVIEWS), domain.contexts(RATINGS)
    sides = reviews.server(MESH_SERVER), ratings.client(MESH_CLIENT)
    session = session_of(*handshake(*sides, "reviews"))
    server, client = handshake(*sides, "reviews", session)
    in_two_days_s = time.time() + 2 * 86_400
    monkeypatch.setattr(time, "time", lambda: in_two_days_s)
    with pytest.raises(IdentityError, match="has expired"):
        reviews.verify_client(MESH_SERVER, server)
    with pytest.raises(IdentityError, match="has expired"):
        ratings.verify_server(MESH_CLIENT, client)


def test_resumed_session_of_a_server_that_is_not_verified_is_accepted() -> None:
    served = DownstreamTls(parameters=TlsParameters(certificate=certificate_for("reviews")))
    contexts, tls = TlsContexts(), UpstreamTls(parameters=TlsParameters(), sni="reviews")
    sides = contexts.server(served), contexts.client(tls)
    session = session_of(*handshake(*sides, "reviews"))
    _, client = handshake(*sides, "reviews", session)
    assert client.session_reused
    assert contexts.verify_server(tls, client) == ""


def test_nothing_is_served_before_the_certificate_is_here() -> None:
    contexts = TlsContexts()
    assert not contexts.ready
    assert contexts.awaits_identity(MESH_SERVER)
    with pytest.raises(IdentityError, match="no certificate yet"):
        contexts.server(MESH_SERVER)
    contexts.use_svid(TestTrustDomain().svid().pem())
    assert contexts.ready
    assert not contexts.awaits_identity(MESH_SERVER)
    contexts.server(MESH_SERVER)


def test_a_context_is_kept_until_the_certificate_is_replaced() -> None:
    domain = TestTrustDomain()
    contexts = domain.contexts()
    before = contexts.server(MESH_SERVER), contexts.client(MESH_CLIENT)
    assert (contexts.server(MESH_SERVER), contexts.client(MESH_CLIENT)) == before
    contexts.use_svid(domain.svid().pem())
    assert contexts.server(MESH_SERVER) is not before[0]
    assert contexts.client(MESH_CLIENT) is not before[1]


def test_a_new_bundle_does_not_trust_the_old_roots() -> None:
    old, new = TestTrustDomain(), TestTrustDomain()
    server = old.contexts(REVIEWS)
    server.use_svid(new.svid(REVIEWS).pem())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    of_old = old.contexts(RATINGS).client(MESH_CLIENT)
    of_old.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server.server(MESH_SERVER), of_old, "reviews")


def test_clusters_that_differ_in_expected_names_alone_share_a_context() -> None:
    contexts = TestTrustDomain().contexts()
    tls = [
        UpstreamTls(
            parameters=mesh_parameters(SanMatch(kind=SanMatchKind.EXACT, value=f"spiffe://a/{n}")), sni=f"{n}"
        )
        for n in range(50)
    ]
    assert len({id(contexts.client(each)) for each in tls}) == 1


def test_simple_tls_to_the_outside_is_verified_by_file_and_names(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    AUTHORITY.cert_pem.write_to_path(str(roots))
    server = TlsContexts()
    server_tls = DownstreamTls(parameters=TlsParameters(certificate=certificate_for("api.example.com")))
    client = TlsContexts()

    def simple(name: str) -> UpstreamTls:
        sans = (SanMatch(kind=SanMatchKind.EXACT, value=name, san_type="DNS"),)
        validation = Validation(trusted_ca=DataSource(filename=str(roots)), match_sans=sans)
        return UpstreamTls(parameters=TlsParameters(validation=validation), sni=name)

    right, wrong = simple("api.example.com"), simple("other.example.com")
    _, peer = handshake(server.server(server_tls), client.client(right), right.sni)
    assert client.verify_server(right, peer) == ""
    with pytest.raises(IdentityError, match=r"DNS api\.example\.com"):
        client.verify_server(wrong, peer)
    assert (
        server.verify_client(server_tls, handshake(server.server(server_tls), client.client(right))[0]) == ""
    )


def test_system_roots_do_not_trust_a_private_authority() -> None:
    server = TlsContexts().server(
        DownstreamTls(parameters=TlsParameters(certificate=certificate_for("api.example.com")))
    )
    client = TlsContexts().client(
        UpstreamTls(parameters=TlsParameters(validation=Validation(system_roots=True)))
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "api.example.com")


def test_static_secrets_stand_for_names_and_are_replaced() -> None:
    tls = DownstreamTls(parameters=TlsParameters(certificate_secret="site"))
    contexts = TlsContexts()
    with pytest.raises(IdentityError, match="unknown secret 'site'"):
        contexts.server(tls)
    contexts.use_secrets({"site": Secret(name="site", certificate=certificate_for("a.example"))})
    first = contexts.server(tls)
    contexts.use_secrets({"site": Secret(name="site", certificate=certificate_for("b.example"))})
    assert contexts.server(tls) is not first


def test_versions_are_bounded_as_configured() -> None:
    parameters = TlsParameters(certificate=certificate_for("a.example"))
    contexts = TlsContexts()
    assert contexts.server(DownstreamTls(parameters=parameters)).minimum_version is ssl.TLSVersion.TLSv1_2
    only_1_2 = dataclasses.replace(parameters, maximum_version=TlsVersion.TLS1_2)
    server = contexts.server(DownstreamTls(parameters=only_1_2))
    client = contexts.client(UpstreamTls(parameters=TlsParameters()))
    assert handshake(server, client)[1].version() == "TLSv1.2"
    assert TestTrustDomain().contexts().server(MESH_SERVER).minimum_version is ssl.TLSVersion.TLSv1_3


def test_tls_1_2_has_only_the_configured_cipher_suites() -> None:
    suite = "ECDHE-ECDSA-AES256-GCM-SHA384"
    parameters = TlsParameters(
        certificate=certificate_for("a.example"), maximum_version=TlsVersion.TLS1_2, cipher_suites=(suite,)
    )
    contexts = TlsContexts()
    server = contexts.server(DownstreamTls(parameters=parameters))
    cipher = handshake(server, contexts.client(UpstreamTls(parameters=TlsParameters())))[1].cipher()
    assert cipher is not None
    assert cipher[0] == suite
    other = TlsParameters(cipher_suites=("ECDHE-ECDSA-CHACHA20-POLY1305",))
    client = contexts.client(UpstreamTls(parameters=other))
    with pytest.raises(ssl.SSLError):
        handshake(server, client)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (TlsParameters(), "needs a certificate"),
        (
            TlsParameters(
                certificate=TlsCertificate(
                    certificate_chain=DataSource(filename="/nowhere/cert.pem"),
                    private_key=DataSource(inline=b""),
                )
            ),
            "/nowhere/cert.pem: cannot be read: No such file",
        ),
        (
            TlsParameters(
                certificate=certificate_for("a"),
                validation=Validation(trusted_ca=DataSource(filename="a\0b")),
            ),
            "cannot be read: embedded null byte",
        ),
        (
            TlsParameters(
                certificate=TlsCertificate(
                    certificate_chain=certificate_for("a").certificate_chain,
                    private_key=certificate_for("b").private_key,
                )
            ),
            "invalid certificate or key in .*KEY_VALUES_MISMATCH",
        ),
        (
            TlsParameters(
                certificate=certificate_for("a"), validation=Validation(trusted_ca=DataSource(inline=b"junk"))
            ),
            "invalid roots in <inline>",
        ),
    ],
)
def test_a_missing_certificate_is_an_error_with_a_reason(parameters: TlsParameters, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        TlsContexts().server(DownstreamTls(parameters=parameters))


def test_the_admins_view_has_envoys_shape_and_no_key() -> None:
    domain = TestTrustDomain(lifetime_s=10.5 * 24 * 3600)
    contexts = domain.contexts(REVIEWS)
    contexts.server(MESH_SERVER)
    contexts.client(MESH_CLIENT)
    shown = certificates(certificates_in_use(contexts), time.time())
    (entry,) = shown["certificates"]
    (leaf,) = entry["cert_chain"]
    assert leaf["subject_alt_names"] == [{"uri": str(REVIEWS)}]
    assert leaf["days_until_expiration"] == "10"
    assert set(leaf) == {
        "path",
        "serial_number",
        "subject_alt_names",
        "days_until_expiration",
        "valid_from",
        "expiration_time",
    }
    assert leaf["expiration_time"].endswith("Z")
    assert len(entry["ca_cert"]) == 1
    assert "PRIVATE" not in json.dumps(shown)


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
