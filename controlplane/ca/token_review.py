"""Authenticates Kubernetes tokens with the API server that issued them (TokenReview,
authentication.k8s.io/v1)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from controlplane.ca.authentication import AUDIENCE, Metadata, bearer_token, service_account_identity
from controlplane.errors import AuthorityUnavailableError, KubernetesError, UnauthenticatedError
from controlplane.kubernetes.api import Document, Writer
from controlplane.model.proxy import Caller

_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
# All sidecars of a mesh may reconnect at once; this limits the load on the API server.
_MAX_REVIEWS: Final = 32
# Less than the 10 s that a sidecar waits, so that it receives the reason.
_TIMEOUT_S: Final = 5.0
# Keys of UserInfo.extra that name the Pod that a token is bound to. The values are lists.
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class TokenReviewer:
    """An `Authenticator`. It has no cache: a token is valid only while its pod exists, which only the API
    server knows, and the API server caches its answer for 10 s. A sidecar sends its token only when it
    connects and when it renews its certificate, so a cache would save little."""

    def __init__(self, api: Writer, trust_domain: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._api: Final = api
        self._trust_domain: Final = trust_domain
        self._timeout_s: Final = timeout_s
        self._reviews: Final = asyncio.Semaphore(_MAX_REVIEWS)

    async def authenticate(self, metadata: Metadata) -> Caller:
        """Raises `UnauthenticatedError`, and `AuthorityUnavailableError` when the API server cannot be
        reached."""
        token = bearer_token(metadata)
        try:
            async with asyncio.timeout(self._timeout_s), self._reviews:
                review = await self._api.create(_TOKEN_REVIEWS, _review_of(token))
        except TimeoutError as error:
            raise AuthorityUnavailableError(
                f"the API server did not review the token within {self._timeout_s:g} s"
            ) from error
        except KubernetesError as error:
            raise AuthorityUnavailableError(f"the API server cannot review tokens now: {error}") from error
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
    """Returns the authenticated user of a TokenReviewStatus. Raises `UnauthenticatedError`."""
    match status:
        case {"authenticated": True, "audiences": [*audiences], **rest} if AUDIENCE in audiences:
            return _user(rest.get("user"))
        case {"authenticated": True}:
            # An API server that does not support audiences ignores the requested one and returns none.
            raise UnauthenticatedError(f"the token is not for the audience {AUDIENCE!r}")
        case {"error": str(reason)}:
            raise UnauthenticatedError(f"the token is invalid: {reason}")
        case _:
            raise UnauthenticatedError("the token is invalid: the API server does not know it")


def _user(user: Any) -> Document:
    match user:
        case {"username": str()}:
            return dict(user)
        case _:
            raise UnauthenticatedError("the token is valid, but the API server returned no user name")


def _only(extra: Any, key: str) -> str:
    """Returns the single value of a key of UserInfo.extra, or "" when the key is missing. Raises
    `UnauthenticatedError` for any other value, so that a token that is bound to a Pod is never treated as
    unbound."""
    match extra.get(key) if isinstance(extra, dict) else extra:
        case None | []:
            return ""
        case [str(value)]:
            return value
        case other:
            raise UnauthenticatedError(f"the API server returned an invalid {key}: {other!r:.80}")
