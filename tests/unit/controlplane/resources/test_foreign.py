from __future__ import annotations

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.resources.foreign import AUTHORIZATION_POLICY, FOREIGN_KINDS, ForeignKind, is_istios
from controlplane.resources.kind_registry import unsupported


def test_only_kinds_that_may_restrict_traffic_do() -> None:
    assert {kind.name for kind in FOREIGN_KINDS.values() if kind.may_restrict} == {
        "AuthorizationPolicy",
        "RequestAuthentication",
    }


@pytest.mark.parametrize("group", ["istio.io", "security.istio.io", "rbac.istio.io"])
def test_every_group_below_istio_io_is_istios(group: str) -> None:
    assert is_istios(group)
    assert not is_istios(f"{group}.example.com")
    assert not is_istios("notistio.io")


def test_supported_kinds_are_not_foreign_and_others_of_their_group_are() -> None:
    assert KINDS.unsupported_kind("VirtualService", "networking.istio.io/v1") is None
    assert KINDS.unsupported_kind("AuthorizationPolicy", "security.istio.io/v1") is AUTHORIZATION_POLICY
    assert KINDS.unsupported_kind("ServiceRole", "rbac.istio.io/v1alpha1") == ForeignKind(
        group="rbac.istio.io", name="ServiceRole"
    )
    assert not KINDS.keys() & FOREIGN_KINDS.keys()


def test_other_apis_are_none_of_ours_and_a_slip_of_the_pen_is_not_foreign() -> None:
    assert KINDS.unsupported_kind("Deployment", "apps/v1") is None
    assert KINDS.unsupported_kind("AuthorizationPolicy", "example.com/v1") is None
    assert KINDS.unsupported_kind("VirtualServices", "networking.istio.io/v1") is None


def test_gateways_are_distinguished_by_their_api_group() -> None:
    istios = KINDS.unsupported_kind("Gateway", "networking.istio.io/v1")
    kubernetes = KINDS.unsupported_kind("Gateway", "gateway.networking.k8s.io/v1")
    assert istios is not None
    assert kubernetes is not None
    assert "a kind of Istio that is not supported yet: it has no effect" in str(unsupported(istios))
    assert "a kind of the Kubernetes Gateway API that is not supported yet" in str(unsupported(kubernetes))
