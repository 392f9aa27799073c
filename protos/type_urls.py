"""The xDS v3 resource type URLs, and the order in which resources must be updated.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations
"""

from typing import Final

LISTENER: Final = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
# Istio's, for the DNS resolver of a sidecar: see `nds.proto`.
NAME_TABLE: Final = "type.googleapis.com/istio.networking.nds.v1.NameTable"

# Make before break: a resource is sent before the resources that refer to it. Names lead to listeners.
PUSH_ORDER: Final = (CLUSTER, ENDPOINT, LISTENER, ROUTE, NAME_TABLE)

SHORT_NAMES: Final = {CLUSTER: "cds", ENDPOINT: "eds", LISTENER: "lds", ROUTE: "rds", NAME_TABLE: "nds"}

# A proxy has one name table, whose message has no name.
NAME_TABLE_NAME: Final = "names"
