"""Envoy's network filter ``mongo_proxy``: it counts the operations of MongoDB, and passes bytes unchanged.

An istiod adds it for ports of the protocol Mongo. The sidecar counts nothing.
"""

from __future__ import annotations

from typing import Final

from sidecar.xds.decode.support import NO_READER, STATISTICS_ONLY, SupportTable, support

MONGO_PROXY: Final = "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy"

TABLE: Final[SupportTable] = {
    # `delay` holds up operations, and `access_log` has a format of its own: they are refused.
    MONGO_PROXY: support(
        stat_prefix=STATISTICS_ONLY, commands=STATISTICS_ONLY, emit_dynamic_metadata=NO_READER
    )
}
