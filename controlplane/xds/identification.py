"""Identifies a proxy: compares its node's metadata with its token and with the object of its workload.

In a cluster all Pods are known, and their objects are authoritative: whether a selector matches must never
depend on labels that a proxy sends or omits. A folder source knows only WorkloadEntries; the metadata of a
workload without an entry is accepted as it is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from controlplane.errors import PermissionDeniedError, UnknownWorkloadError
from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.proxy import Caller, Proxy
from controlplane.model.service import Registry, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of a proxy when it connects. ``proxy`` is made from its node. ``caller`` is None where no
    token is required. ``remote`` means that it connected over TLS, possibly from another machine. ``returns``
    means that it reconnects and already has resources; its Pod's labels may have changed since it started,
    but the labels in its bootstrap file have not."""

    proxy: Proxy
    caller: Caller | None
    remote: bool
    returns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """An identified proxy. ``proxy`` is verified as far as possible and is what the builders use.
    ``workload`` is None for an unknown workload. ``outdated`` describes the labels in which the node differs
    from the object."""

    proxy: Proxy
    workload: Workload | None
    outdated: tuple[str, ...] = ()


class Identification:
    """Identifies proxies. ``knows_all`` means that every workload becomes known sooner or later, as in a
    cluster; a remote proxy of an unknown workload is then rejected."""

    def __init__(self, *, knows_all: bool) -> None:
        self._knows_all = knows_all

    def identify(self, claims: Claims, known: KnownWorkloads) -> Identified:
        """Identifies a proxy that connects. Raises `PermissionDeniedError` when the token or the object
        contradicts the claims, and `UnknownWorkloadError` when the workload is not known (yet)."""
        check_caller(claims)
        workload = _find(claims, known)
        if workload is None and self._knows_all and claims.remote:
            raise UnknownWorkloadError(_unknown(claims, known))
        if workload is None:
            return Identified(proxy=claims.proxy, workload=None)
        return self._as(workload, claims)

    def follow(self, claims: Claims, last: Identified, known: KnownWorkloads) -> Identified:
        """Identifies a connected proxy again after a change. Returns ``last`` itself if nothing changed.
        Raises `PermissionDeniedError` when the proxy must be disconnected."""
        claims, before = replace(claims, returns=True), last.workload
        now = known.named(before.namespace, before.name) if before else _find(claims, known)
        if now is before:
            return last
        if self._knows_all and before is not None and (now is None or now.uid != before.uid):
            raise PermissionDeniedError(f"node {claims.proxy.id!r}: its {_name(before)} was deleted")
        return self.identify(claims, known) if now is None else self._as(now, claims)

    def _as(self, workload: Workload, claims: Claims) -> Identified:
        """Returns the proxy with the properties of its workload's object."""
        proxy = claims.proxy
        # A WorkloadEntry in a folder has the labels that selectors need, but not necessarily all labels.
        labels = workload.labels if self._knows_all else {**proxy.labels, **workload.labels}
        contradictions = list(_contradictions(proxy, workload))
        if self._knows_all:
            contradictions += _account_contradictions(claims, workload)
        outdated = tuple(_label_contradictions(proxy.labels, labels))
        if not claims.returns:
            contradictions += outdated
        if contradictions:
            raise PermissionDeniedError(
                f"node {proxy.id!r} does not match {_name(workload)}: {'; '.join(contradictions)}"
            )
        identified = replace(
            proxy,
            workload=workload.name,
            labels=labels,
            service_account=(self._knows_all and workload.service_account) or proxy.service_account,
            node=workload.node,
            ip=proxy.ip if _claimed_address(proxy) or not workload.addresses else workload.addresses[0],
        )
        return Identified(proxy=identified, workload=workload, outdated=outdated)


