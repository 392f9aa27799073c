"""The HTTP version that a listener or a cluster is configured for."""

from __future__ import annotations

from enum import Enum


class CodecType(Enum):
    """``HttpConnectionManager.codec_type``, or the ``upstream_protocol_options`` of a cluster's
    ``HttpProtocolOptions``. AUTO: each connection decides (``auto_config`` for a cluster). DOWNSTREAM, for
    clusters only: each request is sent in the version that its client chose
    (``use_downstream_protocol_config``)."""

    AUTO = "AUTO"
    HTTP1 = "HTTP1"
    HTTP2 = "HTTP2"
    DOWNSTREAM = "DOWNSTREAM"
