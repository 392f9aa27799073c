"""The names of secrets by which an istiod means files: the documents are as it sends them."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.tls import DataSource, SanMatch, SanMatchKind, TlsCertificate, TlsParameters, Validation
from sidecar.errors import ConfigError
from tests.support.decoded import cluster_with
from tests.support.envoy_config import eds_cluster, upstream_tls
from tests.unit.sidecar.xds.decode.test_supported import SDS_GRPC

NAMES = {"match_subject_alt_names": [{"exact": "api.example.com"}]}
EXAMPLE = SanMatch(kind=SanMatchKind.EXACT, value="api.example.com")


def parameters(**common: Any) -> TlsParameters:
    tls = upstream_tls(**common)
    found = cluster_with(eds_cluster("outbound|80||api.example.com", transport_socket=tls)).tls
    assert found is not None
    return found.parameters


def combined(name: str, **in_place: Any) -> dict[str, Any]:
    return {
        "combined_validation_context": {
            "default_validation_context": in_place,
            "validation_context_sds_secret_config": {"name": name, "sds_config": SDS_GRPC},
        }
    }


def certificate(name: str) -> dict[str, Any]:
    return {"tls_certificate_sds_secret_configs": [{"name": name, "sds_config": SDS_GRPC}]}


def test_a_destination_rule_of_mode_simple_trusts_the_roots_of_the_system() -> None:
    found = parameters(**combined("file-root:system", **NAMES))
    assert found.validation == Validation(system_roots=True, match_sans=(EXAMPLE,))
    assert found.validation_secret is None


def test_the_files_of_a_destination_rule_of_mode_mutual() -> None:
    found = parameters(
        **certificate("file-cert:/etc/certs/chain.pem~/etc/certs/key.pem"),
        **combined("file-root:/etc/certs/root.pem", **NAMES),
    )
    assert found.certificate == TlsCertificate(
        certificate_chain=DataSource(filename="/etc/certs/chain.pem"),
        private_key=DataSource(filename="/etc/certs/key.pem"),
    )
    assert found.certificate_secret is None
    assert found.validation == Validation(
        trusted_ca=DataSource(filename="/etc/certs/root.pem"), match_sans=(EXAMPLE,)
    )


def test_roots_without_names_to_match() -> None:
    named = {"name": "file-root:/etc/certs/root.pem", "sds_config": SDS_GRPC}
    found = parameters(validation_context_sds_secret_config=named)
    assert found.validation == Validation(trusted_ca=DataSource(filename="/etc/certs/root.pem"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (certificate("file-cert:/etc/certs/chain.pem"), "expected file-cert:CHAIN~KEY"),
        (certificate("file-cert:/a~/b~/c"), "expected file-cert:CHAIN~KEY"),
        (combined("file-root:"), "expected file-root:PATH"),
        (combined("kubernetes://credential"), "only the secrets of the workload"),
    ],
)
def test_other_names_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"name: .*{reason}"):
        parameters(**options)
