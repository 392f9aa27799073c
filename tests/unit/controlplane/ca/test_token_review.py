"""The effect of each response to a TokenReview on the caller."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlplane.ca.token_review import TokenReviewer
from controlplane.errors import (
    AuthorityUnavailableError,
    KubernetesError,
    RefusedError,
    UnauthenticatedError,
    UnreachableError,
)
from controlplane.kubernetes.api import Document
from controlplane.model.proxy import Caller
from protos.spiffe import SpiffeId

REVIEWS = "system:serviceaccount:bookinfo:reviews"
GOOD: Document = {"authenticated": True, "audiences": ["outrigger-ca"], "user": {"username": REVIEWS}}


class Reviews:
    """An API server that gives the same response to all reviews, once the test releases it."""

    def __init__(self, status: Any = None, failure: KubernetesError | None = None) -> None:
        self.status = status
        self.failure = failure
        self.asked: list[tuple[str, Document]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.at_once = self.most_at_once = 0

    async def create(self, path: str, document: Document) -> Document:
        self.asked.append((path, document))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.answering.wait()
        finally:
            self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return {**document, "status": self.status}

    async def replace(self, path: str, document: Document) -> Document:
        raise AssertionError("a review is created")

    async def merge(self, path: str, document: Document) -> Document:
        raise AssertionError("a review is created")


async def authenticate(api: Reviews, token: str = "a.b.c", timeout_s: float = 5.0) -> Caller:
    reviewer = TokenReviewer(api, "example.com", timeout_s=timeout_s)
    return await reviewer.authenticate([("authorization", f"Bearer {token}")])


async def test_the_review_requests_the_authoritys_audience() -> None:
    api = Reviews(GOOD)
    assert await authenticate(api) == Caller(identity=SpiffeId("example.com", "bookinfo", "reviews"))
    [(path, review)] = api.asked
    assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert review["spec"] == {"token": "a.b.c", "audiences": ["outrigger-ca"]}


async def test_a_token_may_have_several_audiences() -> None:
    await authenticate(Reviews({**GOOD, "audiences": ["vault", "outrigger-ca"]}))


def bound_to_pod(**extra: Any) -> Document:
    values = {f"authentication.kubernetes.io/{key.replace('_', '-')}": each for key, each in extra.items()}
    return {**GOOD, "user": {"username": REVIEWS, "extra": values}}


async def test_a_token_that_is_bound_to_a_pod_identifies_the_pod() -> None:
    caller = await authenticate(Reviews(bound_to_pod(pod_name=["reviews-1"], pod_uid=["u"], node_name=["n"])))
    assert (caller.pod_name, caller.pod_uid) == ("reviews-1", "u")


@pytest.mark.parametrize("odd", ["reviews-1", ["a", "b"], [7], {"a": "b"}])
async def test_a_malformed_pod_name_is_rejected(odd: Any) -> None:
    with pytest.raises(UnauthenticatedError, match="pod-name"):
        await authenticate(Reviews(bound_to_pod(pod_name=odd)))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"error": "[invalid bearer token, token has expired]"}, "the token is invalid: .*token has expired"),
        ({"authenticated": False, "error": "pod is gone"}, "the token is invalid: pod is gone"),
        ({"authenticated": False}, "the API server does not know it"),
        ({}, "the API server does not know it"),
        (None, "the API server does not know it"),
        ({**GOOD, "authenticated": "true"}, "the API server does not know it"),
        ({**GOOD, "authenticated": 1, "error": "odd"}, "the token is invalid: odd"),
        ({**GOOD, "audiences": None}, "not for the audience 'outrigger-ca'"),
        ({**GOOD, "audiences": []}, "not for the audience 'outrigger-ca'"),
        ({**GOOD, "audiences": ["vault"]}, "not for the audience 'outrigger-ca'"),
        ({**GOOD, "audiences": "outrigger-ca"}, "not for the audience 'outrigger-ca'"),
        (
            {**GOOD, "user": {"username": "kubernetes-admin"}},
            "'kubernetes-admin', which is not a service account",
        ),
        ({**GOOD, "user": {"username": "system:serviceaccount:a/b:c"}}, "not a namespace: 'a/b'"),
        ({**GOOD, "user": {}}, "returned no user name"),
        ({**GOOD, "user": None}, "returned no user name"),
    ],
)
async def test_a_review_without_a_service_account_is_rejected(status: Any, reason: str) -> None:
    with pytest.raises(UnauthenticatedError, match=reason):
        await authenticate(Reviews(status))


@pytest.mark.parametrize(
    "failure",
    [
        UnreachableError("https://10.96.0.1: connection refused"),
        RefusedError(403, "tokenreviews is forbidden"),
        RefusedError(500, "etcdserver: leader changed"),
    ],
)
async def test_a_token_is_not_accepted_while_the_api_server_does_not_answer(
    failure: KubernetesError,
) -> None:
    with pytest.raises(AuthorityUnavailableError, match=f"cannot review tokens now: .*{failure}"):
        await authenticate(Reviews(failure=failure))


async def test_a_review_has_a_timeout() -> None:
    api = Reviews(GOOD)
    api.answering.clear()
    with pytest.raises(AuthorityUnavailableError, match=r"did not review the token within 0.01 s"):
        await authenticate(api, timeout_s=0.01)
    assert api.at_once == 0


async def test_the_api_server_is_not_asked_without_a_token() -> None:
    api = Reviews(GOOD)
    with pytest.raises(UnauthenticatedError, match="the bearer token is empty"):
        await authenticate(api, token="")
    assert not api.asked


async def test_reviews_are_not_cached() -> None:
    """A pod can be deleted before its token is sent again."""
    api = Reviews(GOOD)
    reviewer = TokenReviewer(api, "example.com")
    metadata = [("authorization", "Bearer a.b.c")]
    await reviewer.authenticate(metadata)
    api.status = {"error": "pod is gone"}
    with pytest.raises(UnauthenticatedError, match="pod is gone"):
        await reviewer.authenticate(metadata)


async def test_concurrent_reviews_are_bounded_and_cancelled_ones_free_their_slot() -> None:
    api = Reviews(GOOD)
    api.answering.clear()
    reviewer = TokenReviewer(api, "example.com")
    calls = [
        asyncio.create_task(reviewer.authenticate([("authorization", f"Bearer {number}")]))
        for number in range(100)
    ]
    async with asyncio.timeout(5):
        while api.at_once < 32:
            await asyncio.sleep(0)
        for call in calls[:50]:
            call.cancel()
        await asyncio.gather(*calls[:50], return_exceptions=True)
        api.answering.set()
        answers = await asyncio.gather(*calls[50:])
    assert len(answers) == 50
    assert api.most_at_once == 32
