"""The admin's ``/certs``, in the shape of Envoy's ``admin.v3.Certificates``. It never shows keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sidecar.identity.contexts import TlsContexts
from sidecar.identity.material import Material

if TYPE_CHECKING:
    from cryptography import x509

_SECONDS_A_DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """PEM certificates, and their source."""

    pem: bytes
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesInUse:
    """The certificates of a TLS context, which a worker reports. They are read where they are shown."""

    roots: CertificateFile | None
    chain: CertificateFile | None


def certificates_in_use(contexts: TlsContexts) -> list[CertificatesInUse]:
    """Without duplicates."""
    return list(dict.fromkeys(map(_in_use, contexts.materials())))


def _in_use(material: Material) -> CertificatesInUse:
    roots, key_pair = material.roots, material.key_pair
    return CertificatesInUse(
        # The roots of the operating system are not shown.
        roots=CertificateFile(roots.certificates, roots.path) if roots and roots.certificates else None,
        chain=CertificateFile(key_pair.chain, key_pair.path) if key_pair and key_pair.chain else None,
    )


def certificates(in_use: Iterable[CertificatesInUse], now: float) -> dict[str, Any]:
    """``now``: seconds since the epoch."""
    entries = [
        {"ca_cert": _details(each.roots, now), "cert_chain": _details(each.chain, now)} for each in in_use
    ]
    return {"certificates": entries}


def _details(file: CertificateFile | None, now: float) -> list[dict[str, Any]]:
    if file is None:
        return []
    from cryptography import x509  # noqa: PLC0415 - it takes 10 MB, and the page is seldom read

    return [
        {
            "path": file.path,
            "serial_number": _serial_number(certificate),
            "subject_alt_names": _alternative_names(certificate),
            "days_until_expiration": str(_days_left(certificate, now)),
            "valid_from": _timestamp(certificate.not_valid_before_utc),
            "expiration_time": _timestamp(certificate.not_valid_after_utc),
        }
        for certificate in x509.load_pem_x509_certificates(file.pem)
    ]


def _serial_number(certificate: x509.Certificate) -> str:
    """Hexadecimal, in whole bytes, as Envoy."""
    digits = f"{certificate.serial_number:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _alternative_names(certificate: x509.Certificate) -> list[dict[str, str]]:
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [
        *({"uri": uri} for uri in names.get_values_for_type(x509.UniformResourceIdentifier)),
        *({"dns": name} for name in names.get_values_for_type(x509.DNSName)),
        *({"ip_address": str(address)} for address in names.get_values_for_type(x509.IPAddress)),
    ]


def _days_left(certificate: x509.Certificate, now: float) -> int:
    return max(0, int(certificate.not_valid_after_utc.timestamp() - now) // _SECONDS_A_DAY)


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
