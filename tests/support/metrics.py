"""The metrics that the control plane declares: which test moves which."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

_ROOT = Path(__file__).resolve().parents[2]
_DECLARATION = re.compile(r'(?:Counter|Gauge|Histogram)(?:MetricFamily)?\(\s*f?"([a-z_{}]+)"')
_SHORT_NAMES = ("cds", "eds", "lds", "rds")

MOVED_IN = {
    "integration/test_ca.py": {
        "citadel_server_authentication_failure_count",
        "citadel_server_cert_chain_expiry_timestamp",
        "citadel_server_csr_count",
        "citadel_server_csr_parsing_err_count",
        "citadel_server_csr_sign_err_count",
        "citadel_server_id_extraction_err_count",
        "citadel_server_root_cert_expiry_timestamp",
        "citadel_server_success_cert_issuance_count",
    },
    "integration/test_xds_server.py": {
        "pilot_proxy_convergence_time",
        "pilot_proxy_queue_time",
        "pilot_push_triggers",
        "pilot_services",
        "pilot_total_xds_internal_errors",
        "pilot_total_xds_rejects",
        "pilot_virt_services",
        "pilot_xds",
        "pilot_xds_push_time",
        "pilot_xds_pushes",
        "pilot_xds_write_timeout",
        *(f"pilot_xds_{short}_reject" for short in _SHORT_NAMES),
    },
    "unit/controlplane/last_good/test_config_map.py": {"outrigger_last_good_unkept"},
    "unit/controlplane/sources/test_foreign_resources.py": {"outrigger_unsupported_resources"},
    "unit/controlplane/sources/test_kubernetes.py": {"outrigger_kubernetes_seconds_since_sync"},
    "unit/controlplane/status/test_elected.py": {"outrigger_status_leader"},
    "unit/controlplane/status/test_writer_failures.py": {
        "outrigger_status_write_failures",
        "outrigger_status_writes",
    },
    "unit/controlplane/webhooks/test_ca_bundle.py": {"webhook_patch_attempts", "webhook_patch_failures"},
    "unit/controlplane/webhooks/test_injection_config.py": {"outrigger_injection_config_valid"},
    "unit/controlplane/webhooks/test_mutate.py": {
        "sidecar_injection_failure",
        "sidecar_injection_requests",
        "sidecar_injection_skip",
        "sidecar_injection_success",
        "sidecar_injection_time_seconds",
    },
    "unit/controlplane/webhooks/test_unmeshed.py": {"outrigger_unmeshed_pods"},
    "unit/controlplane/webhooks/test_validate.py": {
        "galley_validation_failed",
        "galley_validation_http_error",
        "galley_validation_passed",
    },
}
"""The metrics that must be among `moved` at the end of a test in that file."""


def declared() -> set[str]:
    """The names of all metrics, as the control plane's sources have them."""
    names = set()
    for file in (_ROOT / "controlplane").rglob("*.py"):
        for name in _DECLARATION.findall(file.read_text()):
            names |= {name.format(short=short) for short in _SHORT_NAMES}
    return names


def moved(registry: CollectorRegistry) -> set[str]:
    """The metrics of which any sample is not zero."""
    return {
        family.name
        for family in registry.collect()
        if any(sample.value for sample in family.samples if not sample.name.endswith("_created"))
    }
