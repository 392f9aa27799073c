"""The API server's decisions about callers of the debug API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlplane.api.access_review import AccessReviewer
from controlplane.errors import AccessError, KubernetesError, RefusedError, UnreachableError
from controlplane.kubernetes.api import Document

ANNA: Document = {"username": "anna", "uid": "7", "groups": ["operators"], "extra": {"scopes": ["a"]}}
KNOWN: Document = {"authenticated": True, "user": ANNA}


class Reviews:
    """An API server that gives the same answers to all reviews, once the test releases it."""

    def __init__(
        self, token: Any = KNOWN, access: Any = None, failure: KubernetesError | None = None
    ) -> None:
        self.token = token
        self.access = {"allowed": True} if access is None else access
        self.failure = failure
        self.asked: list[Document] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.at_once = self.most_at_once = 0
        self.now_s = 1000.0

    async def create(self, path: str, document: Document) -> Document:
        assert path.endswith(f"/{document['kind'].lower()}s")
        self.asked.append(document)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.answering.wait()
        finally:
            self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return {"status": self.token if document["kind"] == "TokenReview" else self.access}

    async def replace(self, path: str, document: Document) -> Document:
        raise AssertionError("a review is created")

    async def merge(self, path: str, document: Document) -> Document:
        raise AssertionError("a review is created")

    def reviewer(self, timeout_s: float = 5.0) -> AccessReviewer:
        return AccessReviewer(self, timeout_s=timeout_s, clock=lambda: self.now_s)


async def denial(reviewer: AccessReviewer, token: str = "t0ken") -> AccessError:
    with pytest.raises(AccessError) as refused:
        await reviewer.authorize(token, "get", "/debug/syncz")
    assert token not in str(refused.value)
    return refused.value


async def test_the_tokens_user_must_have_permission_for_the_path() -> None:
    api = Reviews()
    await api.reviewer().authorize("t0ken", "get", "/debug/syncz")
    token_review, access_review = api.asked
    assert token_review["spec"] == {"token": "t0ken"}
    assert access_review["spec"] == {
        "user": "anna",
        "uid": "7",
        "groups": ["operators"],
        "extra": {"scopes": ["a"]},
        "nonResourceAttributes": {"path": "/debug/syncz", "verb": "get"},
    }


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"authenticated": False, "user": ANNA},
        {"authenticated": "true", "user": ANNA},
        {"authenticated": True},
        {"authenticated": True, "user": {"username": ""}},
    ],
)
async def test_an_unknown_token_is_refused(status: Any) -> None:
    api = Reviews(token=status)
    assert (await denial(api.reviewer())).status == 401
    assert [each["kind"] for each in api.asked] == ["TokenReview"]


@pytest.mark.parametrize(
    "status", [{}, {"allowed": False}, {"allowed": "true"}, {"allowed": True, "denied": True}, []]
)
async def test_a_user_without_permission_is_refused_by_name(status: Any) -> None:
    error = await denial(Reviews(access=status).reviewer())
    assert error.status == 403
    assert str(error) == "anna has no permission to get the path /debug/syncz"


@pytest.mark.parametrize("failure", [UnreachableError("connection refused"), RefusedError(403, "forbidden")])
async def test_nobody_is_permitted_while_the_api_server_cannot_decide(failure: KubernetesError) -> None:
    api = Reviews(failure=failure)
    reviewer = api.reviewer()
    error = await denial(reviewer)
    assert error.status == 503
    assert str(failure) in str(error)
    api.failure = None
    await reviewer.authorize("t0ken", "get", "/debug/syncz")  # the failure was not remembered


async def test_a_review_has_a_timeout() -> None:
    api = Reviews()
    api.answering.clear()
    assert (await denial(api.reviewer(timeout_s=0.01))).status == 503
    assert api.at_once == 0


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_decision_is_used_for_some_seconds(allowed: bool) -> None:
    api = Reviews(access={"allowed": allowed})
    reviewer = api.reviewer()

    async def ask(token: str = "t0ken", path: str = "/debug/syncz") -> bool:
        try:
            await reviewer.authorize(token, "get", path)
        except AccessError:
            return False
        return True

    assert await ask() is allowed
    api.access = {"allowed": not allowed}
    assert await ask() is allowed
    assert await ask(path="/debug/statusz") is not allowed
    assert await ask(token="another") is not allowed
    api.now_s += 10
    assert await ask() is not allowed


async def test_few_reviews_run_at_once_and_few_decisions_are_kept() -> None:
    api = Reviews(token={})
    reviewer = api.reviewer()
    api.answering.clear()
    callers = [asyncio.create_task(denial(reviewer, f"token-{number}")) for number in range(600)]
    async with asyncio.timeout(5):
        while api.at_once < 8:
            await asyncio.sleep(0)
    api.answering.set()
    await asyncio.gather(*callers)
    assert api.most_at_once == 8
    before = len(api.asked)
    await denial(reviewer, "token-599")
    assert len(api.asked) == before
    await denial(reviewer, "token-0")  # forgotten
    assert len(api.asked) == before + 1
