"""`outrigger certificate`: requests workload certificates for proxies that cannot do so themselves, such as
Envoy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from controlplane.ca import state_files
from controlplane.injection.bootstrap_document import Address
from outrigger.bootstrap import read_token
from outrigger.errors import CommandError
from protos.identity_files import CERTIFICATE_CHAIN_FILE, PRIVATE_KEY_FILE, TRUST_BUNDLE_FILE

app = typer.Typer(help="Request certificates from the control plane.", no_args_is_help=True)

_TIMEOUT_S: Final = 10.0


@app.callback()
def _group() -> None:
    """Makes typer create a command group, although it has one command only."""


@app.command()
def request(
    ca_address: Annotated[str, typer.Option(help="The address of the control plane's TLS port, HOST:PORT.")],
    ca_cert: Annotated[
        Path,
        typer.Option(
            help="The roots for the control plane's certificate: root-cert.pem of its state folder."
        ),
    ],
    token_file: Annotated[Path, typer.Option(help="A file with the output of `outrigger token create`.")],
    out: Annotated[Path, typer.Option(help="The output folder.")],
    lifetime: Annotated[
        str, typer.Option(help="The requested lifetime, such as 24h; the control plane limits it.")
    ] = "",
) -> None:
    """Write cert-chain.pem, key.pem and root-cert.pem. The key is generated locally and is not sent."""
    address = Address.parse(ca_address)
    lifetime_s = _seconds(lifetime) if lifetime else 0
    key_pem, csr_pem = _make_key_and_csr()
    try:
        ca_roots = ca_cert.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {ca_cert}: {error.strerror}") from error
    chain, roots = _sign(address, ca_roots, read_token(token_file), csr_pem, lifetime_s)
    state_files.replace(out / PRIVATE_KEY_FILE, key_pem, mode=0o600)
    state_files.replace(out / CERTIFICATE_CHAIN_FILE, chain, mode=0o644)
    state_files.replace(out / TRUST_BUNDLE_FILE, roots, mode=0o644)
    print(f"wrote {CERTIFICATE_CHAIN_FILE}, {PRIVATE_KEY_FILE} and {TRUST_BUNDLE_FILE} to {out}")


def _make_key_and_csr() -> tuple[bytes, str]:
    """The CSR contains only the public key: the token alone determines the identity."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key_pem, csr.public_bytes(Encoding.PEM).decode("ascii")


def _sign(address: Address, roots: bytes, token: str, csr_pem: str, lifetime_s: int) -> tuple[bytes, bytes]:
    """Returns the certificate chain and the trust bundle as PEM. Raises `CommandError`."""
    import grpc

    from protos.ca_pb2 import CreateCertificateRequest
    from protos.ca_pb2_grpc import CertificateServiceStub

    host = f"[{address.host}]" if ":" in address.host else address.host
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    with grpc.secure_channel(f"{host}:{address.port}", credentials) as channel:
        try:
            response = CertificateServiceStub(channel).CreateCertificate(
                CreateCertificateRequest(csr=csr_pem, requested_lifetime_s=lifetime_s),
                metadata=(("authorization", f"Bearer {token}"),),
                timeout=_TIMEOUT_S,
            )
        except grpc.RpcError as error:
            raise CommandError(
                f"{host}:{address.port} did not issue a certificate: {error.code().name}: {error.details()}"
            ) from error
    return "".join(response.certificate_chain).encode(), "".join(response.trust_bundle).encode()


def _seconds(text: str) -> int:
    from controlplane.resources.base import parse_duration

    try:
        return int(parse_duration(text).total_seconds())
    except ValueError as error:
        raise CommandError(f"--lifetime: {error}") from error
