"""Who a proxy is: what its node claims, held against what its token proves and what is known of its workload.

A cluster knows all of its Pods, so their objects decide: a selector must never hang on a label that a proxy
says of itself, or leaves out. A folder knows what WorkloadEntries say; of a workload that has none the
proxy's own word is all that there is.
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
    """``proxy`` is as its node says. ``caller``: None where nobody is asked for a token. ``remote``: it came
    over TLS, perhaps from elsewhere. ``returns``: it has followed before, and brings along what it was sent
    then; labels may have changed since it started, those in its bootstrap file do not."""

    proxy: Proxy
    caller: Caller | None
    remote: bool
    returns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """``proxy`` is what the builders may believe. ``workload`` None: nothing is known of it. ``outdated``:
    what the proxy claims of its labels, and the object does not say."""

    proxy: Proxy
    workload: Workload | None
    outdated: tuple[str, ...] = ()


class Identification:
    """``knows_all``: every workload is known, sooner or later, as in a cluster, and no proxy from elsewhere
    may be of another."""

    def __init__(self, *, knows_all: bool) -> None:
        self._knows_all = knows_all

    def identify(self, claims: Claims, known: KnownWorkloads) -> Identified:
        """Raises `PermissionDeniedError` where something contradicts the claims, and `UnknownWorkloadError`
        where the workload is not known, perhaps not yet."""
        check_caller(claims)
        workload = _find(claims, known)
        if workload is None and self._knows_all and claims.remote:
            raise UnknownWorkloadError(_unknown(claims, known))
        if workload is None:
            return Identified(proxy=claims.proxy, workload=None)
        return self._as(workload, claims)

    def follow(self, claims: Claims, last: Identified, known: KnownWorkloads) -> Identified:
        """How a connected proxy is seen now: the same object as ``last`` if nothing changed. Raises
        `PermissionDeniedError` where it may follow no longer."""
        claims, before = replace(claims, returns=True), last.workload
        now = known.named(before.namespace, before.name) if before else _find(claims, known)
        if now is before:
            return last
        if self._knows_all and before is not None and (now is None or now.uid != before.uid):
            raise PermissionDeniedError(f"node {claims.proxy.id!r}: its {_name(before)} is deleted")
        return self.identify(claims, known) if now is None else self._as(now, claims)

    def _as(self, workload: Workload, claims: Claims) -> Identified:
        """The proxy as its workload's object describes it."""
        proxy = claims.proxy
        # A folder's entry says what selectors need, and need not say all.
        labels = workload.labels if self._knows_all else {**proxy.labels, **workload.labels}
        contradictions = list(_contradictions(proxy, workload))
        if self._knows_all:
            contradictions += _account_contradictions(claims, workload)
        outdated = tuple(_label_contradictions(proxy.labels, labels))
        if not claims.returns:
            contradictions += outdated
        if contradictions:
            raise PermissionDeniedError(f"node {proxy.id!r}: {'; '.join(contradictions)} ({_name(workload)})")
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
    """A proxy is sent what its own workload may see: raises `PermissionDeniedError` for another's."""
    proxy, caller = claims.proxy, claims.caller
    if caller is None:
        return
    identity = caller.identity
    claimed = (proxy.namespace, proxy.service_account or identity.service_account)
    if claimed != (identity.namespace, identity.service_account):
        raise PermissionDeniedError(
            f"node {proxy.id!r} says namespace {claimed[0]!r}, service account {claimed[1]!r}; "
            f"its token is {identity}'s"
        )
    if caller.pod_name not in ("", proxy.workload):
        raise PermissionDeniedError(
            f"node {proxy.id!r} says that it is {proxy.workload!r}; its token is that of the Pod "
            f"{identity.namespace}/{caller.pod_name}"
        )


def _find(claims: Claims, known: KnownWorkloads) -> Workload | None:
    """The workload by its name; or, where the token names no Pod, the one Pod at the proxy's address."""
    proxy, caller = claims.proxy, claims.caller
    named = known.named(proxy.namespace, proxy.workload)
    if caller is not None and caller.pod_name:
        # Another uid: the Pod had its name before it, and the token is a newer or an older one's.
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
            f"node {proxy.id!r}: its token is that of the Pod {name} with the uid {caller.pod_uid!r}; "
            f"the Pod of that name has another"
        )
    return f"node {proxy.id!r}: there is no Pod and no WorkloadEntry {name}, or it is not known yet"


def _contradictions(proxy: Proxy, workload: Workload) -> Iterator[str]:
    if workload.node and proxy.node not in ("", workload.node):
        yield f"it says node {proxy.node!r}, the object says {workload.node!r}"
    address = _claimed_address(proxy)
    # The address of a WorkloadEntry is how others reach it, which need not be its own.
    if address and workload.addresses and address not in map(_normal, workload.addresses):
        yield f"it says address {address}, the object says {', '.join(workload.addresses)}"


def _label_contradictions(claimed: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[str]:
    for label, value in sorted(claimed.items()):
        if label not in actual:
            yield f"it says label {label}={value!r:.80}, the object has none of that name"
        elif actual[label] != value:
            yield f"it says label {label}={value!r:.80}, the object says {actual[label]!r}"


def _account_contradictions(claims: Claims, workload: Workload) -> Iterator[str]:
    """In a folder the token alone says who a proxy is, and an entry whom its callers expect."""
    account, claimed = workload.service_account, claims.proxy.service_account
    if account and claimed not in ("", account):
        yield f"it says service account {claimed!r}, the object says {account!r}"
    proved = claims.caller.identity.service_account if claims.caller else account
    if account and proved != account:
        yield f"its token is that of service account {proved!r}, the object says {account!r}"


def _claimed_address(proxy: Proxy) -> str:
    """ "" where the node id says none: what cannot be dialled from elsewhere is nobody's address."""
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
