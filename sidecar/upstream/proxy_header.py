"""The PROXY header for a host: it tells the address of the downstream connection's client."""

from __future__ import annotations

from sidecar.config.endpoint import UpstreamSource
from sidecar.config.proxy_protocol import UpstreamProxyProtocol
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.proxy_protocol import combined_tlvs, write_v1, write_v2


def with_proxy_header(config: UpstreamProxyProtocol, connection: DownstreamConnection) -> UpstreamSource:
    """The source of the connections to a host for the client of `connection`."""
    source, destination = connection.remote_address, connection.destination
    if config.version == 1:
        header = write_v1(source, destination)
    else:
        passed = [tlv for tlv in connection.tlvs if tlv[0] in config.tlv_types]
        header = write_v2(source, destination, combined_tlvs(config.added_tlvs, passed))
    bound = connection.upstream_source
    if bound is None:
        return UpstreamSource(None, proxy_header=header)
    return UpstreamSource(bound.address, bound.mark, header)
