"""All errors of the control plane, in one tree. The type tells the cause.

ControlPlaneError
├── SettingsError        an invalid flag, file or port: the process exits with code 1
├── ResourceError        an invalid resource: it is quarantined, and the message becomes its status
│   └── UnsupportedKindError     an Istio kind that is not supported
├── KubernetesError      a failed request to the Kubernetes API server
│   ├── UnreachableError     no response, or an incomplete or malformed one
│   └── RefusedError         a response with an error status
├── InjectionError       a pod that cannot be injected: its creation is refused with the message
├── ProxyError           an invalid node, subscription or acknowledgement from a proxy
│   └── UnknownWorkloadError     the proxy's workload is unknown; it may become known later
├── AccessError          a refused request for the debug API
└── AuthorityError       a rejected certificate request
    ├── UnauthenticatedError     the token is missing or invalid
    ├── PermissionDeniedError    the token belongs to another identity
    ├── InvalidRequestError      the CSR is invalid
    ├── RequestTooLargeError     the CSR is too long
    └── AuthorityUnavailableError    the authority cannot sign, or cannot authenticate callers, for now
"""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The root of the tree. The message names the object, the place and the reason."""


class SettingsError(ControlPlaneError):
    """The settings are invalid: the process cannot start."""


class ResourceError(ControlPlaneError):
    """A resource cannot be applied. ``path`` names the field (``spec.http[0].match[1].uri``), or is empty."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class InvalidResourceError(ResourceError):
    """A resource has one or more errors, which are in ``errors``."""

    def __init__(self, errors: tuple[ResourceError, ...]) -> None:
        super().__init__("", "; ".join(map(str, errors)))
        self.errors = errors


class UnsupportedKindError(ResourceError):
    """The kind of a resource is not supported, although its API group is one of Istio's."""

    def __init__(self, path: str, reason: str, *, kind: str, group: str) -> None:
        super().__init__(path, reason)
        self.kind = kind
        self.group = group


class KubernetesError(ControlPlaneError):
    """A request to a Kubernetes API server failed. It may succeed later."""


class UnreachableError(KubernetesError):
    pass


class RefusedError(KubernetesError):
    """The API server returned an error. ``status`` is the HTTP status, or the code of a watch's ERROR
    event."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status

    @property
    def busy(self) -> bool:
        """Whether the API server is overloaded or unavailable (429: RFC 6585 section 4; 503: RFC 9110 section
        15.6.4), or a proxy in front of it cannot reach it (502: RFC 9110 section 15.6.3)."""
        return self.status in (429, 502, 503)


class InjectionError(ControlPlaneError):
    """A pod cannot be injected. The message names the annotation or the field, its value and the reason."""


class ProxyError(ControlPlaneError):
    """A proxy sent an invalid request."""


class UnknownWorkloadError(ProxyError):
    """The workload that a proxy names is not known yet. A source may report it later."""


class AccessError(ControlPlaneError):
    """A caller may not use the debug API. ``status`` is the HTTP status: 401, 403, or 503 if that cannot be
    decided now."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class AuthorityError(ControlPlaneError):
    """A certificate request is rejected."""


class UnauthenticatedError(AuthorityError):
    pass


class PermissionDeniedError(AuthorityError):
    pass


class InvalidRequestError(AuthorityError):
    pass


class RequestTooLargeError(AuthorityError):
    pass


class AuthorityUnavailableError(AuthorityError):
    pass
