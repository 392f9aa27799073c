"""``/dns``: the names that the DNS resolver answers, as Istio's ``/debug/ndsz``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sidecar.admin.answers import AdminError, Query, json_page, page, wanted_format, wanted_names
from sidecar.admin.state import AdminView
from sidecar.http.message import Response
from sidecar.observability.report import DnsReport, ResolvedHost

_BATCH = 100


async def dns(view: AdminView, query: Query) -> Response:
    """``?filter=REGEX`` (RE2, anywhere in the host's name), ``?format=json``."""
    if view.dns is None:
        raise AdminError("DNS is not captured: the sidecar runs without --dns-capture true", 404)
    format_, pattern = wanted_format(query, "text", "json"), wanted_names(query)
    report = view.dns()
    hosts = (host for host in report.hosts if pattern is None or pattern.search(host.name) is not None)
    if format_ == "json":
        return json_page("hosts", _batches(hosts))
    return page(_lines(report, hosts))


def _batches(hosts: Iterable[ResolvedHost]) -> Iterator[list[dict[str, object]]]:
    batch: list[dict[str, object]] = []
    for host in hosts:
        batch.append(
            {
                "name": host.name,
                "addresses": host.addresses,
                "registry": host.registry,
                "short_names": host.short_names,
            }
        )
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _lines(report: DnsReport, hosts: Iterable[ResolvedHost]) -> Iterator[str]:
    yield f"other names are passed to: {', '.join(report.upstreams) or 'no resolver'}\n"
    yield f"search domain: {report.suffix or 'none'}\n"
    if not report.has_table:
        yield "no name table from the control plane\n"
    for host in hosts:
        also = f" also {', '.join(host.short_names)}" if host.short_names else ""
        yield f"{host.name}: {', '.join(host.addresses)} ({host.registry}){also}\n"
