from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Config(_message.Message):
    __slots__ = ("downstream_discovery", "upstream_discovery", "downstream_propagation", "upstream_propagation", "shared_with_upstream", "additional_labels")
    class Baggage(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class WorkloadDiscovery(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class IstioHeaders(_message.Message):
        __slots__ = ("skip_external_clusters",)
        SKIP_EXTERNAL_CLUSTERS_FIELD_NUMBER: _ClassVar[int]
        skip_external_clusters: bool
        def __init__(self, skip_external_clusters: _Optional[bool] = ...) -> None: ...
    class UpstreamFilterState(_message.Message):
        __slots__ = ("peer_metadata_key",)
        PEER_METADATA_KEY_FIELD_NUMBER: _ClassVar[int]
        peer_metadata_key: str
        def __init__(self, peer_metadata_key: _Optional[str] = ...) -> None: ...
    class DiscoveryMethod(_message.Message):
        __slots__ = ("baggage", "workload_discovery", "istio_headers", "upstream_filter_state")
        BAGGAGE_FIELD_NUMBER: _ClassVar[int]
        WORKLOAD_DISCOVERY_FIELD_NUMBER: _ClassVar[int]
        ISTIO_HEADERS_FIELD_NUMBER: _ClassVar[int]
        UPSTREAM_FILTER_STATE_FIELD_NUMBER: _ClassVar[int]
        baggage: Config.Baggage
        workload_discovery: Config.WorkloadDiscovery
        istio_headers: Config.IstioHeaders
        upstream_filter_state: Config.UpstreamFilterState
        def __init__(self, baggage: _Optional[_Union[Config.Baggage, _Mapping]] = ..., workload_discovery: _Optional[_Union[Config.WorkloadDiscovery, _Mapping]] = ..., istio_headers: _Optional[_Union[Config.IstioHeaders, _Mapping]] = ..., upstream_filter_state: _Optional[_Union[Config.UpstreamFilterState, _Mapping]] = ...) -> None: ...
    class PropagationMethod(_message.Message):
        __slots__ = ("istio_headers", "baggage")
        ISTIO_HEADERS_FIELD_NUMBER: _ClassVar[int]
        BAGGAGE_FIELD_NUMBER: _ClassVar[int]
        istio_headers: Config.IstioHeaders
        baggage: Config.Baggage
        def __init__(self, istio_headers: _Optional[_Union[Config.IstioHeaders, _Mapping]] = ..., baggage: _Optional[_Union[Config.Baggage, _Mapping]] = ...) -> None: ...
    DOWNSTREAM_DISCOVERY_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_DISCOVERY_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    SHARED_WITH_UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_LABELS_FIELD_NUMBER: _ClassVar[int]
    downstream_discovery: _containers.RepeatedCompositeFieldContainer[Config.DiscoveryMethod]
    upstream_discovery: _containers.RepeatedCompositeFieldContainer[Config.DiscoveryMethod]
    downstream_propagation: _containers.RepeatedCompositeFieldContainer[Config.PropagationMethod]
    upstream_propagation: _containers.RepeatedCompositeFieldContainer[Config.PropagationMethod]
    shared_with_upstream: bool
    additional_labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, downstream_discovery: _Optional[_Iterable[_Union[Config.DiscoveryMethod, _Mapping]]] = ..., upstream_discovery: _Optional[_Iterable[_Union[Config.DiscoveryMethod, _Mapping]]] = ..., downstream_propagation: _Optional[_Iterable[_Union[Config.PropagationMethod, _Mapping]]] = ..., upstream_propagation: _Optional[_Iterable[_Union[Config.PropagationMethod, _Mapping]]] = ..., shared_with_upstream: _Optional[bool] = ..., additional_labels: _Optional[_Iterable[str]] = ...) -> None: ...
