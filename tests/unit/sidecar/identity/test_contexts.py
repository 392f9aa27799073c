from __future__ import annotations

import dataclasses
import json
import ssl
import time
from pathlib import Path

import pytest

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
from tests.support.tls_handshakes import AUTHORITY, certificate_for, handshake


def test_both_sides_of_mesh_tls_know_each_other() -> None:
    domain = TestTrustDomain()
    reviews, ratings = domain.contexts(REVIEWS), domain.contexts(RATINGS)
    server, client = handshake(reviews.server(MESH_SERVER), ratings.client(MESH_CLIENT), "reviews")
    assert reviews.verify_client(MESH_SERVER, server).id == str(RATINGS)
    assert ratings.verify_server(MESH_CLIENT, client) == str(REVIEWS)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == "istio"


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
    caller, _ = handshake(server.server(server_tls), client.client(right))
    assert server.verify_client(server_tls, caller).id == ""


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
