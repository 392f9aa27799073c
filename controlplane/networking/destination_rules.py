"""The DestinationRule of a service, and its settings for one port and subset."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controlplane.model.rule_index import RuleIndex
from controlplane.model.service import Service
from controlplane.model.snapshot import Config
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.resources.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    OutlierDetection,
    PolicySettings,
    ProxyProtocol,
    Subset,
    TrafficPolicy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleRules:
    """The rules that a client's namespace sees."""

    client_namespace: str
    index: RuleIndex

    def find(self, service: Service) -> DestinationRule | None:
        found = self.index.find(service, self.client_namespace)
        return found.spec if found else None


@cached()
def visible_rules(
    cache: BuildCache, rules: tuple[Config[DestinationRule], ...], root_namespace: str, client_namespace: str
) -> VisibleRules:
    return VisibleRules(client_namespace=client_namespace, index=_index(cache, rules, root_namespace))


@cached()
def _index(cache: BuildCache, rules: tuple[Config[DestinationRule], ...], root_namespace: str) -> RuleIndex:
    del cache
    return RuleIndex(rules, root_namespace)


def subset_of(rule: DestinationRule | None, name: str) -> Subset | None:
    return next((subset for subset in rule.subsets if subset.name == name), None) if rule else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectivePolicy:
    """The policy of one cluster, merged from the levels of a rule. None means Istio's default."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    proxy_protocol: ProxyProtocol | None = None


def effective_policy(rule: DestinationRule | None, subset: Subset | None, port: int) -> EffectivePolicy:
    """Istio's precedence: the settings of a subset replace those of the destination one by one; settings for
    the port replace all of them that a port can have, and missing ones have Istio's defaults."""
    policy = _overlay(EffectivePolicy(), rule.traffic_policy if rule else None, port)
    return _overlay(policy, subset.traffic_policy if subset else None, port)


def _overlay(base: EffectivePolicy, level: TrafficPolicy | None, port: int) -> EffectivePolicy:
    if level is None:
        return base
    base = replace(base, proxy_protocol=level.proxy_protocol or base.proxy_protocol)
    for settings in level.port_level_settings:
        if settings.port.number == port:
            return _settings(settings, EffectivePolicy(proxy_protocol=base.proxy_protocol))
    return _settings(level, base)


def _settings(settings: PolicySettings, default: EffectivePolicy) -> EffectivePolicy:
    return EffectivePolicy(
        load_balancer=settings.load_balancer or default.load_balancer,
        connection_pool=settings.connection_pool or default.connection_pool,
        outlier_detection=settings.outlier_detection or default.outlier_detection,
        tls=settings.tls or default.tls,
        proxy_protocol=default.proxy_protocol,
    )
