"""Has the API server decide who may read the debug API: TokenReview (authentication.k8s.io/v1) tells who the
caller is, SubjectAccessReview (authorization.k8s.io/v1) whether RBAC lets that user read the path."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.errors import AccessError, KubernetesError
from controlplane.kubernetes.api import Document, Writer

_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_TIMEOUT_S: Final = 5.0
# Callers without a valid token must not cause a flood of reviews.
_MAX_REVIEWS: Final = 8
# The API server itself uses an answer about a token for 10 s.
_CACHE_S: Final = 5.0
_MOST_DECISIONS: Final = 512
_ALLOWED: Final = 200

_Question = tuple[bytes, str, str]  # the token's digest, the verb and the path


@dataclass(frozen=True, slots=True)
class _Decision:
    """``status`` is the HTTP status."""

    status: int
    reason: str
    expires_s: float


class AccessReviewer:
    """An `Authorizer`. Decisions are used for some seconds. ``clock`` returns seconds."""

    def __init__(
        self,
        api: Writer,
        *,
        timeout_s: float = _TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api: Final = api
        self._timeout_s: Final = timeout_s
        self._clock: Final = clock
        self._reviews: Final = asyncio.Semaphore(_MAX_REVIEWS)
        self._decisions: Final[dict[_Question, _Decision]] = {}  # the oldest come first

    async def authorize(self, token: str, verb: str, path: str) -> None:
        """Raises `AccessError` with status 401, 403, or 503 when the API server cannot decide now. The error
        texts never contain the token."""
        question = hashlib.sha256(token.encode()).digest(), verb, path
        decision = self._decisions.get(question)
        if decision is None or self._clock() >= decision.expires_s:
            status, reason = await self._decide(token, verb, path)
            decision = _Decision(status, reason, self._clock() + _CACHE_S)
            self._remember(question, decision)
        if decision.status != _ALLOWED:
            raise AccessError(decision.status, decision.reason)

    async def _decide(self, token: str, verb: str, path: str) -> tuple[int, str]:
        """Returns an HTTP status and the reason of a denial. Raises `AccessError` when no decision is
        possible, which is not remembered."""
        try:
            async with asyncio.timeout(self._timeout_s), self._reviews:
                review = await self._api.create(_TOKEN_REVIEWS, _token_review(token))
                user = _user(review.get("status"))
                if user is None:
                    return 401, "the token is invalid: the API server does not know it"
                review = await self._api.create(_ACCESS_REVIEWS, _access_review(user, verb, path))
        except TimeoutError as error:
            raise AccessError(503, f"the API server did not answer within {self._timeout_s:g} s") from error
        except KubernetesError as error:
            raise AccessError(503, f"the API server cannot review the token now: {error}") from error
        match review.get("status"):
            case {"allowed": True, **rest} if rest.get("denied") is not True:
                return _ALLOWED, ""
        return 403, f"{user['username']} has no permission to {verb} the path {path}"

    def _remember(self, question: _Question, decision: _Decision) -> None:
        self._decisions.pop(question, None)
        self._decisions[question] = decision
        if len(self._decisions) > _MOST_DECISIONS:
            del self._decisions[next(iter(self._decisions))]


def _token_review(token: str) -> Document:
    """Without audiences: the token must be for the API server itself."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }


def _user(status: Any) -> Document | None:
    """The user of a TokenReviewStatus; None if the token is not valid."""
    match status:
        case {"authenticated": True, "user": {"username": str(name)} as user} if name:
            return dict(user)
    return None


def _access_review(user: Document, verb: str, path: str) -> Document:
    """``extra`` is included, because an authorizer may read it."""
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user["username"],
            "uid": user.get("uid") or "",
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": path, "verb": verb},
        },
    }
