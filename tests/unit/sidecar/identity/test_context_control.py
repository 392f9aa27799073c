from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
import trustme

from sidecar.identity.context_control import prefer_aes_128, send_configured_chain_only
from tests.support.tls_handshakes import handshake

AUTHORITY = trustme.CA()
LEAF = AUTHORITY.issue_cert("peer.test")
ROOT_DER = ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode())
LEAF_DER = ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode())


def context(protocol: int) -> ssl.SSLContext:
    """One that trusts the issuer of its own certificate. TLS 1.2 sends certificates in plain text."""
    made = ssl.SSLContext(protocol)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname, made.verify_mode = False, ssl.CERT_REQUIRED
    LEAF.configure_cert(made)
    AUTHORITY.configure_trust(made)
    return made


def bytes_of_both(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[bytes, bytes]:
    """The bytes that the server and the client send in a handshake."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server)
    called = server.wrap_bio(to_server, to_client, server_side=True)
    of_server, of_client = bytearray(), bytearray()
    for _ in range(3):
        for side, arrived, sent in ((caller, to_server, of_client), (called, to_client, of_server)):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
            data = arrived.read()
            sent.extend(data)
            arrived.write(data)
    assert called.getpeercert(binary_form=True) == caller.getpeercert(binary_form=True) == LEAF_DER
    return bytes(of_server), bytes(of_client)


def test_only_the_configured_chain_is_sent() -> None:
    server, client = context(ssl.PROTOCOL_TLS_SERVER), context(ssl.PROTOCOL_TLS_CLIENT)
    assert all(ROOT_DER in sent for sent in bytes_of_both(server, client)), "OpenSSL's default"
    if not (send_configured_chain_only(server) and send_configured_chain_only(client)):
        pytest.skip("the interpreter has OpenSSL built in, or is newer than those that are known")
    for sent in bytes_of_both(server, client):
        assert LEAF_DER in sent
        assert ROOT_DER not in sent


def test_a_configured_issuer_is_sent() -> None:
    intermediate = AUTHORITY.create_child_ca()
    leaf = intermediate.issue_cert("deep.test")
    server, client = context(ssl.PROTOCOL_TLS_SERVER), context(ssl.PROTOCOL_TLS_CLIENT)
    leaf.configure_cert(server)
    send_configured_chain_only(server)
    _, caller = handshake(server, client)
    assert (caller.getpeercert() or {}).get("subjectAltName") == (("DNS", "deep.test"),)


def test_aes_128_comes_first_and_no_cipher_suite_is_lost() -> None:
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not prefer_aes_128(made):
        pytest.skip("the interpreter has OpenSSL built in, or is newer than those that are known")
    names = [each["name"] for each in made.get_ciphers()]
    before = [each["name"] for each in plain.get_ciphers()]
    assert names[0] == "TLS_AES_128_GCM_SHA256"
    before.remove(names[0])
    assert names[1:] == before, "the others keep their order"
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    LEAF.configure_cert(server)
    assert handshake(server, made)[0].version() == "TLSv1.3"
    prefer_aes_128(server)
    assert (handshake(server, made)[0].cipher() or ())[0] == names[0]
