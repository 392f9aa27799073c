from __future__ import annotations

from typing import Any

from controlplane.networking import scope_of
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.destination_rules import effective_policy, subset_of
from controlplane.resources.destination_rule import DestinationRule, SimpleLB
from tests.support.meshes import Specs, mesh, service, sidecar_proxy

RATINGS = "ratings.other.svc.cluster.local"


def rule(**spec: Any) -> DestinationRule:
    return DestinationRule.model_validate({"host": RATINGS, **spec})


def balanced(name: str) -> dict[str, Any]:
    return {"loadBalancer": {"simple": name}}


def limited(connections: int) -> dict[str, Any]:
    return {"connectionPool": {"tcp": {"maxConnections": connections}}}


def chosen(specs: Specs, namespace: str = "default") -> str | None:
    ratings = service("ratings", namespace="other")
    scope = scope_of(
        BuildCache(),
        mesh((ratings, []), destination_rules=specs),
        sidecar_proxy(namespace=namespace),
    )
    found = scope.destination_rules.find(ratings)
    return found.subsets[0].name if found else None


def named(name: str, host: str = RATINGS, **spec: Any) -> dict[str, Any]:
    return {"host": host, "subsets": [{"name": name}], **spec}


def test_the_clients_rule_comes_before_the_services_and_the_meshs() -> None:
    rules = {
        "istio-system/mesh": named("mesh"),
        "other/service": named("service"),
        "default/client": named("client"),
    }
    assert chosen(rules) == "client"
    assert chosen(rules, namespace="third") == "service"
    assert chosen({"istio-system/mesh": named("mesh")}) == "mesh"


def test_a_rule_that_is_not_exported_holds_in_its_namespace_only() -> None:
    rules = {"other/private": named("private", exportTo=["."])}
    assert chosen(rules) is None
    assert chosen(rules, namespace="other") == "private"


def test_a_rule_of_a_third_namespace_does_not_apply() -> None:
    assert chosen({"third/rule": named("third")}) is None


def test_the_most_specific_host_wins() -> None:
    rules = {
        "other/all": named("all", host="*.local"),
        "other/namespace": named("namespace", host="*.other.svc.cluster.local"),
    }
    assert chosen(rules) == "namespace"


def test_a_subset_overrides_setting_by_setting() -> None:
    found = rule(
        trafficPolicy={**balanced("RANDOM"), **limited(5)},
        subsets=[{"name": "v1", "trafficPolicy": balanced("ROUND_ROBIN")}],
    )
    policy = effective_policy(found, subset_of(found, "v1"), 9080)
    assert policy.load_balancer is not None
    assert policy.load_balancer.simple is SimpleLB.ROUND_ROBIN
    assert policy.connection_pool is not None
    assert policy.connection_pool.tcp is not None
    assert policy.connection_pool.tcp.max_connections == 5


def test_port_settings_replace_all_of_their_level() -> None:
    found = rule(
        trafficPolicy={
            **balanced("RANDOM"),
            "portLevelSettings": [{"port": {"number": 9080}, **limited(7)}],
        }
    )
    policy = effective_policy(found, None, 9080)
    assert policy.load_balancer is None
    assert policy.connection_pool is not None
    assert effective_policy(found, None, 9081).load_balancer is not None


def test_port_settings_of_a_subset_replace_the_destinations_too() -> None:
    ports = {"portLevelSettings": [{"port": {"number": 9080}, **limited(7)}]}
    found = rule(trafficPolicy=balanced("RANDOM"), subsets=[{"name": "v1", "trafficPolicy": ports}])
    assert effective_policy(found, subset_of(found, "v1"), 9080).load_balancer is None
    assert effective_policy(found, subset_of(found, "v1"), 9081).load_balancer is not None


def test_a_subset_inherits_the_destinations_port_settings() -> None:
    found = rule(
        trafficPolicy={"portLevelSettings": [{"port": {"number": 9080}, **limited(7)}]},
        subsets=[{"name": "v1", "trafficPolicy": balanced("RANDOM")}],
    )
    policy = effective_policy(found, subset_of(found, "v1"), 9080)
    assert policy.connection_pool is not None
    assert policy.load_balancer is not None


def test_without_a_rule_all_settings_are_defaults() -> None:
    policy = effective_policy(None, None, 9080)
    assert (policy.load_balancer, policy.connection_pool, policy.outlier_detection, policy.tls) == (
        None,
        None,
        None,
        None,
    )
