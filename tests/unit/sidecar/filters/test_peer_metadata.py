from __future__ import annotations

from sidecar.config.endpoint import WorkloadMetadata
from sidecar.config.http_filters import PeerMetadataConfig, PeerMethod
from sidecar.filters.peer_metadata import PeerMetadataFilter
from sidecar.filters.workload_headers import encode_baggage, encode_metadata
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response
from tests.support.filter_chains import filter_context
from tests.support.requests import connection_with, make_request

HEADERS = (PeerMethod.ISTIO_HEADERS,)
OWN = WorkloadMetadata(name="ratings-v1", namespace="bookinfo")
PEER = WorkloadMetadata(name="reviews-v1", namespace="bookinfo", canonical_name="reviews")
ID = b"x-envoy-peer-metadata-id"
METADATA = b"x-envoy-peer-metadata"
ASKING: Headers = [(ID, b"sidecar~1~reviews"), (METADATA, encode_metadata(PEER)), (b"x-a", b"1")]
PEER_ID = "spiffe://cluster.local/ns/bookinfo/sa/reviews"
INBOUND = PeerMetadataConfig(downstream_discovery=HEADERS, downstream_propagation=HEADERS)
OUTBOUND = PeerMetadataConfig(upstream_discovery=HEADERS, upstream_propagation=HEADERS)


class Side:
    """The filter of one side, before an upstream that answers with these headers."""

    def __init__(self, config: PeerMetadataConfig, answer: Headers | None = None) -> None:
        context = filter_context(node_id="sidecar~2~ratings", local_workload=OWN)
        self._filter = PeerMetadataFilter(config, context)
        self._answer = answer or []
        self.seen: Headers = []

    async def upstream(self, request: Request) -> Response:
        self.seen = list(request.headers)
        return Response(200, self._answer)

    async def ask(self, request: Request) -> Response:
        return await self._filter(request, self.upstream)


def inbound_request(headers: Headers, peer_id: str = PEER_ID) -> Request:
    return make_request(headers=list(headers), connection=connection_with(peer_id=peer_id))


class TestInbound:
    async def test_the_client_is_known_and_the_application_sees_no_header_of_it(self) -> None:
        side, request = Side(INBOUND), inbound_request(ASKING)
        response = await side.ask(request)
        assert request.info.peer_workload == PEER
        assert side.seen == [(b"x-a", b"1")]
        assert response.headers == [(ID, b"sidecar~2~ratings"), (METADATA, encode_metadata(OWN))]

    async def test_only_a_client_that_asks_is_answered(self) -> None:
        side = Side(INBOUND)
        assert (await side.ask(inbound_request([]))).headers == []
        assert (await side.ask(inbound_request(ASKING[:1]))).headers == [(ID, b"sidecar~2~ratings")]

    async def test_a_client_without_a_certificate_is_not_believed(self) -> None:
        side, request = Side(INBOUND), inbound_request(ASKING, peer_id="")
        await side.ask(request)
        assert request.info.peer_workload is None
        assert side.seen == [(b"x-a", b"1")]

    async def test_a_client_of_another_namespace_is_not_believed(self) -> None:
        request = inbound_request(ASKING, peer_id="spiffe://cluster.local/ns/other/sa/reviews")
        await Side(INBOUND).ask(request)
        assert request.info.peer_workload is None

    async def test_the_first_method_that_the_client_uses_counts(self) -> None:
        config = PeerMetadataConfig(downstream_discovery=(PeerMethod.ISTIO_HEADERS, PeerMethod.BAGGAGE))
        side, request = Side(config), inbound_request([(b"baggage", encode_baggage(PEER))])
        await side.ask(request)
        assert request.info.peer_workload == PEER
        assert get_header(side.seen, b"baggage") is not None  # it may be the application's

    async def test_any_number_of_clients_is_served(self) -> None:
        side = Side(INBOUND)
        for number in range(1200):
            peer = WorkloadMetadata(name=f"a-{number}", namespace="bookinfo")
            request = inbound_request([(METADATA, encode_metadata(peer))])
            await side.ask(request)
            assert request.info.peer_workload == peer


class TestOutbound:
    async def test_the_host_is_told_and_the_application_does_not_see_its_answer(self) -> None:
        side = Side(OUTBOUND, [(ID, b"sidecar~1"), (METADATA, encode_metadata(PEER)), (b"x-b", b"2")])
        request = make_request(headers=[(METADATA, b"forged"), (b"x-a", b"1")])
        request.info.upstream_peer_id = PEER_ID
        response = await side.ask(request)
        assert side.seen == [(b"x-a", b"1"), (ID, b"sidecar~2~ratings"), (METADATA, encode_metadata(OWN))]
        assert response.headers == [(b"x-b", b"2")]
        assert request.info.host_workload == PEER

    async def test_the_control_plane_knows_the_host_better(self) -> None:
        side, request = Side(OUTBOUND, [(METADATA, encode_metadata(PEER))]), make_request()
        request.info.upstream_peer_id = PEER_ID
        request.info.host_workload = OWN
        await side.ask(request)
        assert request.info.host_workload == OWN

    async def test_a_host_outside_the_mesh_is_not_told_if_the_configuration_says_so(self) -> None:
        for skip, names in ((True, []), (False, [ID, METADATA])):
            config = PeerMetadataConfig(upstream_propagation=HEADERS, skip_external_clusters=skip)
            side, request = Side(config), make_request()
            request.info.cluster = "PassthroughCluster"
            await side.ask(request)
            assert [name for name, _ in side.seen] == names
