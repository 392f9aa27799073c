"""Reads the mesh configuration file: YAML with the fields of Istio's MeshConfig.

https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import AfterValidator, Field, ValidationError

from controlplane.errors import SettingsError
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy_config import ProxyConfig, without_ignored
from controlplane.resources.base import (
    Bool,
    Duration,
    Message,
    NonEmptyStr,
    NonNegativeInt,
    PortNumber,
    invalid,
)
from controlplane.resources.error_messages import explain
from protos.spiffe import SpiffeId

_LOG = logging.getLogger(__name__)

# Fields of Istio that are not supported. Ignoring them does not change the traffic that this mesh supports,
# so they only cause a warning.
_IGNORED: Final = frozenset({
    "accessLogEncoding", "accessLogFile", "accessLogFormat", "ca", "caCertificates", "certificates",
    "configSources", "connectionPool", "defaultDestinationRuleExportTo", "defaultProviders",
    "defaultServiceExportTo", "defaultVirtualServiceExportTo", "disableEnvoyListenerLog",
    "discoverySelectors", "dnsRefreshRate", "enableEnvoyAccessLogService",
    "enableTracing", "extensionProviders", "hboneIdleTimeout", "inboundClusterStatName",
    "inboundTrafficPolicy", "ingressClass", "ingressControllerMode", "ingressSelector", "ingressService",
    "localityLbSetting", "meshMTLS", "outboundClusterStatName", "pathNormalization",
    "protocolDetectionTimeout", "serviceScopeConfigs", "serviceSettings", "tcpKeepalive", "tlsDefaults",
    "trustDomainAliases", "verifyCertificateAtClient",
})  # fmt: skip


def check_trust_domain(value: str) -> str:
    """Returns ``value``. Raises a ``ValueError`` (a validation error) for an invalid trust domain."""
    try:
        SpiffeId(value, "default", "default")
    except ValueError as error:
        raise invalid(str(error)) from error
    return value


class _OutboundPolicyMode(StrEnum):
    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


class _OutboundTrafficPolicy(Message):
    mode: _OutboundPolicyMode = _OutboundPolicyMode.ALLOW_ANY


class _H2UpgradePolicy(StrEnum):
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class _HttpRetryPolicy(Message):
    attempts: NonNegativeInt = MeshConfig().default_retry_attempts


_DEFAULT: Final = MeshConfig()


class _MeshConfigFile(Message):
    trust_domain: Annotated[NonEmptyStr, AfterValidator(check_trust_domain)] = _DEFAULT.trust_domain
    root_namespace: NonEmptyStr | None = None
    proxy_listen_port: PortNumber = _DEFAULT.outbound_port
    proxy_inbound_listen_port: PortNumber = _DEFAULT.inbound_port
    proxy_http_port: Annotated[NonNegativeInt, Field(le=65535)] = _DEFAULT.proxy_http_port
    outbound_traffic_policy: _OutboundTrafficPolicy = _OutboundTrafficPolicy()
    enable_auto_mtls: Bool = _DEFAULT.enable_auto_mtls
    h2_upgrade_policy: Annotated[_H2UpgradePolicy, Field(alias="h2UpgradePolicy")] = (
        _H2UpgradePolicy.DO_NOT_UPGRADE
    )
    connect_timeout: Duration = _DEFAULT.connect_timeout
    default_http_retry_policy: _HttpRetryPolicy = _HttpRetryPolicy()
    default_config: ProxyConfig = _DEFAULT.default_config
    enable_prometheus_merge: Bool = _DEFAULT.enable_prometheus_merge


def load_mesh_config(path: Path, namespace: str = _DEFAULT.root_namespace) -> MeshConfig:
    """Reads a mesh configuration file. ``namespace`` is the root namespace unless the file sets another.
    Raises the errors of `parse_mesh_config`, and logs its warnings."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    return parse_mesh_config(content, str(path), namespace)


def parse_mesh_config(
    content: str | bytes, source: str, namespace: str = _DEFAULT.root_namespace
) -> MeshConfig:
    """``source`` is the name of the file in messages. Raises `SettingsError` with the name of the invalid
    field. Logs a warning for each unsupported field of Istio."""
    document = _read_yaml(content, source)
    ignored = _IGNORED & document.keys()
    for field in sorted(ignored):
        _LOG.warning("%s: the Istio field %s is not supported and ignored", source, field)
    proxy_config = document.get("defaultConfig")
    if isinstance(proxy_config, dict):
        document["defaultConfig"], fields = without_ignored(proxy_config)
        for field in fields:
            _LOG.warning("%s: the Istio field defaultConfig.%s is not supported and ignored", source, field)
    try:
        given = _MeshConfigFile.model_validate({k: v for k, v in document.items() if k not in ignored})
    except ValidationError as error:
        problems = explain(error, _MeshConfigFile, "MeshConfig")
        raise SettingsError(f"{source}: {'; '.join(map(str, problems))}") from error
    return _to_mesh_config(given, namespace)


def _to_mesh_config(given: _MeshConfigFile, namespace: str) -> MeshConfig:
    return MeshConfig(
        trust_domain=given.trust_domain,
        root_namespace=given.root_namespace or namespace,
        outbound_port=given.proxy_listen_port,
        inbound_port=given.proxy_inbound_listen_port,
        proxy_http_port=given.proxy_http_port,
        allow_any_outbound=given.outbound_traffic_policy.mode is _OutboundPolicyMode.ALLOW_ANY,
        enable_auto_mtls=given.enable_auto_mtls,
        h2_upgrade=given.h2_upgrade_policy is _H2UpgradePolicy.UPGRADE,
        connect_timeout=given.connect_timeout,
        default_retry_attempts=given.default_http_retry_policy.attempts,
        default_config=given.default_config,
        enable_prometheus_merge=given.enable_prometheus_merge,
    )


def _read_yaml(content: str | bytes, source: str) -> dict[str, object]:
    try:
        document = yaml.load(content, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise SettingsError(
            f"{source}: expected the fields of a MeshConfig, such as `trustDomain: cluster.local`"
        )
    return document
