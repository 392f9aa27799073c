"""The names that an injected pod contains. Those of Istio keep their meaning; the others are Outrigger's."""

from __future__ import annotations

from typing import Final

# Containers.
PROXY: Final = "outrigger-sidecar"
INIT: Final = "outrigger-init"
VALIDATION: Final = "outrigger-validation"
AGENT: Final = "outrigger-agent"
CONTAINERS: Final = (INIT, VALIDATION, AGENT, PROXY)
ISTIO_PROXY: Final = "istio-proxy"

# Volumes, and where they are mounted.
TOKEN_VOLUME: Final = "outrigger-token"
TOKEN_AUDIENCE: Final = "outrigger-ca"
TOKEN_FOLDER: Final = "/var/run/secrets/outrigger/token"
TOKEN_FILE: Final = f"{TOKEN_FOLDER}/outrigger-token"
ROOTS_VOLUME: Final = "outrigger-ca"
ROOTS_CONFIG_MAP: Final = "outrigger-ca-root-cert"
ROOTS_FOLDER: Final = "/var/run/secrets/outrigger/ca"
ROOTS_FILE: Final = f"{ROOTS_FOLDER}/root-cert.pem"
STATE_VOLUME: Final = "outrigger-state"
STATE_FOLDER: Final = "/var/lib/outrigger"
IDENTITY_VOLUME: Final = "outrigger-identity"
IDENTITY_FOLDER: Final = "/var/run/outrigger/identity"

# Environment variables of the proxy, which it reads instead of flags.
CONFIG_YAML: Final = "OUTRIGGER_CONFIG_YAML"
APP_PROBERS: Final = "OUTRIGGER_APP_PROBERS"
PROMETHEUS_SCRAPE: Final = "OUTRIGGER_PROMETHEUS_SCRAPE"
DNS_CAPTURE: Final = "OUTRIGGER_DNS_CAPTURE"

# Annotations that the injector writes.
STATUS: Final = "sidecar.istio.io/status"
OVERRIDES: Final = "proxy.istio.io/overrides"
REVISION: Final = "istio.io/rev"
DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
DEFAULT_LOGS_CONTAINER: Final = "kubectl.kubernetes.io/default-logs-container"

# Labels.
TLS_MODE: Final = "security.istio.io/tlsMode"
CANONICAL_NAME: Final = "service.istio.io/canonical-name"
CANONICAL_REVISION: Final = "service.istio.io/canonical-revision"
DEFAULT_REVISION: Final = "default"

# Ports and the user of the proxy.
OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006
METRICS_PORT: Final = 15020
READINESS_PORT: Final = 15021
DNS_PORT: Final = 15053
OWN_PORTS: Final = frozenset({15000, OUTBOUND_PORT, INBOUND_PORT, METRICS_PORT, READINESS_PORT, DNS_PORT})
PROXY_ID: Final = 1337