def check_caller(claims: Claims) -> None:
    """Checks that the token belongs to the claimed workload. Raises `PermissionDeniedError`."""
    proxy, caller = claims.proxy, claims.caller
    if caller is None:
        return
    identity = caller.identity
    claimed = (proxy.namespace, proxy.service_account or identity.service_account)
    if claimed != (identity.namespace, identity.service_account):
        raise PermissionDeniedError(
            f"node {proxy.id!r} claims namespace {claimed[0]!r}, service account {claimed[1]!r}, "
            f"but its token belongs to {identity}"
        )
    if caller.pod_name not in ("", proxy.workload):
        raise PermissionDeniedError(
            f"node {proxy.id!r} claims the Pod {proxy.workload!r}, but its token belongs to the Pod "
            f"{identity.namespace}/{caller.pod_name}"
        )


def _find(claims: Claims, known: KnownWorkloads) -> Workload | None:
    """Finds the workload by its name or, if the token names no Pod, the only Pod at the proxy's address."""
    proxy, caller = claims.proxy, claims.caller
    named = known.named(proxy.namespace, proxy.workload)
    if caller is not None and caller.pod_name:
        # With another uid, the token belongs to an earlier or a later Pod of the same name.
        return named if named is not None and named.uid == caller.pod_uid else None
    if named is not None:
        return named
    address = _claimed_address(proxy)
    return known.pod_at(proxy.namespace, address) if address else None


def _unknown(claims: Claims, known: KnownWorkloads) -> str:
    proxy, caller = claims.proxy, claims.caller
    name = f"{proxy.namespace}/{proxy.workload}"
    if caller is not None and caller.pod_name and known.named(proxy.namespace, proxy.workload):
        return (
            f"node {proxy.id!r}: its token belongs to the Pod {name} with the uid {caller.pod_uid!r}, "
            f"but the known Pod of that name has another uid"
        )
    return f"node {proxy.id!r}: the Pod or WorkloadEntry {name} does not exist, or is not known yet"


def _contradictions(proxy: Proxy, workload: Workload) -> Iterator[str]:
    if workload.node and proxy.node not in ("", workload.node):
        yield f"its node is {proxy.node!r}, expected {workload.node!r}"
    address = _claimed_address(proxy)
    # The address of a WorkloadEntry is the one that clients dial, which can differ from the workload's own.
    if address and workload.addresses and address not in map(_normal, workload.addresses):
        yield f"its address is {address}, expected {' or '.join(workload.addresses)}"


def _label_contradictions(claimed: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[str]:
    """The variable of a missing label is empty in the downward API of Kubernetes."""
    for label, value in sorted(claimed.items()):
        if label not in actual and value:
            yield f"its label {label}={value!r:.80} does not exist on the object"
        elif (expected := actual.get(label, "")) != value:
            yield f"its label {label} is {value!r:.80}, expected {expected!r}"


def _account_contradictions(claims: Claims, workload: Workload) -> Iterator[str]:
    """Compares service accounts. Only for a cluster: with a folder source, the token alone determines a
    proxy's identity, and a WorkloadEntry's ``serviceAccount`` only tells clients which identity to expect."""
    account, claimed = workload.service_account, claims.proxy.service_account
    if account and claimed not in ("", account):
        yield f"its service account is {claimed!r}, expected {account!r}"
    proved = claims.caller.identity.service_account if claims.caller else account
    if account and proved != account:
        yield f"its token belongs to the service account {proved!r}, expected {account!r}"


def _claimed_address(proxy: Proxy) -> str:
    """Returns the address in the node id, or "" when it is missing or is a loopback or unspecified address,
    which other machines cannot dial."""
    try:
        address = ipaddress.ip_address(proxy.ip)
    except ValueError:
        return ""
    return "" if address.is_loopback or address.is_unspecified else str(address)


def _normal(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def _name(workload: Workload) -> str:
    kind = "Pod" if workload.registry is Registry.KUBERNETES else "WorkloadEntry"
    return f"{kind} {workload.namespace}/{workload.name}"
