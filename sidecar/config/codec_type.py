"""The HTTP version that a listener or a cluster is configured for."""

from __future__ import annotations

from enum import Enum


class CodecType(Enum):
    """``HttpConnectionManager.codec_type``, or the ``upstream_protocol_options`` of a cluster's
    ``HttpProtocolOptions``. AUTO: each connection decides (``auto_config`` for a cluster)."""

    AUTO = "AUTO"
    HTTP1 = "HTTP1"
    HTTP2 = "HTTP2"
