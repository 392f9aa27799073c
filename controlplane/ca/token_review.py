"""Whom a Kubernetes token proves: the API server that issued it is asked (authentication.k8s.io/v1)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from controlplane.ca.authentication import AUDIENCE, Metadata, bearer_token, service_account_identity
from controlplane.errors import AuthorityUnavailableError, KubernetesError, UnauthenticatedError
from controlplane.kubernetes.api import Document, Writer
from controlplane.model.proxy import Caller

_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
# A whole mesh may come back at once; the API server has others to serve.
_MAX_REVIEWS: Final = 32
# Less than the 10 s that a sidecar waits: it should hear why.
_TIMEOUT_S: Final = 5.0
# Which Pod a token is bound to: UserInfo.extra, whose values are lists.
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class TokenReviewer:
    """An `Authenticator`. Nothing is remembered: a token is good only as long as its pod is there, which the
    API server alone knows, and it remembers its answer for 10 s already. A sidecar asks at half the life of
    its certificate, and when it connects, so there is little to save."""

    def __init__(self, api: Writer, trust_domain: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._api: Final = api
        self._trust_domain: Final = trust_domain
        self._timeout_s: Final = timeout_s
        self._reviews: Final = asyncio.Semaphore(_MAX_REVIEWS)

    async def authenticate(self, metadata: Metadata) -> Caller:
        """Raises `UnauthenticatedError`, and `AuthorityUnavailableError` where the API server is away."""
        token = bearer_token(metadata)
        try:
            async with asyncio.timeout(self._timeout_s), self._reviews:
                review = await self._api.create(_TOKEN_REVIEWS, _review_of(token))
        except TimeoutError as error:
            raise AuthorityUnavailableError(
                f"the API server has not reviewed the token within {self._timeout_s:g} s"
            ) from error
        except KubernetesError as error:
            raise AuthorityUnavailableError(f"the API server reviews no tokens now: {error}") from error
        user = _user_of(review.get("status"))
        extra = user.get("extra") or {}
        return Caller(
            identity=service_account_identity(user["username"], self._trust_domain),
            pod_name=_only(extra, _POD_NAME),
            pod_uid=_only(extra, _POD_UID),
        )


def _review_of(token: str) -> Document:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }


def _user_of(status: Any) -> Document:
    """An authenticated user, from a TokenReviewStatus."""
    match status:
        case {"authenticated": True, "audiences": [*audiences], **rest} if AUDIENCE in audiences:
            return _user(rest.get("user"))
        case {"authenticated": True}:
            # An API server that knows no audiences ignores ours, and says none.
            raise UnauthenticatedError(f"the token is good, but not for the audience {AUDIENCE!r}")
        case {"error": str(reason)}:
            raise UnauthenticatedError(f"the token proves nothing: {reason}")
        case _:
            raise UnauthenticatedError("the token proves nothing: the API server does not know it")


def _user(user: Any) -> Document:
    match user:
        case {"username": str()}:
            return dict(user)
        case _:
            raise UnauthenticatedError("the token is good, but the API server names no user")


def _only(extra: Any, key: str) -> str:
    """The one value of a key of UserInfo.extra; "" where it is not there. Raises `UnauthenticatedError` for
    anything else: a token that is bound to a Pod must not count as one that is not."""
    match extra.get(key) if isinstance(extra, dict) else extra:
        case None | []:
            return ""
        case [str(value)]:
            return value
        case other:
            raise UnauthenticatedError(f"the token is good, but the API server says {key} {other!r:.80}")
