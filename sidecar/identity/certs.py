"""The admin's ``/certs``, in the shape of Envoy's ``admin.v3.Certificates``. It never shows keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from sidecar.identity.contexts import TlsContexts
from sidecar.identity.material import Material

_SECONDS_A_DAY = 24 * 3600


def certificates(contexts: TlsContexts, now: float) -> dict[str, Any]:
    """One entry for each set of certificates in use. ``now``: seconds since the epoch."""
    entries: list[dict[str, Any]] = []
    for material in contexts.materials():
        entry = _entry(material, now)
        if entry not in entries:
            entries.append(entry)
    return {"certificates": entries}


def _entry(material: Material, now: float) -> dict[str, Any]:
    roots, key_pair = material.roots, material.key_pair
    return {
        "ca_cert": _details(roots.certificates, roots.path, now) if roots is not None else [],
        "cert_chain": _details(key_pair.chain, key_pair.path, now) if key_pair is not None else [],
    }


def _details(pem: bytes, path: str, now: float) -> list[dict[str, Any]]:
    if not pem:  # the roots of the operating system are not shown
        return []
    return [
        {
            "path": path,
            "serial_number": _serial_number(certificate),
            "subject_alt_names": _alternative_names(certificate),
            "days_until_expiration": str(_days_left(certificate, now)),
            "valid_from": _timestamp(certificate.not_valid_before_utc),
            "expiration_time": _timestamp(certificate.not_valid_after_utc),
        }
        for certificate in x509.load_pem_x509_certificates(pem)
    ]


def _serial_number(certificate: x509.Certificate) -> str:
    """Hexadecimal, in whole bytes, as Envoy."""
    digits = f"{certificate.serial_number:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _alternative_names(certificate: x509.Certificate) -> list[dict[str, str]]:
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
