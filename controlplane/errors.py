"""Every error of the control plane, in one tree; the type says whose fault it was.

ControlPlaneError
├── SettingsError        the operator's: a flag, a file, a port; the process exits with code 1
├── ResourceError        the author's of a resource: it is quarantined, with these words as its status
│   └── UnsupportedKindError     it is of a kind of Istio's that is not supported
├── KubernetesError      the cluster's
│   ├── UnreachableError     the API server gives no answer, or not the whole of it
│   └── RefusedError         it gives one, and refuses
├── ProxyError           the proxy's: a node, a subscription or an acknowledgement that makes no sense
│   └── UnknownWorkloadError     its workload is not known, perhaps not yet
└── AuthorityError       a certificate is refused
    ├── UnauthenticatedError     no token, or one that proves nothing
    ├── PermissionDeniedError    a token that proves somebody else
    ├── InvalidRequestError      a CSR that is not acceptable
    ├── RequestTooLargeError     a CSR longer than any honest one
    └── AuthorityUnavailableError    the authority's own: it cannot sign now, or tell who asks
"""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The root of the tree. The message names what, where and why."""


class SettingsError(ControlPlaneError):
    """The process cannot start as it was told to."""


class ResourceError(ControlPlaneError):
    """A resource cannot be applied. ``path`` names the field (``spec.http[0].match[1].uri``), or is empty."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class InvalidResourceError(ResourceError):
    """A resource has one or more faults: ``errors`` has each of them."""

    def __init__(self, errors: tuple[ResourceError, ...]) -> None:
        super().__init__("", "; ".join(map(str, errors)))
        self.errors = errors


class UnsupportedKindError(ResourceError):
    """The kind of a resource is not supported, though its API group has supported kinds, or may have."""

    def __init__(self, path: str, reason: str, *, kind: str, group: str) -> None:
        super().__init__(path, reason)
        self.kind = kind
        self.group = group


class KubernetesError(ControlPlaneError):
    """A Kubernetes API server cannot be followed, for now."""


class UnreachableError(KubernetesError):
    pass


class RefusedError(KubernetesError):
    """``status`` is HTTP's, or that of an event which ends a watch."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status

    @property
    def busy(self) -> bool:
        """Whether there is no time now, whatever is asked (RFC 6585 4, RFC 9110 15.6.4), or whoever stands
        before the API server cannot reach it (15.6.3)."""
        return self.status in (429, 502, 503)


class ProxyError(ControlPlaneError):
    """A proxy said something that cannot be followed."""


class UnknownWorkloadError(ProxyError):
    """Nobody has told of the workload that a proxy says it is: it may be told of later."""


class AuthorityError(ControlPlaneError):
    """A certificate is refused."""


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
