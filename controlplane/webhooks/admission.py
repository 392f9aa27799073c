"""AdmissionReview (``admission.k8s.io/v1``): the question of an API server and our answer. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.errors import ControlPlaneError

JsonObject = dict[str, Any]

API_VERSION: Final = "admission.k8s.io/v1"

# An API server cuts the warnings of one answer at 4096 characters, and recommends less than 256 for each.
_MOST_WARNINGS: Final = 15
_LONGEST_WARNING: Final = 1024
_LONGEST_MESSAGE: Final = 16384


class InvalidReviewError(ControlPlaneError):
    """A request is not an AdmissionReview. ``uid`` is that of the review, or empty if it has none."""

    def __init__(self, reason: str, uid: str = "") -> None:
        super().__init__(reason)
        self.uid = uid


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRequest:
    """``kind`` is the kind of ``object``. ``namespace`` is empty for a cluster-scoped object, ``name`` if the
    API server has not generated it yet. ``old_object`` is empty for a CREATE."""

    uid: str
    operation: str
    namespace: str
    name: str
    group: str
    version: str
    kind: str
    resource: str
    sub_resource: str
    object: JsonObject
    old_object: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``message`` is the reason of a refusal, ``code`` its HTTP status; the client of the API server gets
    both. ``patch`` is a JSON patch (RFC 6902) of an allowed object."""

    allowed: bool = True
    message: str = ""
    code: int = 400
    warnings: Sequence[str] = ()
    patch: Sequence[JsonObject] = ()


def parse_review(body: bytes | bytearray) -> AdmissionRequest:
    """Raises `InvalidReviewError`."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidReviewError(f"the body is not JSON: {error}") from error
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or review.get("kind") != "AdmissionReview":
        raise InvalidReviewError("the body is not an AdmissionReview with a request")
    uid = _text(request, "uid")
    if review.get("apiVersion") != API_VERSION:
        version = f"{review.get('apiVersion')!r:.80}"
        raise InvalidReviewError(f"apiVersion {version} is not supported; expected {API_VERSION}", uid)
    kind, resource, changed = request.get("kind"), request.get("resource"), request.get("object")
    if not (uid and isinstance(kind, dict) and isinstance(resource, dict) and isinstance(changed, dict)):
        raise InvalidReviewError("the request lacks one of: uid, kind, resource, object", uid)
    old = request.get("oldObject")
    return AdmissionRequest(
        uid=uid,
        operation=_text(request, "operation"),
        namespace=_text(request, "namespace"),
        name=_text(request, "name"),
        group=_text(kind, "group"),
        version=_text(kind, "version"),
        kind=_text(kind, "kind"),
        resource=_text(resource, "resource"),
        sub_resource=_text(request, "subResource"),
        object=changed,
        old_object=old if isinstance(old, dict) else {},
    )


def review_of(uid: str, answer: Answer) -> JsonObject:
    """The AdmissionReview that tells the API server our answer to the request ``uid``."""
    response: JsonObject = {"uid": uid, "allowed": answer.allowed}
    if not answer.allowed:
        response["status"] = {"code": answer.code, "message": answer.message[:_LONGEST_MESSAGE]}
    if answer.warnings:
        response["warnings"] = _bounded(answer.warnings)
    if answer.allowed and answer.patch:
        patch = json.dumps(answer.patch, separators=(",", ":")).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode("ascii")}
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def _bounded(warnings: Sequence[str]) -> list[str]:
    shown = [warning[:_LONGEST_WARNING] for warning in warnings[:_MOST_WARNINGS]]
    more = len(warnings) - len(shown)
    return [*shown, f"and {more} more warnings"] if more > 0 else shown


def _text(document: JsonObject, name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
