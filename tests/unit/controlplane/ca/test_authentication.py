from __future__ import annotations

import pytest

from controlplane.ca.authentication import Metadata, bearer_token, service_account_identity
from controlplane.errors import UnauthenticatedError
from protos.spiffe import SpiffeId


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    assert bearer_token([("user-agent", "grpc"), ("authorization", f"{scheme}  a.b.c ")]) == "a.b.c"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "expected one authorization header with a token, found 0"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "found 2"),
        ([("authorization", "Basic YTpi")], "does not contain a bearer token"),
        ([("authorization", b"Bearer a")], "does not contain a bearer token"),
        ([("authorization", "Bearer  ")], "the bearer token is empty"),
        ([("authorization", f"Bearer {'A' * 20000}")], "the token has 20000 characters, more than 16384"),
    ],
)
def test_anything_but_a_single_token_is_rejected(metadata: Metadata, reason: str) -> None:
    with pytest.raises(UnauthenticatedError, match=reason) as refused:
        bearer_token(metadata)
    assert "AAAA" not in str(refused.value)


def test_a_service_account_is_an_identity_of_the_trust_domain() -> None:
    found = service_account_identity("system:serviceaccount:bookinfo:reviews", "example.com")
    assert found == SpiffeId("example.com", "bookinfo", "reviews")


@pytest.mark.parametrize(
    "user",
    [
        "",
        "admin",
        "system:node:worker-1",
        "system:serviceaccount",
        "system:serviceaccount:bookinfo",
        "system:serviceaccount:bookinfo:reviews:admin",
        "other:system:serviceaccount:bookinfo:reviews",
        "System:serviceaccount:bookinfo:reviews",
    ],
)
def test_a_user_that_is_not_a_service_account_is_rejected(user: str) -> None:
    with pytest.raises(UnauthenticatedError, match="which is not a service account"):
        service_account_identity(user, "cluster.local")


@pytest.mark.parametrize("name", ["bookinfo:", "book/info:reviews", "bookinfo:../admin", ":reviews"])
def test_a_name_that_no_spiffe_id_can_hold_is_refused(name: str) -> None:
    with pytest.raises(UnauthenticatedError, match="the token is invalid: not a"):
        service_account_identity(f"system:serviceaccount:{name}", "cluster.local")
